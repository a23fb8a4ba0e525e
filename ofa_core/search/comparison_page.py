"""The page of a comparison of devices: the table, and a chart of each device with all networks."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from ofa_core.atomic import write_text
from ofa_core.html_page import chart, heading, page, points, section, table
from ofa_core.search.comparison import Comparison, csv_text, table_rows

__all__ = ["write_page"]

TITLE = "Networks on several devices"
MEANING = (
    "Each row is a network, each column a device. The latency is predicted by the device's table; * marks one within "
    "the limit of that device, ~ one with estimated blocks. A top-1 marked as published was measured by the authors "
    "of Once-for-All after fine-tuning. The others are predicted, so compare the two with care."
)
OWN, OTHERS, PUBLISHED = "searched for this device", "searched for another device", "published by the authors"
LOOKS = {OWN: ("orange", "star"), OTHERS: ("blue", "circle"), PUBLISHED: ("green", "diamond")}
"""Colour and shape of each kind of network."""


def write_page(path: Path, comparison: Comparison) -> None:
    """Write the comparison as one HTML file that needs no other file."""
    titles, rows = table_rows(comparison)
    parts = [heading(TITLE, ""), section("Latency and top-1", MEANING, table(titles, rows))]
    plots: dict[str, Any] = {}
    for i, device in enumerate(comparison.devices):
        name = f"device{i}"
        plots[name] = _plot(comparison, i)
        parts.append(section(f"On {device.title}", "Bars are 90 % intervals, where they are known.", chart(name)))
    parts.append('<div class="row"><button id="get-csv">Download comparison.csv</button></div>')
    unknown = [
        f"{net.name} on {device.name}: {cell.why}"
        for net, cells in zip(comparison.nets, comparison.cells, strict=True)
        for cell, device in zip(cells, comparison.devices, strict=True)
        if cell.ms is None
    ]
    if unknown:
        parts.append(section("Unknown latencies", "", "".join(f"<p>{escape(line)}</p>" for line in unknown)))
    write_text(path, page(TITLE, parts, {"plots": plots, "csv": csv_text(comparison)}, "comparison.js"))


def _plot(comparison: Comparison, column: int) -> dict[str, Any]:
    """Return the networks on a device, as `drawPlot` of `charts.js` takes them."""
    device = comparison.devices[column]
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in LOOKS}
    for net, cells in zip(comparison.nets, comparison.cells, strict=True):
        cell = cells[column]
        if cell.ms is None:
            continue
        point = {"x": cell.ms, "y": net.top1, "text": f"{net.name}: {cell.ms:.2f} ms, {net.top1:.1f} %"}
        if cell.low_ms is not None and cell.high_ms is not None:
            point |= {"lowX": cell.low_ms, "highX": cell.high_ms}
        groups[PUBLISHED if net.published else OWN if net.device == device.name else OTHERS].append(point)
    series = [points(name, *LOOKS[name], 7, drawn) for name, drawn in groups.items() if drawn]
    limit = {"axis": "x", "value": device.limit_ms, "text": "limit", "colour": "var(--grey)"}
    return {
        "label": f"Top-1 and latency on {device.name}",
        "x": "Latency (ms per batch)",
        "y": "Top-1 (%)",
        "series": series,
        "guides": [limit] if series and device.limit_ms is not None else [],
    }
