from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofa_core.arch_json import arch_to_dict, write_arch
from ofa_core.errors import FormatError, SpaceError
from ofa_core.space import Space
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from profiler.options import verify_archs

SPACE = tiny()
ARCHS = [SPACE.smallest(24), SPACE.largest(28), SPACE.uniform(5, 3, 1, 32)]


def asked(folder: Path, *arch: Path, space: str | None = None, candidates: Path | None = None) -> tuple[Space, list]:
    lut = folder / "t.csv"
    table = LatencyTable(Context(), {(None, block): Entry(0.1) for block in SPACE.all_blocks()})
    table.write(lut)
    return verify_archs(lut, table, space, None, list(arch), candidates, None, False, 1)


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
        assert asked(tmp_path, tmp_path / name) == (SPACE, ARCHS)
    write_arch(tmp_path / "one.json", ARCHS[2], SPACE)
    assert asked(tmp_path, tmp_path / "one.json", tmp_path / "list.json")[1] == [ARCHS[2], *ARCHS[:2]]
    (tmp_path / "candidates.json").write_text(json.dumps([{"arch": record, "latency_ms": 1.0} for record in records]))
    assert asked(tmp_path, candidates=tmp_path / "candidates.json") == (SPACE, ARCHS)


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
            asked(tmp_path, path)
    path.write_text("{}")
    with pytest.raises(FormatError, match="an architecture has ks, e, d and r"):
        asked(tmp_path, path)


def test_files_of_two_spaces_are_not_measured_together(tmp_path: Path) -> None:
    other = SPACE.with_classes(7)
    for name, space in (("a.json", SPACE), ("b.json", other)):
        fields = {"space_digest": space.digest, "space_definition": json.loads(json.dumps(definition(space)))}
        (tmp_path / name).write_text(json.dumps({"space": space.name, **fields, **arch_to_dict(ARCHS[0], space)}))
    with pytest.raises(SpaceError, match=r"b.json is of space tiny, not tiny: classes"):
        asked(tmp_path, tmp_path / "a.json", tmp_path / "b.json")


def definition(space: Space) -> dict[str, object]:
    from ofa_core.space_record import space_to_dict

    return space_to_dict(space)
