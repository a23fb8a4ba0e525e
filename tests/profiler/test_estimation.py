from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from profiler.estimation import (
    N_DISCARDED,
    Sample,
    choose_clock,
    estimate,
    level_slope,
    reference_probe_ns,
    samples_of,
    shrunk_offsets,
    unit_offsets,
)
from profiler.journal import VisitRecord


def visit(wall: list[int], switches: list[int] | None = None, before: int = 200, after: int = 200) -> VisitRecord:
    n = len(wall)
    return VisitRecord(0, 0, 0, 0, tuple(wall), tuple(w - 1 for w in wall), tuple(switches or [0] * n),
                       (before, before), (after, after))  # fmt: skip


def test_first_runs_and_preempted_ones_do_not_count() -> None:
    (sample,) = samples_of([visit([900, 500, 100, 102, 5000, 101], [0, 0, 0, 0, 1, 0])], "wall")
    assert math.exp(sample.log_t) == pytest.approx(101)
    assert sample.n_dropped == 1
    assert len(sample.runs_ms) == 3
    assert math.exp(samples_of([visit([900, 500, 100, 102])], "cpu")[0].log_t) == pytest.approx(100)


def test_a_visit_without_a_clean_run_is_dropped() -> None:
    assert samples_of([visit([900, 500, 100], [0, 0, 2])], "wall") == []
    assert samples_of([visit([900, 500])], "wall") == []


def test_the_probe_reveals_an_unsteady_visit() -> None:
    assert samples_of([visit([1, 1, 1], before=200, after=300)], "wall")[0].log_gap == pytest.approx(math.log(1.5))
    torn = [replace(s, log_t=s.log_t + 0.2, log_gap=0.4) for s in make_samples(5, 0.85, 0.01, 0.0, seed=1)]
    mixed = [*make_samples(5, 0.85, 0.01, 0.0, seed=2), *torn]
    assert estimate(mixed, ref_ns=reference_probe_ns(mixed))[0].latency_ms == pytest.approx(
        estimate(mixed[:25], ref_ns=reference_probe_ns(mixed))[0].latency_ms, rel=0.02
    )


def make_samples(n: int, slope: float, noise: float, between: float, seed: int, shift: float = 0.0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    out = []
    for process in range(5):
        centre = math.log(1e6) + between * rng.standard_normal()
        for _ in range(n):
            s = 0.25 * (rng.random() < 0.4) + shift
            t = centre + slope * s + noise * rng.standard_normal()
            if rng.random() < 0.05:
                t += 0.5  # an outlier that no counter saw
            out.append(Sample(0, (process, 0), t, math.log(2e5) + s, 0.0, (math.exp(t) / 1e6,), 0))
    return out


@pytest.mark.parametrize("slope", [0.6, 0.85, 1.1])
def test_latency_is_read_off_at_the_speed_of_the_session(slope: float) -> None:
    samples = make_samples(30, slope, 0.02, 0.0, seed=1)
    ref = math.exp(np.mean([s.log_s for s in samples]))
    result = estimate(samples, ref_ns=ref)[0]
    assert result.latency_ms == pytest.approx(math.exp(slope * (math.log(ref) - math.log(2e5))), rel=0.012)
    assert result.slope == pytest.approx(slope, abs=0.1)


def test_an_inexact_probe_does_not_spoil_another_speed() -> None:
    # From visit to visit the noisy probe explains 0.7 of the speed; between sessions the full 0.92 counts.
    rng = np.random.default_rng(0)
    samples = []
    for process in range(5):
        for visit_ in range(400):
            speed = 0.2 * (rng.random() < (0.2 if visit_ // 100 % 2 else 0.6)) - 0.3
            t = math.log(1e6) + 0.92 * speed + 0.01 * rng.standard_normal()
            s = math.log(2e5) + speed + 0.06 * rng.standard_normal()
            samples.append(Sample(visit_ % 10, (process, 0), t, s, 0.0, (1.0,), 0))
    assert level_slope(samples) == pytest.approx(0.92, abs=0.06)
    for e in estimate(samples, ref_ns=2e5).values():
        assert e.slope < 0.8
        assert e.latency_ms == pytest.approx(1.0, rel=0.015)


def test_the_interval_covers_the_truth_nine_times_in_ten() -> None:
    hits = 0
    for seed in range(200):
        e = estimate(make_samples(6, 0.85, 0.03, 0.02, seed=seed), ref_ns=2e5)[0]
        hits += abs(math.log(e.latency_ms)) <= math.log1p(e.half_width)
    assert 0.84 <= hits / 200 <= 0.97


def test_one_process_gives_a_wide_interval_not_none() -> None:
    only = [s for s in make_samples(10, 0.85, 0.02, 0.0, seed=3) if s.unit[0] == 0]
    e = estimate(only, ref_ns=2e5)[0]
    assert e.n_processes == 1
    assert 0.01 < e.half_width < 0.3


def test_reference_is_the_median_probe() -> None:
    assert reference_probe_ns(make_samples(50, 1.0, 0.0, 0.0, seed=0)) == pytest.approx(2e5, rel=1e-6)


def test_offsets_find_a_drifted_unit_and_are_shrunk_by_their_error() -> None:
    rng = np.random.default_rng(0)
    samples = []
    for item in range(6):
        for process in range(4):
            for _ in range(8):
                t = math.log(1e6 + item) + (0.08 if process == 2 else 0.0) + 0.01 * rng.standard_normal()
                samples.append(Sample(item, (process, 0), t, math.log(2e5), 0.0, (1.0,), 0))
    offsets = unit_offsets(samples, range(6), 2e5)
    assert offsets[2, 0][0] == pytest.approx(0.06, abs=0.01)
    assert offsets[0, 0][0] == pytest.approx(-0.02, abs=0.01)
    shrunk = shrunk_offsets(offsets)
    assert shrunk[2, 0] == pytest.approx(0.06, abs=0.01)
    assert shrunk_offsets({(0, 0): (0.01, 0.02)}) == {(0, 0): 0.0}
    assert abs(shrunk_offsets({(0, 0): (0.04, 0.02)})[0, 0]) < 0.04


def test_cpu_time_is_chosen_only_where_it_is_clearly_steadier() -> None:
    rng = np.random.default_rng(1)

    def visits(wall_noise: float) -> list[VisitRecord]:
        out = []
        for item in range(5):
            for r in range(20):
                cpu = [int(1e6 * (1 + 0.01 * rng.standard_normal())) for _ in range(N_DISCARDED + 5)]
                wall = [int(c * (1 + wall_noise * rng.random())) for c in cpu]
                out.append(VisitRecord(0, 0, r, item, tuple(wall), tuple(cpu), (0,) * 7, (200, 200), (200, 200)))
        return out

    assert choose_clock(visits(0.0), threads=1) == "wall"
    assert choose_clock(visits(0.5), threads=1) == "cpu"
    assert choose_clock(visits(0.5), threads=2) == "wall"
