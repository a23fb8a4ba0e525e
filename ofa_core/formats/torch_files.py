"""Read and write files of torch: plain values and tensors, without running code.

Trainers store figures beside the weights, often as numpy scalars (`best_acc`), or their options (argparse). These types
are harmless and allowed; torch refuses all others, and the error names them.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ofa_core.atomic import write_bytes
from ofa_core.errors import FormatError, OfaError
from ofa_core.terminal import shown

__all__ = ["first_nonfinite", "read_torch", "require_safe_torch", "write_torch"]

# What torch.load raises for a damaged file depends on where the damage is.
_DAMAGE = (
    RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    OverflowError, MemoryError,
)  # fmt: skip
_SAFE_FROM = (2, 10)  # older ones can run code out of a file despite weights_only: CVE-2025-32434, CVE-2026-24747
_SCALAR_TYPES = "?bBhHiIlLqQefdgFDSU"


def read_torch(path: Path) -> Any:
    """Read a file that `torch.save` wrote.

    Raises:
        FormatError: for a file that is missing or damaged, or that holds more than plain values and tensors.
        OfaError: this torch is too old to read files safely.
    """
    require_safe_torch(torch.__version__)
    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how the file was written
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise FormatError(f"{path}: not a readable checkpoint: {_reason(error)}") from error


def require_safe_torch(version: str) -> None:
    """Check that a release of torch does not run code from a file.

    Raises:
        OfaError: if it does.
    """
    release = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if release < _SAFE_FROM:
        raise OfaError(
            f"torch {version} can run code from a weights file (CVE-2026-24747); install torch 2.10 or later to read "
            "weights. Profiling, and training without weights, work with this version"
        )


def _harmless() -> list[Any]:
    """Return further types that a file may hold: numpy scalars of numpy 1 and 2, and the options of argparse."""
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*names, np.dtype, *{type(np.dtype(code)) for code in _SCALAR_TYPES}, argparse.Namespace]


def _reason(error: Exception) -> str:
    """Why torch could not read a file, in one line: its own text is a page long and coloured."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error).strip() or type(error).__name__)
    refused = re.search(r"GLOBAL (\S{1,100})", text)
    if refused and "not an allowed global" in text:
        return (
            f"it contains a {shown(refused[1])}, which can run code and is not read; save only the weights, with "
            "torch.save(net.state_dict(), FILE)"
        )
    text = text.rpartition("WeightsUnpickler error: ")[2].splitlines()[0]
    text = shown(" ".join(text.split()))
    return text if len(text) <= 300 else f"{text[:300]}..."


def first_nonfinite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds nan or inf; None if all are finite."""
    return next((name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()), None)


def write_torch(path: Path, content: dict[str, Any]) -> None:
    """Write plain values and tensors; the file appears whole or not at all.

    The content is put together in memory: torch's own writer hides why a disk takes no more.

    Raises:
        OutputError: if the file cannot be written; what was there before is still there.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())
