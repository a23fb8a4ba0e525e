"""Progress bars and accuracy tables of `ofa-train`."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ofa_core.train.distributed import Process
    from ofa_core.train.evaluation import Accuracy
    from ofa_core.train.int8 import Comparison
    from ofa_core.train.run import Events

__all__ = ["events_of", "print_accuracies", "print_results", "progress", "stop_on_sigterm", "warn_of_chance"]

_log = logging.getLogger(__name__)


@contextmanager
def progress(shown: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar per task on stderr; on a stderr that is no terminal, one line at the end of each task."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ofa_core.terminal import console as plain_console

    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    note_column = TextColumn("{task.fields[note]}", markup=False)
    bar = Progress(*columns, note_column, console=console, disable=not shown or not console.is_terminal)
    tasks: dict[str, Any] = {}

    def update(name: str, done: int, total: int, note: str = "") -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=total, note=note)
        bar.update(tasks[name], completed=done, total=total, note=note)
        if shown and not console.is_terminal and done >= total:
            _log.info("%s", f"{name}: {done} of {total} {note}".rstrip())

    with bar:
        yield update


def print_results(rows: Sequence[tuple[str, Accuracy | Comparison]], labels: NDArray[Any], process: Process) -> None:
    """Print accuracies; a comparison as a line for each dtype, and how often both choose the same class."""
    from ofa_core.train.int8 import Comparison

    shown: list[tuple[str, Accuracy]] = []
    notes = []
    for name, result in rows:
        if isinstance(result, Comparison):
            shown += [(f"{name} fp32", result.fp32), (f"{name} int8", result.int8)]
            notes.append(f"{name}: {result.text}\n")
        else:
            shown.append((name, result))
    print_accuracies(shown, labels, process)
    if process.is_root:
        sys.stdout.writelines(notes)


def print_accuracies(rows: Sequence[tuple[str, Accuracy]], labels: NDArray[Any], process: Process) -> None:
    """Print a table on stdout, one sub-net per line; `labels` are those of the images."""
    if not process.is_root:
        return
    width = max(len("sub-net"), *(len(name) for name, _ in rows))
    sys.stdout.write(f"{'sub-net':{width}}  top-1 %  top-5 %    loss  images\n")
    for name, a in rows:
        sys.stdout.write(f"{name:{width}}  {a.top1:7.2f}  {a.top5:7.2f}  {a.loss:6.3f}  {a.n_images:6d}\n")
    warn_of_chance([a for _, a in rows], labels, process)


def warn_of_chance(accuracies: Sequence[Accuracy], labels: NDArray[Any], process: Process) -> None:
    """Warn of accuracies that are no better than chance, with the usual causes."""
    from ofa_core.train.evaluation import chance_top1, is_chance

    chance = chance_top1(labels)
    n = sum(is_chance(a, chance) for a in accuracies)
    if n and process.is_root:
        subject = "the accuracy is" if len(accuracies) == 1 else f"{n} of {len(accuracies)} accuracies are"
        _log.warning(
            "%s no better than chance (%.2f %% top-1); usual causes: --preprocessing or the order of the classes "
            "differs from training, the weights belong to another network or activation, batch norm is not "
            "calibrated, or the network is not trained",
            subject,
            chance,
        )


@contextmanager
def events_of(process: Process, stop: Callable[[], bool] = lambda: False) -> Iterator[Events]:
    """Show the progress of each phase on stderr."""
    from ofa_core.train.run import Events

    total = 1
    with progress(process.is_root) as bar:

        def start(phase: Any, step: int, n_steps: int) -> None:
            nonlocal total
            total = n_steps
            bar(phase.name, step, n_steps)

        def after(step: Any) -> None:
            bar(step.phase, step.index + 1, total, f"loss {step.loss:.3f} top-1 {step.top1:.1f} %")

        yield Events(start=start, step=after, stop=stop)


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Return a function that is True once SIGTERM has arrived, so that training stops after a checkpoint."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
