"""The summary of experiments/shrinking: paired differences over seeds, and their intervals."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def shrinking():
    path = Path(__file__).parents[1] / "experiments" / "shrinking" / "run.py"
    spec = importlib.util.spec_from_file_location("shrinking_run", path)
    module = sys.modules["shrinking_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["shrinking_run"]


def row(recipe: str, seed: int, a: float, b: float) -> dict[str, object]:
    top1 = {"A": a, "B": b}
    return {"recipe": recipe, "seed": seed, "evaluated": "test", "top1": top1, "mean": (a + b) / 2} | {
        "images_total": 1000,
        "cpu_s_total": 1.0,
        "curve_held_out": [],
    }


def test_summary_pairs_by_seed_and_leaves_the_search_seed_out(shrinking, tmp_path, monkeypatch, capsys):
    full = row("full", 0, 60, 60) | {"curve_held_out": [float(i) for i in range(1, 31)]}
    joint = [row("joint", 0, 40, 50), row("joint", 1, 30, 60), row("joint", 2, 50, 40), row("joint", 100, 0, 0)]
    chosen = [row(shrinking.CHOSEN, s, a, b) for s, a, b in ((2, 53, 43), (0, 41, 51), (1, 32, 62), (100, 99, 99))]
    longer = [row("joint-cpu", 0, 43, 50), row("joint-cpu", 1, 34, 62)]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(r) + "\n" for r in [full, *chosen, *joint, *longer]))
    monkeypatch.setattr(shrinking, "RESULTS", results)
    shrinking.summary()
    lines = capsys.readouterr().out.splitlines()
    # +1, +2, +3: standard error 1 / sqrt(3), t = 4.3027; of two (-2, -2) no width, of +1, 0 one of 0.5 * 12.706
    assert "| A | +2.00 [-0.48, +4.48] | -2.00 [-2.00, -2.00] |" in lines
    assert "| B | +2.00 [-0.48, +4.48] | +0.50 [-5.85, +6.85] |" in lines
    assert "| mean of the 8 | +2.00 [-0.48, +4.48] | -0.75 [-3.93, +2.43] |" in lines
    assert f"{shrinking.CHOSEN} - joint, mean of the 8, seed by seed: +1.00, +2.00, +3.00" in lines
    assert f"{shrinking.CHOSEN} - joint-cpu, mean of the 8, seed by seed: -0.50, -1.00" in lines
    assert "| full, seed 0 | 5.00 | 10.00 | 20.00 | 21.00 | 30.00 | 30.00 |" in lines
    assert sum(line.startswith("| joint | 100") for line in lines) == 1


def test_the_split_is_balanced_disjoint_and_fixed(shrinking):
    import numpy as np

    labels = np.repeat(np.arange(10), 5000)
    split = shrinking.balanced_split(labels)
    assert len(set(split.tolist())) == len(split) == shrinking.N_TRAIN + shrinking.N_HELD_OUT
    for part in (split[: shrinking.N_TRAIN], split[shrinking.N_TRAIN :]):
        assert set(np.bincount(labels[part])) == {len(part) // 10}
    assert (split == shrinking.balanced_split(labels)).all()


def test_a_unit_counts_images_evaluates_after_each_epoch_and_ps_starts_from_the_full_net(
    shrinking, tmp_path, monkeypatch
):
    monkeypatch.setattr(shrinking, "RESULTS", tmp_path / "results.jsonl")
    for name, value in {"N_TRAIN": 250, "N_HELD_OUT": 200, "N_FULL": 2, "N_ELASTIC": 1}.items():
        monkeypatch.setattr(shrinking, name, value)
    with pytest.raises(SystemExit, match="run it first"):
        shrinking.run_unit("digits", shrinking.CHOSEN, 0, tmp_path)
    full = shrinking.run_unit("digits", "full", 0, tmp_path)
    assert full["images"] == full["images_total"] == 2 * 128  # 250 images make one whole batch
    assert len(full["curve_held_out"]) == 2
    assert full["evaluated"] == "test"
    (tmp_path / "results.jsonl").write_text(json.dumps(full) + "\n")
    chosen = shrinking.run_unit("digits", shrinking.CHOSEN, 0, tmp_path)
    assert chosen["images_total"] == full["images"] + chosen["images"]
    assert chosen["cpu_s_total"] > full["cpu_s_total"] > 0
    assert len(chosen["top1"]) == 8


def test_equal_cpu_time_is_that_of_the_least_disturbed_runs(shrinking):
    times = [("full", 0, 20), ("full", 1, 12), (shrinking.CHOSEN, 0, 8), (shrinking.CHOSEN, 1, 9), ("joint", 0, 10)]
    assert shrinking.cpu_factor([{"recipe": r, "seed": s, "cpu_s": t} for r, s, t in times]) == 2.0
