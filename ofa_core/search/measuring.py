"""Close the loop of a search on a device: measure its candidates and correct the prediction with the measurements.

The rounds hand measurements on in memory. Every session is also stored as it is measured: its visits and the rounds in
journals beside the table, its networks in the table's networks file. So a killed search loses at most one visit, and
the same command continues from the journals.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ofa_core.arch import Arch
from ofa_core.context import Context
from ofa_core.errors import OfaError
from ofa_core.jsonlines import append_line, set_aside
from ofa_core.lock import only_one
from ofa_core.measured_networks import Network
from ofa_core.search.closed_loop import N_NEW, LoopResult, LoopSteps, close_loop
from ofa_core.search.console import progress, round_line
from ofa_core.search.problem import MeasuredNet, Problem
from ofa_core.search.quantity import Quantity, latency_quantity
from ofa_core.search.rounds import Rounds
from ofa_core.search.shared_loop import LoopDevice, close_shared_loop
from ofa_core.search.steps import LatencySource, make_search
from ofa_core.space import Space
from ofa_core.space_record import space_fields
from ofa_core.table import LatencyTable
from predictors.filling import filled_table
from predictors.loading import LatencyFile
from profiler.device_run import introduce
from profiler.launch import Launch, launch_again, target_of
from profiler.plan import NetworkItem
from profiler.remeasure import remeasure, remeasure_path, spec_in_context
from profiler.runner import Runner
from profiler.settings import Progress, Settings
from profiler.verify import N_STATE, VerifySpec, verify

__all__ = ["Measuring", "end_rounds", "forget", "loop_on_device", "loop_on_devices", "rounds_path"]

N_PROCESSES = 4  # fresh processes in which the loop measures a network
MEASURE_S_PER_NET = 3.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measuring:
    """Settings of the measurements in the closed loop.

    Attributes:
        lut: file of the prediction.
        target: device, as the user names it.
        options: how to start its agent.
        seed: seed of the search and of the orders in a session.
        budget_s: seconds of each session; None for 3 per network.
        fresh: set the journals of an interrupted search aside.
        fill: estimate blocks that the table lacks.
    """

    lut: Path
    target: str
    options: Launch
    seed: int
    budget_s: float | None
    fresh: bool = False
    fill: bool = False

    def settings(self, n_networks: int) -> Settings:
        """Return the settings of a session."""
        budget_s = self.budget_s or MEASURE_S_PER_NET * (n_networks + N_STATE)
        return Settings(budget_s=budget_s, seed=self.seed, n_processes=N_PROCESSES)


@dataclass
class _Table:
    """A table and its whole networks, read once; the loop's measurements are added to the networks."""

    space: Space
    fill: bool
    path: Path
    table: LatencyTable
    networks: list[Network]

    @classmethod
    def read(cls, how: Measuring, space: Space) -> _Table | None:
        """Read a table and the networks beside it; None for a file of another kind.

        The kind of the file decides, and not the kind of predictor: whether sums of blocks predict latencies depends
        on the networks, which the loop adds to, and a resumed loop must measure as the first one did.
        """
        content = LatencyFile.read(how.lut).content
        return cls(space, how.fill, how.lut, *content) if isinstance(content, tuple) else None

    def add(self, networks: Sequence[Network]) -> None:
        """Add measured networks; those of a resumed session may be there already."""
        self.networks += [network for network in networks if network not in self.networks]

    def latency(self) -> LatencySource:
        """Return the latency, fitted to all networks."""
        return LatencyFile(self.path, (self.table, self.networks)).predictor(self.space, fill=self.fill, warn=False)

    def quantity(self) -> Quantity:
        """Return the latency as a quantity."""
        return latency_quantity(self.latency())


def loop_on_device(
    problem: Problem, latency: LatencySource, how: Measuring, asked: Mapping[str, Any]
) -> tuple[LoopResult, LatencySource]:
    """Search, measure on the device and correct until the measured winner meets the limit.

    Args:
        problem: problem whose first limit is the latency.
        latency: latency predictor.
        how: how to measure.
        asked: further options that identify the search.

    Returns:
        The result, and the latency predictor: a table is calibrated with the measurements too.

    Raises:
        OfaError: if the file does not hold how to measure.
        InUseError: if another command uses the file.
        ContextMismatchError: if the journal of another search lies beside the file.
        InfeasibleConstraintError: if no measured network meets the limit.
    """
    with contextlib.ExitStack() as stack:
        session = _opened(stack, problem, latency, how, asked)
        steps = LoopSteps(make_search(how.seed), session.measure, session.refit)
        limit_ms = problem.constraints[0].limit
        loop = close_loop(
            problem,
            steps,
            rounds=session.rounds,
            on_round=lambda number, result, trials: _log.info(round_line(number, result, trials, limit_ms)),
        )
    return loop, session.latency(latency)


def loop_on_devices(
    problem: Problem, latencies: Sequence[LatencySource], hows: Sequence[Measuring], asked: Mapping[str, Any]
) -> tuple[list[LoopResult], list[LatencySource]]:
    """Search for one network, measure it on every device and correct until it meets the limit of each.

    Args:
        problem: its first limits are the latencies of the devices, in their order.
        latencies: latency predictors of the devices.
        hows: how to measure on each.
        asked: further options that identify the search.

    Returns:
        The result of each device, and the latency predictors; tables are calibrated with the measurements too.

    Raises:
        As `loop_on_device`.
    """
    with contextlib.ExitStack() as stack:
        sessions = [_opened(stack, problem, latency, how, asked) for latency, how in zip(latencies, hows, strict=True)]
        limits_ms = {s.how.lut.name: c.limit for s, c in zip(sessions, problem.constraints, strict=False)}
        devices = [LoopDevice(s.how.lut.name, s.measure, s.refit, s.rounds) for s in sessions]
        loops = close_shared_loop(
            problem,
            devices,
            make_search(hows[0].seed),
            on_round=lambda number, name, result, trials: _log.info(
                "%s: %s", name, round_line(number, result, trials, limits_ms[name])
            ),
        )
    return loops, [session.latency(latency) for session, latency in zip(sessions, latencies, strict=True)]


def _opened(
    stack: contextlib.ExitStack, problem: Problem, latency: LatencySource, how: Measuring, asked: Mapping[str, Any]
) -> _Session:
    """Lock the file, open the journal and start the agent of one device; the stack closes them."""
    context = _context(latency, how.lut)
    about = {
        **space_fields(problem.space),
        "limit_ms": problem.constraints[0].limit,
        "seed": how.seed,
        "context": asdict(context),
        **asked,
    }
    stack.enter_context(only_one(how.lut))
    rounds = _rounds(how, problem.space, about)
    table = _Table.read(how, problem.space)
    device, runner = launch_again(target_of(context.device, how.target), context, how.options)
    stack.enter_context(device)
    round_s = how.settings(N_NEW).budget_s
    introduce(context.device, runner, f"about {math.ceil(round_s / 60)} min a round")
    use = "corrects the prediction"
    if table is not None:
        use = f"is added to {how.lut.stem}.networks.csv and calibrates the table"
    _log.info("measuring on %s; every network measured %s", how.target, use)
    return _Session(problem.space, how, runner, context, table, rounds)


def _context(latency: LatencySource, lut: Path) -> Context:
    """Return how the networks of a file were measured."""
    if latency.lut is not None and lut.suffix.lower() not in (".csv", ".predictor"):
        raise OfaError(f"--measure needs a table that ofa-profile wrote (CSV), not {lut}")
    if latency.context is None:
        raise OfaError(
            f"--measure: {lut} does not say how its networks were measured; fit it to a file of ofa-profile, "
            "such as --nets writes"
        )
    return latency.context


def forget(lut: Path) -> None:
    """Remove the journals of a search whose result is written."""
    for path in (rounds_path(lut), remeasure_path(lut, "search")):
        path.unlink(missing_ok=True)


def end_rounds(lut: Path) -> None:
    """Record that the search has its answer; another search may then replace the journal of the rounds."""
    append_line(rounds_path(lut), {"done": True})


def rounds_path(lut: Path) -> Path:
    """Return the journal of the rounds: `<stem>.search.jsonl` beside the file of the prediction."""
    return lut.with_name(f"{lut.stem}.search.jsonl")


def _rounds(how: Measuring, space: Space, about: Mapping[str, Any]) -> Rounds:
    """Open the journal of the rounds; each session has a journal of its own besides."""
    path = rounds_path(how.lut)
    if how.fresh:
        for journal in (path, remeasure_path(how.lut, "search")):
            set_aside(journal)
    resumed = path.exists()
    rounds = Rounds(path, space, about)
    if resumed and rounds.n_sessions:
        _log.info("%s: continuing the interrupted search", path)
    return rounds


@dataclass(frozen=True)
class _Session:
    """Measures networks of one search on an open device."""

    space: Space
    how: Measuring
    runner: Runner
    context: Context
    table: _Table | None
    rounds: Rounds

    @property
    def refit(self) -> Callable[[], Quantity] | None:
        """The function that calibrates a table with all measurements; None if there is no table."""
        return None if self.table is None else self.table.quantity

    def latency(self, before: LatencySource) -> LatencySource:
        """Return the latency predictor after all measurements."""
        return before if self.table is None else self.table.latency()

    def measure(self, archs: Sequence[Arch]) -> list[MeasuredNet]:
        """Measure whole networks; those that failed are left out."""
        with progress(f"measure {len(archs)} networks") as news:

            def show(p: Progress) -> None:
                news(f"{p.phase} {p.done}{f' of {p.total}' if p.total else ''}, {p.elapsed_s:.0f} s")

            journal, settings = remeasure_path(self.how.lut, "search"), self.how.settings(len(archs))
            if self.table is None:
                spec = spec_in_context(self.context, self.space, settings)
                items = [NetworkItem(self.space, arch) for arch in archs]
                found = remeasure(spec, items, self.runner, journal, show).estimates
                upper = [(item.arch, e.latency_ms, e.latency_ms * (1 + e.half_width)) for item, e in found.items()]
            else:
                fill = filled_table if self.how.fill else None
                wanted = VerifySpec(self.space, archs, settings, role="reference", fill=fill)
                checks = verify(self.how.lut, wanted, self.runner, journal=journal, progress=show).checks
                self.table.add([check.network for check in checks])
                upper = [(check.network.arch, check.network.latency_ms, check.upper_ms) for check in checks]
        return [MeasuredNet(arch, ms, max(0.0, 2 * ms - high), high) for arch, ms, high in upper]
