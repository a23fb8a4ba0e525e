"""Check the ranges of settings before anything runs; nan is outside every range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ofa_core.errors import OfaError

__all__ = ["check_limits"]


def check_limits(settings: Any, limits: Mapping[str, tuple[float, float]], where: str = "") -> None:
    """Check the numbers in an object; attributes that are None are skipped.

    Args:
        settings: the object.
        limits: smallest and largest value of each attribute; an infinite value is refused even if the largest is inf.
        where: prefix of the attribute's name in errors.

    Raises:
        OfaError: for the first number outside its range.
    """
    for name, (least, greatest) in limits.items():
        given = getattr(settings, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is None or (least <= value <= greatest and math.isfinite(value)):
                continue
            expected = f"at least {least:g}" if math.isinf(greatest) else f"{least:g} to {greatest:g}"
            raise OfaError(f"{where}{name} is {value}, {expected} is expected")
