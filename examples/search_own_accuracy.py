"""Search with an accuracy function of your own.

    python examples/search_own_accuracy.py luts/local-onnxruntime.csv mbv3-w1.0

The search needs any object with `predict` (networks to scores; larger is better), `resolutions`, `label` and `note`.
The score here is a stand-in: the logarithm of the MACs, plus a bonus for deep networks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ofa_core.genomes import genomes_of
from ofa_core.search.protocols import Archs
from ofa_core.search.quantity import MMACS, Description, block_sum
from ofa_core.search.run import most_accurate, search
from ofa_core.space import Space
from ofa_core.space_files import space_from
from predictors.loading import load_latency


class DeepIsGood:
    """Score networks by their MACs and their number of layers."""

    label, note = "score", ""

    def __init__(self, space: Space, resolutions: tuple[int, ...]) -> None:
        self.space, self.resolutions = space, resolutions
        self.mmacs = block_sum(MMACS, space, resolutions, lambda block: block.macs / 1e6)
        self.layers = block_sum(Description("n_layers", "layers", ""), space, resolutions, lambda _: 1)

    def predict(self, archs: Archs) -> np.ndarray:
        """Return (n,) scores of n networks."""
        genomes = genomes_of(self.space, archs)
        return np.log(self.mmacs.values(genomes)) + 0.1 * self.layers.values(genomes)


def main(table: Path, space_name: str) -> None:
    space = space_from(space_name)
    latency = load_latency(table, space)
    fastest, slowest = latency.predict([space.smallest(latency.resolutions[0]), space.largest(latency.resolutions[-1])])
    limit_ms = (fastest * slowest) ** 0.5
    result = search(most_accurate(space, latency, DeepIsGood(space, latency.resolutions), limit_ms))
    best = result.best
    print(f"limit {limit_ms:.3f} ms, predicted {best.latency_ms:.3f} ms, {best.macs / 1e6:.1f} million MACs")
    print(best.arch)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
