"""Settings of a measuring session, and its progress."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a measuring session.

    Attributes:
        n_processes: number of fresh processes, at least 3.
        budget_s: seconds for the whole session, with loading.
        threads: threads of one inference.
        cpus: cores to pin to; None leaves it to the operating system.
        seed: seed of all random orders.
        min_visit_ms: shortest timed part of a visit; short blocks are run more often to reach it.
        min_repeats: least number of timed runs per visit.
        max_repeats: largest number of timed runs per visit.
        min_rounds: least number of rounds per process, even if the budget is too small for them.
        max_rounds: largest number of rounds per process.
    """

    n_processes: int = 5
    budget_s: float = 270.0
    threads: int = 1
    cpus: tuple[int, ...] | None = None
    seed: int = 0
    min_visit_ms: float = 2.5
    min_repeats: int = 3
    max_repeats: int = 20
    min_rounds: int = 3
    max_rounds: int = 200


@dataclass(slots=True)
class Progress:
    """State of a session, given to a callback after every visit.

    Attributes:
        phase: `pilot`, `load`, `measure` or `energy`.
        done: visits made, those of earlier sessions included.
        total: visits in all; 0 until the pilot ends.
        what: label of the item being measured.
        n_failed: number of items given up.
        timed_s: seconds of timed inference so far.
        elapsed_s: seconds since the first load.
        left_s: estimated seconds to the end; None if unknown.
        last_ms: median latency of the last visit; None before the first one.
        last_spread: interquartile range of its runs, relative to the median.
        speed: speed of the machine at that visit, relative to its median in this session.
        temperature_c: highest temperature of the device when it was last read; None if unknown.
    """

    phase: str = "pilot"
    done: int = 0
    total: int = 0
    what: str = ""
    n_failed: int = 0
    timed_s: float = 0.0
    elapsed_s: float = 0.0
    left_s: float | None = None
    last_ms: float | None = None
    last_spread: float = 0.0
    speed: float = 1.0
    temperature_c: float | None = None
