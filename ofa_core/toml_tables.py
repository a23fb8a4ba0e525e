"""Tables, as TOML and JSON give them, as dataclasses: every key and type is checked."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from ofa_core.errors import FormatError, OfaError

__all__ = ["from_table", "read_toml"]

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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not TOML: {error}") from error


def from_table(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Fill a dataclass from a table, checking every key and type.

    Args:
        cls: the dataclass.
        table: as TOML gives it.
        where: how errors call the place.
    """
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        place = f"{where}.{key}" if where else key
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise OfaError(f"unknown key {place}; {hint}")
        values[key] = _converted(hints[key], value, place)
    try:
        return cls(**values)
    except TypeError as error:
        raise OfaError(f"{where or 'top level'}: {str(error).split('() ')[-1]}") from error


def _converted(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise OfaError(f"{place} is {value!r}; a table is expected")
        return from_table(hint, value, place)
    if origin is Literal:
        if value not in arguments:
            near = difflib.get_close_matches(str(value), map(str, arguments), 1, 0.5)
            hint_text = f"; did you mean {near[0]}?" if near else ""
            raise OfaError(f"{place} is {value!r}; one of {', '.join(map(str, arguments))}{hint_text}")
        return value
    if origin in (types.UnionType, typing.Union):
        return _converted(next(a for a in arguments if a is not type(None)), value, place)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise OfaError(f"{place} is {value!r}; a list is expected")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise OfaError(f"{place} has {len(value)} entries; {len(arguments)} are expected")
        return tuple(_converted(arguments[0], v, f"{place}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise OfaError(f"{place} is {value!r}; {hint.__name__} is expected")
    return value
