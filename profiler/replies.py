"""Read and check the replies of an agent, because a device can send anything.

A field that is missing, has another type or is out of range raises KeyError, TypeError or ValueError with a short text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.runner import Hello, Result

__all__ = [
    "MAX_ERROR_CHARS",
    "MAX_RUN_NS",
    "checked_int",
    "checked_word",
    "read_error",
    "read_hello",
    "read_load",
    "read_result",
]

MAX_RUN_NS = 3_600_000_000_000
"""Longest accepted run and load: one hour."""

MAX_ERROR_CHARS = 2000
_MAX_WORD_CHARS = 200
_MAX_CPU = 65_535
_MAX_COUNT = 2**31
_MAX_RSS_KB = 2**34  # 16 TiB
_MAX_INNER = 1_000_000
_MAX_PROCESSORS = 1024  # largest accepted ratio of CPU time to wall time


def checked_int(value: object, name: str, least: int, most: int) -> int:
    """Return a whole number within bounds; true, 1.0 and "1" are refused."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} {_short(value)} is not a whole number from {least} to {most}")
    return value


def checked_word(value: object, name: str) -> str:
    """Return a name or version that a table can hold: printable, short, and not a spreadsheet formula."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_WORD_CHARS or not value.isprintable():
        raise ValueError(f"{name} {_short(value)} is not a text of 1 to {_MAX_WORD_CHARS} printable characters")
    if value[0] in "=+-@":
        raise ValueError(f"{name} {_short(value)} begins with {value[0]}, like a spreadsheet formula")
    return value


def read_hello(reply: dict[str, Any], backend: str) -> Hello:
    """Read the first reply of an agent.

    Args:
        reply: reply to `hello`.
        backend: expected backend; the reply must name it and give its version.
    """
    versions = {
        checked_word(k, "a version's name"): checked_word(v, f"version of {k}") for k, v in _items(reply, "versions")
    }
    clocks = {
        checked_word(k, "a clock's name"): None if v is None else checked_word(v, f"clock {k}")
        for k, v in _items(reply, "clocks")
    }
    if reply["backend"] != backend or backend not in versions:
        raise ValueError(
            f"backend {_short(reply['backend'])}, versions of {_short(list(versions))}: {backend} is expected"
        )
    cpus, n_cores = reply["cpus"], reply["n_cores"]
    if cpus is not None and (not isinstance(cpus, list) or len(cpus) > _MAX_CPU):
        raise ValueError(f"cpus {_short(cpus)} is not a list of cores")
    return Hello(
        backend=backend,
        versions=versions,
        python=checked_word(reply["python"], "python"),
        machine=checked_word(reply["machine"], "machine"),
        system=checked_word(reply["system"], "system"),
        n_cores=checked_int(n_cores, "n_cores", 1, _MAX_CPU) if n_cores is not None else None,
        cpus=tuple(checked_int(cpu, "cpu", 0, _MAX_CPU) for cpu in cpus) if cpus is not None else None,
        clocks=clocks,
    )


def read_load(reply: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Read the reply to `load`: handle in the agent, load time in nanoseconds, and settings of the backend."""
    settings = dict(_items(reply, "settings"))
    if "inner" in settings:
        checked_int(settings["inner"], "inner", 1, _MAX_INNER)
    handle = checked_int(reply["handle"], "handle", 0, _MAX_COUNT)
    return handle, checked_int(reply["load_ns"], "load_ns", 0, MAX_RUN_NS), settings


def read_result(reply: dict[str, Any], repeats: int) -> Result:
    """Read the reply to `run` with this number of repeats."""
    switches, peak = reply["switches"], reply["peak_rss_kb"]
    return Result(
        wall_ns=_column(reply["wall_ns"], "wall_ns", repeats, 1, MAX_RUN_NS),
        cpu_ns=_column(reply["cpu_ns"], "cpu_ns", repeats, 0, MAX_RUN_NS * _MAX_PROCESSORS),
        switches=_column([0] * repeats if switches is None else switches, "switches", repeats, 0, _MAX_COUNT),
        peak_rss_kb=checked_int(peak, "peak_rss_kb", 0, _MAX_RSS_KB) if peak is not None else None,
        inner=checked_int(reply.get("inner", 1), "inner", 1, _MAX_INNER),
    )


def read_error(reply: dict[str, Any]) -> tuple[str, str] | None:
    """Return the type and message of an error reply; None if either is missing."""
    error = reply.get("error")
    kind, text = (error.get("type"), error.get("message")) if isinstance(error, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(text, str):
        return None
    return kind[:_MAX_WORD_CHARS], text[:MAX_ERROR_CHARS]


def _items(reply: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    value = reply[name]
    if not isinstance(value, dict) or len(value) > _MAX_WORD_CHARS:
        raise ValueError(f"{name} {_short(value)} is not a short object")
    return list(value.items())


def _column(numbers: object, name: str, repeats: int, least: int, most: int) -> NDArray[np.int64]:
    if not isinstance(numbers, list) or len(numbers) != repeats:
        raise ValueError(f"{name} {_short(numbers)} is not a list of {repeats} whole numbers")
    return np.array([checked_int(number, name, least, most) for number in numbers], dtype=np.int64)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
