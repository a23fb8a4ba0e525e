"""A measuring session: pilot, then complete shuffled rounds in fresh agent processes, all of it journalled.

One *unit* is one chunk of items in one fresh process. A unit loads its items in random order, then makes `n_rounds`
rounds; each round visits every item once, in an order of its own, with the speed probe between any two visits. Which
visits there are is fixed by the pilot, before any of them is made: nothing stops early because it looks good. A
session that was interrupted goes on with the visits that its journal lacks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from devices.errors import DeviceUnreachableError
from ofa_core.errors import OfaError
from profiler.estimation import N_DISCARDED, reference_probe_ns, samples_of, unit_offsets
from profiler.journal import Journal, VisitRecord, fail_event
from profiler.model_files import ModelStore
from profiler.plan import PROBE, PROBE_RUNS, BlockItem, Plan
from profiler.runner import JobError, Result, Runner, RunnerError, Visit

__all__ = ["HeatGuard", "Progress", "Session", "Settings"]

MAX_TRIES = 3  # per item
MAX_DRIFT = 0.03  # of the anchors of one unit, beyond its error: more, and the unit is measured again
MAX_REDOS = 2  # in one session
LATE = 1.1  # a unit is measured again only if the session is then over within that many times its budget
MAX_LOST = 5  # connections that break without a visit in between: more, and the device is given up
LOOK_EVERY_S = 20.0  # at the device's heat
MAX_VOIDS = 5  # times that visits are voided for heat, in one session
PILOT_RUNS = N_DISCARDED + 3
SLOWER_THAN_PILOT = 1.15  # cold first runs, and a machine that is not always as fast as in the pilot: the budget holds


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes:
        n_processes: fresh processes, at least 3.
        budget_s: seconds for the whole session, loading included.
        threads: threads of one inference.
        cpus: cores to pin to; None leaves it to the system.
        seed: of all orders.
        min_visit_ms: a visit's counted runs take at least this long, so that short blocks are run more often.
        min_repeats: counted runs of a visit, at least.
        max_repeats: at most.
        min_rounds: rounds per unit, however small the budget.
        max_rounds: rounds per unit, however large the budget.
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


class HeatGuard(Protocol):
    """Watches the device's heat; see `profiler.cooling.Cooling`."""

    def stayed_cool(self) -> bool:
        """Whether heat has not slowed the device down since the last look."""

    def cool_down(self) -> float:
        """Wait for it to cool, not for ever."""


@dataclass(slots=True)
class Progress:
    """Where a session stands; handed to a callback after every visit.

    Attributes:
        phase: `pilot`, `load` or `measure`.
        done: visits made, earlier sessions included.
        total: visits there will be; 0 while the pilot does not know.
        what: label of the item at hand.
        n_failed: items given up.
        timed_s: seconds of timed inference so far.
        elapsed_s: seconds since the first load.
    """

    phase: str = "pilot"
    done: int = 0
    total: int = 0
    what: str = ""
    n_failed: int = 0
    timed_s: float = 0.0
    elapsed_s: float = 0.0


@dataclass
class Session:
    """Measures a plan through a runner into a journal.

    Attributes:
        plan: what to measure.
        runner: how jobs are run.
        models: where model files come from.
        journal: where every visit goes, and what earlier sessions did.
        settings: how.
        progress: called after every visit.
        clock: seconds, monotonic.
        heat: watches the device's heat, if it tells; visits while it was throttled are made again.
        crowding: what to do about more threads than cores. A session with them ends when the pilot shows that it cannot
            keep the budget.
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
    _handles: dict[int, int] = field(default_factory=dict, init=False)
    _probe: int = field(default=-1, init=False)
    _probe_inner: int = field(default=1, init=False)
    _before: tuple[int, int] = field(default=(0, 0), init=False)
    _state: Progress = field(default_factory=Progress, init=False)
    _started: float = field(default=0.0, init=False)
    _load_s: float = field(default=0.0, init=False)
    _n_lost: int = field(default=0, init=False)
    _n_voids: int = field(default=0, init=False)
    _looked: float = field(default=0.0, init=False)

    def run(self) -> None:
        """Measure all that the journal lacks.

        Raises:
            DeviceError: if the device is lost, or no agent can be started on it.
            OfaError: if threads that share cores make it longer than the budget.
        """
        if self.heat is not None:
            self.heat.cool_down()
        self._started = self._looked = self.clock()
        if self.journal.state.pilot is None:
            self._pilot()
        pilot = self.journal.state.pilot
        assert pilot is not None
        n_rounds = int(pilot["n_rounds"])
        self._state.total = n_rounds * self.settings.n_processes * sum(len(c) for c in self.plan.chunks)
        for process in range(self.settings.n_processes):
            for chunk in range(len(self.plan.chunks)):
                begin = self.clock()
                self._unit(process, chunk, n_rounds)
                self._redo_if_drifted(process, chunk, n_rounds, self.clock() - begin)

    # ---- pilot -----------------------------------------------------------------------------------------------------

    def _pilot(self) -> None:
        """Visit each item once, shortly, and fix repeats and rounds from what that took."""
        ms: dict[int, float] = {}  # of one inference
        run_ms: dict[int, float] = {}  # of one timed run, which is several inferences where a CUDA graph holds them
        probe_run_ms = 0.0
        n_loads, load_s = 0, 0.0
        around_s: list[float] = []  # of a visit: round trips, and what the agent does besides inference
        for chunk in self.plan.chunks:
            todo = [i for i in chunk if i not in ms]
            self._open_and_load(todo, self._rng(99, 0), "pilot")
            n_loads, load_s = n_loads + len(todo), load_s + self._load_s
            for item in self._rng(99, 1).permutation(todo).tolist():
                begin = self.clock()
                result = self._try(item, PILOT_RUNS, todo)
                if result is not None:
                    visit, probe = result[0], result[2]
                    ms[item] = float(np.median(visit.wall_ns[N_DISCARDED:])) / 1e6
                    run_ms[item] = ms[item] * visit.inner
                    probe_run_ms = probe[0] * self._probe_inner / 1e6
                    timed_s = visit.timed_ns / 1e9 + sum(PROBE_RUNS) * probe_run_ms / 1e3
                    around_s.append(self.clock() - begin - timed_s)
                self._report("pilot", item)
                self._keep_budget(self.clock() - self._started)
        s = self.settings
        repeats = [
            int(np.clip(np.ceil(s.min_visit_ms / max(run_ms.get(i, 1e9), 1e-6)), s.min_repeats, s.max_repeats))
            for i in range(len(self.plan.items))
        ]
        probe_ms = 1.2 * sum(PROBE_RUNS) * probe_run_ms
        more_ms = probe_ms + 1e3 * (max(float(np.median(around_s or [0.0])), 0.0) + self.journal.line_s())
        round_s = (
            sum((repeats[i] + N_DISCARDED) * run_ms[i] + more_ms for c in self.plan.chunks for i in c if i in ms) / 1e3
        )
        load_s = load_s / max(n_loads, 1) * sum(len(c) for c in self.plan.chunks) + 0.5 * len(self.plan.chunks)
        pilot_s = self.clock() - self._started
        self._keep_budget(pilot_s + s.n_processes * (load_s + s.min_rounds * round_s))
        rounds = ((s.budget_s - pilot_s) / s.n_processes - load_s) / max(round_s, 1e-6)
        rounds /= SLOWER_THAN_PILOT
        n_rounds = int(np.clip(rounds, s.min_rounds, s.max_rounds))
        self.journal.write(
            {"pilot": {"repeats": repeats, "n_rounds": n_rounds, "ms": [ms.get(i) for i in range(len(repeats))]}}
        )

    def _keep_budget(self, least_s: float) -> None:
        """End a session whose threads share cores if even the least of it takes longer than the budget."""
        budget_s = self.settings.budget_s
        if self.crowding and least_s > LATE * budget_s:
            raise OfaError(
                f"{self.crowding}; as it is, this takes more than {least_s:.0f} s, beyond --budget-s {budget_s:g}"
            )

    # ---- units -----------------------------------------------------------------------------------------------------

    def _unit(self, process: int, chunk: int, n_rounds: int) -> None:
        items = self.plan.chunks[chunk]
        todo = deque(
            (round_, item)
            for round_ in range(n_rounds)
            for item in self._rng(process, chunk, round_).permutation(items).tolist()
            if (process, chunk, round_, item) not in self.journal.state.visits
        )
        self._state.done += n_rounds * len(items) - len(todo)
        pilot = self.journal.state.pilot
        assert pilot is not None
        loaded = False
        unsure: list[tuple[int, int]] = []  # made since the last look at the device's heat
        while todo:
            round_, item = todo.popleft()
            if self._given_up(item):
                self._report("measure", item)
                continue
            if not loaded:
                self._open_and_load(self._wanted(items), self._rng(process, chunk, -1), "load")
            outcome = self._try(item, N_DISCARDED + int(pilot["repeats"][item]), self._wanted(items))
            loaded = True
            if outcome is None:
                continue
            result, before, after = outcome
            visit = VisitRecord(
                process, chunk, round_, item,
                tuple(result.wall_ns.tolist()), tuple(result.cpu_ns.tolist()), tuple(result.switches.tolist()),
                before, after, (result.inner, self._probe_inner),
            )  # fmt: skip
            self.journal.write(visit.to_json())
            self._state.timed_s += visit.timed_s(PROBE_RUNS[1])
            self._report("measure", item)
            unsure.append((round_, item))
            if self.heat is not None and (not todo or self.clock() - self._looked >= LOOK_EVERY_S):
                todo.extend(self._spoilt(process, chunk, unsure, self.heat))
                unsure = []

    def _spoilt(
        self, process: int, chunk: int, unsure: list[tuple[int, int]], heat: HeatGuard
    ) -> list[tuple[int, int]]:
        """Look at the device's heat; if it was too hot, void the visits since the last look, wait, and return them."""
        self._looked = self.clock()
        if heat.stayed_cool() or self._n_voids >= MAX_VOIDS:
            return []
        self._n_voids += 1
        self.journal.write({"void": [[process, chunk, round_, item] for round_, item in unsure]})
        self._state.done -= len(unsure)
        heat.cool_down()
        self._looked = self.clock()
        self._handles.clear()  # a fresh agent, and a fresh probe before the first visit
        return unsure

    def _redo_if_drifted(self, process: int, chunk: int, n_rounds: int, took_s: float) -> None:
        """Measure a unit once more if its anchors say that the device was another one then, and there is time for it.

        There is if all units to come, which take as long, end within the budget all the same.
        """
        redone = self.journal.state.redone
        if (process, chunk) in redone or len(redone) >= MAX_REDOS:
            return
        n_chunks = len(self.plan.chunks)
        n_left = n_chunks * self.settings.n_processes - (process * n_chunks + chunk)  # this one again, and the others
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

    # ---- jobs ------------------------------------------------------------------------------------------------------

    def _try(
        self, item: int, runs: int, reload: Iterable[int]
    ) -> tuple[Result, tuple[int, int], tuple[int, int]] | None:
        """One visit and the probe after it, tried until it works or the item is given up.

        After an error the agent is fresh and holds all of `reload` that is not given up.
        """
        while not self._given_up(item):
            if item not in self._handles:
                phase = "pilot" if self._state.phase == "pilot" else "load"  # only visits count as done
                self._open_and_load(list(reload), self._rng(98, item), phase)
                continue
            try:
                result, probe = self.runner.run([Visit(self._handles[item], 0, runs), Visit(self._probe, *PROBE_RUNS)])
            except RunnerError as error:
                if len(error.completed) == 1:  # the probe after the visit failed: nobody is to blame, but try again
                    self._blame(item, f"the probe after it: {error}")
                else:
                    self._blame(item, str(error))
                if not isinstance(error, JobError):
                    self._handles.clear()
                continue
            except DeviceUnreachableError as error:
                self._lost(error)
                continue
            self._n_lost = 0
            before, self._before = self._before, _probe_time(probe)
            self._probe_inner = probe.inner
            return result, before, self._before
        return None

    def _open_and_load(self, items: list[int], rng: np.random.Generator, phase: str) -> None:
        """Start a fresh agent and load the probe and `items` in random order, without those that cannot be loaded."""
        order = rng.permutation(items).tolist() if items else []
        started = self.clock()
        paths = {item: self.models.path(self.plan.items[item]) for item in order}
        for _ in range(MAX_TRIES * len(order) + 2):
            self._handles.clear()
            self.runner.open()
            try:
                self._probe = self._load(self.models.path(BlockItem(PROBE)))
                if self._load_all(order, paths, phase):
                    self._before = _probe_time(self.runner.run([Visit(self._probe, N_DISCARDED, PROBE_RUNS[1])])[0])
                    break
            except JobError as error:
                raise RunnerError(f"the agent cannot run the speed probe: {error}") from error
            except DeviceUnreachableError as error:
                self._lost(error)
            order = [item for item in order if not self._given_up(item)]
        self._load_s = self.clock() - started

    def _load_all(self, order: Iterable[int], paths: dict[int, Any], phase: str) -> bool:
        """Load one after another; False if the agent is gone and a fresh one has to start over."""
        for item in order:
            while not self._given_up(item):
                try:
                    self._handles[item] = self._load(paths[item])
                    break
                except JobError as error:
                    self._blame(item, str(error))
                except RunnerError as error:
                    self._blame(item, str(error))
                    return False
            self._report(phase, item)
        return True

    def _lost(self, error: DeviceUnreachableError) -> None:
        """The connection broke in the middle: nobody's fault. A fresh agent connects again, or says it cannot."""
        self._handles.clear()
        self._n_lost += 1
        if self._n_lost > MAX_LOST:
            raise error

    def _load(self, path: Any) -> int:
        return self.runner.load(path, threads=self.settings.threads, cpus=self.settings.cpus)

    def _blame(self, item: int, error: str) -> None:
        self.journal.write(fail_event(item, f"{self.plan.items[item].label}: {error}"))

    def _given_up(self, item: int) -> bool:
        return len(self.journal.state.failures.get(item, ())) >= MAX_TRIES

    def _wanted(self, items: Iterable[int]) -> list[int]:
        return [item for item in items if not self._given_up(item)]

    def _rng(self, *keys: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, *(key % 2**32 for key in keys)])

    def _report(self, phase: str, item: int) -> None:
        state = self._state
        state.phase, state.what = phase, self.plan.items[item].label
        state.done += phase == "measure"
        state.n_failed = sum(len(errors) >= MAX_TRIES for errors in self.journal.state.failures.values())
        state.elapsed_s = self.clock() - self._started
        self.progress(state)


def _probe_time(result: Result) -> tuple[int, int]:
    return int(np.median(result.wall_ns)), int(np.median(result.cpu_ns))
