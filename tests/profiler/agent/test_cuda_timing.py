"""The CUDA timing loop on a device with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from profiler.agent.cuda_timing import MIN_REPLAY_MS, n_buffers, plan_inner, timed_replays


@dataclass
class FakeCuda:
    """A stream whose work takes virtual time, which passes when the host waits.

    Attributes:
        now_ms: the stream's clock after all that was launched.
        n_waits: synchronisations.
        unread: events that were recorded and not waited for.
    """

    now_ms: float = 0.0
    n_waits: int = 0
    unread: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def launch(self, ms: float) -> None:
        self.log.append("launch")
        self.now_ms += ms

    def record(self) -> float:
        self.log.append("record")
        self.unread.append(self.now_ms)
        return self.now_ms

    def elapsed_ms(self, start: float, end: float) -> float:
        assert not self.unread, "an event was read before the device had reached it"
        return end - start

    def synchronize(self) -> None:
        self.log.append("wait")
        self.n_waits += 1
        self.unread.clear()


def test_each_replay_stands_between_two_events_and_the_host_waits_once() -> None:
    cuda = FakeCuda()
    times = iter([9.0, 9.0, 1.0, 2.0, 4.0])
    numbers = timed_replays(cuda, lambda: cuda.launch(next(times)), inner=10, warmup=2, repeats=3)
    assert numbers["wall_ns"] == [100_000, 200_000, 400_000]
    assert numbers["cpu_ns"] == [0, 0, 0]
    assert numbers["switches"] is None
    assert cuda.log == [*["launch"] * 2, "record", *["launch", "record"] * 3, "wait"]


@pytest.mark.parametrize(
    ("call_ms", "buffers", "inner"),
    [(0.1, 1, 10), (0.1, 4, 12), (0.1, 64, 64), (5.0, 1, 1), (5.0, 3, 3), (0.0003, 1, 1000), (0.0, 7, 1000)],
)
def test_a_replay_lasts_a_millisecond_and_takes_each_buffer_once(call_ms: float, buffers: int, inner: int) -> None:
    cuda = FakeCuda()
    got = plan_inner(cuda, lambda: cuda.launch(call_ms), buffers)
    assert got == inner
    assert got * call_ms >= min(MIN_REPLAY_MS, 1000 * call_ms) - 1e-9
    assert cuda.n_waits == 2


def test_buffers_exceed_the_cache_within_reason() -> None:
    assert n_buffers(10**6, 6 * 10**6) == 12
    assert n_buffers(10**9, 6 * 10**6) == 1
    assert n_buffers(10, 50 * 2**20) == 64
    assert n_buffers(0, 0) == 1
