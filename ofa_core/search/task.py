"""What a search was asked, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ofa_core.search.problem import AccuracyPredictor
    from ofa_core.space import Space
    from predictors.lut import LatencyEstimator

__all__ = ["Task"]


@dataclass
class Task:
    """What was asked, loaded.

    Attributes:
        space: where to look.
        latency: the prediction; read again after measurements went into its table.
        accuracy: the accuracy model.
        pixels: the resolutions to look at.
        left_out: other resolutions, and why.
    """

    space: Space
    latency: LatencyEstimator
    accuracy: AccuracyPredictor
    pixels: tuple[int, ...]
    left_out: dict[int, str]
