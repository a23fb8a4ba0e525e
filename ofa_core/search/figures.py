"""The figures of a search's report, as plotly figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ofa_core.html_page import BLUE, GREEN, GREY, ORANGE, RED, dress
from ofa_core.measured_networks import Network
from ofa_core.search.result_schema import Layer
from ofa_core.search.saved import SavedNetwork, SearchFolder

__all__ = ["Point", "blocks_figure", "front_figure", "measured_figure", "points_of"]

STAGE_COLOURS = ("#2463a8", "#3f8ecb", "#5fb0a5", "#8db255", "#d6a431", "#c46b32", "#9a5ba5")
TITLES = {
    "first_conv": "first convolution",
    "final_expand": "final expansion",
    "avg_pool": "global pooling",
    "feature_mix": "feature convolution",
}


# ---- objective against cost ------------------------------------------------------------------------------------------


def front_figure(folder: SearchFolder) -> Any:
    """Return the figure of the objective against the cost: front, limit, winner and other candidates."""
    import plotly.graph_objects as go

    cost, objective = (folder.described(name) for name in (folder.record.cost, folder.record.objective))
    figure = go.Figure()
    _add_networks(
        figure,
        folder,
        folder.front.networks,
        {
            "mode": "lines+markers",
            "name": "Pareto front",
            "line": {"color": BLUE, "width": 1.5, "shape": "hv"},
            "marker": {"color": BLUE, "size": 4},
        },
    )
    _add_networks(
        figure,
        folder,
        folder.candidates[1:],
        {
            "mode": "markers",
            "name": "other candidates",
            "marker": {"color": "white", "size": 8, "line": {"color": ORANGE, "width": 1.5}},
        },
    )
    winner = {"color": ORANGE, "size": 16, "symbol": "star", "line": {"color": "white", "width": 1}}
    style = {"mode": "markers", "name": "winner", "marker": winner, "error_x": _winner_error(folder)}
    _add_networks(figure, folder, [folder.best], style)
    line = {"color": RED, "width": 1.5, "dash": "dash"}
    figure.add_vline(x=folder.record.limit_ms, line=line)
    figure.add_annotation(
        x=folder.record.limit_ms, y=0.03, yref="paper", xanchor="left", xshift=5, **_limit_label(folder)
    )
    dress(figure, cost.title, objective.title)
    return figure


def _add_networks(figure: Any, folder: SearchFolder, networks: Sequence[SavedNetwork], style: dict[str, Any]) -> None:
    """Draw networks by their cost and objective."""
    import plotly.graph_objects as go

    cost, objective = (folder.described(name) for name in (folder.record.cost, folder.record.objective))
    hover = f"<b>{style['name']}</b><br>{cost.label} %{{x:.2f}}<br>{objective.label} %{{y:.2f}}<br>%{{text}}"
    figure.add_trace(
        go.Scatter(
            x=[network.values[cost.name] for network in networks],
            y=[network.values[objective.name] for network in networks],
            text=_short([network.network for network in networks]),
            hovertemplate=f"{hover}<extra></extra>",
            **style,
        )
    )


def _winner_error(folder: SearchFolder) -> dict[str, Any] | None:
    """Return the error bar of the winner's predicted latency; None if it is unknown or not shown."""
    best = folder.best
    if best.low_ms is None or best.high_ms is None or folder.record.cost != "latency_ms":
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [best.high_ms - best.predicted_ms],
        "arrayminus": [best.predicted_ms - best.low_ms],
        "color": ORANGE,
        "thickness": 1.5,
    }


def _limit_label(folder: SearchFolder) -> dict[str, Any]:
    return {"text": f"limit {folder.record.limit_ms:g} ms", "showarrow": False, "font": {"color": RED}}


# ---- measured against predicted --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """A whole network: predicted and measured latency in ms, and the measurement's interval if it is known."""

    predicted_ms: float
    measured_ms: float
    network: str
    low_ms: float | None = None
    high_ms: float | None = None
    winner: bool = False


def points_of(networks: Iterable[Network], folder: SearchFolder) -> list[Point]:
    """Return networks measured for the table, predicted by its sum or the calibrated sum."""
    calibration = folder.record.latency.calibration
    points = []
    for net in networks:
        if net.sum_ms is None:
            continue
        predicted = net.sum_ms
        if calibration is not None:
            predicted = float(calibration.predict(net.sum_ms, net.n_blocks, net.mparams))
        points.append(Point(predicted, net.latency_ms, str(net.arch)))
    return points


def _trials(folder: SearchFolder) -> list[Point]:
    """Return the networks measured in the closed loop, each with its slowest measurement."""
    slowest: dict[str, Point] = {}
    for row, network in folder.trials:
        point = Point(row.predicted_ms, row.latency_ms, network, row.low_ms, row.high_ms, row.winner == 1)
        if network not in slowest or row.high_ms > (slowest[network].high_ms or 0):
            slowest[network] = point
    return list(slowest.values())


def measured_figure(folder: SearchFolder) -> Any | None:
    """Return the figure of measured against predicted latency of whole networks; None without measurements."""
    import plotly.graph_objects as go

    trials = _trials(folder)
    reference, verified = (
        points_of([net for net in folder.networks if net.role == role], folder) for role in ("reference", "verify")
    )
    groups = (
        _Group("calibration networks", reference, GREY, "circle-open", 7),
        _Group("verification networks", verified, GREEN, "circle", 7),
        _Group("candidates measured", trials, ORANGE, "diamond-open", 9),
        _Group("winner", [point for point in trials if point.winner], ORANGE, "star", 15),
    )
    every = [point for group in groups for point in group.points]
    if not every:
        return None
    figure = go.Figure()
    low = 0.95 * min(min(p.predicted_ms, p.measured_ms) for p in every)
    high = 1.05 * max(max(p.predicted_ms, p.measured_ms) for p in every)
    _add_diagonal(figure, folder, low, high)
    for group in groups:
        if group.points:
            figure.add_trace(group.trace())
    limit_ms = folder.record.limit_ms
    figure.add_hline(y=limit_ms, line={"color": RED, "width": 1.5, "dash": "dash"})
    label = {"x": 0.99, "xref": "paper", "xanchor": "right", "yanchor": "bottom", "yshift": 2}
    figure.add_annotation(y=limit_ms, **label, **_limit_label(folder))
    dress(figure, "Predicted latency (ms per batch)", "Measured latency (ms per batch)")
    figure.update_xaxes(range=[low, high])
    figure.update_yaxes(range=[low, high])
    return figure


def _add_diagonal(figure: Any, folder: SearchFolder, low: float, high: float) -> None:
    """Draw the line of exact predictions and the 90 % interval around it."""
    import plotly.graph_objects as go

    calibration = folder.record.latency.calibration
    if calibration is not None:
        margin = calibration.margin_90
        figure.add_trace(
            go.Scatter(
                x=[low, high, high, low],
                y=[low * margin, high * margin, high / margin, low / margin],
                fill="toself",
                mode="lines",
                line={"width": 0},
                fillcolor="rgba(36, 99, 168, 0.13)",
                name=f"90 % interval (±{100 * (margin - 1):.1f} %)",
                hoverinfo="skip",
            )
        )
    line = {"color": BLUE, "width": 1}
    ends = [low, high]
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", line=line, name="measured = predicted", hoverinfo="skip"))


@dataclass(frozen=True, slots=True)
class _Group:
    """Points with one name and look."""

    name: str
    points: Sequence[Point]
    colour: str
    symbol: str
    size: int

    def trace(self) -> Any:
        """Return the points as a trace."""
        import plotly.graph_objects as go

        points = self.points
        error = {
            "type": "data",
            "symmetric": False,
            "array": [(p.high_ms or 0) - p.measured_ms for p in points],
            "arrayminus": [p.measured_ms - (p.low_ms or 0) for p in points],
            "color": self.colour,
            "thickness": 1,
            "width": 3,
        }
        line = {"color": self.colour, "width": 1.5}
        return go.Scatter(
            x=[p.predicted_ms for p in points],
            y=[p.measured_ms for p in points],
            mode="markers",
            name=self.name,
            error_y=error if all(p.high_ms is not None for p in points) else None,
            marker={"color": self.colour, "symbol": self.symbol, "size": self.size, "line": line},
            text=_short([p.network for p in points]),
            customdata=[100 * (p.predicted_ms / p.measured_ms - 1) for p in points],
            hovertemplate=f"<b>{self.name}</b><br>predicted %{{x:.2f}} ms, measured %{{y:.2f}} ms<br>"
            "error %{customdata:+.1f} %<br>%{text}<extra></extra>",
        )


# ---- layers of the winner --------------------------------------------------------------------------------------------


def blocks_figure(layers: Sequence[Layer]) -> Any:
    """Return the figure of the winner's layers, top to bottom, with each one's share of the table's sum."""
    import plotly.graph_objects as go

    total = sum(layer.latency_ms for layer in layers) or 1.0
    stages = [_stage(layer) for layer in layers]
    figure = go.Figure(
        go.Bar(
            x=[layer.latency_ms for layer in layers],
            y=[f"{_title(layer)} " for layer in layers],
            orientation="h",
            marker={"color": [GREY if s is None else STAGE_COLOURS[s % 7] for s in stages]},
            text=[f"{layer.latency_ms:.3g}" for layer in layers],
            textposition="outside",
            textfont={"color": GREY, "size": 11},
            cliponaxis=False,
            customdata=[
                (_shape(layer), 100 * layer.latency_ms / total, layer.macs / 1e6, layer.params / 1e3)
                for layer in layers
            ],
            hovertemplate="<b>%{y}</b><br>%{x:.4g} ms, %{customdata[1]:.1f} % of the sum<br>%{customdata[0]}<br>"
            "%{customdata[2]:.2f} M MACs, %{customdata[3]:.1f} k parameters<extra></extra>",
        )
    )
    dress(figure, "Latency in the table (ms)", "")
    figure.update_layout(height=130 + 23 * len(layers), showlegend=False, bargap=0.25)
    figure.update_xaxes(range=[0, 1.12 * max(layer.latency_ms for layer in layers)])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", automargin=True, tickfont={"size": 12})
    return figure


def _stage(layer: Layer) -> int | None:
    """Return the stage of a layer, 0 for the first searchable one; None for layers that every sub-net has."""
    stage, _, block = layer.name.partition(".")
    numbered = all(part.isascii() and part.isdigit() and len(part) <= 3 for part in (stage, block))
    return int(stage) - 1 if numbered else None


def _title(layer: Layer) -> str:
    if _stage(layer) is None:
        return TITLES.get(layer.name, layer.name)
    return f"{layer.name} k{layer.kernel_px} · {layer.mid_c} ch"


def _shape(layer: Layer) -> str:
    shape = f"{layer.in_px} px \u00d7 {layer.in_c} \u2192 {layer.out_px} px \u00d7 {layer.out_c}"
    if layer.mid_c:
        shape += f", {layer.mid_c} inside, kernel {layer.kernel_px}{', SE' if layer.se else ''}"
    return shape


def _short(networks: Sequence[str]) -> list[str]:
    """Return architectures in short, a stage a line."""
    return [network.replace(" ", "<br>") for network in networks]
