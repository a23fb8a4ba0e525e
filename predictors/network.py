"""`NetworkPredictor`: latency of whole networks, learnt from whole networks, with or without a table as prior.

A few dozen measured sub-nets are enough: see `docs/predictors.md` for figures. The model is a sum over physical
quantities (`predictors.network_basis`), fitted for relative errors (`predictors.robust_regression`) under several
strengths of prior and averaged by their leave-one-out errors. A table's sum, or the predictions of other devices
(`predictors.transfer`), enter as further non-negative columns, and then the physical quantities only correct them. With
many networks boosted trees may correct what is not additive, if cross-validation says that they help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ofa_core.dense import DenseSums
from ofa_core.errors import PredictorError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.genomes import Genomes, sample_genomes
from ofa_core.space import Space
from ofa_core.table import Context, LatencyTable
from predictors.coverage import extrapolation_note, shared_choices
from predictors.device_regime import Regime, follows_work, regime_of
from predictors.estimator import Archs, Bounds, Estimator, Floats, as_genomes, as_space, as_targets, check_varied
from predictors.intervals import ConformalErrors
from predictors.lut import LutPredictor
from predictors.network_basis import AdditiveModel, Basis
from predictors.residual_trees import ResidualTrees, fit_residual_trees
from predictors.robust_regression import average_weights, fit_relative

__all__ = ["MIN_NETWORKS", "Mixture", "NetworkPredictor", "fit_mixture"]

MIN_NETWORKS = 5
# Penalties (Basis.precision) of the models that are averaged: totals, block counts per stage, the rest per stage.
ALONE = tuple(product((0.003, 0.03), (0.0003, 0.01, 0.3), (0.1, 1.0, 10.0)))
WITH_PRIOR = tuple((s, 10 * s, 10 * s) for s in (0.3, 3.0, 30.0, 300.0))
PRIOR_PRECISION = 1e-3
MOST_PAIRED = 6
PLAUSIBILITY_ROWS = 256
TRUST_WITHOUT_PRIOR = 0.02  # before any row was seen, in all models that use no prior together, if there are others


@dataclass(frozen=True)
class Mixture:
    """A fitted model of latency.

    Attributes:
        physical: the additive part, in ms.
        weights: (K,) factors on the predictions of K priors (tables, other devices).
        floor_ms: predictions are at least this.
        share: how much of the average fell to models that use no prior.
        errors: of rows that were left out.
        held_out: (n,) predictions of the training rows by models without them, ms.
    """

    physical: AdditiveModel
    weights: Floats
    floor_ms: float
    share: float
    errors: ConformalErrors
    held_out: Floats


def fit_mixture(
    space: Space, genomes: Genomes, latency_ms: Floats, priors: Floats, trust_without: float = TRUST_WITHOUT_PRIOR
) -> Mixture:
    """Fit and average.

    Args:
        space: the space.
        genomes: (n, 1 + n_slots) measured networks.
        latency_ms: (n,).
        priors: (n, K) what each prior predicts for them, ms; K may be 0.
        trust_without: share of the average that models without a prior have before any row was seen.
    """
    n, n_priors = priors.shape
    unit = float(np.median(latency_ms))
    y = latency_ms / unit
    prior_units = np.median(priors, axis=0) if n_priors else np.zeros(0)
    basis = Basis.of(space, genomes)
    columns = np.column_stack([priors / prior_units, basis.columns(genomes)])
    nonnegative = np.arange(columns.shape[1]) < n_priors

    coefs, held_out, scores, uses = [], [], [], []

    def attempt(chosen: Sequence[int], strengths: tuple[float, float, float]) -> float:
        keep = np.concatenate([np.isin(np.arange(n_priors), chosen), np.ones(columns.shape[1] - n_priors, dtype=bool)])
        precision = np.concatenate([np.full(len(chosen), PRIOR_PRECISION), basis.precision(*strengths)])
        fit = fit_relative(columns[:, keep], y, precision, nonnegative[keep])
        coef = np.zeros(columns.shape[1])
        coef[keep] = fit.coef
        coefs.append(coef)
        held_out.append(fit.held_out)
        scores.append(fit.score)
        uses.append(len(chosen) > 0)
        return fit.score

    for strengths in ALONE:
        attempt((), strengths)
    single = [min(attempt((k,), strengths) for strengths in WITH_PRIOR) for k in range(n_priors)]
    best = [int(k) for k in np.argsort(single)[:MOST_PAIRED]]
    for chosen in (*combinations(best, 2), *([tuple(range(n_priors))] if n_priors > 2 else [])):
        for strengths in WITH_PRIOR:
            attempt(chosen, strengths)

    used = np.asarray(uses)
    share = trust_without if used.any() else 1.0
    trust = np.where(used, (1.0 - share) / max(int(used.sum()), 1), share / int((~used).sum()))
    weights = average_weights(np.asarray(scores), n, trust)
    coef = weights @ np.asarray(coefs)
    mean_held_out = unit * (weights @ np.asarray(held_out))
    return Mixture(
        physical=basis.additive(unit * coef[n_priors:]),
        weights=unit * coef[:n_priors] / prior_units,
        floor_ms=0.05 * unit,
        share=float(weights[~used].sum()),
        errors=ConformalErrors(np.log(latency_ms / mean_held_out)),
        held_out=mean_held_out,
    )


class NetworkPredictor(Estimator):
    """Latency of whole networks on one device.

        predictor = NetworkPredictor("mbv3-w1.2").fit(archs, latency_ms)
        y, low, high = predictor.predict(others, return_interval=True)

    Args:
        space: the space of the architectures.
        table: the device's latency table (or its file), as prior mean; None does without.
        boost: `auto` lets boosted trees correct the model from 700 networks on, where xgboost is installed and
            cross-validation finds them better; `never` does not.
        device: a name for tables and plots.
        context: how the networks were measured, where that is known.

    Attributes:
        mixture_: the fitted model.
        regime_: additive or launch-bound, with the evidence.
        n_networks_: different networks it was fitted on.
        trees_: the correction by boosted trees, or None.
        priors_: the table and the other devices that it starts from.
        seen_: resolutions it was fitted on.
        errors_: of networks that the whole model had not seen.
        lut_: the device's own table among the priors, or None.
        networks_: (n, 1 + n_slots) genomes that it was fitted on.
    """

    mixture_: Mixture
    regime_: Regime
    n_networks_: int
    trees_: ResidualTrees | None
    priors_: tuple[Estimator, ...]
    seen_: tuple[int, ...]
    errors_: ConformalErrors
    lut_: LutPredictor | None
    networks_: Genomes

    def __init__(
        self,
        space: Space | str,
        *,
        table: LatencyTable | Path | str | None = None,
        boost: str = "auto",
        device: str = "",
        context: Context | None = None,
    ) -> None:
        self.space = space
        self.table = table
        self.boost = boost
        self.device = device
        self.context = context

    def fit(self, archs: Archs, latency_ms: ArrayLike) -> Self:
        """Learn from measured networks.

        Args:
            archs: n networks, at least 5 different ones; about 30 that `predictors.network_design` chose make a good
                predictor. One that stands there several times counts once, with the (geometric) mean.
            latency_ms: (n,) milliseconds per batch.

        Raises:
            PredictorError: for too few networks, or numbers that are all equal or not finite and positive.
        """
        space = as_space(self.space)
        priors = [] if self.table is None else [table_prior(self.table, space)]
        return self._learn(space, archs, latency_ms, priors)

    def _learn(self, space: Space, archs: Archs, latency_ms: ArrayLike, priors: Sequence[Estimator]) -> Self:
        if self.boost not in ("auto", "never"):
            raise PredictorError(f"boost is {self.boost!r}; auto or never")
        every = as_genomes(archs, space)
        values = as_targets(latency_ms, len(every), "latency_ms")
        genomes, y = _once_each(every, values)
        if len(y) < MIN_NETWORKS:
            raise PredictorError(f"{len(y)} different networks; at least {MIN_NETWORKS} are needed")
        check_varied(space, genomes, y, "latency_ms", "are these measurements?")
        self.forget()
        self.priors_ = tuple(priors)
        usable = self._usable(space, np.unique(genomes[:, 0]))
        mixture = fit_mixture(space, genomes, y, self._of_priors(genomes)[:, usable])
        weights = np.zeros(len(priors))
        weights[usable] = mixture.weights
        mixture = replace(mixture, weights=weights)
        found = fit_residual_trees(space, genomes, mixture.held_out, y) if self.boost == "auto" else None
        trees, errors = (None, mixture.errors) if found is None else found
        self.restore(
            mixture=mixture,
            priors=priors,
            regime=regime_of(space, genomes, y),
            networks=genomes,
            errors=errors,
            trees=trees,
            has_table=self.table is not None,
        )
        return self

    def restore(
        self,
        *,
        mixture: Mixture,
        priors: Sequence[Estimator],
        regime: Regime,
        networks: Genomes,
        errors: ConformalErrors,
        trees: ResidualTrees | None,
        has_table: bool,
    ) -> None:
        """Set what was learnt, in place of learning it (`predictors.persistence`).

        `has_table`: the first prior is the device's own table.
        """
        own = priors[0] if has_table else None
        self.lut_ = own if isinstance(own, LutPredictor) else None
        self.mixture_, self.priors_, self.regime_ = mixture, tuple(priors), regime
        self.networks_, self.n_networks_, self.errors_, self.trees_ = networks, len(networks), errors, trees
        self.seen_ = tuple(int(px) for px in np.unique(networks[:, 0]))
        self._dense_ = DenseSums(mixture.physical.dense, as_space(self.space).resolutions)

    def _usable(self, space: Space, pixels: Genomes) -> list[int]:
        """The priors that can be latencies; the others get no weight, which a few measured networks cannot decide."""
        if not self.priors_:
            return []
        some = sample_genomes(space, PLAUSIBILITY_ROWS, np.random.default_rng(0), [int(px) for px in pixels])
        said = self._of_priors(some)
        return [k for k in range(len(self.priors_)) if follows_work(space, some, said[:, k])]

    def _of_priors(self, genomes: Genomes) -> Floats:
        if not self.priors_:
            return np.zeros((len(genomes), 0))
        return np.column_stack([prior.predict(genomes) for prior in self.priors_])

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Those it was fitted on and the space's other ones between them."""
        seen = self.seen_
        return tuple(sorted({*seen, *(px for px in as_space(self.space).resolutions if seen[0] <= px <= seen[-1])}))

    @property
    def calibrated(self) -> bool:
        """Whether whole networks stand behind it: always."""
        return True

    @property
    def lut(self) -> LutPredictor | None:
        """The device's own table, on which it stands; None without."""
        return self.lut_

    @property
    def n_filled(self) -> int:
        """Blocks of its table that regression supplied."""
        return 0 if self.lut_ is None else self.lut_.n_filled

    @property
    def label(self) -> str:
        """Device and rows."""
        name = self.device or "device"
        if self.context is not None:
            name = replace(self.context, device=self.device or self.context.device).label
        return f"{name}, fitted to {self.n_networks_} networks"

    @property
    def note(self) -> str:
        """Its own error estimate and the regime."""
        return (
            f"fitted to {self.n_networks_} whole networks, error on networks left out "
            f"{100 * self.errors_.mape:.1f} %; {self.regime_}"
            f"{extrapolation_note(shared_choices(as_space(self.space), self.networks_))}"
        )

    def _point(self, genomes: Genomes) -> Floats:
        if not len(genomes):
            return np.zeros(0)
        y = self._dense_.sum(genomes)
        used = np.flatnonzero(self.mixture_.weights > 0)
        for k in used:
            y = y + self.mixture_.weights[k] * self.priors_[k].predict(genomes)
        y = np.maximum(y, self.mixture_.floor_ms)
        return y if self.trees_ is None else y * self.trees_.factor(as_space(self.space), genomes)

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:  # noqa: ARG002
        return self.errors_.bounds(point, confidence)


def _once_each(genomes: Genomes, latency_ms: Floats) -> tuple[Genomes, Floats]:
    """Different networks, and the geometric mean of each one's latencies."""
    nets, inverse, counts = np.unique(genomes, axis=0, return_inverse=True, return_counts=True)
    if len(nets) == len(genomes):
        return genomes, latency_ms
    return nets, np.exp(np.bincount(inverse.reshape(-1), np.log(latency_ms)) / counts)


def table_prior(table: LatencyTable | Path | str, space: Space) -> Estimator:
    """The plain sum of a table, missing blocks estimated, as a prior."""
    return LutPredictor(space, fill=True).fit(table if isinstance(table, LatencyTable) else read_table(Path(table)))
