"""Gaussian processes over architectures whose posterior mean is a quadratic form: exact, and fast to ask.

An architecture is described by what each slot chose: active or not, its kernel size and its expand ratio as numbers
(`ordinals`), the same as one-hot codes, the logarithm of its MACs, and a decaying function of the input resolution.
The kernel is a sum of linear terms in all of these and of squared ones in the ordinals, slot by slot and summed over
stages, so that what one stage's blocks have in common is learnt from few rows. A squared linear kernel is a polynomial:
the mean of the process collapses to one table per slot and one small matrix, whatever number of rows it was fitted to.

Accuracy saturates: the nearer to what the family can reach, the less each choice adds. So the process may be over
-log(ceiling - accuracy) in place of accuracy (`unbend`), in which the choices of one network nearly add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import total_macs
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats

__all__ = [
    "Design",
    "QuadraticForm",
    "Spectrum",
    "bend",
    "collapse",
    "design",
    "kernel_matrix",
    "log_macs",
    "rbf_matrix",
    "resolution_decay",
    "unbend",
]

# The effect of the input size shrinks by this factor for each 32 px: the ratio of the steps 128-160-192 of OFA-MBv3
# w1.0 sub-nets in the 12,500-image measurements (tools/fit_accuracy.py prints it).
DECAY_PER_32_PX = 0.48
# Variances, as shares of that of the targets: by marginal likelihood over training sets of 200 networks, rounded.
LINEAR, ONE_HOT, STAGED, LOG_MACS, SQUARED, STAGED_SQUARED, DECAY = 0.05, 0.03, 0.4, 0.1, 0.001, 0.0015, 20.0
RADIAL, RBF_LENGTH = 0.01, 60.0
CHUNK = 8192


def resolution_decay(resolution_px: NDArray[np.integer]) -> Floats:
    """(n,) share of the resolution effect that is left: 1 at 128 px, 0.11 at 224 px."""
    return np.asarray(DECAY_PER_32_PX ** ((np.asarray(resolution_px, dtype=np.float64) - 128.0) / 32.0))


@dataclass(frozen=True)
class Design:
    """Architectures as numbers.

    Attributes:
        ordinals: (n, 3 * n_slots): active, kernel, expand ratio of each slot; 0 where it is inactive.
        one_hot: (n, n_slots * (n_kernels + n_expands)).
        log_macs: (n,) log of the MACs at a fixed input size.
        decay: (n,) `resolution_decay`.
        stages: (3 * n_slots, 3 * S) sums the ordinals over stages.
    """

    ordinals: Floats
    one_hot: Floats
    log_macs: Floats
    decay: Floats
    stages: Floats

    def centred(self, other: Design) -> Design:
        """This design minus the column means of another one."""
        return replace(
            self,
            ordinals=self.ordinals - other.ordinals.mean(axis=0),
            one_hot=self.one_hot - other.one_hot.mean(axis=0),
            log_macs=(self.log_macs - other.log_macs.mean()) / _spread(other.log_macs),
            decay=self.decay - other.decay.mean(),
        )

    def squared_part(self) -> Floats:
        """(n, 3 * n_slots + 1) what the squared kernel sees."""
        return np.column_stack([self.ordinals, 3.0 * self.decay])


def unbend(values: Floats, ceiling: float) -> Floats:
    """(n,) -log(ceiling - values); the values themselves where the ceiling is infinite."""
    return values if np.isinf(ceiling) else -np.log(ceiling - values)


def bend(values: Floats, ceiling: float) -> Floats:
    """The inverse of `unbend`."""
    return values if np.isinf(ceiling) else ceiling - np.exp(-values)


def _spread(values: Floats) -> float:
    return float(values.std()) or 1.0


@lru_cache(maxsize=8)
def _code_tables(space: Space) -> tuple[Floats, Floats]:
    """(n_codes + 1, 3) ordinals and (n_codes + 1, n_kernels + n_expands) one-hots of a slot's code."""
    nk, ne = len(space.kernels), len(space.expands)
    ordinals, one_hot = np.zeros((1 + space.n_codes, 3)), np.zeros((1 + space.n_codes, nk + ne))
    for code, (kernel, expand) in enumerate(space.choices, 1):
        k, e = space.kernels.index(kernel), space.expands.index(expand)
        ordinals[code] = 1.0, k - (nk - 1) / 2, expand / space.expands[ne // 2] - 1
        one_hot[code, k] = one_hot[code, nk + e] = 1.0
    return ordinals, one_hot


def log_macs(space: Space, genomes: Genomes) -> Floats:
    """(n,) log of the MACs that each sub-net has at the space's largest resolution, whatever its own is."""
    there = genomes.copy()
    there[:, 0] = space.resolutions[-1]
    return np.asarray(np.log(total_macs(space, there)))


def _ordinals(space: Space, genomes: Genomes) -> Floats:
    table = _code_tables(space)[0]
    return np.concatenate([table[:, i][genomes[:, 1:]] for i in range(3)], axis=1)


def design(space: Space, genomes: Genomes) -> Design:
    """Describe (n, 1 + n_slots) genomes."""
    one_hot = _code_tables(space)[1][genomes[:, 1:]].reshape(len(genomes), -1)
    per_stage = np.zeros((space.n_slots, len(space.stages)))
    per_stage[np.arange(space.n_slots), list(space.slot_stages)] = 1.0
    stages = np.asarray(np.kron(np.eye(3), per_stage), dtype=np.float64)
    return Design(_ordinals(space, genomes), one_hot, log_macs(space, genomes), resolution_decay(genomes[:, 0]), stages)


def kernel_matrix(a: Design, b: Design, squared: float = 1.0) -> Floats:
    """(n, m) covariance of centred designs; `squared` scales the squared terms (0: a ridge regression)."""
    sa, sb = a.ordinals @ a.stages, b.ordinals @ b.stages
    linear = LINEAR / 20 * a.ordinals @ b.ordinals.T + ONE_HOT / 120 * a.one_hot @ b.one_hot.T
    linear += STAGED / 20 * sa @ sb.T
    linear += LOG_MACS * np.outer(a.log_macs, b.log_macs) + DECAY * np.outer(a.decay, b.decay)
    if squared:
        linear += squared * SQUARED * (a.squared_part() @ b.squared_part().T / 10) ** 2
        linear += squared * STAGED_SQUARED * (sa @ sb.T / 20) ** 2
    return np.asarray(linear)


class Spectrum:
    """A covariance taken apart once, to solve for many targets and strengths of noise.

    Args:
        kernel: (n, n).
        counts: (n,) how often each row was measured; its noise is divided by it.
    """

    def __init__(self, kernel: Floats, counts: Floats) -> None:
        self.root = np.sqrt(counts)
        self.values, self.vectors = np.linalg.eigh(self.root[:, None] * kernel * self.root)
        self.squares = self.vectors**2

    def solve(self, y: Floats, noise: float) -> tuple[Floats, Floats]:
        """Weights of the posterior mean and the leave-one-out residuals.

        Args:
            y: (n,) targets, centred.
            noise: variance of one measurement.

        Returns:
            (n,) weights and (n,) residuals y - (prediction without that row).
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
        centre: (3 * n_slots + 1,) subtracted before the squared terms.
        matrix: (3 * n_slots + 1, 3 * n_slots + 1) of the squared terms, symmetric.
        ceiling: of `bend`, through which the value goes at last.
    """

    constant: float
    slot: Floats
    log_macs: float
    decay: float
    centre: Floats
    matrix: Floats
    ceiling: float = np.inf

    def __call__(self, space: Space, genomes: Genomes) -> Floats:
        """(n,) values of (n, 1 + n_slots) genomes."""
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
        """The parts as arrays, for a file."""
        return {name: np.asarray(getattr(self, name), dtype=np.float64) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Floats]) -> QuadraticForm:
        """The inverse of `arrays`."""
        scalars = {name: float(arrays[name]) for name in ("constant", "log_macs", "decay")}
        scalars["ceiling"] = float(arrays.get("ceiling", np.inf))  # older files have none
        return cls(slot=arrays["slot"], centre=arrays["centre"], matrix=arrays["matrix"], **scalars)


def collapse(
    space: Space, rows: Design, weights: Floats, offset: float, squared: float = 1.0, ceiling: float = np.inf
) -> QuadraticForm:
    """The posterior mean `offset + kernel(., rows) @ weights` as a quadratic form.

    Args:
        space: the space of the rows.
        rows: design of the n rows, not centred.
        weights: (n,) from `Spectrum.solve`.
        offset: what was subtracted from the targets.
        squared: as given to `kernel_matrix`.
        ceiling: as given to `unbend`.
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
    """(n, m) covariance of centred designs with linear and radial terms."""
    va = np.column_stack([a.squared_part(), a.ordinals @ a.stages / 2, a.log_macs])
    vb = np.column_stack([b.squared_part(), b.ordinals @ b.stages / 2, b.log_macs])
    squares = (va**2).sum(axis=1)[:, None] + (vb**2).sum(axis=1)[None] - 2 * va @ vb.T
    return np.asarray(kernel_matrix(a, b, squared=0.0) + RADIAL * np.exp(-squares / RBF_LENGTH))
