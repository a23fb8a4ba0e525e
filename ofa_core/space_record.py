"""Spaces in files: three fields that name, identify and describe a space.

    space             a label
    space_digest      identifies the space; absent in files of version 0.1.0, which held built-in spaces only
    space_definition  all fields of the space; absent or empty for the built-in space of that name

A file with these fields is complete: no other file is needed to build the space, or to name what differs from the
expected one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from ofa_core.arch_family import space_name_of
from ofa_core.errors import FormatError, OfaError, SpaceError
from ofa_core.space import Space, check_resolution
from ofa_core.spaces import find_builtin, get_space
from ofa_core.toml_tables import from_table

__all__ = [
    "SPACE_FIELDS",
    "check_space",
    "described_differences",
    "labelled",
    "require_space",
    "space_columns",
    "space_fields",
    "space_from_dict",
    "space_of",
    "space_of_record",
    "space_to_dict",
]

SPACE_FIELDS = ("space", "space_digest", "space_definition")
MAX_CHANNELS = 65_536
MAX_DEFINITION = 20_000
MAX_NAME = 60
MAX_CHOICES = 64


def space_to_dict(space: Space) -> dict[str, Any]:
    """Return a space as plain values."""
    return asdict(space)


def space_from_dict(values: Mapping[str, Any]) -> Space:
    """Build a space from plain values; one that has the name of a different built-in space is renamed (`labelled`).

    Raises:
        FormatError: for values that do not describe a space.
    """
    try:
        return labelled(check_space(from_table(Space, values)))
    except OfaError as error:
        raise FormatError(f"not a search space: {error}") from error


def space_fields(space: Space) -> dict[str, Any]:
    """Return the fields for a JSON object; a built-in space has no definition."""
    known = find_builtin(space.name)
    named = {"space": space.name, "space_digest": space.digest}
    if known is not None and space_to_dict(known) == space_to_dict(space):
        return named
    return {**named, "space_definition": space_to_dict(space)}


def space_columns(space: Space) -> dict[str, str]:
    """Return all three fields as text for the row of a table; the definition is JSON or empty."""
    given = space_fields(space)
    definition = given.get("space_definition")
    text = "" if definition is None else json.dumps(definition, separators=(",", ":"))
    return {"space": space.name, "space_digest": space.digest, "space_definition": text}


def space_of(values: Mapping[str, Any]) -> Space:
    """Return the space of a file's fields.

    Args:
        values: a row or an object with `space`, and optionally `space_digest` and `space_definition`.

    Raises:
        SpaceError: for an unknown name, or a digest that does not match the space.
        FormatError: for a definition that does not describe a space.
    """
    name, digest = values.get("space"), values.get("space_digest") or ""
    definition = values.get("space_definition") or ""
    if not isinstance(name, str) or not isinstance(digest, str):
        raise FormatError("space and space_digest must be text")
    if isinstance(definition, Mapping):
        definition = json.dumps(definition, sort_keys=True)
    if not isinstance(definition, str) or len(definition) > MAX_DEFINITION:
        raise FormatError(f"space_definition must be an object of at most {MAX_DEFINITION} characters")
    return _resolved(name, digest, definition)


def space_of_record(record: Mapping[str, Any]) -> Space | None:
    """Return the space of an architecture's dictionary, by its fields or its width; None if it has neither.

    Raises:
        SpaceError: as `space_of`.
        ArchError: for a family that is not supported, or a value that is not a width.
    """
    inner = record.get("arch")
    for fields in (record, inner):
        if isinstance(fields, Mapping) and (fields.get("space_digest") or fields.get("space_definition")):
            return space_of(fields)
    name = space_name_of(record)
    return None if name is None else get_space(name)


@lru_cache(maxsize=64)
def _resolved(name: str, digest: str, definition: str) -> Space:
    if definition:
        try:
            described = json.loads(definition)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"space_definition is not JSON: {str(error)[:100]}") from error
        if not isinstance(described, dict):
            raise FormatError("space_definition is not an object")
        space = space_from_dict(described)
        if not digest:
            raise FormatError("space_definition is given without space_digest")
    else:
        space = get_space(name)
    if digest and space.digest != digest:
        what = "its definition" if definition else f"the built-in {name}"
        raise SpaceError(f"space {name[:MAX_NAME]} has the digest {digest[:40]}, and {what} has {space.digest}")
    return space


def require_space(found: Space, wanted: Space, source: object) -> None:
    """Refuse a file of another space.

    Args:
        found: the space of the file.
        wanted: the expected space.
        source: the file, for the message.

    Raises:
        SpaceError: if they differ; names the fields.
    """
    if found != wanted:
        what = described_differences(found, wanted)
        raise SpaceError(f"{source} is of space {found.name}, not {wanted.name}: {what}")


def described_differences(found: Space, wanted: Space, most: int = 4) -> str:
    """Return the first `most` differences of two spaces in words, and the number of others."""
    all_ = found.differences(wanted)
    more = f" and {len(all_) - most} more" if len(all_) > most else ""
    return "; ".join(all_[:most]) + more


def labelled(space: Space) -> Space:
    """Return the space, renamed `NAME-DIGITS` if a built-in space of its name has other layers or choices.

    The number of classes does not count, because a classifier is often replaced.
    """
    known = find_builtin(space.name)
    if known is None or known.with_classes(space.n_classes) == space:
        return space
    return replace(space, name=f"{space.name}-{space.digest[:6]}")


def check_space(space: Space) -> Space:
    """Return the space if a network can be built from its values.

    Raises:
        SpaceError: for an invalid value; names it and the valid ones.
        ArchError: for an invalid input size.
    """
    if not space.name or len(space.name) > MAX_NAME or not space.name.isprintable() or space.name != space.name.strip():
        raise SpaceError(f"name is {space.name[:MAX_NAME]!r}; 1 to {MAX_NAME} printable characters are expected")
    for name in ("first_c", "base_c", "final_expand_c", "n_classes"):
        _within(name, getattr(space, name), 1, MAX_CHANNELS)
    _within("feature_c", space.feature_c, 0, MAX_CHANNELS)
    _within("first_stride", space.first_stride, 1, 2)
    _choices("kernels", space.kernels, 1, 15)
    if any(kernel % 2 == 0 for kernel in space.kernels):
        raise SpaceError(f"kernels is {list(space.kernels)}; odd sizes are expected")
    _choices("expands", space.expands, 1, 32)
    if space.expands[0] == 1 and len(space.expands) > 1:
        raise SpaceError(f"expands is {list(space.expands)}; 1 (no expansion) cannot be combined with others")
    _choices("resolutions", space.resolutions, 1, 4096)
    for px in space.resolutions:
        check_resolution(px)
    if not 1 <= len(space.stages) <= MAX_CHOICES:
        raise SpaceError(f"there are {len(space.stages)} stages; 1 to {MAX_CHOICES} are expected")
    for i, stage in enumerate(space.stages):
        _within(f"stages[{i}].width", stage.width, 1, MAX_CHANNELS)
        _within(f"stages[{i}].stride", stage.stride, 1, 2)
        _choices(f"stages[{i}].depths", stage.depths, 1, MAX_CHOICES)
    return space


def _within(place: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SpaceError(f"{place} is {str(value)[:20]}; a number from {least} to {most} is expected")


def _choices(place: str, values: tuple[int, ...], least: int, most: int) -> None:
    if not values or list(values) != sorted(set(values)):
        shown = str(list(values[:20]))[:80]
        raise SpaceError(f"{place} is {shown}; one number or more, ascending and each once, is expected")
    for value in (values[0], values[-1]):
        _within(place, value, least, most)
