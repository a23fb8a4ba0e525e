"""The devices of a search's report: the networks on each, predicted and measured, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ofa_core.arch_json import arch_from_dict
from ofa_core.search.device_words import device_name
from ofa_core.search.quantity import LATENCY_MS
from ofa_core.search.result_schema import AnswerRecord, LatencyRecord, MeasuredRecord
from ofa_core.search.saved import SavedNetwork, SearchFolder

__all__ = ["PageDevice", "PageDevices"]


@dataclass(frozen=True)
class PageDevice:
    """A device of the report; `quantity` is the name of its latency, `own` the network that was measured on it."""

    name: str
    quantity: str
    limit_ms: float | None
    latency: LatencyRecord
    measured: MeasuredRecord | None
    own: str

    @property
    def words(self) -> str:
        """Device, runtime, data type and batch size."""
        context = self.latency.context
        if context is None:
            return self.latency.label
        return f"{context.device}, {context.backend} {context.dtype}, batch {context.batch_size}"


@dataclass(frozen=True)
class PageDevices:
    """All devices of a report, the searched one first."""

    folder: SearchFolder

    @cached_property
    def all(self) -> list[PageDevice]:
        """The devices."""
        record = self.folder.record
        first = device_name(Path(record.latency.lut))
        winner = self.folder.best.network
        own = {answer.name: self.network_of(answer) for answer in record.answers}
        return [
            PageDevice(
                first, LATENCY_MS.name, record.limit_ms, record.latency, record.measured, own.get(first, winner)
            ),
            *(
                PageDevice(d.name, d.quantity, d.limit_ms, d.latency, d.measured, own.get(d.name, winner))
                for d in record.devices
            ),
        ]

    def network_of(self, answer: AnswerRecord) -> str:
        """Return the network of an answer in short."""
        fields = {name: getattr(answer.arch, name) for name in ("ks", "e", "d", "r")}
        return str(arch_from_dict(fields, self.folder.space))

    @cached_property
    def answers(self) -> dict[str, AnswerRecord]:
        """The best network of each device, by the network in short; empty without --per-device."""
        names = {device.name for device in self.all}
        return {self.network_of(a): a for a in self.folder.record.answers if a.name in names}

    def latencies(self, network: str) -> dict[str, float]:
        """Return the latencies of a network on the devices, by the name of the quantity."""
        rows = self.folder.device_rows
        found = {device.quantity: rows.get((device.name, network)) for device in self.all}
        return {name: row.latency_ms for name, row in found.items() if row is not None}

    def shown(self) -> list[dict[str, Any]]:
        """Return the devices as the page needs them."""
        return [
            {
                "name": device.name,
                "words": device.words,
                "quantity": device.quantity,
                "limit": device.limit_ms,
                "per_batch": None if device.latency.context is None else device.latency.context.batch_size,
            }
            for device in self.all
        ]

    def on_each(self, net: SavedNetwork) -> list[dict[str, Any] | None]:
        """Return a network on each device: latency, interval, measurement and layers; None where it is unknown."""
        return [self._on(device, net) for device in self.all]

    def _on(self, device: PageDevice, net: SavedNetwork) -> dict[str, Any] | None:
        row = self.folder.device_rows.get((device.name, net.network))
        if row is not None:
            on = _values(row.latency_ms, row.low_ms, row.high_ms, row.blocks_ms)
        elif device.quantity == LATENCY_MS.name:
            on = _values(net.predicted_ms, *self._interval(net), net.blocks_ms)
        else:
            return None
        measured = device.measured
        if measured is not None and device.own == net.network:
            on["measured"] = [measured.latency_ms, measured.low_ms, measured.high_ms]
        return on

    def _interval(self, net: SavedNetwork) -> tuple[float | None, float | None]:
        """Return the interval on the searched device; of a network without one, by the calibration."""
        latency = self.folder.record.latency
        if net.low_ms is None and latency.calibration is not None and not latency.n_filled:
            margin = latency.calibration.margin_90
            return net.predicted_ms / margin, net.predicted_ms * margin
        return net.low_ms, net.high_ms


def _values(ms: float, low: float | None, high: float | None, layers: Any) -> dict[str, Any]:
    values: Mapping[str, Any] = {"ms": ms, "low": low, "high": high, "layers": [float(f"{x:.6g}") for x in layers]}
    return {name: value for name, value in values.items() if value not in (None, [])}
