from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict, write_arch
from ofa_core.errors import FormatError, OfaError, SpaceError
from ofa_core.space import Space
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from profiler.options import only_space
from profiler.subnets import covered_resolutions, listed_subnets

SPACE = tiny()
ARCHS = [SPACE.smallest(24), SPACE.largest(28), SPACE.uniform(5, 3, 1, 32)]


TABLE = LatencyTable(Context(), {(None, block): Entry(0.1) for block in SPACE.all_blocks()})


def asked(*arch: Path) -> tuple[Space, list[Arch]]:
    return listed_subnets(arch, None, lambda: only_space(TABLE))


def test_verify_takes_lists_of_sub_nets_in_every_form(tmp_path: Path) -> None:
    records = [arch_to_dict(arch, SPACE) for arch in ARCHS]
    texts = {
        "list.json": json.dumps(records),
        "lines.jsonl": "\n".join(map(json.dumps, records)),
        "archive.json": json.dumps({"archive": [[record, 30.0] for record in records]}),
        "table.csv": "arch;top1\n" + "".join(f"{record};70\n" for record in records),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert asked(tmp_path / name) == (SPACE, ARCHS)
    write_arch(tmp_path / "one.json", ARCHS[2], SPACE)
    assert asked(tmp_path / "one.json", tmp_path / "list.json")[1] == [ARCHS[2], *ARCHS[:2]]
    (tmp_path / "candidates.json").write_text(json.dumps([{"arch": record, "latency_ms": 1.0} for record in records]))
    assert asked(tmp_path / "candidates.json") == (SPACE, ARCHS)


def test_a_bad_sub_net_is_named_by_its_place(tmp_path: Path) -> None:
    records = [arch_to_dict(arch, SPACE) for arch in ARCHS]
    path = tmp_path / "list.json"
    for i, changes, message in (
        (1, {"ks": 9}, "list.json, item 2: kernel size 9"),
        (2, {"r": [24, 28]}, "list.json, item 3: 2 input sizes"),
        (2, {"space": "mbv3-w1.0"}, "list.json, item 3: an architecture of mbv3-w1.0; the first one is of no named"),
    ):
        path.write_text(json.dumps([{**record, **changes} if n == i else record for n, record in enumerate(records)]))
        with pytest.raises(FormatError, match=message):
            asked(path)
    path.write_text("{}")
    with pytest.raises(FormatError, match="an architecture has ks, e, d and r"):
        asked(path)


def test_files_of_two_spaces_are_not_measured_together(tmp_path: Path) -> None:
    other = SPACE.with_classes(7)
    for name, space in (("a.json", SPACE), ("b.json", other)):
        fields = {"space_digest": space.digest, "space_definition": json.loads(json.dumps(definition(space)))}
        (tmp_path / name).write_text(json.dumps({"space": space.name, **fields, **arch_to_dict(ARCHS[0], space)}))
    with pytest.raises(SpaceError, match=r"b.json is of space tiny, not tiny: classes"):
        asked(tmp_path / "a.json", tmp_path / "b.json")


def definition(space: Space) -> dict[str, object]:
    from ofa_core.space_record import space_to_dict

    return space_to_dict(space)


def test_random_sub_nets_have_the_input_sizes_that_the_table_covers() -> None:
    path = Path("t.csv")
    assert covered_resolutions(path, TABLE, SPACE, fill=False) == SPACE.resolutions
    part = LatencyTable(Context(), {(28, block): Entry(0.1) for block in SPACE.all_blocks((28,))[:-1]})
    with pytest.raises(OfaError, match=r"t\.csv lacks blocks of tiny at every resolution; add --fill"):
        covered_resolutions(path, part, SPACE, fill=False)
    assert covered_resolutions(path, part, SPACE, fill=True) == (28,)
    with pytest.raises(OfaError, match=r"t\.csv lacks blocks of tiny at every resolution$"):
        covered_resolutions(path, LatencyTable(Context(), {}), SPACE, fill=True)
