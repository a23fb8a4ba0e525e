"""Are the limits held? Search with the closed loop at several limits, then measure each winner again, later.

    python benchmarks/limits.py luts/local-onnxruntime.csv --pause-s 60
    python benchmarks/limits.py luts/local-onnxruntime.csv luts/local-tflite.csv

With one table `ofa-search --measure local` gives a winner for each of several limits. With several tables of this
machine, one search gives one network that holds a limit on each of them. Afterwards, in rounds with a pause before
each, new processes measure every winner once more (`ofa-profile verify --arch`, on a copy of the table). A line is
printed for each measurement: the limit, the measured latency in the table's state and its raw median, the machine's
speed and state, load and dropped runs; at the end how many were within the limit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ofa_core.measured_networks import networks_path
from ofa_core.space import Space
from ofa_core.spaces import get_space
from predictors.loading import load_latency


def command(*words: str) -> str:
    """Run one of our commands; its errors pass through."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(words[0])), *words[1:]], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--space", default="mbv3-w1.0")
    parser.add_argument("--accuracy", help="accuracy model, as for ofa-search")
    parser.add_argument("--n-limits", type=int, default=5, help="number of limits, if there is one table")
    parser.add_argument("--n-rounds", type=int, default=3)
    parser.add_argument("--pause-s", type=float, default=60)
    parser.add_argument("--verify-s", type=float, default=30)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ofa-limits-"))
    tables = [copied(table, folder / table.name) for table in options.tables]
    n_limits = options.n_limits if len(tables) == 1 else 1
    limits = {table: limits_of(table, get_space(options.space), n_limits) for table in tables}
    winners = []
    for i in range(n_limits):
        wanted = {table: limits[table][i] for table in tables}
        winners.append((searched(folder / f"search-{i}", wanted, options.accuracy), wanted))

    held = []
    for round_ in range(options.n_rounds):
        time.sleep(options.pause_s)
        for winner, wanted in winners:
            for table, limit in wanted.items():
                print(f"round {round_ + 1}, {table.stem}, limit {limit:6.2f}: ", end="")
                held.append(holds(table, limit, winner, options.verify_s, seed=100 + round_))
    print(f"held {sum(held)} of {len(held)}")


def copied(table: Path, path: Path) -> Path:
    """Copy a table and its networks."""
    shutil.copy(table, path)
    shutil.copy(networks_path(table), networks_path(path))
    return path


def limits_of(table: Path, space: Space, n: int) -> list[float]:
    """Return limits in ms, evenly by their logarithm between the smallest and the largest sub-net."""
    predictor = load_latency(table, space)
    low, high = predictor.predict(
        [space.smallest(min(predictor.resolutions)), space.largest(max(predictor.resolutions))]
    )
    limits: list[float] = np.round(np.geomspace(low, high, n + 2)[1:-1], 2).tolist()
    return limits


def searched(out: Path, limits: dict[Path, float], accuracy: str | None) -> Path:
    """Search with measurements for the best network within the limits; return its file."""
    words = ["ofa-search", "--out", str(out), "--json", *(["--accuracy", accuracy] if accuracy else [])]
    for table, limit in limits.items():
        words += ["--lut", f"{table}={limit}", "--measure", f"{table}=local"]
    answer = json.loads(command(*words))
    shown = ", ".join(f"{limit:.2f} ms" for limit in limits.values())
    print(f"limit {shown}: winner of {answer['latency_ms']:.3f} ms, top-1 {answer['top1']:.2f} (predicted)")
    return out / "arch.json"


def holds(table: Path, limit: float, winner: Path, budget_s: float, seed: int) -> bool:
    """Measure a network in new processes; print the latency, and return whether it is within the limit."""
    copy = copied(table, table.with_name("later.csv"))
    words = ["ofa-profile", "verify", "--lut", str(copy), "--arch", str(winner), "--json"]
    answer = json.loads(command(*words, "--budget-s", str(budget_s), "--seed", str(seed)))
    net = answer["networks"][0]
    held: bool = net["latency_ms"] <= limit
    print(
        f"{net['latency_ms']:7.3f} ms ({'held' if held else 'BROKEN'}), raw median {net['median_ms']:7.3f}, "
        f"probe at {answer['speed']:.2f} of its reference, networks at {answer['slower_now']:.2f}, "
        f"load {answer['load_1min']}, {answer['clock']} clock, {answer['n_dropped']} runs dropped, "
        f"{answer['n_runs']} clean"
    )
    return held


if __name__ == "__main__":
    main()
