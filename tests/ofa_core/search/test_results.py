"""The folder of a search, read back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ofa_core.arch_json import arch_from_dict, read_arch_dict
from ofa_core.search.closed_loop import CorrectedLatency, LoopResult, Trial
from ofa_core.search.problem import MeasuredNet
from ofa_core.search.results import summary, write_results
from ofa_core.search.run import search
from ofa_core.space import Space


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_everything_can_be_read_back(tmp_path: Path, small: Space, stand_ins: Any) -> None:
    latency = stand_ins.latency(small, small.resolutions)
    result = search(small, latency, stand_ins.accuracy(small), 0.04)
    write_results(tmp_path / "a" / "b", result, {"accuracy": {"label": "made up"}}, block_ms=lambda block, px: 0.5)
    folder = tmp_path / "a" / "b"
    best = result.best
    for name in ("arch.json", "ofa.json"):
        assert arch_from_dict(read_arch_dict(folder / name), small) == best.arch
    candidates = json.loads((folder / "candidates.json").read_text())
    assert list(candidates[0]) == ["arch", "latency_ms", "low_ms", "high_ms", "top1", "space", "space_digest"]
    assert [arch_from_dict(c["arch"], small) for c in candidates] == [c.arch for c in result.candidates]
    record = json.loads((folder / "search.json").read_text())
    assert record["schema"] == 1
    assert record["accuracy"] == {"label": "made up"}
    assert record["latency_ms"] == best.latency_ms
    assert record["measured"] is None
    assert record == {"schema": 1, **summary(result), "accuracy": {"label": "made up"}, "versions": record["versions"]}
    front = rows(folder / "pareto.csv")
    assert [float(row["latency_ms"]) for row in front] == result.front.costs.tolist()
    first = {name: json.loads(front[0][name]) for name in ("ks", "e", "d", "r")}
    assert latency.predict([arch_from_dict(first, small)])[0] == pytest.approx(float(front[0]["latency_ms"]))
    blocks = rows(folder / "blocks.csv")
    assert len(blocks) == len(small.blocks(best.arch))
    assert sum(int(row["macs"]) for row in blocks) == best.macs
    assert blocks[0]["name"] == "first_conv"
    assert blocks[2]["name"] == "1.1"
    assert not (folder / "measured.csv").exists()


def test_what_was_measured_is_written_and_a_later_search_removes_it(
    tmp_path: Path, small: Space, stand_ins: Any
) -> None:
    latency = stand_ins.latency(small, small.resolutions)
    result = search(small, latency, stand_ins.accuracy(small), 0.04)
    net = MeasuredNet(result.best.arch, 0.039, 0.0385, 0.0395)
    trials = (Trial(1, False, result.best, net), Trial(1, True, result.best, net))
    loop = LoopResult(result, CorrectedLatency(latency, 1.0), net, trials, 1, True)
    write_results(tmp_path, result, {}, loop=loop)
    measured = rows(tmp_path / "measured.csv")
    assert [row["confirms"] for row in measured] == ["0", "1"]
    assert float(measured[0]["predicted_ms"]) == result.best.latency_ms
    record = json.loads((tmp_path / "search.json").read_text())["measured"]
    assert record == {
        "latency_ms": 0.039,
        "low_ms": 0.0385,
        "high_ms": 0.0395,
        "n_rounds": 1,
        "n_networks": 1,
        "converged": True,
    }
    write_results(tmp_path, result, {})
    assert not (tmp_path / "measured.csv").exists()
