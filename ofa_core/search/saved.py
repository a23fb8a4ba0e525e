"""Read a search folder back: `search.json`, the front, candidates, layers and measurements, each checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict, arch_of_row
from ofa_core.errors import FormatError, OfaError
from ofa_core.measured_networks import Network, read_networks
from ofa_core.schema import NonNegative, structured
from ofa_core.search.device_words import device_name
from ofa_core.search.quantity import ENERGY_MJ, LATENCY_MS, MMACS, PARAMS_M, SCORE, TOP1, Description, Direction
from ofa_core.search.result_folder import later_quantities
from ofa_core.search.result_schema import (
    SCHEMA,
    CandidateRow,
    DeviceRow,
    FrontRow,
    Layer,
    SearchRecord,
    TrialRow,
    check_record,
    number,
    read_rows,
)
from ofa_core.space import Space
from ofa_core.space_record import space_of

__all__ = ["SavedFront", "SavedNetwork", "SearchFolder", "read_folder"]

KNOWN = {d.name: d for d in (LATENCY_MS, TOP1, MMACS, PARAMS_M, ENERGY_MJ)}  # those of version 0.1.0


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """A network of the front or a candidate, read back.

    Attributes:
        values: predicted values by the name of the quantity.
        arch: its architecture.
        low_ms: lower bound of the predicted latency; None if it is unknown.
        high_ms: upper bound of it.
        blocks_ms: latency of each layer in the table; empty if it is unknown.
    """

    values: Mapping[str, float]
    arch: Arch
    low_ms: float | None = None
    high_ms: float | None = None
    blocks_ms: tuple[float, ...] = ()

    @property
    def network(self) -> str:
        """Architecture in short."""
        return str(self.arch)

    @property
    def predicted_ms(self) -> float:
        """Predicted milliseconds per batch."""
        return self.values["latency_ms"]

    @property
    def top1(self) -> float:
        """Predicted accuracy in percent, or the score that stands in for it."""
        return self.values["top1"]


@dataclass(frozen=True)
class SavedFront:
    """The Pareto front by ascending cost, read back."""

    networks: tuple[SavedNetwork, ...]

    def column(self, name: str) -> tuple[float, ...]:
        """Return the values of a quantity."""
        return tuple(network.values[name] for network in self.networks)

    @property
    def latency_ms(self) -> tuple[float, ...]:
        """Predicted milliseconds per batch."""
        return self.column("latency_ms")


@dataclass(frozen=True)
class SearchFolder:
    """The content of a search folder.

    Attributes:
        record: content of `search.json`.
        space: space of the networks.
        front: Pareto front.
        candidates: candidates, best first; the first one is the winner.
        layers: layers of the winner; empty without `blocks.csv`.
        trials: all measurements of the closed loop, each with its network in short.
        networks: whole networks measured for the table.
        device_rows: networks on one of several devices, by the name of the device and the network in short.
    """

    record: SearchRecord
    space: Space
    front: SavedFront
    candidates: tuple[SavedNetwork, ...]
    layers: tuple[Layer, ...]
    trials: tuple[tuple[TrialRow, str], ...]
    networks: tuple[Network, ...]
    device_rows: Mapping[tuple[str, str], DeviceRow] = field(default_factory=dict)

    @property
    def best(self) -> SavedNetwork:
        """The winner."""
        return self.candidates[0]

    @property
    def device_names(self) -> list[str]:
        """Names of the devices, the searched one first."""
        return [device_name(Path(self.record.latency.lut)), *(device.name for device in self.record.devices)]

    def described(self, name: str) -> Description:
        """Return the words of a quantity."""
        for quantity in self.record.quantities:
            if quantity.name == name:
                direction: Direction = "max" if quantity.direction == "max" else "min"
                return Description(name, quantity.label, quantity.unit, direction)
        if name == TOP1.name and not self.record.accuracy.percent:
            return SCORE
        for device in self.record.devices:
            if device.quantity == name:
                return Description(name, f"latency on {device.name}", LATENCY_MS.unit)
        return KNOWN.get(name, Description(name, name, ""))

    def network_of(self, row: DeviceRow) -> str:
        """Return the network of a row in short."""
        return str(arch_from_dict(row.arch, self.space))


def read_folder(folder: Path) -> SearchFolder:
    """Read what `write_folder` wrote.

    Raises:
        FormatError: if a file is missing or is not what it should be.
    """
    path = folder / "search.json"
    values = _read_json(path)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise FormatError(f"{path}: not a search of schema {SCHEMA}")
    record = check_record(values, str(path))
    try:
        space = space_of(values)
    except OfaError as error:
        raise FormatError(f"{path}: {error}") from error
    further = later_quantities(quantity.name for quantity in record.quantities)
    networks = folder / "networks.csv"
    saved = SearchFolder(
        record,
        space,
        SavedFront(tuple(_read_front(folder / "pareto.csv", space, further))),
        _read_candidates(folder / "candidates.json", space, further),
        tuple(row for row, *_ in read_rows(folder / "blocks.csv", Layer)),
        tuple(
            (row, str(arch_of_row(cells, space, where)))
            for row, cells, where in read_rows(folder / "measured.csv", TrialRow)
        ),
        tuple(read_networks(networks)) if networks.exists() else (),
        _read_devices(folder / "devices.json", space),
    )
    n_layers = len(space.layout(saved.best.arch).blocks)
    if saved.layers and len(saved.layers) != n_layers:
        raise FormatError(f"{folder / 'blocks.csv'}: {len(saved.layers)} layers; the winner has {n_layers}")
    for name in (record.cost, record.objective):
        if name not in saved.best.values:
            raise FormatError(f"{path}: {ascii(name)[:40]} is no quantity of this search")
    return saved


def _read_front(path: Path, space: Space, further: Sequence[str]) -> Iterable[SavedNetwork]:
    if not path.exists():
        raise FormatError(f"{path}: No such file or directory; a folder that ofa-search wrote is expected")
    for row, cells, where in read_rows(path, FrontRow):
        values = {name: structured(number(cells.get(name, "")), float, f"{where}: {name}") for name in further}
        arch = arch_of_row(cells, space, where)
        blocks_ms = tuple(
            structured(number(cell), NonNegative, f"{where}: blocks_ms") for cell in cells.get("blocks_ms", "").split()
        )
        n_layers = len(space.layout(arch).blocks)
        if blocks_ms and len(blocks_ms) != n_layers:
            raise FormatError(f"{where}: blocks_ms has {len(blocks_ms)} values; {n_layers} are expected, one a layer")
        yield SavedNetwork({"latency_ms": row.latency_ms, "top1": row.top1, **values}, arch, blocks_ms=blocks_ms)


def _read_candidates(path: Path, space: Space, further: Sequence[str]) -> tuple[SavedNetwork, ...]:
    entries = _read_json(path)
    rows = structured(entries, list[CandidateRow], str(path))
    if not rows:
        raise FormatError(f"{path}: no candidates; the winner and others are expected")
    out = []
    for i, (row, entry) in enumerate(zip(rows, entries, strict=True)):
        values = {name: structured(entry.get(name), float, f"{path}: [{i}].{name}") for name in further}
        try:
            arch = arch_from_dict(row.arch, space)
        except OfaError as error:
            raise FormatError(f"{path}: {error}") from error
        values = {"latency_ms": row.latency_ms, "top1": row.top1, **values}
        out.append(SavedNetwork(values, arch, row.low_ms, row.high_ms))
    return tuple(out)


def _read_devices(path: Path, space: Space) -> dict[tuple[str, str], DeviceRow]:
    """Read the networks on several devices; none without the file, as in a search for one device."""
    if not path.exists():
        return {}
    rows = {}
    for i, row in enumerate(structured(_read_json(path), list[DeviceRow], str(path))):
        try:
            arch = arch_from_dict(row.arch, space)
        except OfaError as error:
            raise FormatError(f"{path}: [{i}].arch: {error}") from error
        n_layers = len(space.layout(arch).blocks)
        if row.blocks_ms and len(row.blocks_ms) != n_layers:
            raise FormatError(f"{path}: [{i}].blocks_ms has {len(row.blocks_ms)} values; {n_layers} are expected")
        rows[row.device, str(arch)] = row
    return rows


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}; a folder that ofa-search wrote is expected") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON: {error}") from error
