"""Pictures of predictions against measured networks, as PNG (needs matplotlib)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.atomic import atomic_path
from ofa_core.errors import PredictorError
from ofa_core.space import Genomes, Space
from predictors.estimator import Estimator, Floats

__all__ = ["draw_evaluation"]

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
INK, BAR = "#1f4e79", "#c55a11"


def draw_evaluation(path: Path, predictor: Estimator, space: Space, genomes: Genomes, latency_ms: Floats) -> None:
    """Draw predicted against measured, residuals by the depth of each stage, and coverage against confidence.

    Args:
        path: the PNG; it appears whole or not at all.
        predictor: what predicts.
        space: the space.
        genomes: (n, 1 + n_slots) networks that the predictor has not seen.
        latency_ms: (n,) measured.

    Raises:
        PredictorError: where matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise PredictorError("plots need matplotlib: pip install matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    y, low, high = predictor.predict(genomes, return_interval=True)
    _scatter(left, latency_ms, y, low, high)
    _residuals(middle, space, genomes, np.log(latency_ms / y))
    _coverage(right, predictor, genomes, latency_ms)
    figure.suptitle(predictor.label)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _scatter(axes: Any, truth: Floats, y: Floats, low: Floats, high: Floats) -> None:
    if np.isfinite(low).all():
        axes.errorbar(y, y, yerr=[y - low, high - y], fmt="none", ecolor=BAR, alpha=0.15, label="90 % interval")
    axes.plot(y, truth, ".", color=INK, markersize=4, label="measured")
    ends = [min(y.min(), truth.min()), max(y.max(), truth.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel="predicted, ms", ylabel="measured, ms", title="Predicted against measured")
    axes.legend()


def _residuals(axes: Any, space: Space, genomes: Genomes, residual: Floats) -> None:
    depths = space.depths_of(genomes)
    groups, names = [], []
    for stage in range(depths.shape[1]):
        for depth in space.stages[stage].depths:
            here = residual[depths[:, stage] == depth]
            if len(here):
                groups.append(100 * here)
                names.append(f"{stage + 1}.{depth}")
    axes.boxplot(groups, tick_labels=names, showfliers=False)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.tick_params(axis="x", labelrotation=90)
    axes.set(xlabel="stage . depth", ylabel="measured over predicted, %", title="Residuals by stage")


def _coverage(axes: Any, predictor: Estimator, genomes: Genomes, truth: Floats) -> None:
    covered = []
    for level in LEVELS:
        low, high = predictor.predict_interval(genomes, level)
        covered.append(100 * float(np.mean((low <= truth) & (truth <= high))))
    axes.plot([100 * level for level in LEVELS], covered, "o-", color=INK)
    axes.plot([50, 95], [50, 95], color="black", linewidth=0.8)
    axes.set(xlabel="confidence, %", ylabel="measured inside, %", title="Coverage of intervals")
