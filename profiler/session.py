"""Run a measuring session: a pilot, then complete shuffled rounds in fresh agent processes, all in a journal.

A *unit* is one chunk of items in one fresh process. It loads its items in random order, then makes `n_rounds` rounds.
Each round visits every item once, in an order of its own, with the speed probe between any two visits. The pilot fixes
all visits before the first one, so no round depends on earlier results. An interrupted session resumes with the visits
that its journal lacks.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

import numpy as np

from ofa_core.errors import OfaError
from profiler.estimation import N_DISCARDED, reference_probe_ns, samples_of, unit_offsets
from profiler.journal import Journal, VisitRecord
from profiler.model_files import ModelStore
from profiler.pilot import PILOT_RUNS, PilotTimes, Schedule
from profiler.plan import PROBE_RUNS, Plan
from profiler.runner import Runner
from profiler.settings import Progress, Settings
from profiler.visits import MAX_TRIES, Outcome, Visitor

__all__ = ["HeatGuard", "Session"]

_LOG = logging.getLogger(__name__)
MAX_DRIFT = 0.03  # of a unit's anchors beyond their error; a unit with more is measured again
MAX_REDOS = 2  # units measured again in one session
LATE = 1.1  # the session may exceed its budget by this factor for units measured again
LOOK_EVERY_S = 20.0  # between looks at the device's temperature
MAX_VOIDS = 5  # times that visits are voided for heat in one session


class HeatGuard(Protocol):
    """Watches the device's temperature; see `profiler.cooling.Cooling`."""

    def stayed_cool(self) -> bool:
        """Return True if heat has not slowed the device since the last look."""

    def cool_down(self) -> float:
        """Wait until the device is cool, for a limited time; return the seconds waited."""

    @property
    def temperature_c(self) -> float | None:
        """Highest temperature of the device when it was last read; None if unknown."""


@dataclass
class Session:
    """Measures a plan through a runner into a journal.

    Attributes:
        plan: the items to measure.
        runner: an open runner; its owner closes it.
        models: source of the model files.
        journal: receives every visit, and holds those of earlier sessions.
        settings: how to measure.
        progress: called after every visit.
        clock: monotonic clock, in seconds.
        heat: watches the device's temperature, if it has a sensor; visits during throttling are made again.
        crowding: advice if there are more threads than cores, else empty. Such a session ends with an error once the
            pilot shows that it exceeds the budget.
        name: name of the device in messages; by default the device's own.
    """

    plan: Plan
    runner: Runner
    models: ModelStore
    journal: Journal
    settings: Settings
    progress: Callable[[Progress], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    heat: HeatGuard | None = None
    crowding: str = ""
    name: str = ""
    _visitor: Visitor = field(init=False)
    _state: Progress = field(default_factory=Progress, init=False)
    _started: float = field(default=0.0, init=False)
    _n_voids: int = field(default=0, init=False)
    _looked: float = field(default=0.0, init=False)
    _probe_ns: list[int] = field(default_factory=list, init=False)
    _measuring_since: float | None = field(default=None, init=False)
    _n_before: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._visitor = Visitor(
            self.plan, self.runner, self.models, self.journal, self.settings, self._report_load, self.clock
        )

    def run(self) -> None:
        """Make all visits that the journal lacks.

        Raises:
            DeviceError: if the connection to the device is lost, or no agent can be started on it.
            OfaError: if threads share cores and the session would exceed its budget.
        """
        if self.heat is not None:
            self.heat.cool_down()
        self._started = self._looked = self.clock()
        if self.journal.state.pilot is None:
            self._pilot()
        pilot = self.journal.state.pilot
        assert pilot is not None
        n_rounds = int(pilot["n_rounds"])
        self._state.phase = "load"
        self._state.total = n_rounds * self.settings.n_processes * sum(len(c) for c in self.plan.chunks)
        for process in range(self.settings.n_processes):
            for chunk in range(len(self.plan.chunks)):
                begin = self.clock()
                self._unit(process, chunk, n_rounds)
                self._redo_if_drifted(process, chunk, n_rounds, self.clock() - begin)

    # ---- pilot -----------------------------------------------------------------------------------------------------

    def _pilot(self) -> None:
        """Visit each item once, briefly, and fix repeats and rounds."""
        visitor, times = self._visitor, PilotTimes()
        for chunk in self.plan.chunks:
            todo = [i for i in chunk if i not in times.ms]
            visitor.start(todo, visitor.rng(99, 0))
            times.add_load(len(todo), visitor.load_s)
            for item in visitor.rng(99, 1).permutation(todo).tolist():
                begin = self.clock()
                outcome = visitor.visit(item, PILOT_RUNS, todo)
                if outcome is not None:
                    times.add_visit(item, outcome.result, outcome.probe_run_ms, self.clock() - begin)
                self._report("pilot", item)
                self._check_crowding(self.clock() - self._started)
        line_s = self.journal.line_s()
        schedule = times.schedule(self.plan, self.settings, self.clock() - self._started, line_s)
        self._log_expected_time(schedule)
        repeats = list(schedule.repeats)
        ms = [times.ms.get(i) for i in range(len(repeats))]
        self.journal.write({"pilot": {"repeats": repeats, "n_rounds": schedule.n_rounds, "ms": ms}})

    def _log_expected_time(self, schedule: Schedule) -> None:
        s, name = self.settings, self.name or self.runner.device.name
        least_s = schedule.total_s(s.n_processes, s.min_rounds)
        self._check_crowding(least_s)
        load_s = s.n_processes * schedule.load_s
        if least_s > LATE * s.budget_s:
            _LOG.warning(
                "%s: --budget-s %g is too small: %d rounds in each of %d processes take about %.1f s, "
                "of which loading models takes %.0f s; measuring them nevertheless",
                name, s.budget_s, s.min_rounds, s.n_processes, least_s, load_s,
            )  # fmt: skip
        else:
            _LOG.info(
                "%s: %d rounds in each of %d processes take about %.0f s, of which loading models takes %.0f s",
                name, schedule.n_rounds, s.n_processes, schedule.total_s(s.n_processes), load_s,
            )  # fmt: skip

    def _check_crowding(self, least_s: float) -> None:
        """End a session whose threads share cores if it needs more than its budget."""
        budget_s = self.settings.budget_s
        if self.crowding and least_s > LATE * budget_s:
            raise OfaError(
                f"{self.crowding}; otherwise this takes more than {least_s:.0f} s, beyond --budget-s {budget_s:g}"
            )

    # ---- units -----------------------------------------------------------------------------------------------------

    def _unit(self, process: int, chunk: int, n_rounds: int) -> None:
        """Make the visits of one chunk in one fresh process that the journal lacks."""
        items, visitor = self.plan.chunks[chunk], self._visitor
        todo = deque(
            (round_, item)
            for round_ in range(n_rounds)
            for item in visitor.rng(process, chunk, round_).permutation(items).tolist()
            if (process, chunk, round_, item) not in self.journal.state.visits
        )
        self._state.done += n_rounds * len(items) - len(todo)
        pilot = self.journal.state.pilot
        assert pilot is not None
        loaded = False
        unsure: list[tuple[int, int]] = []  # visits since the last look at the device's temperature
        while todo:
            round_, item = todo.popleft()
            if visitor.is_given_up(item):
                self._report("measure", item)
                continue
            if not loaded:
                visitor.start(visitor.remaining(items), visitor.rng(process, chunk, -1))
            outcome = visitor.visit(item, N_DISCARDED + int(pilot["repeats"][item]), visitor.remaining(items))
            loaded = True
            if outcome is None:
                continue
            self._record((process, chunk, round_, item), outcome)
            unsure.append((round_, item))
            if self.heat is not None and (not todo or self.clock() - self._looked >= LOOK_EVERY_S):
                todo.extend(self._void_if_hot(process, chunk, unsure, self.heat))
                unsure = []

    def _record(self, key: tuple[int, int, int, int], outcome: Outcome) -> None:
        """Write a visit to the journal and report it."""
        result = outcome.result
        visit = VisitRecord(
            *key,
            tuple(result.wall_ns.tolist()), tuple(result.cpu_ns.tolist()), tuple(result.switches.tolist()),
            outcome.before, outcome.after, (result.inner, outcome.probe_inner),
        )  # fmt: skip
        self.journal.write(visit.to_json())
        state, runs_ns = self._state, result.wall_ns[N_DISCARDED:]
        first, middle, third = (float(value) for value in np.percentile(runs_ns, [25, 50, 75]))
        self._probe_ns.append(visit.after[0])
        state.timed_s += visit.timed_s(PROBE_RUNS[1])
        state.last_ms, state.last_spread = middle / 1e6, (third - first) / middle
        state.speed = median(self._probe_ns) / visit.after[0]
        self._report("measure", visit.item)

    def _void_if_hot(
        self, process: int, chunk: int, unsure: list[tuple[int, int]], heat: HeatGuard
    ) -> list[tuple[int, int]]:
        """If the device was throttled, void the visits since the last look, wait, and return them to be made again."""
        self._looked = self.clock()
        is_cool = heat.stayed_cool()
        self._state.temperature_c = heat.temperature_c
        if is_cool or self._n_voids >= MAX_VOIDS:
            return []
        self._n_voids += 1
        self.journal.write({"void": [[process, chunk, round_, item] for round_, item in unsure]})
        self._state.done -= len(unsure)
        heat.cool_down()
        self._looked = self.clock()
        self._visitor.unload_all()
        return unsure

    def _redo_if_drifted(self, process: int, chunk: int, n_rounds: int, took_s: float) -> None:
        """Measure a unit again if its anchors drifted, and if all units to come still end within the budget."""
        redone = self.journal.state.redone
        if (process, chunk) in redone or len(redone) >= MAX_REDOS:
            return
        n_chunks = len(self.plan.chunks)
        n_left = n_chunks * self.settings.n_processes - (process * n_chunks + chunk)  # with this one again
        if self.clock() - self._started + n_left * took_s > LATE * self.settings.budget_s:
            return
        samples = samples_of(self.journal.state.visits.values(), "wall")
        if not samples:
            return
        offset, error = unit_offsets(samples, self.plan.anchors, reference_probe_ns(samples)).get(
            (process, chunk), (0.0, 0.0)
        )
        if abs(offset) > MAX_DRIFT + 2 * error:
            self.journal.write({"redo": [process, chunk]})
            self._state.done -= n_rounds * len(self.plan.chunks[chunk])
            self._unit(process, chunk, n_rounds)

    # ---- progress --------------------------------------------------------------------------------------------------

    def _report_load(self, item: int) -> None:
        self._report("pilot" if self._state.phase == "pilot" else "load", item)

    def _report(self, phase: str, item: int) -> None:
        state = self._state
        state.phase, state.what = phase, self.plan.items[item].label
        state.done += phase == "measure"
        state.n_failed = sum(len(errors) >= MAX_TRIES for errors in self.journal.state.failures.values())
        now = self.clock()
        state.elapsed_s = now - self._started
        if phase == "measure" and self._measuring_since is None:
            self._measuring_since, self._n_before = now, state.done
        if self._measuring_since is not None and state.done > self._n_before:
            per_visit_s = (now - self._measuring_since) / (state.done - self._n_before)
            state.left_s = per_visit_s * (state.total - state.done)
        self.progress(state)
