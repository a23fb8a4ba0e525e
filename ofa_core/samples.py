"""Checks of the numbers that a model is fitted to.

The fits form squares, ratios and fourth powers, so the magnitude of the numbers is bounded. Numbers that are all equal
cannot be fitted: the interval would have no width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LARGEST", "SMALLEST", "implausible", "is_constant"]

SMALLEST, LARGEST = 1e-9, 1e9
EQUAL = 1e-9  # relative difference below which numbers count as equal


def implausible(values: ArrayLike) -> int | None:
    """Return the index of the first number that is not within `SMALLEST` to `LARGEST`; None if all are."""
    numbers = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~((numbers >= SMALLEST) & (numbers <= LARGEST)))
    return int(bad[0]) if len(bad) else None


def is_constant(values: NDArray[np.float64]) -> bool:
    """Return True if all numbers are equal, up to rounding."""
    return bool(np.ptp(values) <= EQUAL * np.abs(values).max()) if len(values) else True
