"""Gaussian processes over architectures, for accuracy.

An architecture is described by the features of `predictors.process_design`. The kernel is a sum of linear terms in all
of these and of squared terms in the ordinals, per slot and summed per stage, so that few rows are enough to learn the
effects that the blocks of a stage share. A squared linear kernel is a polynomial, so the posterior mean collapses to
one table per slot and one small matrix (`QuadraticForm`): its cost does not depend on the number of rows. With an
additional RBF term the rows must be kept (`KernelMean`).

Accuracy saturates: each choice adds less as accuracy approaches the best of the family. The process can therefore
model -log(ceiling - accuracy) (`unbend`), in which the effects of the choices nearly add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.quadratic import QuadraticScore
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.process_design import (
    Design,
    code_tables,
    design,
    log_macs,
    log_macs_by_code,
    ordinals_of,
    resolution_decay,
    spread,
)
from predictors.saved_arrays import Arrays

__all__ = [
    "KernelMean",
    "QuadraticForm",
    "Spectrum",
    "bend",
    "collapse",
    "fit_process",
    "kernel_matrix",
    "rbf_matrix",
    "unbend",
]

# Shares of the variance of the targets, rounded: maximum marginal likelihood on training sets of 200 networks.
LINEAR, ONE_HOT, STAGED, LOG_MACS, SQUARED, STAGED_SQUARED, DECAY = 0.05, 0.03, 0.4, 0.1, 0.001, 0.0015, 20.0
RADIAL, RBF_LENGTH = 0.01, 60.0
CHUNK = 8192
MEAN = 1.0  # variance of the mean level: with a known mean, a row left out would still contribute to the mean
NOISES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)  # shares of the variance of the targets
CEILINGS = (0.5, 1.0, 2.0, 4.0, np.inf)  # ceiling above the best row, in standard deviations
# Factor on the leave-one-out error of each model: the slower and the coarser model are chosen only for a clear gain.
HANDICAP = {"quadratic": 1.0, "ridge": 1.15, "rbf": 1.03}


def unbend(values: Floats, ceiling: float) -> Floats:
    """Return (n,) -log(ceiling - values), or the values if the ceiling is infinite."""
    return values if np.isinf(ceiling) else -np.log(ceiling - values)


def bend(values: Floats, ceiling: float) -> Floats:
    """Invert `unbend`."""
    return values if np.isinf(ceiling) else ceiling - np.exp(-values)


def kernel_matrix(a: Design, b: Design, squared: float = 1.0) -> Floats:
    """Return the (n, m) covariance of centred designs; `squared` scales the squared terms (0: ridge regression)."""
    sa, sb = a.ordinals @ a.stages, b.ordinals @ b.stages
    linear = LINEAR / 20 * a.ordinals @ b.ordinals.T + ONE_HOT / 120 * a.one_hot @ b.one_hot.T
    linear += STAGED / 20 * sa @ sb.T
    linear += LOG_MACS * np.outer(a.log_macs, b.log_macs) + DECAY * np.outer(a.decay, b.decay)
    if squared:
        linear += squared * SQUARED * (a.squared_part() @ b.squared_part().T / 10) ** 2
        linear += squared * STAGED_SQUARED * (sa @ sb.T / 20) ** 2
    return np.asarray(linear)


class Spectrum:
    """Eigendecomposition of a covariance, to solve for many targets and noise variances.

    Args:
        kernel: (n, n) covariance.
        counts: (n,) number of measurements of each row, by which its noise variance is divided.
    """

    def __init__(self, kernel: Floats, counts: Floats) -> None:
        self.root = np.sqrt(counts)
        self.values, self.vectors = np.linalg.eigh(self.root[:, None] * kernel * self.root)
        self.squares = self.vectors**2

    def solve(self, y: Floats, noise: float) -> tuple[Floats, Floats]:
        """Solve for the weights of the posterior mean and the leave-one-out residuals.

        Args:
            y: (n,) centred targets.
            noise: variance of one measurement.

        Returns:
            (n,) weights, and (n,) residuals: y minus the prediction without that row.
        """
        shrink = 1.0 / (np.maximum(self.values, 0.0) + noise)
        scaled = self.vectors @ (shrink * (self.vectors.T @ (self.root * y)))
        return self.root * scaled, scaled / (self.squares @ shrink) / self.root


@dataclass(frozen=True)
class QuadraticForm:
    """A posterior mean in closed form.

    Attributes:
        constant: value at the centre.
        slot: (n_slots, n_codes + 1) linear contribution of each slot's code.
        log_macs: coefficient of the log of the MACs.
        decay: coefficient of `resolution_decay`.
        centre: (3 * n_slots + 1,) offset of the inputs of the squared terms.
        matrix: (3 * n_slots + 1, 3 * n_slots + 1) symmetric matrix of the squared terms.
        ceiling: ceiling of `bend`, which is applied last.
    """

    constant: float
    slot: Floats
    log_macs: float
    decay: float
    centre: Floats
    matrix: Floats
    ceiling: float = np.inf

    def __call__(self, space: Space, genomes: Genomes) -> Floats:
        """Return the (n,) values of (n, 1 + n_slots) genomes."""
        out = np.empty(len(genomes))
        for start in range(0, len(genomes), CHUNK):
            part = genomes[start : start + CHUNK]
            out[start : start + CHUNK] = self._unbent(space, part, self._centred(space, part))
        return bend(out, self.ceiling)

    def scores(self, space: Space, genomes: Genomes) -> Floats:
        """Return the (n, n_slots, n_codes + 1) values with another code in one slot, which must stay active."""
        n_slots, slots = space.n_slots, np.arange(space.n_slots)
        ordinals = code_tables(space)[0]
        change = ordinals - ordinals[:, None]  # (code now, other code, 3)
        own = self.matrix[: 3 * n_slots, : 3 * n_slots].reshape(3, n_slots, 3, n_slots)[:, slots, :, slots]
        squares = np.einsum("aci,sij,acj->sac", change, own, change)
        v = self._centred(space, genomes)
        slope = 2 * (v @ self.matrix)[:, : 3 * n_slots].reshape(-1, 3, n_slots)
        by_code = np.einsum("nis,ci->nsc", slope, ordinals) + self.slot + squares[slots, genomes[:, 1:]]
        by_code += self.log_macs * log_macs_by_code(space, genomes)
        now = np.take_along_axis(by_code, genomes[:, 1:, None].astype(np.intp), axis=2)
        return bend(self._unbent(space, genomes, v)[:, None, None] + by_code - now, self.ceiling)

    def _centred(self, space: Space, genomes: Genomes) -> Floats:
        """Return the (n, 3 * n_slots + 1) inputs of the squared terms."""
        inputs = np.column_stack([ordinals_of(space, genomes), 3.0 * resolution_decay(genomes[:, 0])])
        return np.asarray(inputs - self.centre)

    def _unbent(self, space: Space, genomes: Genomes, v: Floats) -> Floats:
        linear = self.slot[np.arange(space.n_slots), genomes[:, 1:]].sum(axis=1)
        linear += self.decay * resolution_decay(genomes[:, 0]) + self.log_macs * log_macs(space, genomes)
        return np.asarray(linear + self.constant + np.einsum("ij,ij->i", v @ self.matrix, v))

    def at(self, space: Space, resolution_px: int) -> QuadraticScore:
        """Return the form at one resolution, between 0 and 100 percent."""
        table = code_tables(space)[0]
        n, n_slots = len(self.centre) - 1, space.n_slots
        decay = float(resolution_decay(np.array([resolution_px]))[0])
        away = np.append(np.zeros(n), 3.0 * decay) - self.centre  # the inputs of the squared terms without any slot
        ordinals = (2 * self.matrix[:n] @ away).reshape(3, n_slots)
        by_slot = np.arange(n).reshape(3, n_slots).T.reshape(-1)  # slot after slot, as `QuadraticScore` has them
        macs = DenseTable.build(space, space.resolutions[-1:], lambda block, _: block.macs)
        return QuadraticScore(
            constant=self.constant + self.decay * decay + float(away @ self.matrix @ away),
            slots=self.slot + ordinals.T @ table.T,
            features=table,
            matrix=self.matrix[np.ix_(by_slot, by_slot)],
            log_weight=self.log_macs,
            fixed_size=float(macs.fixed[0]),
            sizes=macs.slots[0],
            shape=lambda latent: np.clip(bend(latent, self.ceiling), 0.0, 100.0),
        )

    def arrays(self) -> dict[str, Floats]:
        """Return the parts as arrays, to be stored in a file."""
        return {name: np.asarray(getattr(self, name), dtype=np.float64) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, take: Arrays, space: Space) -> QuadraticForm:
        """Build the form from the result of `arrays`, read from a file."""
        n_columns = 3 * space.n_slots + 1
        return cls(
            constant=take.number("constant"),
            slot=take.floats("slot", space.n_slots, 1 + space.n_codes),
            log_macs=take.number("log_macs"),
            decay=take.number("decay"),
            centre=take.floats("centre", n_columns),
            matrix=take.floats("matrix", n_columns, n_columns),
            ceiling=take.ceiling(),
        )


def collapse(
    space: Space, rows: Design, weights: Floats, offset: float, squared: float = 1.0, ceiling: float = np.inf
) -> QuadraticForm:
    """Return the posterior mean `offset + kernel(., rows) @ weights` as a quadratic form.

    Args:
        space: space of the rows.
        rows: design of the n rows, not centred.
        weights: (n,) weights from `Spectrum.solve`.
        offset: value that was subtracted from the targets.
        squared: as in `kernel_matrix`.
        ceiling: as in `unbend`.
    """
    c = rows.centred(rows)
    staged = c.ordinals @ c.stages
    ordinal = LINEAR / 20 * c.ordinals.T @ weights + STAGED / 20 * c.stages @ (staged.T @ weights)
    one_hot = ONE_HOT / 120 * c.one_hot.T @ weights
    macs = LOG_MACS * float(c.log_macs @ weights) / spread(rows.log_macs)
    decay = float(DECAY * c.decay @ weights)
    v = c.squared_part()
    matrix = squared * SQUARED / 100 * (v.T * weights) @ v
    n = rows.ordinals.shape[1]
    inner = (staged.T * weights) @ staged
    matrix[:n, :n] += squared * STAGED_SQUARED / 400 * c.stages @ inner @ c.stages.T
    tables = code_tables(space)
    slot = tables[0] @ ordinal.reshape(3, space.n_slots) + tables[1] @ one_hot.reshape(space.n_slots, -1).T
    constant = offset - float(rows.ordinals.mean(axis=0) @ ordinal) - float(rows.one_hot.mean(axis=0) @ one_hot)
    constant -= macs * float(rows.log_macs.mean()) + decay * float(rows.decay.mean())
    return QuadraticForm(constant, slot.T.copy(), macs, decay, rows.squared_part().mean(axis=0), matrix, ceiling)


def rbf_matrix(a: Design, b: Design) -> Floats:
    """Return the (n, m) covariance of centred designs with linear and radial terms."""
    va, vb = _radial_inputs(a), _radial_inputs(b)
    squares = (va**2).sum(axis=1)[:, None] + (vb**2).sum(axis=1)[None] - 2 * va @ vb.T
    return np.asarray(kernel_matrix(a, b, squared=0.0) + RADIAL * np.exp(-squares / RBF_LENGTH))


def _radial_inputs(centred: Design) -> Floats:
    return np.column_stack([centred.squared_part(), centred.ordinals @ centred.stages / 2, centred.log_macs])


@dataclass(frozen=True)
class KernelMean:
    """A posterior mean without a closed form.

    Attributes:
        rows: design of the n training rows, not centred.
        weights: (n,) weights from `Spectrum.solve`.
        offset: value that was subtracted from the targets.
        ceiling: ceiling of `bend`, which is applied last.
    """

    rows: Design
    weights: Floats
    offset: float
    ceiling: float = np.inf

    def __call__(self, space: Space, genomes: Genomes) -> Floats:
        """Return the (n,) values of (n, 1 + n_slots) genomes."""
        centred = self.rows.centred(self.rows)
        out = np.empty(len(genomes))
        for start in range(0, len(genomes), 2048):
            part = design(space, genomes[start : start + 2048]).centred(self.rows)
            out[start : start + 2048] = self.offset + rbf_matrix(part, centred) @ self.weights
        return bend(out, self.ceiling)

    def scores(self, space: Space, genomes: Genomes) -> Floats:
        """Return the (n, n_slots, n_codes + 1) values with another code in one slot, by the gradient."""
        linear = collapse(space, self.rows, self.weights, self.offset, squared=0.0)
        rows, part = self.rows.centred(self.rows), design(space, genomes).centred(self.rows)
        radial = (rbf_matrix(part, rows) - kernel_matrix(part, rows, squared=0.0)) * self.weights
        va, vb = _radial_inputs(part), _radial_inputs(rows)
        slope = -2 / RBF_LENGTH * (radial.sum(axis=1)[:, None] * va - radial @ vb)
        n, n_slots = part.ordinals.shape[1], space.n_slots
        by_ordinal = slope[:, :n] + slope[:, n + 1 : -1] / 2 @ self.rows.stages.T
        by_code = np.einsum("nis,ci->nsc", by_ordinal.reshape(-1, 3, n_slots), code_tables(space)[0]) + linear.slot
        by_macs = linear.log_macs + slope[:, -1] / spread(self.rows.log_macs)
        by_code += by_macs[:, None, None] * log_macs_by_code(space, genomes)
        now = np.take_along_axis(by_code, genomes[:, 1:, None].astype(np.intp), axis=2)
        value = unbend(self(space, genomes), self.ceiling)
        return bend(value[:, None, None] + by_code - now, self.ceiling)

    def arrays(self) -> dict[str, Floats]:
        """Return the parts as arrays, to be stored in a file."""
        return {
            **vars(self.rows),
            "weights": self.weights,
            "offset": np.array(self.offset),
            "ceiling": np.array(self.ceiling),
        }

    @classmethod
    def from_arrays(cls, take: Arrays, space: Space) -> KernelMean:
        """Build the mean from the result of `arrays`, read from a file."""
        weights = take.floats("weights", None)
        n, n_choices = len(weights), len(space.kernels) + len(space.expands)
        rows = Design(
            ordinals=take.floats("ordinals", n, 3 * space.n_slots),
            one_hot=take.floats("one_hot", n, space.n_slots * n_choices),
            log_macs=take.floats("log_macs", n),
            decay=take.floats("decay", n),
            stages=take.floats("stages", 3 * space.n_slots, 3 * len(space.stages)),
        )
        return cls(rows, weights, take.number("offset"), take.ceiling())


def fit_process(
    space: Space, nets: Genomes, y: Floats, counts: Floats, models: tuple[str, ...]
) -> tuple[str, KernelMean | QuadraticForm, Floats]:
    """Fit the model, ceiling and noise that have the least leave-one-out error.

    Args:
        space: space of the networks.
        nets: (n, 1 + n_slots) different genomes.
        y: (n,) percent.
        counts: (n,) number of measurements of each network, or its relative weight.
        models: names out of `quadratic`, `rbf`, `ridge`.

    Returns:
        Name of the model, its posterior mean, and (n,) leave-one-out errors in percentage points.
    """
    rows = design(space, nets)
    centred = rows.centred(rows)
    best = np.inf
    for model in models:
        squared = float(model == "quadratic")
        kernel = rbf_matrix(centred, centred) if model == "rbf" else kernel_matrix(centred, centred, squared)
        spectrum = Spectrum(kernel + MEAN, counts)
        for ceiling, noise in product(float(y.max()) + float(y.std()) * np.array(CEILINGS), NOISES):
            z = unbend(y, ceiling)
            offset, scale = float(z.mean()), float(z.std()) or 1.0
            weights, residuals = spectrum.solve((z - offset) / scale, noise)
            errors = y - bend(z - scale * residuals, ceiling)
            score = float(np.average(np.abs(errors), weights=counts)) * HANDICAP[model]
            if score < best:
                level = offset + scale * MEAN * float(weights.sum())
                best, chosen = score, (model, errors, scale * weights, level, ceiling)
    model, errors, weights, level, ceiling = chosen
    if model == "rbf":
        return model, KernelMean(rows, weights, level, ceiling), errors
    return model, collapse(space, rows, weights, level, float(model == "quadratic"), ceiling), errors
