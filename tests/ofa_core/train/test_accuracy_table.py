from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ofa_core.arch_json import arch_from_dict
from ofa_core.errors import FormatError, OutputError
from ofa_core.spaces import get_space, tiny
from ofa_core.train.accuracy_table import COLUMNS, merge, planned_archs, read_rows, shard_path, write_table


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
    assert list(write_table(tmp_path / "a.csv", space, archs, top1))[-1] == (20, 20)
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
    for done, _ in write_table(path, space, archs, top1):
        if done == 7:
            break
    with path.open("a") as stream:
        stream.write("tiny,[3, 3")  # torn
    measured = []

    def counted(arch):
        measured.append(arch)
        return top1(arch)

    list(write_table(path, space, archs, counted))
    assert len(measured) == 13
    assert len(set(keys(path))) == len(keys(path)) == 20


def test_shards_are_merged(tmp_path):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 11, 0)
    for rank in range(3):
        list(write_table(path, space, archs, top1, rank=rank, world=3))
    assert not path.exists()
    assert merge(path, 3) == 11
    single = tmp_path / "b.csv"
    list(write_table(single, space, archs, top1))
    assert sorted(keys(path)) == sorted(keys(single))
    assert shard_path(path, 1, 3).name == "a.1-of-3.csv"


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(FormatError, match="not an accuracy table"):
        list(write_table(tmp_path / "a.csv", tiny(), planned_archs(tiny(), 2, 0), top1))


def test_nothing_is_torch_here():
    import subprocess
    import sys

    code = "import sys, ofa_core.train.accuracy_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert len(planned_archs(get_space("mbv3-w1.0"), 5, 0)) == 5


def test_a_full_disk_names_the_table_and_keeps_its_whole_rows(tmp_path, full_disk):
    space, path = tiny(), tmp_path / "a.csv"
    archs = planned_archs(space, 20, 0)
    table = write_table(path, space, archs, top1)
    next(table)
    with full_disk(path.stat().st_size + 20), pytest.raises(OutputError, match=r"a.csv: File too large; free some"):
        next(table)
    measured = []
    assert list(write_table(path, space, archs, lambda arch: measured.append(arch) or top1(arch)))[-1] == (20, 20)
    assert len(measured) == 19
    assert len(set(keys(path))) == len(keys(path)) == 20
