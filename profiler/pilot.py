"""Choose repeats and rounds from the times of a pilot, before anything is measured.

The pilot visits each item once, briefly. From what that took follow the timed runs of each item's visits and the number
of rounds that fit the budget. Both are fixed for the whole session, so that no result can influence its own precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from profiler.estimation import N_DISCARDED
from profiler.plan import PROBE_RUNS, Plan
from profiler.runner import Result
from profiler.settings import Settings

__all__ = ["PILOT_RUNS", "PilotTimes", "Schedule"]

PILOT_RUNS = N_DISCARDED + 3
SLOWER_THAN_PILOT = 1.15  # allowance for cold first runs, and for a machine that is slower than during the pilot
START_S = 0.5  # of a fresh process
PROBE_ALLOWANCE = 1.2


@dataclass(frozen=True, slots=True)
class Schedule:
    """Visits of a session, fixed by the pilot.

    Attributes:
        repeats: timed runs of a visit, for each item of the plan.
        n_rounds: rounds per process.
        pilot_s: seconds that the pilot took.
        load_s: estimated seconds of loading all items in one process.
        round_s: estimated seconds of one round.
    """

    repeats: tuple[int, ...]
    n_rounds: int
    pilot_s: float
    load_s: float
    round_s: float

    def total_s(self, n_processes: int, n_rounds: int | None = None) -> float:
        """Return the estimated seconds of the whole session, with `n_rounds` rounds if given."""
        n_rounds = self.n_rounds if n_rounds is None else n_rounds
        return self.pilot_s + n_processes * (self.load_s + n_rounds * self.round_s)


@dataclass
class PilotTimes:
    """Times measured in a pilot.

    Attributes:
        ms: milliseconds of one inference, by item.
        run_ms: milliseconds of one timed run, by item; a run of a CUDA graph holds several inferences.
        probe_run_ms: milliseconds of one timed run of the speed probe.
        n_loads: number of items loaded.
        load_s: seconds of loading them.
        around_s: seconds of each visit beyond its runs: round trips, and the agent's own work.
    """

    ms: dict[int, float] = field(default_factory=dict)
    run_ms: dict[int, float] = field(default_factory=dict)
    probe_run_ms: float = 0.0
    n_loads: int = 0
    load_s: float = 0.0
    around_s: list[float] = field(default_factory=list)

    def add_load(self, n_items: int, seconds: float) -> None:
        """Add the time of loading items into a fresh process."""
        self.n_loads += n_items
        self.load_s += seconds

    def add_visit(self, item: int, result: Result, probe_run_ms: float, seconds: float) -> None:
        """Add a visit of `PILOT_RUNS` runs and the probe after it, which took `seconds` together."""
        self.ms[item] = float(np.median(result.wall_ns[N_DISCARDED:])) / 1e6
        self.run_ms[item] = self.ms[item] * result.inner
        self.probe_run_ms = probe_run_ms
        timed_s = result.timed_ns / 1e9 + sum(PROBE_RUNS) * probe_run_ms / 1e3
        self.around_s.append(seconds - timed_s)

    def schedule(self, plan: Plan, settings: Settings, pilot_s: float, line_s: float) -> Schedule:
        """Return the visits that fit the budget.

        Args:
            plan: the items.
            settings: budget, processes, and limits of repeats and rounds.
            pilot_s: seconds that the pilot took.
            line_s: seconds of writing one line to the journal.
        """
        s = settings
        n_loads = sum(len(chunk) for chunk in plan.chunks)
        load_s = self.load_s / max(self.n_loads, 1) * n_loads + START_S * len(plan.chunks)
        repeats = tuple(
            int(np.clip(np.ceil(s.min_visit_ms / max(self.run_ms.get(i, 1e9), 1e-6)), s.min_repeats, s.max_repeats))
            for i in range(len(plan.items))
        )
        probe_ms = PROBE_ALLOWANCE * sum(PROBE_RUNS) * self.probe_run_ms
        more_ms = probe_ms + 1e3 * (max(float(np.median(self.around_s or [0.0])), 0.0) + line_s)
        visited = [i for chunk in plan.chunks for i in chunk if i in self.ms]
        round_s = sum((repeats[i] + N_DISCARDED) * self.run_ms[i] + more_ms for i in visited) / 1e3
        rounds = ((s.budget_s - pilot_s) / s.n_processes - load_s) / max(round_s, 1e-6) / SLOWER_THAN_PILOT
        return Schedule(repeats, int(np.clip(rounds, s.min_rounds, s.max_rounds)), pilot_s, load_s, round_s)
