"""Close the loop of a search on a device: measure its candidates, and correct the prediction by what they took.

A search that is killed keeps its rounds, and the session at hand, beside the table, and goes on with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.jsonlines import set_aside
from ofa_core.lock import only_one
from ofa_core.search.closed_loop import LoopResult, close_loop
from ofa_core.search.console import progress, round_line, say
from ofa_core.search.problem import MeasuredNet
from ofa_core.search.rounds import Rounds
from ofa_core.search.steps import Searcher
from ofa_core.search.task import Task
from ofa_core.space import Space
from ofa_core.space_record import space_fields
from predictors.filling import filled_table
from predictors.loading import load_latency
from predictors.lut import LutPredictor
from profiler.backends import choice_of
from profiler.launch import Launch, launch, target_of
from profiler.plan import NetworkItem
from profiler.remeasure import remeasure, remeasure_path, spec_in_context
from profiler.runner import Runner
from profiler.settings import Progress, Settings
from profiler.verify import N_STATE, VerifySpec, verify

__all__ = ["Measuring", "forget", "loop_on_device", "rounds_path"]

N_PROCESSES = 4  # fresh processes in which the loop measures a network
MEASURE_S_PER_NET = 3.0


@dataclass(frozen=True)
class Measuring:
    """How the loop measures.

    Attributes:
        target: the device, as the user names it.
        options: how its agent is started.
        seed: of the search and of the orders in a session.
        budget_s: seconds of each session; None is 3 a network.
        fresh: set aside what an interrupted search kept.
    """

    target: str
    options: Launch
    seed: int
    budget_s: float | None
    fresh: bool = False


def loop_on_device(
    task: Task, lut: Path, limit_ms: float, run: Searcher, how: Measuring, asked: Mapping[str, Any]
) -> LoopResult:
    """Search, measure on the device, correct, and again.

    Args:
        task: what was asked; its prediction is read again in the end where the measurements went into the table.
        lut: the file of the prediction.
        limit_ms: the latency limit.
        run: the search.
        how: how to measure.
        asked: what else tells this search from another one.

    Raises:
        OfaError: if the file does not say how to measure.
        InUseError: if another command is at work on the file.
        ContextMismatchError: if an interrupted search for something else is kept beside it.
        InfeasibleConstraintError: if nothing that was measured keeps the limit.
    """
    context = task.latency.context
    is_table = isinstance(task.latency, LutPredictor)
    if is_table and lut.suffix.lower() != ".csv":
        raise OfaError(f"--measure needs a table that ofa-profile wrote (CSV), not {lut}")
    if context is None:
        raise OfaError(
            f"--measure: {lut} does not say how its networks were measured; fit it to a file of ofa-profile, "
            "such as --nets writes"
        )
    fate = f"goes into {lut.stem}.networks.csv and calibrates the table" if is_table else "corrects the prediction"
    fill = isinstance(task.latency, LutPredictor) and task.latency.fill
    about = {**space_fields(task.space), "limit_ms": limit_ms, "seed": how.seed, "context": asdict(context), **asked}
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_one(lut))
        rounds = _rounds(lut, task.space, about, how.fresh)
        device, runner = launch(target_of(context.device, how.target, say), choice_of(context), how.options)
        stack.enter_context(device)
        say(f"measuring on {how.target}; every network measured {fate}")
        try:
            loop = close_loop(
                task.space,
                task.latency,
                task.accuracy,
                limit_ms,
                search=run,
                measure=partial(_measure, task, lut, runner, how),
                refit=(lambda: load_latency(lut, task.space, fill=fill)) if is_table else None,
                rounds=rounds,
                on_round=lambda number, result, trials: say(round_line(number, result, trials, limit_ms)),
            )
        except InfeasibleConstraintError:
            forget(lut)  # this search has ended, too
            raise
        rounds.end()
    if is_table:
        task.latency = load_latency(lut, task.space, fill=fill)
    return loop


def forget(lut: Path) -> None:
    """Remove what an interrupted search would go on with: its result is written."""
    for path in (rounds_path(lut), remeasure_path(lut, "search")):
        path.unlink(missing_ok=True)


def rounds_path(lut: Path) -> Path:
    """Where an interrupted search is kept: `<stem>.search.jsonl` beside the file that it searched with."""
    return lut.with_name(f"{lut.stem}.search.jsonl")


def _rounds(lut: Path, space: Space, about: Mapping[str, Any], fresh: bool) -> Rounds:
    """The rounds of this search; each session has a journal of its own besides."""
    if fresh:
        for path in (rounds_path(lut), remeasure_path(lut, "search")):
            set_aside(path)
    resumed = rounds_path(lut).exists()
    rounds = Rounds(rounds_path(lut), space, about)
    if resumed and rounds.n_sessions:
        say(f"{rounds.path}: going on with the search that was interrupted")
    return rounds


def _measure(task: Task, lut: Path, runner: Runner, how: Measuring, archs: Sequence[Arch]) -> list[MeasuredNet]:
    budget_s = how.budget_s or MEASURE_S_PER_NET * (len(archs) + N_STATE)
    settings = Settings(budget_s=budget_s, seed=how.seed, n_processes=N_PROCESSES)
    journal = remeasure_path(lut, "search")
    with progress(f"measure {len(archs)} networks") as news:

        def show(p: Progress) -> None:
            news(f"{p.phase} {p.done}{f' of {p.total}' if p.total else ''}, {p.elapsed_s:.0f} s")

        if isinstance(task.latency, LutPredictor):
            fill = filled_table if task.latency.fill else None
            spec = VerifySpec(task.space, archs, settings, role="reference", fill=fill)
            checks = verify(lut, spec, runner, journal=journal, progress=show).checks
            upper = [(check.network.arch, check.network.latency_ms, check.upper_ms) for check in checks]
        else:
            assert task.latency.context is not None
            items = [NetworkItem(task.space, arch) for arch in archs]
            how_then = spec_in_context(task.latency.context, task.space, settings)
            found = remeasure(how_then, items, runner, journal, show).estimates
            upper = [(item.arch, e.latency_ms, e.latency_ms * (1 + e.half_width)) for item, e in found.items()]
    return [MeasuredNet(arch, ms, max(0.0, 2 * ms - high), high) for arch, ms, high in upper]
