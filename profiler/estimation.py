"""Estimate latencies from visits: select the runs, correct for machine speed, and compute intervals.

The speed of a shared or warm machine changes. Therefore every visit of a block is preceded and followed by runs of the
same small block, the *probe*, and the latency is estimated at the probe's median time (docs/adr/0003):

    log t = c_process + slope * log(s / s_process) + level_slope * log(s_process / s_ref)

Here t is the mean of the visit's clean runs, s the probe's time around it, s_process its mean over the process, and
s_ref its median over the session. Visits during which the speed changed have less weight, the fit is robust (Huber
weights), and the slope of one item is shrunk towards that of all items. There are two slopes because one short probe
measures the speed during a visit only roughly: from visit to visit, errors in the regressor attenuate the slope; over
many visits they cancel, and the slope is nearly 1.

Runs in which the thread was preempted are dropped, and so are the first two after another model, which find cold
caches. Fresh processes differ more than visits within one, so the interval is that of the processes' c.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from profiler.journal import VisitRecord

__all__ = [
    "N_DISCARDED",
    "Clock",
    "Estimate",
    "Sample",
    "choose_clock",
    "estimate",
    "level_slope",
    "reference_probe_ns",
    "samples_of",
    "unit_offsets",
]

Clock = Literal["wall", "cpu"]

N_DISCARDED = 2  # first runs after a switch
PRIOR_SLOPE = 0.85  # prior of an item's slope against the probe from visit to visit
LEVEL_SLOPE = 0.92  # the same over many visits (docs/adr/0003)
LEVEL_SLOPE_SD = 0.05  # standard deviation of its prior
LEVEL_WINDOW = 100  # visits averaged for it
PRIOR_VISITS = 10.0  # weight of the slope of all items, in visits
HUBER = 1.345  # in robust standard deviations: 95 % efficient for normal errors
MAX_PROBE_GAP = math.log(1.35)  # visits with a larger change of speed are left out of a unit's drift
HALF_WEIGHT_GAP = 0.06  # a visit with this change of speed has half the weight in an item's fit
MIN_PLAUSIBLE_SD = 0.002  # lower bound for one process's c, as a fraction
CLOCK_GAIN = 0.8  # CPU time is chosen if its spread is below this fraction of that of wall time


@dataclass(frozen=True, slots=True)
class Sample:
    """Summary of one visit.

    Attributes:
        item: index of the item.
        unit: (process, chunk).
        log_t: log of the mean of the clean runs, nanoseconds.
        log_s: log of the probe's time around the visit, nanoseconds.
        log_gap: log of the probe's time after the visit divided by that before it.
        runs_ms: milliseconds of the clean runs.
        n_dropped: number of runs dropped because the thread was preempted.
    """

    item: int
    unit: tuple[int, int]
    log_t: float
    log_s: float
    log_gap: float
    runs_ms: tuple[float, ...]
    n_dropped: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The latency of one item.

    Attributes:
        latency_ms: latency at the reference speed of the machine.
        half_width: half width of the 90 % interval, as a fraction of the latency.
        slope: slope against the probe from visit to visit.
        median_ms: median of all clean runs, not corrected for machine speed.
        p25_ms: their lower quartile.
        p90_ms: their 90th percentile.
        iqr_ms: their interquartile range.
        n_samples: number of clean runs.
        n_processes: number of fresh processes.
        n_dropped: number of runs in which the thread was preempted.
    """

    latency_ms: float
    half_width: float
    slope: float
    median_ms: float
    p25_ms: float
    p90_ms: float
    iqr_ms: float
    n_samples: int
    n_processes: int
    n_dropped: int


def samples_of(visits: Iterable[VisitRecord], clock: Clock) -> list[Sample]:
    """Summarise visits; drop those without a clean run."""
    out = []
    for visit in visits:
        times = visit.wall_ns if clock == "wall" else visit.cpu_ns
        later = list(zip(times, visit.switches, strict=True))[N_DISCARDED:]
        clean = [t for t, switches in later if not switches and t > 0]
        which = 0 if clock == "wall" else 1
        before, after = visit.before[which], visit.after[which]
        if not clean or before <= 0 or after <= 0:
            continue
        out.append(
            Sample(
                item=visit.item,
                unit=(visit.process, visit.chunk),
                log_t=math.log(fmean(clean)),
                log_s=0.5 * (math.log(before) + math.log(after)),
                log_gap=math.log(after / before),
                runs_ms=tuple(t / 1e6 for t in clean),
                n_dropped=len(later) - len(clean),
            )
        )
    return out


def reference_probe_ns(samples: Sequence[Sample]) -> float:
    """Return the probe's median time over a session, in nanoseconds, which defines the reference speed."""
    return math.exp(median(sample.log_s for sample in samples))


def unit_offsets(
    samples: Sequence[Sample], anchors: Iterable[int], ref_ns: float
) -> dict[tuple[int, int], tuple[float, float]]:
    """Compute the drift of each unit that the probe does not explain: its anchors against their mean over all units.

    Returns:
        unit -> (offset as a log ratio, its standard error). Empty with a single unit.
    """
    wanted = set(anchors)
    values: dict[tuple[int, tuple[int, int]], list[float]] = {}
    for s in samples:
        if s.item in wanted and abs(s.log_gap) <= MAX_PROBE_GAP:
            adjusted = s.log_t - LEVEL_SLOPE * (s.log_s - math.log(ref_ns))
            values.setdefault((s.item, s.unit), []).append(adjusted)
    centre: dict[tuple[int, tuple[int, int]], float] = {key: median(v) for key, v in values.items()}
    units = sorted({unit for _, unit in centre})
    if len(units) < 2:
        return {}
    mean_of = {item: np.mean([c for (i, _), c in centre.items() if i == item]) for item in {i for i, _ in centre}}
    out = {}
    for unit in units:
        deviations = [c - mean_of[i] for (i, u), c in centre.items() if u == unit]
        spread = np.std(deviations, ddof=1) / math.sqrt(len(deviations)) if len(deviations) > 1 else math.inf
        out[unit] = (float(np.mean(deviations)), float(spread))
    return out


def shrunk_offsets(offsets: Mapping[tuple[int, int], tuple[float, float]]) -> dict[tuple[int, int], float]:
    """Shrink offsets by their errors, so that an offset within its error becomes 0."""
    out = {}
    for unit, (offset, error) in offsets.items():
        excess = max(offset**2 - error**2, 0.0)
        out[unit] = offset * excess / (excess + error**2) if excess else 0.0
    return out


def estimate(
    samples: Sequence[Sample], ref_ns: float, offsets: Mapping[tuple[int, int], float] | None = None
) -> dict[int, Estimate]:
    """Estimate the latency of each item at the reference speed.

    Args:
        samples: samples of one session, in order of time.
        ref_ns: the probe's time at the reference speed.
        offsets: corrections of units, as log ratios.

    Returns:
        item -> estimate, for items with at least one sample.
    """
    offsets = offsets or {}
    speed = {unit: float(np.mean([s.log_s for s in samples if s.unit == unit])) for unit in {s.unit for s in samples}}
    shift = level_slope(samples)
    at_reference = {unit: offsets.get(unit, 0.0) + shift * (speed[unit] - math.log(ref_ns)) for unit in speed}
    by_item: dict[int, list[Sample]] = {}
    for s in samples:
        levelled = replace(s, log_t=s.log_t - at_reference[s.unit], log_s=s.log_s - speed[s.unit])
        by_item.setdefault(s.item, []).append(levelled)
    own = [_fit(group, PRIOR_SLOPE, 1.0)[1] for group in by_item.values() if len(group) >= 5]
    prior = float(median(own)) if len(own) >= 5 else PRIOR_SLOPE
    return {item: _estimate(group, prior) for item, group in by_item.items()}


def level_slope(samples: Sequence[Sample]) -> float:
    """Estimate the slope against the probe over many visits: regression of window means, shrunk towards its prior.

    Args:
        samples: samples of one session, in order of time.
    """
    by_item: dict[int, list[float]] = {}
    for s in samples:
        by_item.setdefault(s.item, []).append(s.log_t)
    typical = {item: median(values) for item, values in by_item.items()}
    n = len(samples) // LEVEL_WINDOW
    precision = 1 / LEVEL_SLOPE_SD**2
    if n < 3:
        return LEVEL_SLOPE
    window = np.arange(n * LEVEL_WINDOW).reshape(n, LEVEL_WINDOW)
    y = np.array([s.log_t - typical[s.item] for s in samples])[window].mean(axis=1)
    x = np.array([s.log_s for s in samples])[window].mean(axis=1)
    x, y = x - x.mean(), y - y.mean()
    own = float(x @ y) / max(float(x @ x), 1e-12)
    residual = float(np.mean((y - own * x) ** 2)) + 1e-6
    weight = float(x @ x) / residual
    return (weight * own + precision * LEVEL_SLOPE) / (weight + precision)


def _estimate(group: Sequence[Sample], prior_slope: float) -> Estimate:
    centres, slope, errors = _fit(group, prior_slope, PRIOR_VISITS)
    n = len(centres)
    centre = float(np.mean(centres))
    within = float(np.mean(errors))
    between = float(np.std(centres, ddof=1)) if n > 1 else math.inf
    # The spread of few processes is uncertain; it is at least their mean error.
    spread = max(between, within, MIN_PLAUSIBLE_SD) if n > 1 else max(within, MIN_PLAUSIBLE_SD)
    half = float(stats.t.ppf(0.95, max(n - 1, 1))) * spread / math.sqrt(n)
    runs = np.concatenate([s.runs_ms for s in group])
    p25, p50, p75, p90 = np.percentile(runs, [25, 50, 75, 90])
    return Estimate(
        latency_ms=math.exp(centre) / 1e6,
        half_width=math.expm1(half),
        slope=slope,
        median_ms=float(p50),
        p25_ms=float(p25),
        p90_ms=float(p90),
        iqr_ms=float(p75 - p25),
        n_samples=len(runs),
        n_processes=n,
        n_dropped=sum(s.n_dropped for s in group),
    )


def _fit(
    group: Sequence[Sample], prior_slope: float, prior_visits: float
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Return the centres per process (at `log_s` = 0), the common slope, and each centre's standard error."""
    processes = sorted({s.unit[0] for s in group})
    which = np.array([processes.index(s.unit[0]) for s in group])
    x = np.array([s.log_s for s in group])
    y = np.array([s.log_t for s in group])
    member = which[None, :] == np.arange(len(processes))[:, None]
    trust = 1.0 / (1.0 + np.array([s.log_gap / HALF_WEIGHT_GAP for s in group]) ** 2)
    slope = prior_slope
    centres = np.array([np.average((y - slope * x)[m], weights=trust[m]) for m in member])
    penalty = prior_visits * 0.01 * float(trust.mean())  # 0.01 = 0.1 ** 2, the usual variance of x per visit
    weights = trust
    for _ in range(15):
        residual = y - centres[which] - slope * x
        standard = np.abs(residual) * np.sqrt(trust)
        scale = 1.4826 * float(np.median(standard)) + 1e-6
        weights = trust / np.maximum(1.0, standard / (HUBER * scale))
        total = member @ weights
        x_mean, y_mean = (member @ (weights * x)) / total, (member @ (weights * y)) / total
        dx, dy = x - x_mean[which], y - y_mean[which]
        slope = float((weights @ (dx * dy) + penalty * prior_slope) / (weights @ dx**2 + penalty))
        centres = y_mean - slope * x_mean
    residual = y - centres[which] - slope * x
    variance = float((weights @ residual**2) / max(len(y) - len(processes), 1))
    return centres, slope, np.sqrt(variance / (member @ weights))


def choose_clock(visits: Sequence[VisitRecord], threads: int) -> Clock:
    """Choose the clock of a table: wall time, unless CPU time of the single thread spreads clearly less.

    On a shared machine, wall time includes other programs' turns. With several threads the choice is always wall time,
    because CPU time then does not measure latency.
    """
    if threads != 1 or any(t <= 0 for visit in visits[:100] for t in visit.cpu_ns):
        return "wall"
    spread = {}
    clocks: tuple[Clock, ...] = ("wall", "cpu")
    for clock in clocks:
        by_item: dict[int, list[float]] = {}
        samples = samples_of(visits, clock)
        ref = reference_probe_ns(samples) if samples else 1.0
        for s in samples:
            by_item.setdefault(s.item, []).append(s.log_t - PRIOR_SLOPE * (s.log_s - math.log(ref)))
        widths = [float(np.subtract(*np.percentile(v, [75, 25]))) for v in by_item.values() if len(v) >= 4]
        spread[clock] = float(np.mean(widths)) if widths else math.inf
    return "cpu" if spread["cpu"] < CLOCK_GAIN * spread["wall"] else "wall"
