"""Are the limits held? Search with the closed loop at several limits, then measure each winner again, later.

    python benchmarks/limits.py luts/local-onnxruntime.csv --pause-s 60

For each limit `ofa-search --measure local` gives a winner. Afterwards, in rounds with a pause before each, new
processes measure every winner once more (`ofa-profile verify --arch`, on a copy of the table). A line is printed for
each measurement: the limit, the measured latency in the table's state and its raw median, the machine's speed and
state, load and dropped runs; at the end how many were within the limit.
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
from ofa_core.spaces import get_space
from predictors.loading import load_latency


def command(*words: str) -> str:
    """Run one of our commands; its errors pass through."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(words[0])), *words[1:]], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--space", default="mbv3-w1.0")
    parser.add_argument("--n-limits", type=int, default=5)
    parser.add_argument("--n-rounds", type=int, default=3)
    parser.add_argument("--pause-s", type=float, default=60)
    parser.add_argument("--verify-s", type=float, default=30)
    options = parser.parse_args()
    space = get_space(options.space)
    folder = Path(tempfile.mkdtemp(prefix="ofa-limits-"))
    table = folder / "table.csv"
    shutil.copy(options.table, table)
    shutil.copy(networks_path(options.table), networks_path(table))

    predictor = load_latency(table, space)
    pixels = predictor.table.resolutions(space)
    low, high = predictor.predict([space.smallest(pixels[0]), space.largest(pixels[-1])])
    limits = np.round(np.geomspace(low, high, options.n_limits + 2)[1:-1], 2).tolist()
    winners = []
    for limit in limits:
        out = folder / f"limit-{limit}"
        words = ["ofa-search", "--lut", str(table), "--max-latency-ms", str(limit), "--measure", "local"]
        answer = json.loads(command(*words, "--out", str(out), "--json"))
        winners.append(out / "arch.json")
        print(f"limit {limit:.2f} ms: winner of {answer['latency_ms']:.3f} ms, top-1 {answer['top1']:.2f} (predicted)")

    held = 0
    for round_ in range(options.n_rounds):
        time.sleep(options.pause_s)
        for limit, winner in zip(limits, winners, strict=True):
            copy = folder / "later.csv"
            shutil.copy(table, copy)
            shutil.copy(networks_path(table), networks_path(copy))
            words = ["ofa-profile", "verify", "--lut", str(copy), "--arch", str(winner), "--json"]
            answer = json.loads(command(*words, "--budget-s", str(options.verify_s), "--seed", str(100 + round_)))
            net = answer["networks"][0]
            held += net["latency_ms"] <= limit
            print(
                f"round {round_ + 1}, limit {limit:6.2f}: {net['latency_ms']:7.3f} ms "
                f"({'held' if net['latency_ms'] <= limit else 'BROKEN'}), raw median {net['median_ms']:7.3f}, "
                f"probe at {answer['speed']:.2f} of its reference, networks at {answer['slower_now']:.2f}, "
                f"load {answer['load_1min']}, {answer['clock']} clock, {answer['n_dropped']} runs dropped, "
                f"{answer['n_runs']} clean"
            )
    print(f"held {held} of {options.n_rounds * options.n_limits}")


if __name__ == "__main__":
    main()
