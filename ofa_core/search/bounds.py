"""An upper bound of the score of every network of a part, by convex relaxation.

For any matrices D (one for each stage, so that Q = D - cross has no negative eigenvalue), any vector q, prices >= 0 of
the limits and slope > 0 of the logarithm, with a = log_weight > 0, every feasible network has

    v' cross v    = v'Dv - v'Qv  <=  v'Dv + q'v + q' inverse(Q) q / 4
    a log(size)  <=  a (slope size - 1 - log(slope))
    0            <=  prices' (room - costs)

The right sides are sums over stages, and each stage is maximised by enumeration. The sum of the maxima is a bound, and
is convex in (D, q, prices, slope). Newton's method minimises it, with the maxima smoothed at a temperature that
falls towards zero. Relaxing pairs of slots one by one instead (a linear programme) leaves gaps that are fifty times
larger on the built-in accuracy model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.search.parts import Part

__all__ = ["Multipliers", "Relaxed", "relax", "upper_bound"]

Floats = NDArray[np.float64]
LEAST_VARIANCE = 1e-10  # of a direction of features, as a share of the largest
LEAST_SHARE = 1e-8  # of a list in the mean of its stage
MAX_HALVINGS = 40
ENOUGH = 20.0  # decrement of a step, in the temperature, at which the next temperature is better worth the time
COST_WEIGHT = 0.1  # of the spread of costs against that of features, to divide a stage


@dataclass(frozen=True, eq=False)
class Multipliers:
    """The values that define a bound, in the features of the parts; they serve for a part of the part too.

    Attributes:
        shifts: (k, k) matrix D of each stage.
        point: (K,) features v at which the quadratic bound is exact.
        prices: (m,) price of each limit.
        slope: slope of the logarithm's tangent.
    """

    shifts: tuple[Floats, ...]
    point: Floats
    prices: Floats
    slope: float


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A bound of a part.

    Attributes:
        value: no feasible network of the part has a larger latent value.
        losses: (n,) for each stage: a network with this list has at most `value - loss`.
        multipliers: how it was found.
        stage: stage whose lists differ most where the bound is not exact.
        upper: (n,) booleans that divide the lists of this stage.
    """

    value: float
    losses: tuple[Floats, ...]
    multipliers: Multipliers
    stage: int
    upper: NDArray[np.bool_]


def relax(part: Part, start: Multipliers | None, temperature: float, max_steps: int) -> Relaxed:
    """Return a bound of a part, minimised at a temperature.

    Args:
        part: a part with at least one list for each stage.
        start: multipliers of a part that contains this one; None to begin anew.
        temperature: how much the bound may be away from its minimum, roughly; in the unit of latent values.
        max_steps: largest number of Newton steps.
    """
    dual = _Dual(part)
    x = dual.begin(start, temperature)
    value = dual.smooth(x, temperature)
    for _ in range(max_steps):
        gradient, hessian = dual.derivatives(x, temperature)
        try:
            step = -np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        decrement = -float(gradient @ step)
        share = 1.0
        for _ in range(MAX_HALVINGS):
            there = dual.smooth(x + share * step, temperature)
            if there <= value - 0.1 * share * decrement:
                break
            share /= 2
        else:
            break
        x, value = x + share * step, there
        if decrement < ENOUGH * temperature:
            break
    return dual.bound(x, temperature)


def upper_bound(part: Part, multipliers: Multipliers) -> float:
    """Return the bound of a part by multipliers that are at hand."""
    dual = _Dual(part)
    return dual.bound(dual.begin(multipliers, 0.0), 0.0).value


class _Dual:
    """The bound of a part as a function of a vector: q, the upper triangles of D, prices, and slope if there is one.

    Features are centred on the lists of the part and scaled to variance one, so that all directions count alike.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.means = [features.mean(axis=0) for features in part.features]
        self.bases = [_basis(features - mean) for features, mean in zip(part.features, self.means, strict=True)]
        self.inverses = [np.linalg.pinv(basis) for basis in self.bases]
        self.ends = np.cumsum([0, *(basis.shape[1] for basis in self.bases)])
        mean, base = np.concatenate(self.means), _block_diagonal(self.bases)
        self.cross = base.T @ part.cross @ base
        linear = 2 * part.cross @ mean
        upper = [np.triu_indices(basis.shape[1]) for basis in self.bases]
        self.rows = np.concatenate([end + i for end, (i, _) in zip(self.ends, upper, strict=False)])
        self.cols = np.concatenate([end + j for end, (_, j) in zip(self.ends, upper, strict=False)])
        self.twice = np.where(self.rows == self.cols, 1.0, 2.0)
        self.n, self.n_prices, self.has_slope = int(self.ends[-1]), len(part.room), part.log_weight > 0
        self.n_x = self.n + len(self.rows) + self.n_prices + self.has_slope
        intercept, slope = (0.0, 0.0) if self.has_slope else _chord(part)
        self.constant = part.constant + float(mean @ part.cross @ mean) + intercept + slope * part.fixed_size
        self.fixed, self.terms, self.index = [], [], []
        triangle = self.n
        for t, (gains, features) in enumerate(zip(part.gains, part.features, strict=True)):
            at = slice(part.offsets[t], part.offsets[t + 1])
            centred = features - self.means[t]
            phi = centred @ self.inverses[t].T
            i, j = upper[t]
            columns = [phi, phi[:, i] * phi[:, j] * np.where(i == j, 1.0, 2.0), -part.costs[t]]
            index = [*range(self.ends[t], self.ends[t + 1]), *range(triangle, triangle + len(i))]
            index += range(self.n + len(self.rows), self.n_x)
            if self.has_slope:
                columns.append(part.log_weight * part.sizes[t][:, None])
            self.fixed.append(gains + centred @ linear[at] + slope * part.sizes[t])
            self.terms.append(np.concatenate(columns, axis=1))
            self.index.append(np.array(index, dtype=np.intp))
            triangle += len(i)

    @cached_property
    def prices(self) -> slice:
        """The columns of the prices."""
        first = self.n + len(self.rows)
        return slice(first, first + self.n_prices)

    def begin(self, start: Multipliers | None, temperature: float) -> Floats:
        """Return the vector of multipliers; Q is made positive by a multiple of the identity where it is not."""
        x, shifts, point = np.zeros(self.n_x), np.zeros((self.n, self.n)), np.zeros(self.n)
        x[self.prices] = 0.5
        if self.has_slope:
            x[-1] = 1 / (self.part.fixed_size + sum(sizes.mean() for sizes in self.part.sizes))
        if start is not None:
            for t, basis in enumerate(self.bases):
                here, there = slice(*self.ends[t : t + 2]), slice(*self.part.offsets[t : t + 2])
                shifts[here, here] = basis.T @ start.shifts[t] @ basis
                point[here] = self.inverses[t] @ (start.point[there] - self.means[t])
            x[self.prices] = start.prices
            if self.has_slope:
                x[-1] = start.slope
        if self.n:
            least = float(np.linalg.eigvalsh(shifts - self.cross)[0])
            needed = temperature + 1e-9 * float(np.abs(self.cross).max())
            shifts += max(0.0, needed - least) * np.eye(self.n)
        x[: self.n] = -2 * (shifts - self.cross) @ point
        x[self.n : self.n + len(self.rows)] = shifts[self.rows, self.cols]
        return x

    def _q_matrix(self, x: Floats) -> Floats:
        q_matrix = -self.cross
        triangles = x[self.n : self.n + len(self.rows)]
        q_matrix[self.rows, self.cols] += triangles
        q_matrix[self.cols, self.rows] += np.where(self.twice > 1, triangles, 0.0)
        return q_matrix

    def _values(self, x: Floats) -> list[Floats]:
        """Return the (n,) values of the lists of each stage, whose maxima are added up."""
        return [f + terms @ x[index] for f, terms, index in zip(self.fixed, self.terms, self.index, strict=True)]

    def _rest(self, x: Floats, point: NDArray[np.floating[Any]]) -> float:
        """Return the part of the bound outside the maxima; `point` is -inverse(Q) q / 2."""
        rest = self.constant + float(x[self.prices] @ self.part.room) - 0.5 * float(x[: self.n] @ point)
        if self.has_slope:
            rest += self.part.log_weight * (x[-1] * self.part.fixed_size - 1 - np.log(x[-1]))
        return rest

    def smooth(self, x: Floats, temperature: float) -> float:
        """Return the smoothed bound with a barrier where Q or a price becomes zero; infinite beyond."""
        if (x[self.n + len(self.rows) :] <= 0).any():
            return np.inf
        q_matrix = self._q_matrix(x)
        try:
            root = np.linalg.cholesky(q_matrix)
        except np.linalg.LinAlgError:
            return np.inf
        barrier = 2 * np.log(np.diag(root)).sum() + np.log(x[self.prices]).sum()
        total = self._rest(x, -0.5 * np.linalg.solve(q_matrix, x[: self.n])) - temperature * barrier
        for values in self._values(x):
            top = values.max()
            total += top + temperature * np.log(np.exp((values - top) / temperature).sum())
        return float(total) if np.isfinite(total) else np.inf

    def derivatives(self, x: Floats, temperature: float) -> tuple[Floats, Floats]:
        """Return gradient and Hessian of `smooth`."""
        n, n_d, rows, cols = self.n, len(self.rows), self.rows, self.cols
        inverse = np.linalg.inv(self._q_matrix(x))
        point = -0.5 * inverse @ x[:n]
        gradient, hessian = np.zeros(self.n_x), np.zeros((self.n_x, self.n_x))
        for values, terms, index in zip(self._values(x), self.terms, self.index, strict=True):
            share = np.exp((values - values.max()) / temperature)
            some = share > LEAST_SHARE
            share, chosen = share[some] / share[some].sum(), terms[some]
            mean = share @ chosen
            gradient[index] += mean
            hessian[np.ix_(index, index)] += ((chosen * share[:, None]).T @ chosen - np.outer(mean, mean)) / temperature
        gradient[:n] -= point
        gradient[n : n + n_d] -= (point[rows] * point[cols] + temperature * inverse[rows, cols]) * self.twice
        gradient[self.prices] += self.part.room - temperature / x[self.prices]
        hessian[:n, :n] += 0.5 * inverse
        half = self.twice / 2
        mixed = (inverse[:, rows] * point[cols] + inverse[:, cols] * point[rows]) * half
        hessian[:n, n : n + n_d] += mixed
        hessian[n : n + n_d, :n] += mixed.T
        ii, jj, ij = inverse[np.ix_(rows, rows)], inverse[np.ix_(cols, cols)], inverse[np.ix_(rows, cols)]
        pi, pj = point[rows], point[cols]
        curved = np.outer(pi, pi) * jj + np.outer(pi, pj) * ij.T + np.outer(pj, pi) * ij + np.outer(pj, pj) * ii
        curved += temperature * (ii * jj + ij * ij.T)
        hessian[n : n + n_d, n : n + n_d] += 2 * np.outer(half, half) * curved
        diagonal = np.zeros(self.n_x)
        diagonal[self.prices] = temperature / x[self.prices] ** 2
        if self.has_slope:
            gradient[-1] += self.part.log_weight * (self.part.fixed_size - 1 / x[-1])
            diagonal[-1] = self.part.log_weight / x[-1] ** 2
        every = np.diag_indices(self.n_x)
        hessian[every] = hessian[every] * (1 + 1e-9) + diagonal + 1e-12
        return gradient, hessian

    def bound(self, x: Floats, temperature: float) -> Relaxed:
        """Return the bound itself."""
        q_matrix = self._q_matrix(x)
        point = -0.5 * np.linalg.solve(q_matrix, x[: self.n])
        values = self._values(x)
        tops = [float(v.max()) for v in values]
        shifts = q_matrix + self.cross
        places = [slice(*self.ends[t : t + 2]) for t in range(len(self.bases))]
        multipliers = Multipliers(
            tuple(inv.T @ shifts[at, at] @ inv for inv, at in zip(self.inverses, places, strict=True)),
            np.concatenate([m + b @ point[at] for m, b, at in zip(self.means, self.bases, places, strict=True)]),
            x[self.prices].copy(),
            float(x[-1]) if self.has_slope else 1.0,
        )
        stage, upper = self._division(values, q_matrix, x, temperature)
        losses = tuple(top - v for top, v in zip(tops, values, strict=True))
        return Relaxed(self._rest(x, point) + sum(tops), losses, multipliers, stage, upper)

    def _division(
        self, values: list[Floats], q_matrix: Floats, x: Floats, temperature: float
    ) -> tuple[int, NDArray[np.bool_]]:
        """Return a stage and the half of its lists that are above the mean in the direction that loosens the bound.

        Lists that share the maximum of a stage make the bound loose by the variance of their features in Q. Where
        features do not vary, costs are divided.
        """
        best, stage, upper = -1.0, 0, np.zeros(0, dtype=bool)
        for t, value in enumerate(values):
            n_features = int(self.ends[t + 1] - self.ends[t])
            share = np.exp((value - value.max()) / (temperature or 1.0))
            share /= share.sum()
            phi, priced = self.terms[t][:, :n_features], self.terms[t][:, -(self.n_x - self.prices.start) :]
            at = slice(self.ends[t], self.ends[t + 1])
            projections = [priced @ x[self.prices.start :]]
            weights = [COST_WEIGHT]
            if n_features:
                root = np.linalg.cholesky(q_matrix[at, at])
                spread = phi @ root
                centred = spread - share @ spread
                _, vectors = np.linalg.eigh((centred * share[:, None]).T @ centred)
                projections.append(spread @ vectors[:, -1])
                weights.append(1.0)
            for projection, weight in zip(projections, weights, strict=True):
                middle = share @ projection
                score = weight * float(share @ (projection - middle) ** 2) ** (0.5 if weight < 1 else 1.0)
                half = projection > middle
                if score > best and half.any() and not half.all():
                    best, stage, upper = score, t, half
        if len(upper):
            return stage, upper
        stage = int(np.argmax([len(v) for v in values]))
        upper = np.arange(len(values[stage])) < len(values[stage]) // 2
        return stage, upper


def _basis(centred: Floats) -> Floats:
    """Return a (k, r) matrix B so that centred = phi @ B.T, where the r columns of phi have variance one."""
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = variances > max(LEAST_VARIANCE * float(variances.max(initial=0.0)), 1e-14)
    return np.asarray(vectors[:, kept] * np.sqrt(variances[kept]))


def _block_diagonal(blocks: list[Floats]) -> Floats:
    out = np.zeros((sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        out[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return out


def _chord(part: Part) -> tuple[float, float]:
    """Return intercept and slope of the line above `log_weight * log(size)`, for a weight of at most zero."""
    if not part.log_weight:
        return 0.0, 0.0
    low = part.fixed_size + sum(float(sizes.min()) for sizes in part.sizes)
    high = part.fixed_size + sum(float(sizes.max()) for sizes in part.sizes)
    slope = (np.log(high) - np.log(low)) / (high - low) if high > low * (1 + 1e-12) else 0.0
    return part.log_weight * (float(np.log(low)) - slope * low), part.log_weight * float(slope)
