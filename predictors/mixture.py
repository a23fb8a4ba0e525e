"""Average of penalised regressions of whole-network latency, with and without priors.

Each model is a non-negative combination of some priors (a table's sum, predictions of other devices) plus a sum over
physical quantities (`predictors.network_basis`), fitted to relative errors (`predictors.robust_regression`). The models
differ in their penalties and in their priors, and are averaged by their leave-one-out errors. This average selects the
priors: one that does not help gets no weight, and if none helps, the models without a prior remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.intervals import ConformalErrors
from predictors.network_basis import AdditiveModel, Basis
from predictors.robust_regression import average_weights, fit_relative

__all__ = ["Mixture", "fit_mixture"]

# Penalties (`Basis.precision`) of the averaged models: totals, block counts per stage, other quantities per stage.
ALONE = tuple(product((0.003, 0.03), (0.0003, 0.01, 0.3), (0.1, 1.0, 10.0)))
WITH_PRIOR = tuple((s, 10 * s, 10 * s) for s in (0.3, 3.0, 30.0, 300.0))
PRIOR_PRECISION = 1e-3
MAX_PAIRED = 6
TRUST_WITHOUT_PRIOR = 0.02  # prior weight of all models without a prior together, if there are others


@dataclass(frozen=True)
class Mixture:
    """A fitted model of latency.

    Attributes:
        physical: additive part, in ms.
        weights: (K,) factors on the predictions of K priors (tables, other devices).
        floor_ms: lower limit of the prediction, in ms.
        share: weight of the models without a prior in the average.
        errors: leave-one-out errors.
        held_out: (n,) leave-one-out predictions of the training rows, in ms.
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
    """Fit models with several penalties and sets of priors, and average them by leave-one-out error.

    Args:
        space: space of the networks.
        genomes: (n, 1 + n_slots) measured networks.
        latency_ms: (n,) measured latencies.
        priors: (n, K) predictions of K priors for these networks, in ms; K may be 0.
        trust_without: prior weight of the models without a prior, if there are others.
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
    best = [int(k) for k in np.argsort(single)[:MAX_PAIRED]]
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
