"""`Context`: the device and settings that all measurements of a table share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

from ofa_core.backend_names import backend_label, with_new_names
from ofa_core.csv_fields import MAX_NUMBER
from ofa_core.errors import FormatError, TableError

__all__ = [
    "CONTEXT_COLUMNS",
    "LATER_CONTEXT_COLUMNS",
    "MAX_TEXT",
    "Context",
    "check_context",
    "later_columns",
    "parse_context",
    "reference_ns_of",
    "statistic_name",
]

MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Context:
    """The device and settings that all measurements of a table share.

    Attributes:
        device: name of the device.
        backend: runtime, such as `onnxruntime`. A name of version 0.1.0, such as `tflite-fp16`, is split into backend,
            dtype and delegate.
        backend_version: its version.
        threads: threads of one inference.
        cpus: cores that inference was pinned to, such as `0` or `4-7`; empty if it was not pinned.
        dtype: type of weights and activations.
        batch_size: images per inference; latencies are for the whole batch.
        graph_form: `fused` (HardSwish and HardSigmoid as single operators) or `literal` (as in the published code).
        statistic: statistic of the samples in `latency_ms` (docs/adr).
        clock: `wall` or `cpu`.
        delegate: part of the runtime that computes, such as `xnnpack` or `cuda:1`; empty where there is no choice.
        isa: extensions of the instruction set that int8 kernels use, such as `avx2 avx512_vnni` or `asimddp i8mm`;
            empty for other dtypes.

    Raises:
        FormatError: an old backend name and a dtype that contradict each other.
    """

    device: str = "unknown"
    backend: str = "unknown"
    backend_version: str = ""
    threads: int = 1
    cpus: str = ""
    dtype: str = "float32"
    batch_size: int = 1
    graph_form: str = "fused"
    statistic: str = "mean"
    clock: str = "wall"
    delegate: str = ""
    isa: str = ""

    def __post_init__(self) -> None:
        names = {"backend": self.backend, "dtype": self.dtype, "delegate": self.delegate}
        for name, value in with_new_names(names).items():
            object.__setattr__(self, name, value)

    @property
    def runtime(self) -> str:
        """One word for backend, dtype and delegate, for people: see `ofa_core.backend_names.backend_label`."""
        return backend_label(self.backend, self.dtype, self.delegate)

    @property
    def label(self) -> str:
        """Device, runtime, threads, and the batch unless it is 1, for people."""
        batch = f", batch {self.batch_size}" if self.batch_size != 1 else ""
        return f"{self.device} ({self.runtime}, {self.threads} thread{'s' if self.threads > 1 else ''}{batch})"

    def differences(self, other: Context) -> list[str]:
        """Return the fields that differ, as `field a != b`."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name} {mine[name]!r} != {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]


LATER_CONTEXT_COLUMNS: tuple[str, ...] = ("delegate", "isa")
"""Columns that files of version 0.1.0 lack; they are written after all others."""

CONTEXT_COLUMNS: tuple[str, ...] = tuple(
    field.name for field in fields(Context) if field.name not in LATER_CONTEXT_COLUMNS
)


def later_columns(context: Context) -> tuple[str, ...]:
    """Return the later columns that a file of this context has: `isa` for int8 only."""
    return tuple(name for name in LATER_CONTEXT_COLUMNS if name != "isa" or context.isa)


def statistic_name(ref_ns: float) -> str:
    """Return the `statistic` column: mean of clean runs, at the machine speed at which the probe takes `ref_ns`."""
    return f"mean@{ref_ns / 1e3:.3f}us"


def reference_ns_of(statistic: str) -> float:
    """Return the probe's time in nanoseconds from a `statistic` column.

    Raises:
        TableError: if this profiler did not measure the table.
    """
    match = re.fullmatch(r"mean@(\d+\.\d+)us", statistic)
    if not match or not 0 < float(match[1]) <= MAX_NUMBER:
        raise TableError(
            f"statistic {statistic!r} has no reference speed; only tables of ofa-profile can be measured again"
        )
    return float(match[1]) * 1e3


def parse_context(row: Mapping[str, str], where: str) -> Context:
    """Read the context columns of a row.

    Raises:
        FormatError: for a value of the wrong type.
    """
    try:
        later = (row.get(name, "") for name in LATER_CONTEXT_COLUMNS)
        return _parsed((*(row[name] for name in CONTEXT_COLUMNS), *later))
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error


@lru_cache(maxsize=512)
def _parsed(texts: tuple[str, ...]) -> Context:
    """Parse the texts of the context columns; cached, because all rows of a file have the same ones."""
    values: dict[str, Any] = dict(zip((*CONTEXT_COLUMNS, *LATER_CONTEXT_COLUMNS), texts, strict=True))
    for name, text in values.items():
        if len(text) > MAX_TEXT or not text.isprintable():
            raise FormatError(f"{name} is {text[:40]!r}; at most {MAX_TEXT} printable characters are expected")
    if not re.fullmatch(r"|\d{1,5}([,-]\d{1,5})*", values["cpus"]):
        raise FormatError(f"cpus is {values['cpus'][:40]!r}; cores such as 0,1 or 4-7 are expected")
    for name in ("threads", "batch_size"):
        text = values[name]
        if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text)):
            raise FormatError(f"{name} is {text[:40]!r}; a whole number >= 1 is expected")
        values[name] = int(text)
    return Context(**values)


def check_context(context: Context, where: str) -> None:
    """Check a context that was not read from a table.

    Raises:
        FormatError: as `parse_context`.
    """
    parse_context({name: str(value) for name, value in asdict(context).items()}, where)
