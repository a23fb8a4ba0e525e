"""The predictors that a search needs, as protocols.

They are structural: `predictors` fulfils them without importing them. Everything is vectorised over thousands of
architectures per call. Genomes (`ofa_core.genomes`) are the fastest form of an architecture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch

__all__ = ["AccuracyPredictor", "Archs", "LatencyPredictor"]

Archs = Sequence[Arch | Mapping[str, Any]] | NDArray[np.integer[Any]]


class LatencyPredictor(Protocol):
    """Predicts milliseconds per batch of whole networks on one device."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes in pixels that it can predict, ascending."""
        ...

    @property
    def calibrated(self) -> bool:
        """True if whole measured networks calibrate it."""
        ...

    def predict(self, archs: Archs) -> NDArray[np.float64]:
        """Return (n,) milliseconds of n architectures or genomes."""
        ...

    def predict_interval(
        self, archs: Archs, confidence: float = 0.9
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (n,) lower and (n,) upper bounds that hold a measurement with this probability; NaN if unknown."""
        ...


class AccuracyPredictor(Protocol):
    """Predicts top-1 in percent of sub-nets, or a score that ranks them.

    A predictor may have a method `scores` as well: (n, n_slots, 1 + n_codes) estimates of the prediction with another
    code in one slot, from its gradient. Only differences within a slot are used. A search without it fits a table to
    the predictions of random networks instead. With a method `quadratic`, from a resolution to the predictions in
    closed form (`ofa_core.quadratic`), a search can prove how far its answer is from the best network.
    """

    @property
    def resolutions(self) -> tuple[int, ...] | None:
        """Input sizes in pixels that it can predict, ascending; None for any."""
        ...

    @property
    def label(self) -> str:
        """Name for people, a few words."""
        ...

    @property
    def note(self) -> str:
        """Source and error of the predictions, one sentence; may be empty."""
        ...

    @property
    def dtype(self) -> str:
        """Type of weights and activations of the networks that it predicts, as in tables: `float32` or `int8`."""
        ...

    def predict(self, archs: Archs) -> NDArray[np.float64]:
        """Return (n,) percent of n architectures or genomes."""
        ...
