"""Read the output of `benchmark_model`. Two programs have this name; the text and the result file of both are read.

TensorFlow Lite's (`tensorflow/lite/tools/benchmark`, README; older and newer forms) prints lines of `key=value` pairs
in microseconds, one for the warm-up and one for the benchmark, and a summary. LiteRT's
(`litert/tools/benchmark_litert_model`) prints the same lines through a shared base class, and a summary in milliseconds
with two decimals, which is too coarse for a block and used last. With `--result_file_path` both write a protocol buffer
`tflite.tools.benchmark.BenchmarkResult`. It contains the median, so it is used first.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "BenchmarkOutputError",
    "BenchmarkSummary",
    "parse_output",
    "parse_result_file",
]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_MAX_RUNS = 10**9
_MAX_US = 3.6e9  # an hour: a larger number is not a latency


class BenchmarkOutputError(ValueError):
    """The text or bytes contain no latency."""


@dataclass(frozen=True, slots=True)
class BenchmarkSummary:
    """Summary of one run of `benchmark_model`, in microseconds; None for values that the form lacks.

    Attributes:
        mean_us: mean of the timed runs.
        median_us: their median.
        min_us: shortest.
        max_us: longest.
        std_us: standard deviation.
        first_us: first inference.
        init_us: loading.
        n_runs: timed runs.
        peak_memory_kb: highest resident memory, if the program reports it.
        source: form that was read: `result file`, `pairs`, `summary` or `milliseconds`.
    """

    mean_us: float
    median_us: float | None = None
    min_us: float | None = None
    max_us: float | None = None
    std_us: float | None = None
    first_us: float | None = None
    init_us: float | None = None
    n_runs: int | None = None
    peak_memory_kb: int | None = None
    source: str = "pairs"

    @property
    def typical_us(self) -> float:
        """The median if it is known, else the mean."""
        return self.median_us if self.median_us is not None else self.mean_us


def parse_output(text: str) -> BenchmarkSummary:
    """Read the text of either program, in any of its forms.

    Raises:
        BenchmarkOutputError: the text contains no latency; the message quotes the first line that looks like an error.
    """
    text = text[-4_000_000:]
    pairs = [p for line in text.splitlines() if (p := _pairs(line)) is not None]
    init, first = _init(text), _labelled(text, "First inference")
    peak = _peak_kb(text)
    if pairs:
        last = pairs[-1]
        return _checked(
            BenchmarkSummary(
                mean_us=last["avg"],
                median_us=last.get("median", last.get("p50")),
                min_us=last.get("min"),
                max_us=last.get("max"),
                std_us=last.get("std"),
                first_us=first if first is not None else pairs[0].get("first"),
                init_us=init,
                n_runs=int(last["count"]) if last["count"] < _MAX_RUNS else None,
                peak_memory_kb=peak,
            )
        )
    for label in (r"Inference \(avg\)", "Inference", "no stats"):
        mean = _labelled(text, label)
        if mean is not None:
            return _checked(BenchmarkSummary(mean, first_us=first, init_us=init, peak_memory_kb=peak, source="summary"))
    return _checked(_milliseconds(text, peak))


def parse_result_file(data: bytes) -> BenchmarkSummary:
    """Read a serialised `BenchmarkResult`.

    Raises:
        BenchmarkOutputError: the bytes are not a `BenchmarkResult`, or have no latency.
    """
    message = _fields(data)
    latency = _fields(_bytes(message.get(2, b"")))
    memory = _fields(_bytes(message.get(3, b"")))
    misc = _fields(_bytes(message.get(4, b"")))
    mean = _us(latency, 1)
    if mean is None:
        raise BenchmarkOutputError("the result file has no average latency")
    peak_mb = _float(memory.get(3))
    n_runs = misc.get(2)
    return _checked(
        BenchmarkSummary(
            mean_us=mean,
            median_us=_us(latency, 5) or None,
            min_us=_us(latency, 2),
            max_us=_us(latency, 3),
            std_us=_us(latency, 4),
            first_us=_us(latency, 9),
            init_us=_us(latency, 8),
            n_runs=n_runs if isinstance(n_runs, int) and 0 < n_runs < _MAX_RUNS else None,
            peak_memory_kb=round(peak_mb * 1024) if peak_mb is not None and 0 < peak_mb < 1e6 else None,
            source="result file",
        )
    )


def _pairs(line: str) -> dict[str, float] | None:
    """Return the `key=value` pairs of a statistics line; None for any other line."""
    if "count=" not in line or "avg=" not in line:
        return None
    found = {key: float(value) for key, value in re.findall(rf"\b([A-Za-z]\w*)=({_NUMBER})(?=[\s,]|$)", line)}
    return found if found.get("count", 0) >= 1 and "avg" in found else None


def _labelled(text: str, label: str) -> float | None:
    """Return the number after `label: ` in the last line of timings in microseconds."""
    lines = [line for line in text.splitlines() if "timings in us:" in line]
    found = re.search(rf"(?:^|[ ,:]){label}: ({_NUMBER})(?=[\s,]|$)", lines[-1]) if lines else None
    return float(found[1]) if found else None


def _init(text: str) -> float | None:
    from_line = _labelled(text, "Init")
    found = re.search(rf"Initialized session in ({_NUMBER})ms", text)
    return from_line if from_line is not None else float(found[1]) * 1e3 if found else None


def _milliseconds(text: str, peak_kb: int | None) -> BenchmarkSummary:
    values: dict[str, float] = {}
    n_runs = None
    for label, value, runs in re.findall(
        rf"([A-Z][a-z]+(?: [a-z]+| \([a-z]+\))):\s+({_NUMBER}) ms(?: \((\d{{1,9}}) runs\))?", text
    ):
        values[label] = float(value) * 1e3
        if label == "Inference (avg)" and runs:
            n_runs = int(runs)
    if "Inference (avg)" not in values:
        complaint = next(
            (line for line in text.splitlines() if re.search("error|fail|cannot", line, re.IGNORECASE)), ""
        )
        raise BenchmarkOutputError(
            f"benchmark_model printed no latency{': ' if complaint else ''}{complaint.strip()[:160]}"
        )
    return BenchmarkSummary(
        mean_us=values["Inference (avg)"],
        min_us=values.get("Inference (min)"),
        max_us=values.get("Inference (max)"),
        std_us=values.get("Inference (std)"),
        first_us=values.get("Warmup (first)"),
        init_us=values.get("Model initialization"),
        n_runs=n_runs,
        peak_memory_kb=peak_kb,
        source="milliseconds",
    )


def _peak_kb(text: str) -> int | None:
    forms = (
        rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})",
        rf"Peak memory:\s+({_NUMBER}) MB",
    )
    found = next((m for form in forms if (m := re.search(form, text))), None)
    mb = float(found[1]) if found else 0.0
    return round(mb * 1024) if 0 < mb < 1e6 else None


def _checked(summary: BenchmarkSummary) -> BenchmarkSummary:
    if not math.isfinite(summary.mean_us) or not 0 < summary.mean_us < _MAX_US:
        raise BenchmarkOutputError(f"benchmark_model reports an inference time of {summary.mean_us!r} us")
    median = summary.median_us
    if median is not None and not (math.isfinite(median) and 0 < median < _MAX_US):
        raise BenchmarkOutputError(f"benchmark_model reports a median of {median!r} us")
    return summary


def _us(message: dict[int, int | bytes], field: int) -> float | None:
    ms = _float(message.get(field))
    return ms * 1e3 if ms is not None else None


def _float(value: int | bytes | None) -> float | None:
    if not isinstance(value, bytes) or len(value) != 4:
        return None
    number = float(struct.unpack("<f", value)[0])
    return number if math.isfinite(number) else None


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise BenchmarkOutputError("the result file is not a BenchmarkResult")
    return value


def _fields(data: bytes) -> dict[int, int | bytes]:
    """Return the last value of each field: an integer for a varint, else bytes (protobuf encoding guide)."""
    return dict(_walk(data))


def _walk(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise BenchmarkOutputError(f"the result file is not a BenchmarkResult: wire type {kind} at byte {at}")
        if at + size > len(data):
            raise BenchmarkOutputError(f"the result file is truncated: {len(data)} bytes")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise BenchmarkOutputError(f"the result file is truncated or damaged at byte {at}")
