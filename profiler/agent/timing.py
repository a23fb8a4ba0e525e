"""The timed loop: wall time, CPU time and involuntary context switches of each single run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

try:
    import resource as _resource
except ImportError:  # not on Windows
    resource: Any = None
else:
    resource = _resource

__all__ = ["clocks", "read_peak_rss_kb", "reset_peak_rss", "timed_loop"]


def clocks() -> dict[str, str | None]:
    """Return the names of the clocks and counters that `timed_loop` uses on this machine, for `hello`."""
    return {
        "wall": "perf_counter_ns",
        "cpu_one_thread": _cpu_clock(1).__name__,
        "cpu_many_threads": _cpu_clock(2).__name__,
        "switches_one_thread": _switch_scope_name(1),
        "switches_many_threads": _switch_scope_name(2),
    }


def timed_loop(call: Callable[[], None], warmup: int, repeats: int, threads: int) -> dict[str, Any]:
    """Call `call` `warmup` times untimed, then `repeats` times timed.

    The clocks are read in the order CPU, wall, (run), wall, CPU, so the wall time contains only the run and one clock
    reading. The counters of context switches are read outside both. The loop allocates only the numbers themselves, and
    the garbage collector is off.

    Args:
        call: runs the model once.
        warmup: untimed runs first, >= 0.
        repeats: timed runs, >= 1.
        threads: 1 for the clock and switches of this thread, more for those of the whole process.

    Returns:
        `wall_ns`, `cpu_ns`, `switches` (lists of `repeats` integers; `switches` is None if they cannot be counted) and
        the sum of the last, `n_involuntary_switches`.
    """
    wall, cpu = time.perf_counter_ns, _cpu_clock(threads)
    counted = _switch_scope(threads) is not None
    switches = _switch_counter(threads)
    wall_ns = [0] * repeats
    cpu_ns = [0] * repeats
    n_switches = [0] * repeats
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(warmup):
            call()
        for i in range(repeats):
            s0 = switches()
            c0 = cpu()
            w0 = wall()
            call()
            w1 = wall()
            c1 = cpu()
            n_switches[i] = switches() - s0
            wall_ns[i] = w1 - w0
            cpu_ns[i] = c1 - c0
    finally:
        if was_enabled:
            gc.enable()
    return {
        "wall_ns": wall_ns,
        "cpu_ns": cpu_ns,
        "switches": n_switches if counted else None,
        "n_involuntary_switches": sum(n_switches) if counted else None,
    }


def _cpu_clock(threads: int) -> Callable[[], int]:
    if threads == 1 and hasattr(time, "thread_time_ns"):
        return time.thread_time_ns
    return time.process_time_ns


def _switch_scope(threads: int) -> int | None:
    if resource is None:
        return None
    own_thread: int | None = getattr(resource, "RUSAGE_THREAD", None)
    return own_thread if threads == 1 and own_thread is not None else resource.RUSAGE_SELF


def _switch_scope_name(threads: int) -> str | None:
    scope = _switch_scope(threads)
    if scope is None:
        return None
    return "process" if scope == resource.RUSAGE_SELF else "thread"


def _switch_counter(threads: int) -> Callable[[], int]:
    scope = _switch_scope(threads)
    if scope is None:
        return int
    getrusage = resource.getrusage
    return lambda: getrusage(scope).ru_nivcsw


def reset_peak_rss() -> bool:
    """Reset the process's highest resident memory; return False if the kernel does not permit it."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("5")  # proc(5): resets VmHWM to the present resident size
    except OSError:
        return False
    return True


def read_peak_rss_kb() -> int | None:
    """Return the process's highest resident memory since `reset_peak_rss`, in kB; None if it cannot be read."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            lines: list[str] = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return None
