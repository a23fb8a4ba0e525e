"""Select networks to measure: D-optimal designs over physical quantities.

The next network is the one whose latency is most uncertain given the networks before it. It is selected from a few
random candidates, not from all: the extremes of a space are also its noisiest networks, and a design should not
consist of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.genomes import Genomes, decode, sample_genomes
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.network_basis import Basis

__all__ = ["d_optimal_rows", "design_columns", "select_d_optimal"]

CANDIDATES_EACH = 12
PRECISION = (0.01, 1.0, 1.0)


def d_optimal_rows(X: Floats, n: int, precision: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Select rows of a pool.

    Args:
        X: (m, p) columns, each row divided by its expected latency.
        n: number of rows to select, at most m.
        precision: (p,) prior precision of the coefficients, in units of one row's noise.
        rng: random generator.

    Returns:
        (n,) row numbers, the most informative first; the first k of them are a design too.
    """
    covariance = np.diag(1.0 / precision)
    free = np.ones(len(X), dtype=bool)
    chosen = []
    for _ in range(min(n, len(X))):
        pool = np.flatnonzero(free)
        some = rng.choice(pool, size=min(CANDIDATES_EACH, len(pool)), replace=False)
        variance = np.einsum("ij,jk,ik->i", X[some], covariance, X[some])
        row = int(some[int(np.argmax(variance))])
        free[row] = False
        chosen.append(row)
        direction = covariance @ X[row]
        covariance -= np.outer(direction, direction) / (1.0 + X[row] @ direction)
    return np.asarray(chosen, dtype=np.int64)


def design_columns(space: Space, genomes: Genomes) -> tuple[Floats, Floats]:
    """Return (m, p) columns, each row divided by its mean physical size, and (p,) precision for `d_optimal_rows`."""
    basis = Basis.of(space, genomes)
    columns = basis.columns(genomes)
    size = columns[:, : basis.n_totals].mean(axis=1)
    return columns / size[:, None], basis.precision(*PRECISION)


def select_d_optimal(
    space: Space, n: int, rng: np.random.Generator, resolutions: Sequence[int] | None = None, *, pool: int = 3000
) -> list[Arch]:
    """Select n different networks to measure.

    Args:
        space: space of the networks.
        n: number of networks; about 30 are enough for a `NetworkPredictor`.
        rng: random generator.
        resolutions: resolutions to select from (default: all of the space).
        pool: number of random candidates.

    Returns:
        n architectures, the most informative first.
    """
    genomes = np.unique(sample_genomes(space, max(pool, 10 * n), rng, resolutions), axis=0)
    columns, precision = design_columns(space, genomes)
    return decode(space, genomes[d_optimal_rows(columns, n, precision, rng)])
