"""The log of a run: a CSV row per step, TensorBoard scalars, and plots at the end."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ofa_core.atomic import atomic_path, naming, write_text
from ofa_core.errors import FormatError
from ofa_core.train.loop import Step

__all__ = ["COLUMNS", "Log", "open_log", "plot_log", "read_log", "write_phase"]

PHASE_COLUMNS = ("phase", "which", "arch", "top1", "loss")
_REMEDY = "move the file away to continue without it"
COLUMNS = ("n_steps", "phase", "step", "px", "lr", "loss", "top1", "n_images")


class Log:
    """An open log.

    Args:
        stream: the CSV file, positioned at its end.
        board: writer of TensorBoard; None without TensorBoard.
    """

    def __init__(self, stream: Any, board: Any) -> None:
        self._stream, self._board, self._path = stream, board, Path(stream.name)
        self._writer = csv.writer(stream, lineterminator="\n")

    def step(self, n_steps: int, step: Step) -> None:
        """Write one step."""
        row = (n_steps, step.phase, step.index, step.px, f"{step.lr:.8g}", f"{step.loss:.6f}", f"{step.top1:.4f}")
        with naming(self._path):
            self._writer.writerow((*row, step.n_images))
        if self._board is not None:
            for name, value in (("loss", step.loss), ("top1", step.top1), ("lr", step.lr)):
                self._board.add_scalar(f"train/{name}", value, n_steps)

    def scalar(self, name: str, value: float, n_steps: int) -> None:
        """Write a number to TensorBoard only."""
        if self._board is not None:
            self._board.add_scalar(name, value, n_steps)

    def flush(self) -> None:
        """Write buffered rows to the files."""
        with naming(self._path):
            self._stream.flush()
        if self._board is not None:
            self._board.flush()


@contextmanager
def open_log(folder: Path, n_steps: int, *, tensorboard: bool = True) -> Iterator[Log]:
    """Open the log of a run that has trained `n_steps`; drop rows of later steps, which will be trained again.

    Args:
        folder: of `log.csv` and `tensorboard/`.
        n_steps: steps trained so far.
        tensorboard: also write scalars for TensorBoard, if it is installed.
    """
    path = folder / "log.csv"
    kept = [row for row in read_log(path) if int(row["n_steps"]) <= n_steps] if n_steps else []
    lines = [",".join(COLUMNS), *(",".join(row[c] for c in COLUMNS) for row in kept)]
    write_text(path, "\n".join(lines) + "\n")
    board = _board(folder / "tensorboard", n_steps) if tensorboard else None
    stream = path.open("a", newline="", encoding="utf-8")
    try:
        yield Log(stream, board)
    finally:
        if board is not None:
            board.close()
        with naming(path):
            stream.close()


def _board(folder: Path, n_steps: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=n_steps + 1 if n_steps else None)


def read_log(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of `log.csv`; drop a torn last line.

    Raises:
        FormatError: for a file that is no log, with the line.
    """
    rows = _complete_rows(path, COLUMNS)
    for number, row in enumerate(rows, start=2):
        try:
            numbers = [int(row["n_steps"]), float(row["lr"]), float(row["loss"]), float(row["top1"])]
        except ValueError:
            numbers = [math.nan]
        if not all(math.isfinite(value) for value in numbers):
            raise FormatError(f"{path}, line {number}: finite numbers are expected; {_REMEDY}")
    return rows


def _complete_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file of ours, without a torn last line."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(), restkey="", restval=None)
    rows = list(reader)
    if reader.fieldnames is not None and tuple(reader.fieldnames) != tuple(columns):
        raise FormatError(f"{path}: its first line should be {','.join(columns)}; {_REMEDY}")
    for number, row in enumerate(rows, start=2):
        if None in row.values() or "" in row:
            raise FormatError(f"{path}, line {number}: {len(columns)} fields are expected; {_REMEDY}")
    return rows


def write_phase(path: Path, phase: str, which: str, arch: str, top1: float, loss: float) -> None:
    """Add or replace the accuracy of a sub-net after a phase.

    Raises:
        FormatError: if the file exists and holds something else.
    """
    rows = [list(row.values()) for row in _complete_rows(path, PHASE_COLUMNS)]
    rows = [row for row in rows if row[:2] != [phase, which]]
    rows.append([phase, which, arch, f"{top1:.3f}", f"{loss:.5f}"])
    lines = [",".join(PHASE_COLUMNS), *(",".join(row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def plot_log(folder: Path) -> Path | None:
    """Plot loss, top-1 and learning rate over steps in `training.png`; return None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = read_log(folder / "log.csv")
    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    x = [int(row["n_steps"]) for row in rows]
    starts = {row["phase"]: int(row["n_steps"]) for row in reversed(rows)}
    for axis, column, label in zip(
        axes, ("loss", "top1", "lr"), ("loss", "training top-1, %", "learning rate"), strict=True
    ):
        axis.plot(x, [float(row[column]) for row in rows], linewidth=0.6)
        axis.set_ylabel(label)
        for start in starts.values():
            axis.axvline(start, color="0.8", linewidth=0.8)
    for name, start in starts.items():
        axes[0].annotate(name, (start, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=8)
    axes[-1].set_xlabel("step")
    path = folder / "training.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
