"""Compare the best networks of several devices on each of these devices (figure 9 of the paper).

A network that was searched for one device is slower or less accurate on another one than the network that was searched
for it. The comparison has a row for each network, with its top-1, and a column for each device, with its latency there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ofa_core.arch import Arch
from ofa_core.arch_json import ARCH_COLUMNS, arch_fields
from ofa_core.csv_fields import safe_cells
from ofa_core.space import Space

__all__ = ["Cell", "Comparison", "Contender", "Device", "csv_text", "is_same_device", "table_rows", "unique_names"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Cell:
    """The latency of a network on a device.

    Attributes:
        ms: predicted milliseconds per batch; None if it cannot be predicted.
        low_ms: lower bound of the 90 % interval; None if it is unknown.
        high_ms: upper bound of it.
        estimated: True if the device's table lacks blocks of the space, so that some latencies are estimates.
        why: reason without a prediction.
    """

    ms: float | None
    low_ms: float | None = None
    high_ms: float | None = None
    estimated: bool = False
    why: str = ""


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes:
        name: its name.
        limit_ms: latency limit of its search; None if it had none.
        cell: returns the latency of a network.
    """

    name: str
    limit_ms: float | None
    cell: Callable[[Space, Arch], Cell]

    @property
    def title(self) -> str:
        """Name and limit."""
        return self.name if self.limit_ms is None else f"{self.name} (limit {self.limit_ms:g} ms)"

    def holds(self, cell: Cell) -> bool:
        """Return True for a latency within the limit."""
        return cell.ms is not None and self.limit_ms is not None and cell.ms <= self.limit_ms


@dataclass(frozen=True)
class Contender:
    """A network to compare.

    Attributes:
        name: its name.
        device: name of the device that it was searched or made for.
        space: its space.
        arch: its architecture.
        top1: top-1 in percent.
        published: True for a net of the authors, whose top-1 is their measurement after fine-tuning.
        published_ms: latency that its authors give.
    """

    name: str
    device: str
    space: Space
    arch: Arch
    top1: float
    published: bool = False
    published_ms: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Networks on devices.

    Attributes:
        devices: the columns.
        nets: the rows.
        cells: latency of each network on each device, by row.
    """

    devices: tuple[Device, ...]
    nets: tuple[Contender, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, devices: Sequence[Device], nets: Sequence[Contender]) -> Comparison:
        """Predict each network on each device."""
        cells = tuple(tuple(device.cell(net.space, net.arch) for device in devices) for net in nets)
        return cls(tuple(devices), tuple(nets), cells)


def unique_names(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """Return the names of devices; equal ones get their places (files or folders) added."""
    return [name if names.count(name) == 1 else f"{name} ({place})" for name, place in zip(names, places, strict=True)]


def is_same_device(one: str, other: str) -> bool:
    """Return True for two spellings of a device, such as `Pixel 2` and `pixel2`."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def table_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the titles and rows of the comparison as text.

    `*` marks a latency within the device's limit, `~` one with estimated blocks.
    """
    titles = ["network", "px", "top-1 %", *(device.title for device in comparison.devices)]
    rows = []
    for net, cells in zip(comparison.nets, comparison.cells, strict=True):
        top1 = f"{net.top1:.1f} published" if net.published else f"{net.top1:.1f}"
        latencies = [_cell_text(cell, device) for cell, device in zip(cells, comparison.devices, strict=True)]
        rows.append([net.name, str(net.arch.resolution_px), top1, *latencies])
    return titles, rows


def _cell_text(cell: Cell, device: Device) -> str:
    if cell.ms is None:
        return "unknown"
    marks = ("~" if cell.estimated else "") + ("*" if device.holds(cell) else "")
    return f"{cell.ms:.2f} ms{marks}"


def csv_text(comparison: Comparison) -> str:
    """Return the comparison as CSV: one row per network and device."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    values = ("latency_ms", "low_ms", "high_ms", "estimated", "limit_ms", "within_limit", "note")
    net_columns = ("network", "made_for", "top1", "top1_source", "published_ms", *ARCH_COLUMNS)
    writer.writerow(("schema", *net_columns, "device", *values))
    for net, cells in zip(comparison.nets, comparison.cells, strict=True):
        source = "published" if net.published else "predicted"
        arch = arch_fields(net.arch, net.space).values()
        head = (net.name, net.device, net.top1, source, _blank(net.published_ms))
        for cell, device in zip(cells, comparison.devices, strict=True):
            within = "" if cell.ms is None or device.limit_ms is None else int(device.holds(cell))
            numbers = (_blank(cell.ms), _blank(cell.low_ms), _blank(cell.high_ms), int(cell.estimated))
            row = (*head, *arch, device.name, *numbers, _blank(device.limit_ms), within, cell.why)
            writer.writerow((SCHEMA, *safe_cells(map(str, row))))
    return out.getvalue()


def _blank(value: float | None) -> object:
    return "" if value is None else value
