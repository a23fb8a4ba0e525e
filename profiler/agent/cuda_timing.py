"""Time a CUDA device: replays of a captured graph between events, with one synchronisation at the end.

At batch 1 launching a net of small kernels takes longer than running it, so calls from Python would measure Python. A
CUDA graph excludes the launches: `inner` inferences are captured once, on several input buffers that together exceed
the L2 cache, and each replay stands between two events. Nothing waits inside the loop; the times of the events are read
at the end. Events resolve about 0.5 us, so a replay lasts at least a millisecond.

This module does not import torch. It uses the protocol `Cuda`, and the tests pass a device with a simulated clock.
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
    """The operations of a CUDA device that timing uses."""

    def record(self) -> Any:
        """Record a new event on the current stream and return it."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Return the milliseconds between two completed events."""

    def synchronize(self) -> None:
        """Wait for all launched work."""


def n_buffers(buffer_bytes: int, l2_bytes: int) -> int:
    """Return the number of input buffers: together twice the L2 cache, at most `MAX_BUFFERS`."""
    return max(1, min(MAX_BUFFERS, math.ceil(2 * l2_bytes / max(buffer_bytes, 1))))


def plan_inner(cuda: Cuda, call: Callable[[], None], buffers: int) -> int:
    """Return the number of inferences in a replay: at least a millisecond's worth, and each buffer at least once.

    Args:
        cuda: the device.
        call: launches one inference; it is warmed up.
        buffers: number of input buffers, used in turn.
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
        launch: launches `inner` inferences without waiting: a replay of a graph, or successive calls.
        inner: inferences per launch.
        warmup: untimed launches first.
        repeats: timed launches.

    Returns:
        The fields of `profiler.agent.timing.timed_loop`, with `wall_ns` per inference, and `inner`, the inferences of
        one launch. CPU time is 0 and switches are not counted, because the host only launches.
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
