"""The three figures of a search's report, as plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ofa_core.html_page import BLUE, GREEN, GREY, ORANGE, RED, dress
from ofa_core.search.folder import Layer, Point, SearchFolder

__all__ = ["blocks_figure", "front_figure", "measured_figure"]

STAGE_COLOURS = ("#2463a8", "#3f8ecb", "#5fb0a5", "#8db255", "#d6a431", "#c46b32", "#9a5ba5")


def front_figure(folder: SearchFolder) -> Any:
    """Accuracy against latency: the front, the limit, the winner and the other candidates."""
    import plotly.graph_objects as go

    front, best = folder.front, folder.best
    score = folder.score_name
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=front.latency_ms,
            y=front.top1,
            mode="lines+markers",
            name="Pareto front",
            line={"color": BLUE, "width": 1.5, "shape": "hv"},
            marker={"color": BLUE, "size": 4},
            text=_networks(front.networks),
            hovertemplate=f"%{{x:.2f}} ms<br>{score} %{{y:.2f}}<br>%{{text}}<extra></extra>",
        )
    )
    others = folder.candidates[1:]
    figure.add_trace(
        go.Scatter(
            x=[c.predicted_ms for c in others],
            y=[c.top1 for c in others],
            mode="markers",
            name="other candidates",
            marker={"color": "white", "size": 8, "line": {"color": ORANGE, "width": 1.5}},
            text=_networks([c.network for c in others]),
            hovertemplate=f"candidate<br>%{{x:.2f}} ms<br>{score} %{{y:.2f}}<br>%{{text}}<extra></extra>",
        )
    )
    error = None
    if best.low_ms is not None and best.high_ms is not None:
        error = {
            "type": "data",
            "symmetric": False,
            "array": [best.high_ms - best.predicted_ms],
            "arrayminus": [best.predicted_ms - best.low_ms],
            "color": ORANGE,
            "thickness": 1.5,
        }
    figure.add_trace(
        go.Scatter(
            x=[best.predicted_ms],
            y=[best.top1],
            mode="markers",
            name="winner",
            error_x=error,
            marker={"color": ORANGE, "size": 16, "symbol": "star", "line": {"color": "white", "width": 1}},
            text=_networks([best.network]),
            hovertemplate=f"<b>winner</b><br>%{{x:.2f}} ms<br>{score} %{{y:.2f}}<br>%{{text}}<extra></extra>",
        )
    )
    figure.add_vline(x=folder.limit_ms, line={"color": RED, "width": 1.5, "dash": "dash"})
    figure.add_annotation(
        x=folder.limit_ms,
        y=0.03,
        yref="paper",
        text=f"limit {folder.limit_ms:g} ms",
        showarrow=False,
        xanchor="left",
        xshift=5,
        font={"color": RED},
    )
    dress(figure, "Predicted latency (ms per batch)", folder.score_axis)
    return figure


def measured_figure(folder: SearchFolder) -> Any | None:
    """Measured against predicted latency of whole networks; None where nothing was measured."""
    import plotly.graph_objects as go

    groups: Sequence[tuple[str, Sequence[Point], str, str, int]] = (
        ("calibration networks", folder.reference, GREY, "circle-open", 7),
        ("verification networks", folder.verified, GREEN, "circle", 7),
        ("candidates measured", folder.trials, ORANGE, "diamond-open", 9),
        ("winner", [p for p in folder.trials if p.winner], ORANGE, "star", 15),
    )
    every = [p for _, points, *_ in groups for p in points]
    if not every:
        return None
    figure = go.Figure()
    low = 0.95 * min(min(p.predicted_ms, p.measured_ms) for p in every)
    high = 1.05 * max(max(p.predicted_ms, p.measured_ms) for p in every)
    if folder.margin is not None:
        figure.add_trace(
            go.Scatter(
                x=[low, high, high, low],
                y=[low * folder.margin, high * folder.margin, high / folder.margin, low / folder.margin],
                fill="toself",
                mode="lines",
                line={"width": 0},
                fillcolor="rgba(36, 99, 168, 0.13)",
                name=f"90 % interval (±{100 * (folder.margin - 1):.1f} %)",
                hoverinfo="skip",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": BLUE, "width": 1},
            name="measured = predicted",
            hoverinfo="skip",
        )
    )
    for name, points, colour, symbol, size in groups:
        if points:
            figure.add_trace(_points(name, points, colour, symbol, size))
    figure.add_hline(y=folder.limit_ms, line={"color": RED, "width": 1.5, "dash": "dash"})
    figure.add_annotation(
        x=0.99,
        xref="paper",
        y=folder.limit_ms,
        text=f"limit {folder.limit_ms:g} ms",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
        yshift=2,
        font={"color": RED},
    )
    dress(figure, "Predicted latency (ms per batch)", "Measured latency (ms per batch)")
    figure.update_xaxes(range=[low, high])
    figure.update_yaxes(range=[low, high])
    return figure


def _points(name: str, points: Sequence[Point], colour: str, symbol: str, size: int) -> Any:
    import plotly.graph_objects as go

    known = all(p.low_ms is not None and p.high_ms is not None for p in points)
    error = {
        "type": "data",
        "symmetric": False,
        "array": [(p.high_ms or 0) - p.measured_ms for p in points],
        "arrayminus": [p.measured_ms - (p.low_ms or 0) for p in points],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }
    return go.Scatter(
        x=[p.predicted_ms for p in points],
        y=[p.measured_ms for p in points],
        mode="markers",
        name=name,
        error_y=error if known else None,
        marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": colour, "width": 1.5}},
        text=_networks([p.network for p in points]),
        customdata=[100 * (p.predicted_ms / p.measured_ms - 1) for p in points],
        hovertemplate=f"<b>{name}</b><br>predicted %{{x:.2f}} ms, measured %{{y:.2f}} ms<br>"
        "error %{customdata:+.1f} %<br>%{text}<extra></extra>",
    )


def blocks_figure(layers: Sequence[Layer]) -> Any:
    """The winner's layers, top to bottom, each with its share of the table's sum."""
    import plotly.graph_objects as go

    total = sum(layer.latency_ms for layer in layers) or 1.0
    figure = go.Figure(
        go.Bar(
            x=[layer.latency_ms for layer in layers],
            y=[f"{layer.title} " for layer in layers],
            orientation="h",
            marker={"color": [GREY if s is None else STAGE_COLOURS[s % 7] for s in (x.stage for x in layers)]},
            text=[f"{layer.latency_ms:.3g}" for layer in layers],
            textposition="outside",
            textfont={"color": GREY, "size": 11},
            cliponaxis=False,
            customdata=[
                (layer.shape, 100 * layer.latency_ms / total, layer.macs / 1e6, layer.params / 1e3) for layer in layers
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


def _networks(networks: Sequence[str]) -> list[str]:
    """Architectures in short, a stage a line."""
    return [network.replace(" ", "<br>") for network in networks]
