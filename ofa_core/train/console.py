"""What `ofa-train` prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ofa_core.train.distributed import Process
    from ofa_core.train.evaluation import Accuracy

__all__ = ["print_accuracies", "progress", "warn", "warn_of_chance"]


@contextmanager
def progress(shown: bool) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, one line per task; nothing where stderr is no terminal but a line per task's end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ofa_core.terminal import console as plain_console

    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    note_column = TextColumn("{task.fields[note]}", markup=False)
    bar = Progress(*columns, note_column, console=console, disable=not shown or not console.is_terminal)
    tasks: dict[str, Any] = {}

    def update(name: str, done: int, wanted: int, note: str = "") -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(name, total=wanted, note=note)
        bar.update(tasks[name], completed=done, total=wanted, note=note)
        if shown and not console.is_terminal and done >= wanted:
            sys.stderr.write(f"{name}: {done} of {wanted} {note}".rstrip() + "\n")

    with bar:
        yield update


def warn(line: str) -> None:
    """Print a line on stderr."""
    sys.stderr.write(f"ofa-train: {line}\n")


def print_accuracies(rows: Sequence[tuple[str, Accuracy]], labels: NDArray[Any], process: Process) -> None:
    """Print a table on stdout: plain text, one sub-net per line; `labels` are those of the images."""
    if not process.is_root:
        return
    width = max(len("sub-net"), *(len(name) for name, _ in rows))
    sys.stdout.write(f"{'sub-net':{width}}  top-1 %  top-5 %    loss  images\n")
    for name, a in rows:
        sys.stdout.write(f"{name:{width}}  {a.top1:7.2f}  {a.top5:7.2f}  {a.loss:6.3f}  {a.n_images:6d}\n")
    warn_of_chance([a for _, a in rows], labels, process)


def warn_of_chance(accuracies: Sequence[Accuracy], labels: NDArray[Any], process: Process) -> None:
    """Say in one line on stderr that accuracies are no better than chance, with the usual causes."""
    from ofa_core.train.evaluation import chance_top1, is_chance

    chance = chance_top1(labels)
    n = sum(is_chance(a, chance) for a in accuracies)
    if n and process.is_root:
        which = "the accuracy is" if len(accuracies) == 1 else f"{n} of {len(accuracies)} accuracies are"
        warn(
            f"{which} no better than chance ({chance:.2f} % top-1); usual causes: another --preprocessing or order of "
            "the classes than in training, weights of another network or activation, batch norm that is not "
            "calibrated, or no training yet"
        )
