"""Predictors of latency and accuracy: from tables, whole networks, other devices, or files.

Each name is imported when it is first used, so that a command line's `--help` loads none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictors.blocks import BlockPredictor
    from predictors.lut import LutPredictor, load_lut

__all__ = ["BlockPredictor", "LutPredictor", "load_lut"]

_HOME = {"BlockPredictor": "blocks", "LutPredictor": "lut", "load_lut": "lut"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
