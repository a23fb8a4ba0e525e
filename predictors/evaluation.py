"""How good predictors are on measured networks: learning curves beside what they must beat.

For each size N, N networks are drawn to learn from and the others judge; in the same table stand the multiply-
accumulates alone (a straight line fitted to the same networks), the sum of the device's table, and how well the device
repeats itself, which no predictor can beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ofa_core.errors import PredictorError
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Estimator, Floats, as_targets, check_varied
from predictors.features import physical
from predictors.lut import LutPredictor
from predictors.metrics import Metrics, mean_metrics, metrics_of
from predictors.network import MIN_NETWORKS, NetworkPredictor, table_prior
from predictors.network_design import d_optimal_rows, design_columns

__all__ = ["EvaluationRow", "learning_curves", "macs_only", "priors_of", "repeatability"]

MIN_TEST = 20


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One line of the table.

    Attributes:
        device: whose networks.
        model: what predicts.
        n_train: networks that it learnt from; 0 if none.
        metrics: means over the seeds.
    """

    device: str
    model: str
    n_train: int
    metrics: Metrics

    def record(self) -> dict[str, Any]:
        """A flat dictionary, NaN as None."""
        numbers = {name: None if value != value else value for name, value in asdict(self.metrics).items()}
        return {"device": self.device, "model": self.model, "n_train": self.n_train, **numbers}


def macs_only(space: Space, train: Genomes, latency_ms: Floats, test: Genomes) -> Floats:
    """(m,) predictions by a straight line in MACs, fitted for relative errors to (n,) networks."""

    def columns(genomes: Genomes) -> Floats:
        totals = physical(space, genomes).sum(axis=1)
        macs = totals[:, 1 : 2 + len(space.kernels)].sum(axis=1)
        return np.column_stack([np.ones(len(genomes)), macs / 1e8])

    X = columns(train) / latency_ms[:, None]
    coef = np.linalg.lstsq(X, np.ones(len(train)), rcond=None)[0]
    return np.asarray(np.maximum(columns(test) @ coef, 0.05 * np.median(latency_ms)))


def repeatability(genomes: Genomes, latency_ms: Floats) -> Metrics | None:
    """The device against itself: networks measured more than once, first against second time; None if there are few."""
    _, inverse = np.unique(genomes, axis=0, return_inverse=True)
    seen: dict[int, int] = {}
    pairs = []
    for row, net in enumerate(inverse.reshape(-1).tolist()):
        if net in seen:
            pairs.append((seen.pop(net), row))
        else:
            seen[net] = row
    if len(pairs) < MIN_NETWORKS:
        return None
    first, second = np.array(pairs).T
    return metrics_of(latency_ms[second], latency_ms[first])


def learning_curves(
    device: str,
    space: Space,
    genomes: Genomes,
    latency_ms: Floats,
    *,
    sizes: Sequence[int] = (10, 30, 100),
    table: Estimator | None = None,
    sources: Sequence[Estimator] = (),
    seeds: int = 5,
    d_optimal: bool = True,
    confidence: float = 0.9,
) -> list[EvaluationRow]:
    """Judge every model at every size on networks that it did not see.

    Args:
        device: its name in the table.
        space: the space.
        genomes: (n, 1 + n_slots) measured networks; the test set is a third of them, the same for all sizes.
        latency_ms: (n,).
        sizes: how many networks to learn from; those that do not leave enough are skipped.
        table: the device's table, judged alone too, on networks that do not calibrate it.
        sources: other devices, for transfer.
        seeds: draws of the networks to learn from.
        d_optimal: choose them D-optimally, as `ofa-profile --select d-optimal` does, not at random.
        confidence: of the intervals.

    Raises:
        PredictorError: for fewer than 35 networks or 15 different ones, or values that are all equal.
    """
    _check_enough(space, genomes, latency_ms)
    order = np.random.default_rng(0).permutation(len(genomes))
    n_test = max(MIN_TEST, len(genomes) // 3)
    test, pool = order[:n_test], order[n_test:]
    truth = latency_ms[test]
    columns, precision = design_columns(space, genomes[pool])
    rows: list[EvaluationRow] = []

    def add(model: str, n_train: int, results: list[Metrics]) -> None:
        rows.append(EvaluationRow(device, model, n_train, mean_metrics(results)))

    repeated = repeatability(genomes, latency_ms)
    if repeated is not None:
        add("the device again", 0, [repeated])
    own = [] if table is None else [table]
    for model in own:
        fresh = ~model.has_seen(genomes[test])
        if fresh.sum() >= MIN_NETWORKS:
            add("table", 0, [_judged(model, genomes[test][fresh], truth[fresh], confidence)])
    priors = priors_of(table, sources, space)
    for n in sizes:
        if not MIN_NETWORKS <= n <= len(pool):
            continue
        found: dict[str, list[Metrics]] = {}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            chosen = d_optimal_rows(columns, n, precision, rng) if d_optimal else rng.permutation(len(pool))[:n]
            train = pool[chosen]
            lesson = genomes[train], latency_ms[train]
            found.setdefault("MACs alone", []).append(metrics_of(truth, macs_only(space, *lesson, genomes[test])))
            models: dict[str, NetworkPredictor] = {"network": NetworkPredictor(space).fit(*lesson)}
            if priors:
                name = "transfer" if sources else "network, table as prior"
                models[name] = NetworkPredictor(space).fit(*lesson, sources=priors)
            for name, model in models.items():
                found.setdefault(name, []).append(_judged(model, genomes[test], truth, confidence))
        for name, results in found.items():
            add(name, n, results)
    return rows


def _check_enough(space: Space, genomes: Genomes, latency_ms: Floats) -> None:
    as_targets(latency_ms, len(genomes), "latency_ms")
    if len(genomes) < MIN_TEST + 3 * MIN_NETWORKS:
        raise PredictorError(
            f"{len(genomes)} measured networks; an evaluation takes at least {MIN_TEST + 3 * MIN_NETWORKS}"
        )
    different = len(np.unique(genomes, axis=0))
    if different < 3 * MIN_NETWORKS:
        raise PredictorError(
            f"{different} different networks in {len(genomes)} rows; an evaluation takes at least {3 * MIN_NETWORKS}"
        )
    check_varied(space, genomes, latency_ms, "the measured value", "there is nothing to judge predictions by")


def priors_of(table: Estimator | None, sources: Sequence[Estimator], space: Space) -> list[Estimator]:
    """What a model starts from: the plain sum of the table, whose calibration may have seen the tests, and sources."""
    own = [] if table is None else [table_prior(table.table, space) if isinstance(table, LutPredictor) else table]
    return [*own, *sources]


def _judged(model: Estimator, genomes: Genomes, truth: Floats, confidence: float) -> Metrics:
    y, low, high = model.predict(genomes, return_interval=True, confidence=confidence)
    return metrics_of(truth, y, (low, high))
