"""Columns for the regression of whole-network latency, and the conversion of coefficients to a table.

The columns have levels with increasing penalties: a constant; the totals of the physical quantities
(`predictors.features`); their parts in each stage; and those of stem and head. All are divided by the mean total, so
that a coefficient is a share of the latency and one penalty fits all devices. Every column except the constant is a
sum over blocks, so a fitted model is a `DenseTable`, and as fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.features import feature_names, physical, physical_table

__all__ = ["AdditiveModel", "Basis"]


@dataclass(frozen=True)
class Basis:
    """Columns for one space.

    Attributes:
        space: space of the networks.
        totals: (F,) mean total of each quantity, by which the columns are divided.
    """

    space: Space
    totals: Floats

    @classmethod
    def of(cls, space: Space, genomes: Genomes) -> Basis:
        """Return the basis whose units are the means of these networks."""
        return cls(space, physical(space, genomes).sum(axis=1).mean(axis=0))

    @property
    def n_totals(self) -> int:
        """Number of columns in the first two levels: the constant and the totals."""
        return 1 + len(self.totals)

    def columns(self, genomes: Genomes) -> Floats:
        """Return the (n, p) columns of (n, 1 + n_slots) genomes."""
        parts = physical(self.space, genomes) / self.totals
        n, n_stages = len(genomes), len(self.space.stages)
        stages = parts[:, :n_stages].reshape(n, -1)
        return np.column_stack([np.ones(n), parts.sum(axis=1), stages, parts[:, n_stages][:, self._fixed()]])

    def precision(self, total: float, blocks: float, rest: float) -> Floats:
        """Return (p,) penalties from three numbers: constant and totals, block counts per stage, other columns."""
        n_features, n_stages = len(self.totals), len(self.space.stages)
        stages = np.full((n_stages, n_features), float(rest))
        stages[:, 0] = blocks
        return np.concatenate([np.full(self.n_totals, total), stages.reshape(-1), np.full(len(self._fixed()), rest)])

    def _fixed(self) -> list[int]:
        names = feature_names(self.space)
        return [names.index("pointwise"), names.index("activations")]

    def additive(self, coef: Floats) -> AdditiveModel:
        """Convert coefficients of the columns to costs per quantity."""
        n_features, n_stages = len(self.totals), len(self.space.stages)
        totals = coef[1 : 1 + n_features]
        split = 1 + n_features + n_stages * n_features
        stages = coef[1 + n_features : split].reshape(n_stages, n_features) + totals
        fixed = totals.copy()
        fixed[self._fixed()] += coef[split:]
        return AdditiveModel(self.space, float(coef[0]), stages / self.totals, fixed / self.totals)


@dataclass(frozen=True)
class AdditiveModel:
    """A latency that is a sum over blocks.

    Attributes:
        space: space of the networks.
        constant: ms per network.
        stages: (S, F) ms per unit of each physical quantity in each stage.
        fixed: (F,) ms per unit of each physical quantity in stem and head.
    """

    space: Space
    constant: float
    stages: Floats
    fixed: Floats

    def dense(self, pixels: tuple[int, ...]) -> DenseTable:
        """Return the model as a table for these resolutions, ascending."""
        cost = self.stages[list(self.space.slot_stages)]
        tables = [physical_table(self.space, px) for px in pixels]
        fixed = np.array([self.constant + float(table.fixed @ self.fixed) for table in tables])
        slots = np.stack([np.einsum("scf,sf->sc", table.slots, cost) for table in tables])
        return DenseTable(np.asarray(pixels, dtype=np.int64), fixed, slots)
