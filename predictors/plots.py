"""Plots of predictions and measurements: PNG (matplotlib), or one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.atomic import atomic_path, write_text
from ofa_core.extras import needed_for
from ofa_core.genomes import Genomes, decode, depths_of
from ofa_core.html_page import chart, equal_line, heading, page, points, section, table
from ofa_core.space import Space
from predictors.estimator import Estimator, Floats

__all__ = ["Judged", "draw_png", "judge", "write_page"]

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
INK, BAR = "#1f4e79", "#c55a11"
TITLE = "Predicted against measured latency"
ERRORS = (
    "Each model was evaluated on networks that it was not fitted to; N is the number of networks it was fitted to. "
    "No predictor can exceed the repeatability of the device."
)
SCATTER = "On the line, the prediction equals the measurement; bars are 90 % intervals. Hover for the network."
RESIDUALS = (
    "Measured over predicted, for the networks with each depth of each stage. A box away from zero shows a part of "
    "the network that is predicted with a bias."
)
COVERAGE = (
    "Share of measurements inside the interval, for each confidence. Above the line, the intervals are wider than "
    "needed; below it, they are too narrow."
)


@dataclass(frozen=True)
class Judged:
    """Predictions and measurements of networks that the predictor was not fitted to.

    Attributes:
        device: name of the device.
        label: label of the predictor.
        note: note of the predictor.
        networks: (n,) networks, as short text.
        truth: (n,) measured latencies, ms.
        predicted: (n,) predicted latencies, ms.
        low: (n,) lower end of the 90 % interval, ms; NaN if unknown.
        high: (n,) upper end, ms.
        residuals: measured over predicted, %, of the networks with each depth of each stage; the key is `stage.depth`.
        covered: share of networks inside the interval, %, for each of `LEVELS`.
    """

    device: str
    label: str
    note: str
    networks: tuple[str, ...]
    truth: Floats
    predicted: Floats
    low: Floats
    high: Floats
    residuals: Mapping[str, Floats]
    covered: tuple[float, ...]

    @property
    def has_interval(self) -> bool:
        """True if the predictor gives an interval."""
        return bool(np.isfinite(self.low).all())


def judge(device: str, predictor: Estimator, space: Space, genomes: Genomes, latency_ms: Floats) -> Judged:
    """Predict networks, and compare the predictions with measurements.

    Args:
        device: name of the device.
        predictor: fitted predictor.
        space: space of the networks.
        genomes: (n, 1 + n_slots) networks that the predictor was not fitted to.
        latency_ms: (n,) measured latencies.
    """
    y, low, high = predictor.predict(genomes, return_interval=True)
    error = 100 * np.log(latency_ms / y)
    depths = depths_of(space, genomes)
    groups = {
        f"{stage + 1}.{depth}": error[depths[:, stage] == depth]
        for stage in range(depths.shape[1])
        for depth in space.stages[stage].depths
    }
    covered = []
    for level in LEVELS:
        bottom, top = predictor.predict_interval(genomes, level)
        covered.append(100 * float(np.mean((bottom <= latency_ms) & (latency_ms <= top))))
    networks = tuple(str(arch) for arch in decode(space, genomes))
    residuals = {name: group for name, group in groups.items() if len(group)}
    return Judged(
        device, predictor.label, predictor.note, networks, latency_ms, y, low, high, residuals, tuple(covered)
    )


# ---- PNG -------------------------------------------------------------------------------------------------------------


def draw_png(path: Path, judged: Judged) -> None:
    """Draw predicted against measured latency, residuals by depth, and coverage by confidence.

    Args:
        path: the PNG file; it appears whole or not at all.
        judged: data to draw.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    with needed_for("a plot"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _scatter(left, judged)
    middle.boxplot(list(judged.residuals.values()), tick_labels=list(judged.residuals), showfliers=False)
    middle.axhline(0, color="black", linewidth=0.8)
    middle.tick_params(axis="x", labelrotation=90)
    middle.set(xlabel="stage . depth", ylabel="measured over predicted, %", title="Residuals by stage")
    right.plot([100 * level for level in LEVELS], judged.covered, "o-", color=INK)
    right.plot([50, 95], [50, 95], color="black", linewidth=0.8)
    right.set(xlabel="confidence, %", ylabel="measured inside, %", title="Coverage of intervals")
    figure.suptitle(judged.label)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _scatter(axes: Any, judged: Judged) -> None:
    y, low, high = judged.predicted, judged.low, judged.high
    if judged.has_interval:
        axes.errorbar(y, y, yerr=[y - low, high - y], fmt="none", ecolor=BAR, alpha=0.15, label="90 % interval")
    axes.plot(y, judged.truth, ".", color=INK, markersize=4, label="measured")
    ends = _ends(judged)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel="predicted, ms", ylabel="measured, ms", title="Predicted against measured")
    axes.legend()


def _ends(judged: Judged) -> list[float]:
    both = np.concatenate([judged.predicted, judged.truth])
    return [float(both.min()), float(both.max())]


# ---- HTML ------------------------------------------------------------------------------------------------------------


def write_page(path: Path, titles: Sequence[str], rows: Sequence[Sequence[str]], judged: Iterable[Judged]) -> None:
    """Write the table of an evaluation and the plots of each device as one self-contained HTML file.

    Args:
        path: the file; it appears whole or not at all.
        titles: column titles of the table.
        rows: fields of the table as text.
        judged: data to draw, one per device.
    """
    parts = [heading(TITLE, ""), section("Errors", ERRORS, table(titles, rows))]
    plots: dict[str, dict[str, Any]] = {}
    for i, one in enumerate(judged):
        note = escape(one.note[:1].upper() + one.note[1:])
        parts.append(f'<h1 class="next">{escape(one.device)}</h1><p>{note}.</p>')
        scatter = f"{len(one.truth)} networks that the predictor was not fitted to. {SCATTER}"
        parts.append(section("Predicted against measured", scatter, chart(f"scatter{i}")))
        parts.append(section("Residuals by stage", RESIDUALS, chart(f"residuals{i}")))
        plots |= {f"scatter{i}": _scatter_plot(one), f"residuals{i}": _residual_rows(one)}
        if one.has_interval:
            parts.append(section("Coverage of intervals", COVERAGE, chart(f"coverage{i}")))
            plots[f"coverage{i}"] = _coverage_plot(one)
    write_text(path, page(TITLE, parts, plots, "evaluation.js"))


def _scatter_plot(judged: Judged) -> dict[str, Any]:
    """Return the measured latencies, each with its interval, as `drawPlot` of `charts.js` takes them."""
    drawn = []
    for i, network in enumerate(judged.networks):
        x, y = float(judged.predicted[i]), float(judged.truth[i])
        text = f"predicted {x:.4g} ms, measured {y:.4g} ms\nerror {100 * (x / y - 1):+.1f} %\n"
        point = {"x": x, "y": y, "text": text + network.replace(" ", "\n")}
        if judged.has_interval:
            point |= {"low": float(judged.low[i]), "high": float(judged.high[i])}
        drawn.append(point)
    line = equal_line("measured = predicted", "grey", _ends(judged))
    return {
        "label": TITLE,
        "x": "Predicted latency (ms per batch)",
        "y": "Measured latency (ms per batch)",
        "series": [line, points("measured", "blue", "circle", 3, drawn)],
    }


def _residual_rows(judged: Judged) -> dict[str, Any]:
    """Return a row for each depth of each stage: the middle half of the residuals, their median and 5 to 95 %."""
    rows = []
    for name, group in judged.residuals.items():
        low, first, middle, third, high = (float(v) for v in np.percentile(group, [5, 25, 50, 75, 95]))
        text = f"{name}: {len(group)} networks\nmedian {middle:+.2f} %, half within {first:+.2f} to {third:+.2f} %"
        row = {"label": name, "from": first, "to": third, "low": low, "high": high, "middle": middle}
        rows.append({**row, "colour": "var(--blue)", "value": f"{middle:+.2f}", "text": text})
    return {"label": "Residuals by stage and depth", "x": "Measured over predicted (%), by stage . depth", "rows": rows}


def _coverage_plot(judged: Judged) -> dict[str, Any]:
    levels = [100 * level for level in LEVELS]
    drawn = [
        {"x": level, "y": covered, "text": f"confidence {level:.0f} %: {covered:.1f} % inside"}
        for level, covered in zip(levels, judged.covered, strict=True)
    ]
    return {
        "label": "Coverage of intervals",
        "x": "Confidence (%)",
        "y": "Measured inside the interval (%)",
        "series": [equal_line("nominal", "grey", levels), points("measured inside", "blue", "circle", 5, drawn)],
    }
