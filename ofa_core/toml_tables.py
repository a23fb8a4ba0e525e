"""Convert tables from TOML or JSON to dataclasses, and check every key and type."""

from __future__ import annotations

import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from ofa_core.errors import FormatError, OfaError

__all__ = ["from_table", "read_toml"]

MAX_SHOWN = 120  # characters of a value in a message
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FormatError: for a file that cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not TOML: {str(error)[:MAX_SHOWN]}") from error


def from_table(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Fill a dataclass from a table, checking every key and type.

    Args:
        cls: the dataclass.
        table: the parsed table.
        where: name of the table, for errors.
    """
    hints = typing.get_type_hints(cls)
    own = fields(cls)  # type: ignore[arg-type]
    known = [f.name for f in own]
    values = {}
    for key, value in table.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key)[:MAX_SHOWN], known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise OfaError(f"unknown key {place if place.isprintable() else ascii(place):.{MAX_SHOWN}}; {hint}")
        values[key] = _converted(hints[key], value, place)
    required = [f.name for f in own if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise OfaError(f"{where or 'the file'} has no {', '.join(missing)}")
    return cls(**values)


def _converted(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise OfaError(f"{place} is {_shown(value)}; a table is expected")
        return from_table(hint, value, place)
    if origin is Literal:
        if value not in arguments:
            near = difflib.get_close_matches(_shown(value), map(str, arguments), 1, 0.5)
            hint_text = f"; did you mean {near[0]}?" if near else ""
            raise OfaError(f"{place} is {_shown(value)}; choose one of {', '.join(map(str, arguments))}{hint_text}")
        return value
    if origin in (types.UnionType, typing.Union):
        return _converted(next(a for a in arguments if a is not type(None)), value, place)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise OfaError(f"{place} is {_shown(value)}; a list is expected")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise OfaError(f"{place} has {len(value)} entries; {len(arguments)} are expected")
        return tuple(_converted(arguments[0], v, f"{place}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, place)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise OfaError(f"{place} is {_shown(value)}; {_KINDS[hint]} is expected")
    return value


def _finite(value: float, place: str) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise OfaError(f"{place} is {_shown(value)}, which is too large") from error
    if not math.isfinite(number):
        raise OfaError(f"{place} is {number}; a finite number is expected")
    return number


def _shown(value: object) -> str:
    """Return a value for a message: printable and of limited length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or deeply nested lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
