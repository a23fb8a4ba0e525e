"""Dense tables made when they are asked for: the space's own resolutions at once, others as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from predictors.estimator import Floats

__all__ = ["DenseCache"]


class DenseCache:
    """Sums genomes by a model that can be tabled for any resolution.

    Args:
        build: resolutions, ascending, to table.
        usual: the resolutions that are tabled first.
    """

    def __init__(self, build: Callable[[tuple[int, ...]], DenseTable], usual: Sequence[int]) -> None:
        self._build = build
        self._pixels = tuple(sorted(set(usual)))
        self._table: DenseTable | None = None

    def sum(self, genomes: Genomes) -> Floats:
        """(n,) sums of (n, 1 + n_slots) genomes."""
        if self._table is None or not np.isin(genomes[:, 0], self._pixels).all():
            self._pixels = tuple(sorted({*self._pixels, *(int(px) for px in np.unique(genomes[:, 0]))}))
            self._table = self._build(self._pixels)
        return self._table.sum(genomes)
