"""The folder of a search, read back for its report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ofa_core.arch_json import arch_from_dict, arch_of_row
from ofa_core.calibration import Calibration
from ofa_core.csv_fields import MAX_NUMBER, parse_int, parse_ms, read_csv_rows
from ofa_core.errors import FormatError, OfaError
from ofa_core.measured_networks import read_networks
from ofa_core.schema import Positive, structured
from ofa_core.search.record import check_record
from ofa_core.space import Space
from ofa_core.space_record import space_of

__all__ = ["Front", "Layer", "Point", "SearchFolder", "read_folder"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Front:
    """The Pareto front: latencies in ms ascending, accuracies, architectures in short."""

    latency_ms: tuple[float, ...]
    top1: tuple[float, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate: predicted latency in ms with its interval, accuracy, architecture in short."""

    predicted_ms: float
    low_ms: float | None
    high_ms: float | None
    top1: float
    network: str


@dataclass(frozen=True, slots=True)
class Point:
    """A whole network: predicted and measured latency in ms, the measurement's interval if it is known."""

    predicted_ms: float
    measured_ms: float
    low_ms: float | None
    high_ms: float | None
    network: str
    winner: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the winner: its title, stage (0 for the first searchable one), shape in words, and costs."""

    title: str
    stage: int | None
    shape: str
    latency_ms: float
    macs: int
    params: int


@dataclass(frozen=True)
class SearchFolder:
    """All that a report shows.

    Attributes:
        record: `search.json`.
        space: the space.
        front: the Pareto front.
        candidates: best first; the first one is the winner.
        layers: of the winner; empty without `blocks.csv`.
        trials: networks measured while the loop was closed, each with its slowest measurement.
        reference: networks that calibrated the table.
        verified: networks that judged it.
    """

    record: Mapping[str, Any]
    space: Space
    front: Front
    candidates: tuple[Candidate, ...]
    layers: tuple[Layer, ...]
    trials: tuple[Point, ...]
    reference: tuple[Point, ...]
    verified: tuple[Point, ...]

    @property
    def best(self) -> Candidate:
        """The winner."""
        return self.candidates[0]

    @property
    def limit_ms(self) -> float:
        """The latency limit."""
        return float(self.record["limit_ms"])

    @property
    def margin(self) -> float | None:
        """The factor of the 90 % interval, None if it is unknown."""
        calibration = self.record["latency"]["calibration"]
        return None if calibration is None else float(calibration["margin_90"])

    @property
    def percent(self) -> bool:
        """Whether the accuracy is one, and not a stand-in."""
        return bool(self.record["accuracy"]["percent"])

    @property
    def score_name(self) -> str:
        """What the accuracy is called in a few letters."""
        return "top-1" if self.percent else "score"

    @property
    def score_axis(self) -> str:
        """What it is called beside an axis."""
        return "Predicted top-1 (%)" if self.percent else f"Score ({self.record['accuracy']['label']})"


def read_folder(folder: Path) -> SearchFolder:
    """Read what `write_results` wrote.

    Raises:
        FormatError: if a file is missing or is not what it should be.
    """
    record = _read_json(folder / "search.json")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise FormatError(f"{folder / 'search.json'}: not a search of schema {SCHEMA}")
    check_record(record, str(folder / "search.json"))
    try:
        space = space_of(record)
    except OfaError as error:
        raise FormatError(f"{folder / 'search.json'}: {error}") from error
    reference, verified = _networks(folder, record)
    return SearchFolder(
        record,
        space,
        _front(folder / "pareto.csv", space),
        _candidates(folder / "candidates.json", space),
        _layers(folder / "blocks.csv"),
        _trials(folder / "measured.csv", space),
        reference,
        verified,
    )


@dataclass(frozen=True)
class _CandidateRow:
    arch: dict[str, Any]
    latency_ms: Positive
    low_ms: float | None
    high_ms: float | None
    top1: float


def _candidates(path: Path, space: Space) -> tuple[Candidate, ...]:
    rows = structured(_read_json(path), list[_CandidateRow], str(path))
    if not rows:
        raise FormatError(f"{path}: no candidates; the winner and others are expected")
    try:
        networks = [str(arch_from_dict(row.arch, space)) for row in rows]
    except OfaError as error:
        raise FormatError(f"{path}: {error}") from error
    return tuple(
        Candidate(row.latency_ms, row.low_ms, row.high_ms, row.top1, network)
        for row, network in zip(rows, networks, strict=True)
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}; a folder that ofa-search wrote is expected") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON: {error}") from error


def _number(row: Mapping[str, str], name: str, where: str) -> float:
    value = parse_ms(row[name], name, where)
    if value is None:
        raise FormatError(f"{where}: {name} is empty; a number is expected")
    return value


def _latency(row: Mapping[str, str], name: str, where: str) -> float:
    value = _number(row, name, where)
    if not value:
        raise FormatError(f"{where}: {name} is 0; the latency of a network is above 0")
    return value


def _score(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_NUMBER:
        raise FormatError(f"{where}: top1 is {text[:40]!r}; a finite number is expected")
    return value


def _network(row: Mapping[str, str], space: Space, where: str) -> str:
    return str(arch_of_row(row, space, where))


def _front(path: Path, space: Space) -> Front:
    latency, top1, networks = [], [], []
    for line, row in read_csv_rows(path, ("latency_ms", "top1", "ks", "e", "d", "r")):
        where = f"{path}, line {line}"
        latency.append(_latency(row, "latency_ms", where))
        top1.append(_score(row["top1"], where))
        networks.append(_network(row, space, where))
    return Front(tuple(latency), tuple(top1), tuple(networks))


def _layers(path: Path) -> tuple[Layer, ...]:
    if not path.exists():
        return ()
    titles = {
        "first_conv": "stem",
        "final_expand": "final expand",
        "avg_pool": "pooling",
        "feature_mix": "feature mix",
    }
    layers = []
    columns = ("name", "in_px", "out_px", "in_c", "mid_c", "out_c", "kernel_px", "stride", "se", "macs", "params")
    for line, row in read_csv_rows(path, (*columns, "latency_ms")):
        where = f"{path}, line {line}"
        n = {name: parse_int(row[name], name, where) for name in columns[1:]}
        stage, _, block = row["name"].partition(".")
        searchable = re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", row["name"]) is not None
        shape = f"{n['in_px']} px \u00d7 {n['in_c']} \u2192 {n['out_px']} px \u00d7 {n['out_c']}"
        if n["mid_c"]:
            shape += f", {n['mid_c']} inside, kernel {n['kernel_px']}{', SE' if n['se'] else ''}"
        name = titles.get(row["name"], row["name"])
        title = f"{stage}.{block} k{n['kernel_px']} · {n['mid_c']} ch" if searchable else name
        stage_index = int(stage) - 1 if searchable else None
        layers.append(Layer(title, stage_index, shape, _number(row, "latency_ms", where), n["macs"], n["params"]))
    return tuple(layers)


def _trials(path: Path, space: Space) -> tuple[Point, ...]:
    if not path.exists():
        return ()
    slowest: dict[str, Point] = {}
    columns = ("winner", "predicted_ms", "latency_ms", "low_ms", "high_ms", "ks", "e", "d", "r")
    for line, row in read_csv_rows(path, columns):
        where = f"{path}, line {line}"
        predicted, ms, high = (_latency(row, name, where) for name in ("predicted_ms", "latency_ms", "high_ms"))
        low = _number(row, "low_ms", where)
        point = Point(predicted, ms, low, high, _network(row, space, where), row["winner"] == "1")
        if point.network not in slowest or high > (slowest[point.network].high_ms or 0):
            slowest[point.network] = point
    return tuple(slowest.values())


def _networks(folder: Path, record: Mapping[str, Any]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Networks beside the table: those that calibrated it, and those that judge it. Without calibration: the sums."""
    path = folder / "networks.csv"
    if not path.exists():
        return (), ()
    known = record["latency"]["calibration"]
    calibration = None if known is None else Calibration(**{f.name: known[f.name] for f in fields(Calibration)})
    points: dict[str, list[Point]] = {"reference": [], "verify": []}
    for net in read_networks(path):
        if net.sum_ms is None:
            continue
        predicted = net.sum_ms
        if calibration is not None:
            predicted = float(calibration.predict(net.sum_ms, net.n_blocks, net.mparams))
        points[net.role].append(Point(predicted, net.latency_ms, None, None, str(net.arch)))
    return tuple(points["reference"]), tuple(points["verify"])
