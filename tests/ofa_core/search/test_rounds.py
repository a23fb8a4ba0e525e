"""The journal of a closed loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofa_core.errors import ContextMismatchError, FormatError
from ofa_core.jsonlines import append_line
from ofa_core.search.problem import Candidate
from ofa_core.search.rounds import Rounds
from ofa_core.spaces import mobilenet_v3, tiny


def test_candidates_are_read_back_with_all_their_values(tmp_path: Path) -> None:
    space = tiny()
    arch = space.largest()
    values = {"latency_ms": 1.5, "top1": 70.0, "n_layers": 4.0}
    known = Candidate(arch, values, space.macs(arch), space.params(arch), {"latency_ms": (1.25, 1.75)})
    unknown = Candidate(space.smallest(), values, space.macs(space.smallest()), space.params(space.smallest()))
    path = tmp_path / "t.search.jsonl"
    Rounds(path, space, {}).keep_chosen((1, False), [known, unknown])
    assert Rounds(path, space, {}).chosen((1, False)) == [known, unknown]


def test_an_interrupted_search_for_something_else_is_refused_and_a_finished_one_gives_way(tmp_path: Path) -> None:
    path, space = tmp_path / "t.search.jsonl", mobilenet_v3()
    Rounds(path, space, {"limit_ms": 9.0}).keep_chosen((1, False), [])
    with pytest.raises(ContextMismatchError, match=r"limit_ms '9.0', now '8.0'.*--fresh"):
        Rounds(path, space, {"limit_ms": 8.0})
    again = Rounds(path, space, {"limit_ms": 9.0})
    assert again.chosen((1, False)) == []
    assert again.took((1, False)) is None
    append_line(path, {"done": True})
    assert Rounds(path, space, {"limit_ms": 8.0}).chosen((1, False)) is None


ARCH = '{"ks": 3, "e": 3, "d": [2, 2, 2, 2, 2], "r": 160}'


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "nonsense",
        '{"round": 0, "confirms": false, "chosen": []}',
        '{"round": 1, "confirms": 1, "chosen": []}',
        '{"round": 1, "confirms": false, "chosen": {}}',
        '{"round": 1, "confirms": false, "chosen": [{"arch": {}, "latency_ms": 1, "low_ms": 1, "high_ms": 1}]}',
        f'{{"round": 1, "confirms": true, "took":[{{"arch":{ARCH}, "latency_ms": 1e999, "low_ms": 1, "high_ms": 1}}]}}',
        f'{{"round": 1, "confirms": false, "took": [{{"arch": {ARCH}, "latency_ms": 0, "low_ms": 1, "high_ms": 1}}]}}',
        f'{{"round": 1, "confirms": false, "took": [{{"arch": {ARCH}, "latency_ms": 1, "low_ms": 1, "high_ms": 1}}]}}',
    ],
)
def test_a_damaged_line_of_an_interrupted_search_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.search.jsonl"
    Rounds(path, mobilenet_v3(), {})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(FormatError, match=r"t.search.jsonl, line 2: .*; --fresh sets the file aside"):
        Rounds(path, mobilenet_v3(), {})
