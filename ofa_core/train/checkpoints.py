"""The checkpoints of a run: written whole or not at all, the last two kept, the newest readable one used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ofa_core.errors import FormatError, OutputError
from ofa_core.formats.torch_files import read_torch, write_torch
from ofa_core.schema import structured

__all__ = ["SCHEMA", "load_latest", "newest", "save_state"]

SCHEMA = 1
KEPT = 2
_NAME = re.compile(r"run-(\d{10})\.pt")


def _files(folder: Path) -> list[Path]:
    """Checkpoints of a folder, newest first."""
    return sorted((p for p in folder.glob("run-*.pt") if _NAME.fullmatch(p.name)), reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of a folder; None without any."""
    return next(iter(_files(folder)), None)


def save_state(folder: Path, n_steps: int, content: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the last two.

    Args:
        folder: of the run.
        n_steps: done since the start of the run.
        content: plain values and tensors.

    Raises:
        OutputError: when it cannot be written (a full disk); what was there before is still there.
    """
    path = folder / f"run-{n_steps:010d}.pt"
    try:
        write_torch(path, {"schema": SCHEMA, **content})
    except OutputError as error:
        raise OutputError(f"{error}; the previous checkpoint is untouched") from error
    for old in _files(folder)[KEPT:]:
        old.unlink()
    return path


def load_latest(folder: Path, warn: Callable[[str], None], shape: Any = dict[str, Any]) -> dict[str, Any] | None:
    """The newest readable checkpoint; a damaged one is named to `warn` and the one before is used.

    Args:
        folder: of the run.
        warn: is told of a damaged one.
        shape: what a checkpoint must hold, as `structured` takes it.

    Raises:
        FormatError: when there are checkpoints and none is readable.
    """
    files = _files(folder)
    for path in files:
        try:
            content: dict[str, Any] = structured(read_torch(path), dict[str, Any], str(path))
            if content.get("schema") == SCHEMA:
                structured(content, shape, str(path))
                return content
        except FormatError as error:
            reason = str(error).removeprefix(f"{path}: ")
            warn(f"{path}: damaged checkpoint, the one before it is used ({reason})")
            continue
        raise FormatError(f"{path}: not a checkpoint of schema {SCHEMA}, which this version reads")
    if files:
        raise FormatError(f"{folder}: none of its {len(files)} checkpoints is readable")
    return None
