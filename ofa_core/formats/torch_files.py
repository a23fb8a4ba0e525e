"""Files of torch: plain values and tensors, read without running anything, written whole or not at all."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from ofa_core.atomic import write_bytes
from ofa_core.errors import FormatError

__all__ = ["read_torch", "write_torch"]

# What torch.load raises for a damaged file depends on where the damage is.
_DAMAGE = (
    RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    OverflowError, MemoryError,
)  # fmt: skip


def read_torch(path: Path) -> Any:
    """Read a file that `torch.save` wrote.

    Raises:
        FormatError: for a file that is missing or damaged, or that holds more than plain values and tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except _DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise FormatError(f"{path}: not a readable checkpoint ({reason})") from error


def write_torch(path: Path, content: dict[str, Any]) -> None:
    """Write plain values and tensors; the file appears whole or not at all.

    The content is put together in memory: torch's own writer hides why a disk takes no more.

    Raises:
        OutputError: if the file cannot be written; what was there before is still there.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())
