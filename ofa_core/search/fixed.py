"""Fix parts of a network: `d=2,3,4,*,*` fixes the depth of three stages, `r=192` the resolution.

The names are those of OFA dictionaries: `d` has one depth per stage, `ks` and `e` one kernel size and one expand ratio
per slot, `r` one resolution. `*` leaves a choice free. One value alone holds for all stages or slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import OfaError
from ofa_core.space import Space

__all__ = ["allowed_by", "fixed_resolution"]

FREE = "*"
NAMES = ("d", "ks", "e", "r")


def allowed_by(space: Space, fixed: Sequence[str]) -> NDArray[np.bool_] | None:
    """Return (n_slots, 1 + n_codes): False for codes that contradict what is fixed; None if everything is free.

    Args:
        space: space of the networks.
        fixed: texts such as `d=2,3,4,*,*`.

    Raises:
        OfaError: for a text that is not understood, or a choice that the space does not have.
    """
    parts = _parts(fixed)
    if not parts.keys() & {"d", "ks", "e"}:
        return None
    allowed = np.ones((space.n_slots, 1 + space.n_codes), dtype=bool)
    for stage, depth in enumerate(_numbers("d", parts.get("d"), len(space.stages), "stage")):
        if depth is None:
            continue
        start, choices = space.stage_starts[stage], space.stages[stage].depths
        _check("d", depth, choices, f"stage {stage + 1}")
        allowed[start : start + depth, 0] = False
        allowed[start + depth : start + space.stages[stage].max_depth, 1:] = False
    for position, (name, choices) in enumerate((("ks", space.kernels), ("e", space.expands))):
        for slot, value in enumerate(_numbers(name, parts.get(name), space.n_slots, "slot")):
            if value is not None:
                _check(name, value, choices, f"slot {slot + 1}")
                allowed[slot, 1:] &= [choice[position] == value for choice in space.choices]
    return allowed


def fixed_resolution(fixed: Sequence[str], resolutions: Sequence[int]) -> int | None:
    """Return the fixed resolution in pixels; None if it is free.

    Raises:
        OfaError: for a text that is not understood, or a resolution that is not one of `resolutions`.
    """
    (value,) = _numbers("r", _parts(fixed).get("r"), 1, "network")
    if value is not None and value not in resolutions:
        raise OfaError(f"--fix r={value}: choose one of {', '.join(map(str, resolutions))}")
    return value


def _parts(fixed: Sequence[str]) -> dict[str, str]:
    """Return the values of each name."""
    parts: dict[str, str] = {}
    for text in fixed:
        name, equals, values = text.partition("=")
        if not equals or name not in NAMES:
            raise OfaError(f"--fix {text[:40]!r}: d=..., ks=..., e=... or r=... is expected, such as d=2,3,4,*,*")
        if name in parts:
            raise OfaError(f"--fix {name} is given twice; give all its values in one list")
        parts[name] = values
    return parts


def _numbers(name: str, text: str | None, n: int, each: str) -> list[int | None]:
    """Return n values; None where a choice is free."""
    words = [FREE] if text is None else [word.strip() for word in text.split(",")]
    for word in words:
        if word != FREE and not (word.isascii() and word.isdecimal() and len(word) < 6):
            raise OfaError(f"--fix {name}: {word[:20]!r}; whole numbers and * are expected")
    values = [None if word == FREE else int(word) for word in words]
    if len(values) == 1:
        return values * n
    if len(values) != n:
        raise OfaError(f"--fix {name} has {len(values)} values; {n} are expected, one for each {each}, or one for all")
    return values


def _check(name: str, value: int, choices: Sequence[int], where: str) -> None:
    if value not in choices:
        raise OfaError(f"--fix {name}: {value} in {where}; choose one of {', '.join(map(str, choices))}, or *")
