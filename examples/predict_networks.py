"""Predict the latency of 100,000 random networks at once, from a latency table.

    python examples/predict_networks.py luts/local-onnxruntime.csv mbv3-w1.0

An array of genomes holds a network per row: its input size, then one number per layer slot. Arrays are the fast way
in; a list of `Arch` objects works as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ofa_core.genomes import decode, sample_genomes
from ofa_core.space_files import space_from
from predictors.loading import load_latency

N_NETWORKS = 100_000


def main(table: Path, space_name: str) -> None:
    space = space_from(space_name)
    latency = load_latency(table, space)
    genomes = sample_genomes(space, N_NETWORKS, np.random.default_rng(0), latency.resolutions)
    latency_ms = latency.predict(genomes)
    low_ms, high_ms = latency.predict_interval(genomes, confidence=0.9)
    for percent in (0, 50, 100):
        row = np.argsort(latency_ms)[round(percent / 100 * (N_NETWORKS - 1))]
        print(f"{percent:3} %: {latency_ms[row]:.3f} ms (90 % interval {low_ms[row]:.3f} to {high_ms[row]:.3f})")
    print("fastest:", decode(space, genomes[[latency_ms.argmin()]])[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
