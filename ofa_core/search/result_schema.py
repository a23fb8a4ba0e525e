"""The schema of a search folder: one dataclass for each file, whose fields are its keys or columns in order.

A file is written from its dataclass, and checked against it when it is read. So a new field is added here only: at the
end, and with a default, because files of version 0.1.0 lack it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ofa_core.calibration import Calibration
from ofa_core.context import LATER_CONTEXT_COLUMNS, Context, check_context
from ofa_core.csv_fields import read_csv_rows
from ofa_core.errors import FormatError
from ofa_core.schema import Count, NonNegative, Positive, PositiveCount, structured
from ofa_core.search.quantity import LATENCY_MS, TOP1

__all__ = [
    "SCHEMA",
    "AccuracyRecord",
    "AnswerRecord",
    "ArchRecord",
    "CalibrationRecord",
    "CandidateRow",
    "DeviceRecord",
    "DeviceRow",
    "FrontRow",
    "Int8Record",
    "LatencyRecord",
    "Layer",
    "MeasuredRecord",
    "ProofRecord",
    "QuantityRecord",
    "SearchRecord",
    "TrialRow",
    "check_record",
    "number",
    "read_rows",
    "record_values",
]

SCHEMA = 1
MAX_LOG_ERROR = 50.0  # of a leave-one-out error, whose exponential is finite
_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?|[+-]?inf|nan")
T = TypeVar("T")


@dataclass(frozen=True)
class CalibrationRecord(Calibration):
    """A calibration and the factor of its 90 % interval."""

    margin_90: Positive = 1.0


@dataclass(frozen=True, kw_only=True)
class LatencyRecord:
    """The latency predictor: its file, its words, and how its networks were measured."""

    lut: str
    label: str
    note: str
    calibrated: bool
    n_filled: Count
    context: Context | None
    calibration: CalibrationRecord | None
    correction: Positive | None


@dataclass(frozen=True, kw_only=True)
class AccuracyRecord:
    """The accuracy model; `percent` is False for a score that stands in for an accuracy."""

    source: str
    label: str
    note: str
    percent: bool

    @property
    def text(self) -> str:
        """Label and note; the label once, if the note begins with it."""
        return self.note if self.note.startswith(self.label) else f"{self.label}: {self.note}"


@dataclass(frozen=True, kw_only=True)
class MeasuredRecord:
    """The winner's slowest measurement and the size of the loop."""

    latency_ms: Positive
    low_ms: float
    high_ms: Positive
    n_rounds: PositiveCount
    n_networks: PositiveCount
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Int8Record:
    """Measured accuracies (percent) of the winner before and after quantisation, on validation images.

    Attributes:
        fp32_top1: before.
        int8_top1: after.
        agreement: images for which both choose the same class.
        n_images: number of images.
        ranges: how ranges were found.
    """

    fp32_top1: NonNegative
    int8_top1: NonNegative
    agreement: NonNegative
    n_images: PositiveCount
    ranges: str


@dataclass(frozen=True, kw_only=True)
class ArchRecord:
    """An OFA dict."""

    wid: float | None = None
    ks: list[Count]
    e: list[Count]
    d: list[Count]
    r: list[PositiveCount]


@dataclass(frozen=True, kw_only=True)
class QuantityRecord:
    """The words of a quantity, and the winner's value."""

    name: str
    label: str
    unit: str
    direction: str
    value: float


@dataclass(frozen=True, kw_only=True)
class AnswerRecord:
    """The best network within one group of limits: a point of a front, or a device's own network.

    Attributes:
        name: number of the point, or the device.
        file: its `arch.json`, relative to the folder.
        limits: the limits by the name of the quantity.
        values: its predicted values by the name of the quantity.
        arch: the network.
    """

    name: str
    file: str
    limits: dict[str, float]
    values: dict[str, float]
    arch: ArchRecord


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """A further device: its latency predictor, and the name of its quantity.

    `limit_ms` is None for a device that the report shows, and that the search did not limit.
    """

    name: str
    quantity: str
    limit_ms: Positive | None
    latency: LatencyRecord
    target: str | None = None
    measured: MeasuredRecord | None = None


@dataclass(frozen=True, kw_only=True)
class ProofRecord:
    """The largest distance of the answer from the best network within the limits.

    Attributes:
        bound: no network has a better objective; None if no bound is known.
        gap: distance of the objective from the bound; None if no bound is known.
        is_optimal: True if no network is better.
        reason: why no bound is known; empty otherwise.
        seconds: time that it took.
    """

    bound: float | None
    gap: NonNegative | None
    is_optimal: bool
    reason: str
    seconds: NonNegative


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """The content of `search.json`."""

    schema: int = SCHEMA
    space: str
    arch: ArchRecord
    latency_ms: Positive
    low_ms: float | None
    high_ms: float | None
    top1: float
    limit_ms: Positive | None
    mmacs: Positive
    params_m: Positive
    seconds: NonNegative
    n_evaluated: Count
    resolutions: list[PositiveCount]
    seed: Count
    measured: MeasuredRecord | None
    space_digest: str = ""
    space_definition: dict[str, Any] | None = None
    confidence: NonNegative | None
    limits: dict[str, NonNegative]
    left_out_px: list[PositiveCount]
    latency: LatencyRecord
    accuracy: AccuracyRecord
    target: str | None
    energy_mj: NonNegative | None
    weights: str | None
    versions: dict[str, str]
    cost: str = LATENCY_MS.name
    objective: str = TOP1.name
    quantities: list[QuantityRecord] = field(default_factory=list)
    answers: list[AnswerRecord] = field(default_factory=list)
    devices: list[DeviceRecord] = field(default_factory=list)
    goal: str = ""
    fixed: list[str] = field(default_factory=list)
    proof: ProofRecord | None = None

    @property
    def optimised(self) -> str:
        """Name of the quantity that was optimised; `objective` is the quantity that the front shows."""
        return self.goal or self.objective

    int8: Int8Record | None = None


@dataclass(frozen=True, kw_only=True)
class CandidateRow:
    """An entry of `candidates.json`; the space and further quantities follow."""

    arch: dict[str, Any]
    latency_ms: Positive
    low_ms: float | None
    high_ms: float | None
    top1: float


@dataclass(frozen=True, kw_only=True)
class FrontRow:
    """A row of `pareto.csv`; further quantities follow.

    `blocks_ms` has the latency of each layer in the table, in ms with spaces between them; empty without a table.
    """

    schema: int = SCHEMA
    space: str = ""
    latency_ms: Positive
    top1: float
    ks: str
    e: str
    d: str
    r: str
    space_digest: str = ""
    space_definition: str = ""
    blocks_ms: str = ""


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """An entry of `devices.json`: a network of the report on a device; `blocks_ms` is empty without a table."""

    device: str
    arch: dict[str, Any]
    latency_ms: Positive
    low_ms: float | None
    high_ms: float | None
    blocks_ms: list[NonNegative]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A row of `blocks.csv`: a layer of the winner and its latency in the table."""

    schema: int = SCHEMA
    index: Count = 0
    name: str
    op: str = ""
    in_px: Count
    out_px: Count
    in_c: Count
    mid_c: Count
    out_c: Count
    kernel_px: Count
    stride: Count
    se: Count
    macs: Count
    params: Count
    latency_ms: NonNegative


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A row of `measured.csv`: one measurement of a network."""

    schema: int = SCHEMA
    round: Count = 0
    confirms: Count = 0
    winner: Count
    space: str = ""
    ks: str
    e: str
    d: str
    r: str
    top1: float = 0.0
    predicted_ms: Positive
    latency_ms: Positive
    low_ms: NonNegative
    high_ms: Positive
    space_digest: str = ""
    space_definition: str = ""


def record_values(record: SearchRecord) -> dict[str, Any]:
    """Return a record as JSON values; a built-in space has no definition."""
    return {name: v for name, v in asdict(record).items() if name != "space_definition" or v is not None}


def check_record(values: Mapping[str, Any], where: str) -> SearchRecord:
    """Return the content of `search.json`, with every field checked.

    Args:
        values: the parsed file.
        where: its name, for the error.

    Raises:
        FormatError: for the first field that is missing or wrong; the message names its value and the expected one.
    """
    record = structured(values, SearchRecord, where)
    if not record.arch.r:
        raise FormatError(f"{where}: arch.r is empty; one resolution is expected")
    for part, shape in (("context", Context), ("calibration", CalibrationRecord)):
        given = values["latency"][part]
        needed = [f.name for f in fields(shape) if f.name not in LATER_CONTEXT_COLUMNS]
        lacking = [name for name in needed if given is not None and name not in given]
        if lacking:  # a report shows values of the file only, no defaults
            raise FormatError(f"{where}: latency.{part}.{lacking[0]} is missing")
    if record.latency.context is not None:
        check_context(record.latency.context, f"{where}: latency.context")
    calibration = record.latency.calibration
    if calibration is not None and max(map(abs, calibration.loo_errors), default=0.0) > MAX_LOG_ERROR:
        raise FormatError(f"{where}: latency.calibration.loo_errors has values above {MAX_LOG_ERROR:g}")
    if (record.low_ms is None) != (record.high_ms is None):
        raise FormatError(f"{where}: one of low_ms and high_ms is null; both or none are expected")
    wrong = [q.direction for q in record.quantities if q.direction not in ("min", "max")]
    if wrong:
        raise FormatError(f"{where}: a direction is {ascii(wrong[0])[:40]}; min or max is expected")
    return record


def read_rows(path: Path, shape: type[T]) -> Iterator[tuple[T, dict[str, str], str]]:
    """Yield each row of a CSV file as its dataclass, as text, and its place; nothing if there is no file.

    Columns with a default may be absent, and are not read.

    Raises:
        FormatError: for the first field that is missing or wrong.
    """
    if not path.exists():
        return
    columns: dict[str, bool] = _columns(shape)
    for line, cells in read_csv_rows(path, list(columns)):
        where = f"{path}, line {line}"
        values = {name: cells[name] if is_text else number(cells[name]) for name, is_text in columns.items()}
        yield structured(values, shape, where), cells, where


def number(cell: str) -> Any:
    """Return the number in a cell; the text itself if it is none, so that the check can show it."""
    if not _NUMBER.fullmatch(cell):
        return cell
    try:
        return int(cell)
    except ValueError:
        try:
            return float(cell)
        except ValueError:
            return cell


def _columns(shape: Any) -> dict[str, bool]:
    """Return the required columns of a row; True for those that hold text."""
    hints = get_type_hints(shape)
    return {f.name: hints[f.name] is str for f in fields(shape) if f.default is MISSING}
