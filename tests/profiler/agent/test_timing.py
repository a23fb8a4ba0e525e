"""The timed loop: warm-up, number of runs, garbage collection."""

from __future__ import annotations

import gc

import pytest

from profiler.agent.timing import clocks, timed_loop


def test_clocks_have_a_name_for_each_use() -> None:
    names = clocks()
    assert names["wall"] == "perf_counter_ns"
    assert set(names) == {
        "wall",
        *(f"{kind}_{n}" for kind in ("cpu", "switches") for n in ("one_thread", "many_threads")),
    }


def test_the_timed_loop_warms_up_then_times_with_the_collector_off() -> None:
    seen: list[bool] = []
    assert gc.isenabled()
    numbers = timed_loop(lambda: seen.append(gc.isenabled()), warmup=3, repeats=5, threads=2)
    assert gc.isenabled()
    assert seen == [False] * 8
    assert len(numbers["wall_ns"]) == 5


def test_the_collector_is_on_again_after_a_failure() -> None:
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        timed_loop(fail, warmup=0, repeats=1, threads=1)
    assert gc.isenabled()
