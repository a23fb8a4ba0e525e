"""Predictors of latency and accuracy: from tables, whole networks, other devices, or files.

Each name is imported when it is first used, so that a command line's `--help` loads none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictors.accuracy import AccuracyPredictor, MacsProxy, load_accuracy
    from predictors.block_latency import BlockPredictor
    from predictors.builtin_accuracy import BuiltinAccuracy
    from predictors.lut import LutPredictor, load_lut
    from predictors.network import NetworkPredictor
    from predictors.network_design import select_d_optimal
    from predictors.transfer import TransferPredictor

__all__ = [
    "AccuracyPredictor",
    "BlockPredictor",
    "BuiltinAccuracy",
    "LutPredictor",
    "MacsProxy",
    "NetworkPredictor",
    "TransferPredictor",
    "load_accuracy",
    "load_lut",
    "select_d_optimal",
]

_HOME = {
    "AccuracyPredictor": "accuracy",
    "BlockPredictor": "block_latency",
    "BuiltinAccuracy": "builtin_accuracy",
    "LutPredictor": "lut",
    "MacsProxy": "accuracy",
    "NetworkPredictor": "network",
    "TransferPredictor": "transfer",
    "load_accuracy": "accuracy",
    "load_lut": "lut",
    "select_d_optimal": "network_design",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
