"""The family and width of an OFA dictionary, and the name of the space that they stand for.

The published dictionaries hold no name of a space. The number of stages and the width `w` identify a built-in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofa_core.errors import ArchError

__all__ = ["FAMILIES", "WIDTH_FIELDS", "as_items", "check_family", "inner_dict", "shown", "space_name_of", "width_of"]

WIDTH_FIELDS = ("w", "wid")
FAMILIES = {5: "mbv3", 6: "proxyless"}
"""The built-in family of a space by its number of stages."""


def space_name_of(record: Mapping[str, Any]) -> str | None:
    """Return the name of a record's space: its field `space`, else by its width `w` and number of stages.

    Returns:
        The name; None if the record has neither.

    Raises:
        ArchError: for a family that is not supported, or a value that is not a width.
    """
    if record.get("space") is not None:
        return str(record["space"])[:200]
    data = inner_dict(record)
    if data is not record and data.get("space") is not None:
        return str(data["space"])[:200]
    check_family(data)
    width, depths = width_of(data), data.get("d")
    if width is None or not isinstance(depths, Sequence) or len(depths) not in FAMILIES:
        return None
    return f"{FAMILIES[len(depths)]}-w{width:g}"


def check_family(data: Mapping[str, Any]) -> None:
    """Refuse an architecture of OFA-ResNet50, which has a list of widths or expand ratios below 1.

    Raises:
        ArchError: for such an architecture.
    """
    ratios = [e for e in as_items(data.get("e")) if isinstance(e, float) and 0 < e < 1]
    widths = as_items(data.get("w"))
    if ratios or len(widths) > 1:
        sign = f"e holds {ratios[0]:g}" if ratios else f"w holds {len(widths)} widths"
        raise ArchError(f"{sign}: an architecture of OFA-ResNet50, which is not supported yet; mbv3 and proxyless are")


def width_of(data: Mapping[str, Any]) -> float | None:
    """Return the width multiplier of an OFA dictionary, None if it has none.

    Raises:
        ArchError: for a value that is not a width, or two different widths.
    """
    widths = {}
    for field in WIDTH_FIELDS:
        for width in as_items(data.get(field)):
            if width is None:
                continue
            if isinstance(width, bool) or not isinstance(width, int | float) or not 0.1 <= width <= 4:
                raise ArchError(f"{field} is {shown(width)}; a width from 0.1 to 4 is expected")
            widths[round(float(width), 3)] = field
    if len(widths) > 1:
        raise ArchError(f"{', '.join(f'{field} is {w:g}' for w, field in widths.items())}; one width is expected")
    return next(iter(widths), None)


def inner_dict(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the dictionary in the field `arch`; `data` itself if it has no such field."""
    inner = data.get("arch")
    return inner if isinstance(inner, Mapping) else data


def as_items(value: Any) -> list[Any]:
    """Return a value as a list: the elements of a sequence or an array, or the value alone."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [item.item() if isinstance(item, np.generic) else item for item in value]
    return [value]


def shown(item: Any) -> str:
    """Return a wrong value for an error message, on one line and of limited length."""
    if isinstance(item, str):
        return repr(item[:40])
    if isinstance(item, float | bool) or (isinstance(item, int) and abs(item) < 10**20):
        return repr(item)
    return f"a {type(item).__name__} of 20 digits or more" if isinstance(item, int) else f"a {type(item).__name__}"
