"""Timing on a CUDA device: replays of a captured graph between events, and one synchronisation at the end.

At batch 1 a net of small kernels is launched more slowly than it runs, so calls from Python measure Python. A CUDA
graph takes the launches out: `inner` inferences are captured once, on input buffers that differ so that together they
exceed the L2 cache (in a whole net, a block's input was just written by another one), and each replay stands between
two events. Nothing waits inside the loop; the events' times are read when all is done. Events resolve about 0.5 us, so
a replay shall last at least a millisecond.

This module knows no torch: `Cuda` is what it needs of it, and the tests give it a device with a clock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["MIN_REPLAY_MS", "Cuda", "n_buffers", "plan_inner", "timed_replays"]

MIN_REPLAY_MS = 1.0
MAX_INNER = 1000
MAX_BUFFERS = 64
N_ESTIMATE = 10


class Cuda(Protocol):
    """A CUDA device as far as timing needs it."""

    def record(self) -> Any:
        """Record a new event on the current stream and return it."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events that have happened."""

    def synchronize(self) -> None:
        """Wait for all that was launched."""


def n_buffers(buffer_bytes: int, l2_bytes: int) -> int:
    """How many input buffers to take turns with: together twice the L2 cache, within reason."""
    return max(1, min(MAX_BUFFERS, math.ceil(2 * l2_bytes / max(buffer_bytes, 1))))


def plan_inner(cuda: Cuda, call: Callable[[], None], buffers: int) -> int:
    """How many inferences a replay holds: at least a millisecond's worth, and each buffer once.

    Args:
        cuda: the device.
        call: launches one inference; it has been warmed up.
        buffers: input buffers that take turns.
    """
    cuda.synchronize()
    start = cuda.record()
    for _ in range(N_ESTIMATE):
        call()
    end = cuda.record()
    cuda.synchronize()
    ms = max(cuda.elapsed_ms(start, end) / N_ESTIMATE, 1e-4)
    inner = max(1, min(MAX_INNER, math.ceil(MIN_REPLAY_MS / ms)))
    return min(MAX_INNER, math.ceil(inner / buffers) * buffers)


def timed_replays(cuda: Cuda, launch: Callable[[], None], inner: int, warmup: int, repeats: int) -> dict[str, Any]:
    """Launch `warmup + repeats` times and return the time of one inference in each of the last `repeats`.

    Args:
        cuda: the device.
        launch: launches `inner` inferences without waiting: a graph's replay, or calls one after another.
        inner: inferences per launch.
        warmup: untimed launches first.
        repeats: timed launches.

    Returns:
        As the agent's `timed_loop`, with `wall_ns` per inference, and `inner`, the inferences of one launch. CPU time
        is 0 and there are no switches, because the host only launches.
    """
    for _ in range(warmup):
        launch()
    marks = [cuda.record()]
    for _ in range(repeats):
        launch()
        marks.append(cuda.record())
    cuda.synchronize()
    wall_ns = [max(1, round(cuda.elapsed_ms(marks[i], marks[i + 1]) * 1e6 / inner)) for i in range(repeats)]
    return {
        "wall_ns": wall_ns,
        "cpu_ns": [0] * repeats,
        "switches": None,
        "n_involuntary_switches": None,
        "inner": inner,
    }
