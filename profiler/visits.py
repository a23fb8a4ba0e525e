"""Make visits through an agent, and go on with a fresh agent after a crash or a lost connection.

Items are loaded together with the speed probe, which runs after every visit. A failed load or visit is written to the
journal; an item that fails `MAX_TRIES` times is given up, so that one bad model costs only itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from devices.errors import DeviceUnreachableError
from profiler.estimation import N_DISCARDED
from profiler.journal import Journal, fail_event
from profiler.model_files import ModelStore
from profiler.plan import PROBE, PROBE_RUNS, BlockItem, Plan
from profiler.runner import JobError, Result, Runner, RunnerError, Visit
from profiler.settings import Settings

__all__ = ["MAX_TRIES", "Outcome", "Visitor"]

MAX_TRIES = 3  # per item
MAX_LOST = 5  # lost connections without a visit in between before the device is given up


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one visit.

    Attributes:
        result: times of the item's runs.
        before: wall and CPU nanoseconds of the probe before the visit.
        after: the same after it.
        probe_inner: inferences of one timed run of the probe.
    """

    result: Result
    before: tuple[int, int]
    after: tuple[int, int]
    probe_inner: int

    @property
    def probe_run_ms(self) -> float:
        """Milliseconds of one timed run of the probe after the visit."""
        return self.after[0] * self.probe_inner / 1e6


@dataclass
class Visitor:
    """Loads the items of a plan into fresh agents and visits them.

    Attributes:
        plan: the items.
        runner: an open runner.
        models: source of the model files.
        journal: receives every failure.
        settings: threads, cores and seed.
        on_load: called after each item is loaded or given up.
        clock: monotonic clock, in seconds.
        load_s: seconds of the last `start`.
    """

    plan: Plan
    runner: Runner
    models: ModelStore
    journal: Journal
    settings: Settings
    on_load: Callable[[int], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    load_s: float = field(default=0.0, init=False)
    _handles: dict[int, int] = field(default_factory=dict, init=False)
    _probe: int = field(default=-1, init=False)
    _before: tuple[int, int] = field(default=(0, 0), init=False)
    _n_lost: int = field(default=0, init=False)

    def visit(self, item: int, runs: int, reload: Iterable[int]) -> Outcome | None:
        """Visit an item and run the probe after it. Try until it works; return None if the item is given up.

        Args:
            item: index of the item.
            runs: number of runs, the discarded ones included.
            reload: items to load again if a fresh agent is needed.
        """
        while not self.is_given_up(item):
            if item not in self._handles:
                self.start(list(reload), self.rng(98, item))
                continue
            try:
                result, probe = self.runner.run([Visit(self._handles[item], 0, runs), Visit(self._probe, *PROBE_RUNS)])
            except RunnerError as error:
                is_probe = len(error.completed) == 1
                self._fail(item, f"the probe after it: {error}" if is_probe else str(error))
                if not isinstance(error, JobError):
                    self._handles.clear()
                continue
            except DeviceUnreachableError as error:
                self._lose(error)
                continue
            self._n_lost = 0
            before, self._before = self._before, _probe_time(probe)
            return Outcome(result, before, self._before, probe.inner)
        return None

    def start(self, items: list[int], rng: np.random.Generator) -> None:
        """Start a fresh agent; load the probe, and the items that are not given up in random order.

        Raises:
            RunnerError: if the agent cannot run the speed probe, or no agent can be started.
            DeviceError: if the connection to the device is lost.
        """
        order = rng.permutation(items).tolist() if items else []
        started = self.clock()
        paths = {item: self.models.path(self.plan.items[item]) for item in order}
        for _ in range(MAX_TRIES * len(order) + 2):
            self._handles.clear()
            self.runner.open()
            try:
                self._probe = self._load(self.models.path(BlockItem(PROBE)))
                if self._load_all(order, paths):
                    self._before = _probe_time(self.runner.run([Visit(self._probe, N_DISCARDED, PROBE_RUNS[1])])[0])
                    break
            except JobError as error:
                raise RunnerError(f"the agent cannot run the speed probe: {error}") from error
            except DeviceUnreachableError as error:
                self._lose(error)
            order = self.remaining(order)
        self.load_s = self.clock() - started

    def unload_all(self) -> None:
        """Make the next visit start a fresh agent, and so a fresh probe."""
        self._handles.clear()

    def is_given_up(self, item: int) -> bool:
        """Return True if an item has failed too often."""
        return len(self.journal.state.failures.get(item, ())) >= MAX_TRIES

    def remaining(self, items: Iterable[int]) -> list[int]:
        """Return the items that are not given up."""
        return [item for item in items if not self.is_given_up(item)]

    def rng(self, *keys: int) -> np.random.Generator:
        """Return the random generator of the session's seed and some keys."""
        return np.random.default_rng([self.settings.seed, *(key % 2**32 for key in keys)])

    def _load_all(self, order: Iterable[int], paths: dict[int, Path]) -> bool:
        """Load items in order; return False if the agent ended and a fresh one must start over."""
        for item in order:
            while not self.is_given_up(item):
                try:
                    self._handles[item] = self._load(paths[item])
                    break
                except JobError as error:
                    self._fail(item, str(error))
                except RunnerError as error:
                    self._fail(item, str(error))
                    return False
            self.on_load(item)
        return True

    def _load(self, path: Path) -> int:
        return self.runner.load(path, threads=self.settings.threads, cpus=self.settings.cpus)

    def _fail(self, item: int, error: str) -> None:
        self.journal.write(fail_event(item, f"{self.plan.items[item].label}: {error}"))

    def _lose(self, error: DeviceUnreachableError) -> None:
        """Handle a lost connection without counting it as a failure of an item; the next agent connects again."""
        self._handles.clear()
        self._n_lost += 1
        if self._n_lost > MAX_LOST:
            raise error


def _probe_time(result: Result) -> tuple[int, int]:
    return int(np.median(result.wall_ns)), int(np.median(result.cpu_ns))
