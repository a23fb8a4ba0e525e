"""Predictors of latency and accuracy: from tables, measured networks, other devices, or files.

Each name is imported on first use, so that `--help` imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictors.accuracy import AccuracyPredictor, MacsProxy
    from predictors.block_latency import BlockPredictor
    from predictors.builtin_accuracy import BuiltinAccuracy
    from predictors.loading import load_accuracy, load_latency
    from predictors.lut import LutPredictor
    from predictors.network import NetworkPredictor
    from predictors.network_design import select_d_optimal

__all__ = [
    "AccuracyPredictor",
    "BlockPredictor",
    "BuiltinAccuracy",
    "LutPredictor",
    "MacsProxy",
    "NetworkPredictor",
    "load_accuracy",
    "load_latency",
    "select_d_optimal",
]

_MODULES = {
    "AccuracyPredictor": "accuracy",
    "BlockPredictor": "block_latency",
    "BuiltinAccuracy": "builtin_accuracy",
    "LutPredictor": "lut",
    "MacsProxy": "accuracy",
    "NetworkPredictor": "network",
    "load_accuracy": "loading",
    "load_latency": "loading",
    "select_d_optimal": "network_design",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
