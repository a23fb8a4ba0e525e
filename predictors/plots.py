"""Plots of predictions and measurements: PNG (matplotlib), or one HTML page (plotly)."""

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
from ofa_core.html_page import BLUE, GREY, ORANGE, dress, figure_html, page, plotly_script, section
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

    Raises:
        OfaError: if plotly is not installed.
    """
    script = plotly_script()
    head = "".join(f"<td>{escape(title)}</td>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(field)}</td>' for field in row)}</tr>" for row in rows)
    parts = [f"<h1>{TITLE}</h1>", section("Errors", ERRORS, f'<table><tr class="head">{head}</tr>{body}</table>')]
    for i, one in enumerate(judged):
        parts += [f"<h1>{escape(one.device)}</h1><p>{escape(one.note[:1].upper() + one.note[1:])}.</p>"]
        scatter = f"{len(one.truth)} networks that the predictor was not fitted to. {SCATTER}"
        parts.append(section("Predicted against measured", scatter, figure_html(_scatter_figure(one), f"scatter{i}")))
        residuals = figure_html(_residuals_figure(one), f"residuals{i}", zoom=False)
        parts.append(section("Residuals by stage", RESIDUALS, residuals))
        if one.has_interval:
            coverage = figure_html(_coverage_figure(one), f"coverage{i}", zoom=False)
            parts.append(section("Coverage of intervals", COVERAGE, coverage))
    write_text(path, page(TITLE, parts, script))


def _scatter_figure(judged: Judged) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    if judged.has_interval:
        gaps = np.full(len(judged.truth), np.nan)
        bars = go.Scatter(
            x=np.stack([judged.predicted, judged.predicted, gaps], 1).ravel().tolist(),
            y=np.stack([judged.low, judged.high, gaps], 1).ravel().tolist(),
            mode="lines", name="90 % interval", line={"color": "rgba(217, 72, 15, 0.22)", "width": 2}, hoverinfo="skip",
        )  # fmt: skip
        figure.add_trace(bars)
    ends = _ends(judged)
    line = {"color": GREY, "width": 1}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="measured = predicted", line=line, hoverinfo="skip"))
    points = go.Scatter(
        x=judged.predicted.tolist(), y=judged.truth.tolist(), mode="markers", name="measured",
        marker={"color": BLUE, "size": 5}, text=[network.replace(" ", "<br>") for network in judged.networks],
        customdata=(100 * (judged.predicted / judged.truth - 1)).tolist(),
        hovertemplate="predicted %{x:.4g} ms, measured %{y:.4g} ms<br>error %{customdata:+.1f} %<br>%{text}"
        "<extra></extra>",
    )  # fmt: skip
    figure.add_trace(points)
    dress(figure, "Predicted latency (ms per batch)", "Measured latency (ms per batch)")
    return figure


def _residuals_figure(judged: Judged) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, group in judged.residuals.items():
        box = go.Box(y=group.tolist(), name=f"{name} ", boxpoints=False, marker={"color": BLUE}, line={"width": 1.3})
        figure.add_trace(box)
    figure.add_hline(y=0, line={"color": ORANGE, "width": 1})
    dress(figure, "Stage . depth", "Measured over predicted (%)")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(type="category")
    return figure


def _coverage_figure(judged: Judged) -> Any:
    import plotly.graph_objects as go

    levels = [100 * level for level in LEVELS]
    right = go.Scatter(
        x=levels, y=levels, mode="lines", name="nominal", line={"color": GREY, "width": 1}, hoverinfo="skip"
    )
    covered = go.Scatter(
        x=levels, y=list(judged.covered), mode="lines+markers", name="measured inside",
        line={"color": BLUE}, hovertemplate="confidence %{x:.0f} %: %{y:.1f} % inside<extra></extra>",
    )  # fmt: skip
    figure = go.Figure([right, covered])
    dress(figure, "Confidence (%)", "Measured inside the interval (%)")
    return figure
