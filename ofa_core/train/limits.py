"""Ranges of settings: a number outside its range, nan included, is named before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ofa_core.errors import OfaError

__all__ = ["check_limits"]


def check_limits(settings: Any, limits: Mapping[str, tuple[float, float]], where: str = "") -> None:
    """Check attributes of an object; those that are None are left out.

    Args:
        settings: the object.
        limits: least and greatest value of each attribute; the greatest may be infinite, the attribute may not.
        where: how errors call the object.

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
