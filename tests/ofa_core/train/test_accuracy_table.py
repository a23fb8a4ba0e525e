from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ofa_core.arch_json import arch_from_dict
from ofa_core.errors import FormatError, OfaError, OutputError
from ofa_core.spaces import get_space, tiny
from ofa_core.train.accuracy_table import (
    COLUMNS,
    Origin,
    merge,
    planned_archs,
    read_rows,
    shard_path,
    write_table,
)

ORIGIN = Origin("weights", "images")


def top1(arch):
    return sum(arch.kernels) + arch.resolution_px / 100, 50


def keys(path):
    return [tuple(row[c] for c in COLUMNS[:5]) for row in read_rows(path)]


def test_planned_archs_are_different_and_grow():
    archs = planned_archs(tiny(), 60, 0)
    assert len(set(archs)) == 60
    assert planned_archs(tiny(), 90, 0)[:60] == archs
    assert planned_archs(tiny(), 60, 1) != archs
    small = replace(tiny(), resolutions=(24,), kernels=(3,), expands=(3,))
    assert len(planned_archs(small, 50, 0)) == small.size == 4


def test_a_table_holds_every_sub_net_once(tmp_path):
    space = tiny()
    archs = planned_archs(space, 20, 0)
    assert list(write_table(tmp_path / "a.csv", space, archs, top1, ORIGIN))[-1] == (20, 20)
    rows = read_rows(tmp_path / "a.csv")
    read = {}
    for row in rows:
        data = {k: json.loads(row[k]) for k in ("ks", "e", "d", "r")}
        read[arch_from_dict(data, space)] = float(row["top1"])
    assert set(read) == set(archs)
    assert all(read[a] == pytest.approx(top1(a)[0], abs=1e-4) for a in archs)
    assert [int(r["r"]) for r in rows] == sorted(int(r["r"]) for r in rows)


def test_an_interrupted_table_goes_on(tmp_path):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 20, 0)
    for done, _ in write_table(path, space, archs, top1, ORIGIN):
        if done == 7:
            break
    with path.open("a") as stream:
        stream.write("tiny,[3, 3")  # torn
    measured = []

    def counted(arch):
        measured.append(arch)
        return top1(arch)

    list(write_table(path, space, archs, counted, ORIGIN))
    assert len(measured) == 13
    assert len(set(keys(path))) == len(keys(path)) == 20


def test_shards_are_merged(tmp_path):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 11, 0)
    for rank in range(3):
        list(write_table(shard_path(path, rank, 3), space, archs[rank::3], top1, ORIGIN))
    assert not path.exists()
    assert merge(path, 3) == 11
    single = tmp_path / "b.csv"
    list(write_table(single, space, archs, top1, ORIGIN))
    assert sorted(keys(path)) == sorted(keys(single))
    assert shard_path(path, 1, 3).name == "a.1-of-3.csv"


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FormatError, match="not an accuracy table"):
        list(write_table(tmp_path / "a.csv", tiny(), planned_archs(tiny(), 2, 0), top1, ORIGIN))


def test_nothing_is_torch_here():
    import subprocess
    import sys

    code = "import sys, ofa_core.train.accuracy_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert len(planned_archs(get_space("mbv3-w1.0"), 5, 0)) == 5


def test_a_full_disk_names_the_table_and_keeps_its_whole_rows(tmp_path, full_disk):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 20, 0)
    table = write_table(path, space, archs, top1, ORIGIN)
    next(table)
    with full_disk(path.stat().st_size + 20), pytest.raises(OutputError, match=r"a.csv: File too large; free some"):
        next(table)
    measured = []
    assert list(write_table(path, space, archs, lambda arch: measured.append(arch) or top1(arch), ORIGIN))[-1] == (
        20,
        20,
    )
    assert len(measured) == 19
    assert len(set(keys(path))) == len(keys(path)) == 20


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            Origin("others", "images"),
            r"a\.csv was measured with other weights \(digest weights, now others\); give another",
        ),
        (
            Origin("weights", "others"),
            r"a\.csv was measured with other images \(digest images, now others\); give another",
        ),
    ],
)
def test_a_table_of_other_weights_or_images_is_not_continued(tmp_path, other, message):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 6, 0)
    list(write_table(path, space, archs[:4], top1, ORIGIN))
    before = path.read_bytes()
    with pytest.raises(OfaError, match=message):
        list(write_table(path, space, archs, top1, other))
    assert path.read_bytes() == before


def test_rows_without_digests_are_kept_with_a_warning(tmp_path, caplog):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 6, 0)
    list(write_table(path, space, archs[:4], top1, Origin("", "")))
    assert caplog.messages == []
    list(write_table(path, space, archs, top1, ORIGIN))
    assert [m.split("has rows")[1] for m in caplog.messages] == [
        f" without a digest of their {what}; make sure that they are the same" for what in ("weights", "images")
    ]
    assert [row["weights_digest"] for row in read_rows(path)].count("") == 4


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"space,ks,e,d,r,top1,n_images,schema\ntiny,1\n", b'space,"a\n'])
def test_a_damaged_table_is_named(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.csv"):
        read_rows(tmp_path / "a.csv")
