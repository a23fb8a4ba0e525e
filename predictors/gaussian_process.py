"""Gaussian processes over architectures, for accuracy.

An architecture is described by the choices of each slot: active or not, kernel size and expand ratio as numbers
(`ordinals`), the same choices one-hot coded, the logarithm of its MACs, and a decaying function of the resolution.

The kernel is a sum of linear terms in all of these and of squared terms in the ordinals, per slot and summed per
stage, so that few rows are enough to learn the effects that the blocks of a stage share. A squared linear kernel is a
polynomial, so the posterior mean collapses to one table per slot and one small matrix (`QuadraticForm`): its cost does
not depend on the number of rows. With an additional RBF term the rows must be kept (`KernelMean`).

Accuracy saturates: each choice adds less as accuracy approaches the best of the family. The process can therefore
model -log(ceiling - accuracy) (`unbend`), in which the effects of the choices nearly add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import total_macs
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.saved_arrays import Arrays

__all__ = [
    "Design",
    "KernelMean",
    "QuadraticForm",
    "Spectrum",
    "bend",
    "collapse",
    "design",
    "fit_process",
    "kernel_matrix",
    "log_macs",
    "rbf_matrix",
    "resolution_decay",
    "unbend",
]

# Factor by which the effect of the resolution shrinks for each 32 px: ratio of the steps 128-160-192 px of OFA-MBv3
# w1.0 sub-nets in the 12,500-image measurements (printed by tools/fit_accuracy.py).
DECAY_PER_32_PX = 0.48
# Shares of the variance of the targets, rounded: maximum marginal likelihood on training sets of 200 networks.
LINEAR, ONE_HOT, STAGED, LOG_MACS, SQUARED, STAGED_SQUARED, DECAY = 0.05, 0.03, 0.4, 0.1, 0.001, 0.0015, 20.0
RADIAL, RBF_LENGTH = 0.01, 60.0
CHUNK = 8192
MEAN = 1.0  # variance of the mean level: with a known mean, a row left out would still contribute to the mean
NOISES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)  # shares of the variance of the targets
CEILINGS = (0.5, 1.0, 2.0, 4.0, np.inf)  # ceiling above the best row, in standard deviations
# Factor on the leave-one-out error of each model: the slower and the coarser model are chosen only for a clear gain.
HANDICAP = {"quadratic": 1.0, "ridge": 1.15, "rbf": 1.03}


def resolution_decay(resolution_px: NDArray[np.integer]) -> Floats:
    """Return the (n,) remaining shares of the resolution effect: 1 at 128 px, 0.11 at 224 px."""
    return np.asarray(DECAY_PER_32_PX ** ((np.asarray(resolution_px, dtype=np.float64) - 128.0) / 32.0))


@dataclass(frozen=True)
class Design:
    """Features of n architectures.

    Attributes:
        ordinals: (n, 3 * n_slots) active, kernel and expand ratio of each slot; 0 in an inactive slot.
        one_hot: (n, n_slots * (n_kernels + n_expands)) the same choices, one-hot coded.
        log_macs: (n,) log of the MACs at a fixed resolution.
        decay: (n,) `resolution_decay`.
        stages: (3 * n_slots, 3 * S) matrix that sums the ordinals per stage.
    """

    ordinals: Floats
    one_hot: Floats
    log_macs: Floats
    decay: Floats
    stages: Floats

    def centred(self, other: Design) -> Design:
        """Return this design minus the column means of another one."""
        return replace(
            self,
            ordinals=self.ordinals - other.ordinals.mean(axis=0),
            one_hot=self.one_hot - other.one_hot.mean(axis=0),
            log_macs=(self.log_macs - other.log_macs.mean()) / _spread(other.log_macs),
            decay=self.decay - other.decay.mean(),
        )

    def squared_part(self) -> Floats:
        """Return the (n, 3 * n_slots + 1) inputs of the squared kernel."""
        return np.column_stack([self.ordinals, 3.0 * self.decay])


def unbend(values: Floats, ceiling: float) -> Floats:
    """Return (n,) -log(ceiling - values), or the values if the ceiling is infinite."""
    return values if np.isinf(ceiling) else -np.log(ceiling - values)


def bend(values: Floats, ceiling: float) -> Floats:
    """Invert `unbend`."""
    return values if np.isinf(ceiling) else ceiling - np.exp(-values)


def _spread(values: Floats) -> float:
    return float(values.std()) or 1.0


@lru_cache(maxsize=8)
def _code_tables(space: Space) -> tuple[Floats, Floats]:
    """Return (n_codes + 1, 3) ordinals and (n_codes + 1, n_kernels + n_expands) one-hot rows of a slot's codes."""
    nk, ne = len(space.kernels), len(space.expands)
    ordinals, one_hot = np.zeros((1 + space.n_codes, 3)), np.zeros((1 + space.n_codes, nk + ne))
    for code, (kernel, expand) in enumerate(space.choices, 1):
        k, e = space.kernels.index(kernel), space.expands.index(expand)
        ordinals[code] = 1.0, k - (nk - 1) / 2, expand / space.expands[ne // 2] - 1
        one_hot[code, k] = one_hot[code, nk + e] = 1.0
    return ordinals, one_hot


def log_macs(space: Space, genomes: Genomes) -> Floats:
    """Return the (n,) logs of the MACs of each sub-net at the largest resolution of the space."""
    there = genomes.copy()
    there[:, 0] = space.resolutions[-1]
    return np.asarray(np.log(total_macs(space, there)))


def _ordinals(space: Space, genomes: Genomes) -> Floats:
    table = _code_tables(space)[0]
    return np.concatenate([table[:, i][genomes[:, 1:]] for i in range(3)], axis=1)


def design(space: Space, genomes: Genomes) -> Design:
    """Return the features of (n, 1 + n_slots) genomes."""
    one_hot = _code_tables(space)[1][genomes[:, 1:]].reshape(len(genomes), -1)
    per_stage = np.zeros((space.n_slots, len(space.stages)))
    per_stage[np.arange(space.n_slots), list(space.slot_stages)] = 1.0
    stages = np.asarray(np.kron(np.eye(3), per_stage), dtype=np.float64)
    return Design(_ordinals(space, genomes), one_hot, log_macs(space, genomes), resolution_decay(genomes[:, 0]), stages)


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
        slots = np.arange(space.n_slots)
        for start in range(0, len(genomes), CHUNK):
            part = genomes[start : start + CHUNK]
            decay = resolution_decay(part[:, 0])
            v = np.column_stack([_ordinals(space, part), 3.0 * decay]) - self.centre
            linear = self.slot[slots, part[:, 1:]].sum(axis=1) + self.decay * decay
            linear += self.log_macs * log_macs(space, part) + self.constant
            out[start : start + CHUNK] = linear + np.einsum("ij,ij->i", v @ self.matrix, v)
        return bend(out, self.ceiling)

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
    macs = LOG_MACS * float(c.log_macs @ weights) / _spread(rows.log_macs)
    decay = float(DECAY * c.decay @ weights)
    v = c.squared_part()
    matrix = squared * SQUARED / 100 * (v.T * weights) @ v
    n = rows.ordinals.shape[1]
    inner = (staged.T * weights) @ staged
    matrix[:n, :n] += squared * STAGED_SQUARED / 400 * c.stages @ inner @ c.stages.T
    tables = _code_tables(space)
    slot = tables[0] @ ordinal.reshape(3, space.n_slots) + tables[1] @ one_hot.reshape(space.n_slots, -1).T
    constant = offset - float(rows.ordinals.mean(axis=0) @ ordinal) - float(rows.one_hot.mean(axis=0) @ one_hot)
    constant -= macs * float(rows.log_macs.mean()) + decay * float(rows.decay.mean())
    return QuadraticForm(constant, slot.T.copy(), macs, decay, rows.squared_part().mean(axis=0), matrix, ceiling)


def rbf_matrix(a: Design, b: Design) -> Floats:
    """Return the (n, m) covariance of centred designs with linear and radial terms."""
    va = np.column_stack([a.squared_part(), a.ordinals @ a.stages / 2, a.log_macs])
    vb = np.column_stack([b.squared_part(), b.ordinals @ b.stages / 2, b.log_macs])
    squares = (va**2).sum(axis=1)[:, None] + (vb**2).sum(axis=1)[None] - 2 * va @ vb.T
    return np.asarray(kernel_matrix(a, b, squared=0.0) + RADIAL * np.exp(-squares / RBF_LENGTH))


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
