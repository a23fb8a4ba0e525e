"""The checkpoints of a run: written whole or not at all, the last two kept, the newest readable one used."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ofa_core.atomic import atomic_path
from ofa_core.errors import FormatError, OfaError

__all__ = ["SCHEMA", "load_latest", "save_state"]

SCHEMA = 1
KEPT = 2
# What torch.load raises for a damaged file depends on where the damage is.
_DAMAGE = (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, IndexError)
_NAME = re.compile(r"run-(\d{10})\.pt")


def _files(folder: Path) -> list[Path]:
    """Checkpoints of a folder, newest first."""
    return sorted((p for p in folder.glob("run-*.pt") if _NAME.fullmatch(p.name)), reverse=True)


def save_state(folder: Path, n_steps: int, content: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the last two.

    Args:
        folder: of the run.
        n_steps: done since the start of the run.
        content: plain values and tensors.

    Raises:
        OfaError: when it cannot be written (a full disk); what was there before is still there.
    """
    path = folder / f"run-{n_steps:010d}.pt"
    try:
        with atomic_path(path) as temporary:
            torch.save({"schema": SCHEMA, **content}, temporary)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:160]
        raise OfaError(f"{path}: the checkpoint cannot be written ({reason}); the previous one is untouched") from error
    for old in _files(folder)[KEPT:]:
        old.unlink()
    return path


def load_latest(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest readable checkpoint; a damaged one is named to `warn` and the one before is used.

    Raises:
        FormatError: when there are checkpoints and none is readable.
    """
    files = _files(folder)
    for path in files:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except _DAMAGE as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            warn(f"{path}: damaged checkpoint, the one before it is used ({reason})")
            continue
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise FormatError(f"{path}: not a checkpoint of schema {SCHEMA}, which this version reads")
        return content
    if files:
        raise FormatError(f"{folder}: none of its {len(files)} checkpoints is readable")
    return None
