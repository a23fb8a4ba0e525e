"""Evaluate predictors on measured networks: learning curves beside baselines.

For each size N, N networks are selected to fit to, and the others are the test set. The same table has three
references: a straight line in the MACs, fitted to the same networks; the sum of the device's table; and the
repeatability of the device, which no predictor can exceed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import PredictorError
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Estimator, Floats, as_targets, check_varied
from predictors.features import physical
from predictors.lut import LatencyEstimator, LutPredictor
from predictors.metrics import Metrics, mean_metrics, metrics_of
from predictors.network import MIN_NETWORKS, NetworkPredictor, table_prior
from predictors.network_design import d_optimal_rows, design_columns

__all__ = [
    "EvaluationRow",
    "MeasuredDevice",
    "evaluate_predictor",
    "fitted_to_half",
    "learning_curves",
    "macs_only",
    "priors_of",
    "repeatability",
    "unseen_by",
]

logger = logging.getLogger(__name__)

MIN_TEST = 20


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One row of the evaluation.

    Attributes:
        device: name of the device.
        model: name of the model.
        n_train: number of networks the model was fitted to here; 0 if none.
        metrics: means over the seeds.
    """

    device: str
    model: str
    n_train: int
    metrics: Metrics

    def record(self) -> dict[str, Any]:
        """Return a flat dictionary, with None for NaN."""
        numbers = {name: None if value != value else value for name, value in asdict(self.metrics).items()}
        return {"device": self.device, "model": self.model, "n_train": self.n_train, **numbers}


@dataclass(frozen=True)
class MeasuredDevice:
    """Measured networks of a device, its table, and predictors of other devices.

    Attributes:
        name: name of the device.
        space: space of the networks.
        genomes: (n, 1 + n_slots) measured networks.
        latency_ms: (n,) measured latencies.
        table: the device's table, if any; it is also evaluated alone, on networks that do not calibrate it.
        sources: predictors of other devices.
    """

    name: str
    space: Space
    genomes: Genomes
    latency_ms: Floats
    table: LatencyEstimator | None = None
    sources: tuple[LatencyEstimator, ...] = ()

    def part(self, rows: NDArray[np.bool_]) -> MeasuredDevice:
        """Return the device with some of its networks."""
        return replace(self, genomes=self.genomes[rows], latency_ms=self.latency_ms[rows])


def macs_only(space: Space, train: Genomes, latency_ms: Floats, test: Genomes) -> Floats:
    """Return (m,) predictions by a straight line in the MACs, fitted to the relative errors of (n,) networks."""

    def columns(genomes: Genomes) -> Floats:
        totals = physical(space, genomes).sum(axis=1)
        macs = totals[:, 1 : 2 + len(space.kernels)].sum(axis=1)
        return np.column_stack([np.ones(len(genomes)), macs / 1e8])

    X = columns(train) / latency_ms[:, None]
    coef = np.linalg.lstsq(X, np.ones(len(train)), rcond=None)[0]
    return np.asarray(np.maximum(columns(test) @ coef, 0.05 * np.median(latency_ms)))


def repeatability(genomes: Genomes, latency_ms: Floats) -> Metrics | None:
    """Compare the first and second measurement of repeated networks; None for fewer than five of them."""
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
    device: MeasuredDevice,
    *,
    sizes: Sequence[int] = (10, 30, 100),
    seeds: int = 5,
    d_optimal: bool = True,
    confidence: float = 0.9,
) -> list[EvaluationRow]:
    """Evaluate every model at every training set size, on networks that it was not fitted to.

    Args:
        device: measured networks, with the device's table and sources. A third of the networks, the same for all sizes,
            is the test set.
        sizes: numbers of networks to fit to; sizes that are too small or too large are skipped.
        seeds: number of training sets of each size.
        d_optimal: True to select D-optimal training sets, as `ofa-profile --select d-optimal`; False for random ones.
        confidence: confidence of the intervals.

    Raises:
        PredictorError: for fewer than 35 networks or 15 different ones, or equal values.
    """
    space, genomes, latency_ms = device.space, device.genomes, device.latency_ms
    _check_enough(space, genomes, latency_ms)
    order = np.random.default_rng(0).permutation(len(genomes))
    n_test = max(MIN_TEST, len(genomes) // 3)
    test, pool = order[:n_test], order[n_test:]
    truth = latency_ms[test]
    columns, precision = design_columns(space, genomes[pool])
    rows: list[EvaluationRow] = []

    def add(model: str, n_train: int, results: list[Metrics]) -> None:
        rows.append(EvaluationRow(device.name, model, n_train, mean_metrics(results)))

    repeated = repeatability(genomes, latency_ms)
    if repeated is not None:
        add("repeatability", 0, [repeated])
    if device.table is not None:
        fresh = ~device.table.has_seen(genomes[test])
        if fresh.sum() >= MIN_NETWORKS:
            add("table", 0, [_metrics(device.table, genomes[test][fresh], truth[fresh], confidence)])
    priors = priors_of(device)
    for n in sizes:
        if not MIN_NETWORKS <= n <= len(pool):
            continue
        found: dict[str, list[Metrics]] = {}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            chosen = d_optimal_rows(columns, n, precision, rng) if d_optimal else rng.permutation(len(pool))[:n]
            train = genomes[pool[chosen]], latency_ms[pool[chosen]]
            found.setdefault("MACs alone", []).append(metrics_of(truth, macs_only(space, *train, genomes[test])))
            models = {"network": NetworkPredictor(space).fit(*train)}
            if priors:
                name = "transfer" if device.sources else "network, table as prior"
                models[name] = NetworkPredictor(space).fit(*train, sources=priors)
            for name, model in models.items():
                found.setdefault(name, []).append(_metrics(model, genomes[test], truth, confidence))
        for name, results in found.items():
            add(name, n, results)
    return rows


def fitted_to_half(device: MeasuredDevice) -> tuple[NetworkPredictor, MeasuredDevice]:
    """Fit a predictor to half of the different networks, for plots; return it with the other half."""
    half = np.unique(device.genomes, axis=0, return_inverse=True)[1].reshape(-1) % 2 == 0
    model = NetworkPredictor(device.space, device=device.name)
    model.fit(device.genomes[half], device.latency_ms[half], sources=priors_of(device))
    return model, device.part(~half)


def unseen_by(model: Estimator, device: MeasuredDevice, path: Path) -> MeasuredDevice:
    """Return the networks that a predictor was not fitted to; a message counts the others.

    Args:
        model: the predictor.
        device: measured networks.
        path: file of the predictor, for messages.

    Raises:
        PredictorError: if it was fitted to all of them.
    """
    seen = model.has_seen(device.genomes)
    if seen.all():
        raise PredictorError(f"{path} was fitted to all networks of {device.name}: none is left for an evaluation")
    if seen.any():
        logger.info(
            "%s was fitted to %d of the %d networks of %s; only the others are used",
            path, seen.sum(), len(seen), device.name,
        )  # fmt: skip
    return device.part(~seen)


def evaluate_predictor(model: Estimator, device: MeasuredDevice, name: str) -> EvaluationRow:
    """Evaluate a fitted predictor on all networks of a device."""
    return EvaluationRow(device.name, name, 0, _metrics(model, device.genomes, device.latency_ms, 0.9))


def _check_enough(space: Space, genomes: Genomes, latency_ms: Floats) -> None:
    as_targets(latency_ms, len(genomes), "latency_ms")
    if len(genomes) < MIN_TEST + 3 * MIN_NETWORKS:
        raise PredictorError(
            f"{len(genomes)} measured networks; an evaluation needs at least {MIN_TEST + 3 * MIN_NETWORKS}"
        )
    different = len(np.unique(genomes, axis=0))
    if different < 3 * MIN_NETWORKS:
        raise PredictorError(
            f"{different} different networks in {len(genomes)} rows; an evaluation needs at least {3 * MIN_NETWORKS}"
        )
    check_varied(space, genomes, latency_ms, "the measured value", "predictions cannot be compared with it")


def priors_of(device: MeasuredDevice) -> list[Estimator]:
    """Return the uncalibrated sum of the table and the sources; the calibration may have used the test set."""
    table = device.table
    own: list[Estimator] = [] if table is None else [table]
    if isinstance(table, LutPredictor):
        own = [table_prior(table.table, device.space)]
    return [*own, *device.sources]


def _metrics(model: Estimator, genomes: Genomes, truth: Floats, confidence: float) -> Metrics:
    y, low, high = model.predict(genomes, return_interval=True, confidence=confidence)
    return metrics_of(truth, y, (low, high))
