from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict, arch_to_dict
from ofa_core.arch_lists import encode_records, read_arch_list
from ofa_core.errors import FormatError
from ofa_core.genomes import decode, encode, padded_lists, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import get_space, mobilenet_v3

SPACE = mobilenet_v3(1.0)


def choose(named: Space | None) -> Space:
    return named or SPACE


def some_archs(n: int = 5, space: Space = SPACE) -> list[Arch]:
    return decode(space, sample_genomes(space, n, np.random.default_rng(n)))


def as_list(records: list[dict[str, Any]]) -> str:
    return json.dumps(records, indent=1)


def as_lines(records: list[dict[str, Any]]) -> str:
    return "\n" + "\n\n".join(map(json.dumps, records)) + "\n"


def as_python_lines(records: list[dict[str, Any]]) -> str:
    return "\n".join(map(str, records))


def as_archive(records: list[dict[str, Any]]) -> str:
    return json.dumps({"archive": [[record, 23.5, 301.2] for record in records], "candidates": []})


def as_candidates(records: list[dict[str, Any]]) -> str:
    return json.dumps([{"arch": record, "latency_ms": 3.0} for record in records])


def as_csv(records: list[dict[str, Any]]) -> str:
    return "id;arch\n" + "".join(f"{i};{record}\n" for i, record in enumerate(records))


def as_columns(records: list[dict[str, Any]]) -> str:
    rows = [",".join(f'"{json.dumps(record[name])}"' for name in ("ks", "e", "d", "r")) for record in records]
    return "ks,e,d,r\n" + "\n".join(rows)


FORMS = [as_list, as_lines, as_python_lines, as_archive, as_candidates, as_csv, as_columns]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[list[dict[str, Any]]], str]
) -> None:
    archs, path = some_archs(), tmp_path / "nets"
    text = form([arch_to_dict(arch, SPACE) for arch in archs])
    path.write_text(text)
    found = read_arch_list(path, choose)
    assert decode(SPACE, found.genomes) == archs
    assert found.is_list
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert np.array_equal(read_arch_list(Path("-"), choose).genomes, found.genomes)


def test_a_dictionary_is_not_a_list_and_a_list_of_one_is(tmp_path: Path) -> None:
    (arch,), path = some_archs(1), tmp_path / "a.json"
    path.write_text(json.dumps(arch_to_dict(arch, SPACE), indent=2))
    assert not read_arch_list(path, choose).is_list
    path.write_text(json.dumps([arch_to_dict(arch, SPACE)]))
    found = read_arch_list(path, choose)
    assert found.is_list
    assert decode(SPACE, found.genomes) == [arch]


@pytest.mark.parametrize("name", ["mbv3-w1.0", "proxyless-w1.3", "tiny"])
def test_lists_that_are_encoded_together_are_those_that_are_encoded_one_by_one(name: str) -> None:
    space, rng = get_space(name), np.random.default_rng(1)
    records: list[dict[str, Any]] = [arch_to_dict(arch, space) for arch in some_archs(40, space)]
    for record in records[::3]:  # anything may stand in unused slots
        unused = np.ones(space.n_slots, dtype=bool)
        for start, depth in zip(space.stage_starts, record["d"], strict=True):
            unused[start : start + depth] = False
        for field in ("ks", "e"):
            record[field] = np.where(unused, rng.integers(-9, 9, space.n_slots), record[field]).tolist()
    for record in records[1::3]:
        record["image_size"] = record.pop("r")[0]
    for record in records[2::6]:
        record.update(ks=3, e=space.expands[-1])
    want = encode(space, [arch_from_dict(record, space) for record in records])
    assert np.array_equal(encode_records([("", record) for record in records], space), want)
    kernels, expands, depths = padded_lists(space, want)
    for i, arch in enumerate(decode(space, want)):
        lists = {"ks": kernels[i].tolist(), "e": expands[i].tolist(), "d": depths[i].tolist()}
        assert lists == {field: arch_to_dict(arch, space)[field] for field in lists}


def test_a_resolution_in_place_of_their_own() -> None:
    records = [("", {**arch_to_dict(arch, SPACE), "r": [128, 160]}) for arch in some_archs()]
    assert set(encode_records(records, SPACE, resolution_px=192)[:, 0].tolist()) == {192}
    with pytest.raises(FormatError, match="2 input sizes where one is expected"):
        encode_records(records, SPACE)


def good(**changes: Any) -> dict[str, Any]:
    return {**arch_to_dict(some_archs(1)[0], SPACE), **changes}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; architectures are expected"),
        ("[]", "no architectures"),
        (json.dumps([good(), good(ks=9)]), "item 2: kernel size 9 in active block 1 of mbv3-w1.0"),
        (json.dumps([good(), good(d=[2, 2, 2, 2, 9])]), r"item 2: d\[4\] is 9"),
        (json.dumps([good(), good(r=[True])]), "item 2: r holds True"),
        (json.dumps([good(), good(r=[161])]), "item 2: resolution 161 px"),
        (json.dumps([good(), good(d=[2, 2, 2, 2, 10**30])]), "item 2: d holds a int of 20 digits"),
        (json.dumps([good(), 7]), "item 2: a int; an architecture with ks, e, d and r is expected"),
        (json.dumps([good(), []]), "item 2: a list; an architecture"),
        (json.dumps([good(), {"ks": 3}]), "item 2: an architecture has ks, e, d and r; this one has no e, d"),
        (json.dumps([good(), good(schema=2)]), "item 2: schema 2; this version reads schema 1"),
        (
            json.dumps([good(space="mbv3-w1.0"), good(space="tiny")]),
            "of tiny; the first one is of mbv3",
        ),
        (
            json.dumps([good(), good(space="tiny")]),
            "item 2: .* of tiny; the first one is of no named",
        ),
        (json.dumps(good()) + "\n{\n" + json.dumps(good()), "line 2: neither JSON nor a dictionary"),
        ("id,name\n1,a\n", "no architectures: columns ks, e, d and r are expected, .* has 'id, name'"),
        (
            "arch,x\n" + "\"{'ks': 3, 'e': 3, 'd': 2, 'r': 160}\",1\n\"7\",1\n",
            "line 3: arch is '7'; a dict",
        ),
        ("arch;x\n{'e': [0.35], 'd': [2, 2], 'w': [1, 2]};1\n", "line 2: .* OFA-ResNet50, which is not supported yet"),
        ("ks,e,d,r\n3,3,[2,160\n", "line 2: d: neither JSON nor"),
        ("arch;x\n{'ks': 3, 'e': 3, 'd': 2, 'r': 160};1\n{'ks': 3;1\n", "line 3: arch: neither JSON nor"),
        ("ks,e,d,r\n3,3,2,160\n3,3,2\n", "line 3: 3 fields where the header has 4"),
    ],
)
def test_one_bad_network_is_named_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "nets"
    path.write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        read_arch_list(path, choose)
    assert "\n" not in str(caught.value)


def test_a_named_space_must_be_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "nets.json"
    path.write_text(json.dumps([good(space="mbv3-w1.0"), good(space="somebody's label"), good()]))
    assert len(read_arch_list(path, lambda _: SPACE, named=True).genomes) == 3
    path.write_text(json.dumps([good(space="mbv3-w1.0"), good(space="mbv3-w1.2")]))
    with pytest.raises(
        FormatError, match=r"item 2: .* is of space mbv3-w1\.2, not mbv3-w1\.0: stem channels 24, not 16"
    ):
        read_arch_list(path, lambda _: SPACE, named=True)
