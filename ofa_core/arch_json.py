"""Architectures in files: the public dialects of the OFA dictionary, `arch.json`, and columns of CSV files.

The public form, "the OFA dict", pads every stage to its maximum depth:

    {"wid": None, "ks": [20], "e": [20], "d": [5], "r": [224]}

Values in unused slots are ignored on reading and written as the smallest choice. A field that is null counts as absent.
An architecture has one input size; several sizes, or two fields that differ, are an error.

Our CSV files have the columns `space, ks, e, d, r`, with lists in JSON. Files of other tools are read too: lists in
Python or with blanks, `image_size` for `r`, or the whole dictionary in one column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_core.arch import Arch
from ofa_core.arch_family import (
    FAMILIES,
    WIDTH_FIELDS,
    as_items,
    check_family,
    inner_dict,
    shown,
    width_of,
)
from ofa_core.atomic import write_text
from ofa_core.errors import ArchError, FormatError, OfaError
from ofa_core.literals import parse_value
from ofa_core.space import Space
from ofa_core.space_record import SPACE_FIELDS, require_space, space_fields, space_of_record
from ofa_core.spaces import find_builtin, get_space
from ofa_core.text_files import decoded

__all__ = [
    "ARCH_COLUMNS",
    "ARCH_SCHEMA",
    "RESOLUTION_FIELDS",
    "ArchColumns",
    "arch_fields",
    "arch_from_dict",
    "arch_of_row",
    "arch_text",
    "arch_to_dict",
    "read_arch_dict",
    "resolution_of",
    "write_arch",
]

ARCH_SCHEMA = 1
MAX_ARCH_FILE_BYTES = 1_000_000
RESOLUTION_FIELDS = ("r", "image_size", "img_size", "resolution")


def arch_from_dict(data: Mapping[str, Any], space: Space, *, resolution_px: int | None = None) -> Arch:
    """Read any public dialect of the OFA architecture dictionary.

    Accepted: padded lists (the published form; any value in unused slots); compact lists of length sum(d) (nsganetv2,
    NAT); one number for all blocks (`set_active_subnet`); the resolution as `r`, `image_size`, `img_size` or
    `resolution` (list or number); a width as `w`, checked against the space; the dictionary inside an `arch` field (as
    this project's commands print it). `d` is ignored for a stage with one depth only, as in the published ProxylessNAS
    code.

    Args:
        data: the dictionary.
        space: the space of the architecture.
        resolution_px: input size that replaces the dictionary's own.

    Returns:
        A validated member of `space`.

    Raises:
        ArchError: for a wrong value; names the field, the value and the valid ones.
        SpaceError: for an architecture of another space; names what differs. The number of classes may differ.
    """
    outer, data = data, inner_dict(data)
    check_family(data)
    _check_space(outer, space)
    missing = [name for name in ("ks", "e", "d") if name not in data]
    if missing:
        raise ArchError(f"an architecture has ks, e, d and r; this one has no {', '.join(missing)}")
    _check_width(data, space)
    max_depths = [stage.max_depth for stage in space.stages]
    depths = _ints(data["d"], "d")
    if len(depths) == 1 and len(max_depths) > 1:
        depths *= len(max_depths)
    if len(depths) != len(max_depths):
        raise ArchError(f"d has {len(depths)} stages; {space.name} has {len(max_depths)}")
    depths = [
        top if top == stage.depths[0] else d for d, top, stage in zip(depths, max_depths, space.stages, strict=True)
    ]
    for s, (depth, stage) in enumerate(zip(depths, space.stages, strict=True)):
        if depth not in stage.depths:
            raise ArchError(f"d[{s}] is {depth}; {space.name} takes {', '.join(map(str, stage.depths))} there")
    if resolution_px is None:
        resolution_px = resolution_of(outer) if outer is data else resolution_of(data, outer)
    if resolution_px is None:
        fields = f"{', '.join(RESOLUTION_FIELDS[:-1])} or {RESOLUTION_FIELDS[-1]}"
        raise ArchError(f"the architecture has no resolution ({fields}); give one, for example with --resolution PX")
    arch = Arch(
        tuple(depths),
        _active(_ints(data["ks"], "ks"), "ks", depths, max_depths),
        _active(_ints(data["e"], "e"), "e", depths, max_depths),
        resolution_px,
    )
    space.validate(arch)
    return arch


def resolution_of(*records: Mapping[str, Any]) -> int | None:
    """Return the input size in pixels that the records agree on; None if they have none.

    Args:
        records: dictionaries of one network, such as a `net.config` and its `run.config`.

    Raises:
        ArchError: for several sizes, with the field of each, or a value that is not a size.
    """
    named = []
    for record in records:
        for field in RESOLUTION_FIELDS:
            if record.get(field) is not None:
                sizes = dict.fromkeys(_ints(record[field], field))
                if not sizes:
                    raise ArchError(f"{field} is an empty list; an input size in pixels is expected")
                named.append((field, sizes))
    distinct = {size for _, sizes in named for size in sizes}
    if len(distinct) > 1:
        shown = "; ".join(f"{field} {', '.join(map(str, list(sizes)[:8]))}" for field, sizes in named)
        raise ArchError(f"{len(distinct)} input sizes where one is expected ({shown}); choose one with --resolution PX")
    return distinct.pop() if distinct else None


def arch_to_dict(arch: Arch, space: Space) -> dict[str, Any]:
    """Return the OFA dictionary of `arch`: `wid`, `ks`, `e`, `d` and a one-element `r`.

    Unused slots hold the smallest choice.
    """
    space.validate(arch)
    kernels, expands = [], []
    for stage, choices in zip(space.stages, arch.stages(), strict=True):
        padding = stage.max_depth - len(choices)
        kernels += [k for k, _ in choices] + [space.kernels[0]] * padding
        expands += [e for _, e in choices] + [space.expands[0]] * padding
    return {"wid": None, "ks": kernels, "e": expands, "d": list(arch.depths), "r": [arch.resolution_px]}


def read_arch_dict(path: Path) -> dict[str, Any]:
    """Read an architecture file, a `net.config` or a `run.config`: JSON, or a dictionary as Python prints it.

    Returns:
        The dictionary, for `arch_from_dict`; its field `space`, if any, names the space.

    Raises:
        FormatError: if the file is missing, too large, or does not hold a dictionary.
    """
    try:
        if path.stat().st_size > MAX_ARCH_FILE_BYTES:
            raise FormatError(f"{path}: {path.stat().st_size} bytes are too many for an architecture file")
        text = decoded(path.read_bytes(), str(path), "an architecture, JSON with ks, e, d and r,")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    data = parse_value(text, str(path))
    if not isinstance(data, dict):
        raise FormatError(f"{path}: holds a {type(data).__name__}; an architecture is a dictionary with ks, e, d and r")
    schema = data.get("schema", ARCH_SCHEMA)
    if schema != ARCH_SCHEMA:
        raise FormatError(f"{path}: schema {shown(schema)}; this version reads schema {ARCH_SCHEMA}")
    return {str(key): value for key, value in data.items()}


def arch_text(arch: Arch, space: Space) -> str:
    """Return the text of `arch.json`: the OFA dict plus `schema` and the space (docs/formats.md)."""
    named = space_fields(space)
    name = named.pop("space")
    record = {"schema": ARCH_SCHEMA, "space": name, **arch_to_dict(arch, space), **named}
    return json.dumps(record) + "\n"


def write_arch(path: Path, arch: Arch, space: Space) -> None:
    """Write `arch.json`."""
    write_text(path, arch_text(arch, space))


def _ints(value: Any, name: str) -> list[int]:
    out = []
    for item in as_items(value):
        if isinstance(item, bool) or not isinstance(item, int | float) or not abs(item) < 1e6 or item != int(item):
            raise ArchError(f"{name} holds {shown(item)}; whole numbers are expected")
        out.append(int(item))
    return out


def _active(values: list[int], name: str, depths: Sequence[int], max_depths: Sequence[int]) -> tuple[int, ...]:
    if len(values) == sum(depths):
        return tuple(values)
    if len(values) == 1:
        return tuple(values) * sum(depths)
    if len(values) != sum(max_depths):
        raise ArchError(
            f"{name} has {len(values)} values; expected {sum(max_depths)} (every slot), "
            f"{sum(depths)} (the active blocks) or one number"
        )
    out: list[int] = []
    start = 0
    for depth, slots in zip(depths, max_depths, strict=True):
        out += values[start : start + depth]
        start += slots
    return tuple(out)


def _check_space(record: Mapping[str, Any], space: Space) -> None:
    holder = next((r for r in (record, inner_dict(record)) if r.get("space") is not None), None)
    if holder is None or (not holder.get(SPACE_FIELDS[1]) and find_builtin(str(holder["space"])) is None):
        return  # a label of another tool
    found = space_of_record(record)
    if found is not None:
        require_space(found.with_classes(space.n_classes), space, "the architecture")


def _check_width(data: Mapping[str, Any], space: Space) -> None:
    width = width_of(data)
    if width is None:
        return
    channels = [stage.width for stage in space.stages]
    if len(channels) not in FAMILIES:
        raise ArchError(f"w is {width:g}, but {space.name} has no width; remove w")
    meant = get_space(f"{FAMILIES[len(channels)]}-w{width:g}")
    if [stage.width for stage in meant.stages] != channels:
        raise ArchError(f"w is {width:g}, the width of {meant.name}; the space is {space.name}")


# ---- columns of CSV files ----

ARCH_COLUMNS = ("space", "ks", "e", "d", "r")
_ALONE = (*RESOLUTION_FIELDS, *WIDTH_FIELDS)
"""Fields that may have a column of their own beside a column of dictionaries."""


def arch_fields(arch: Arch, space: Space) -> dict[str, str]:
    """Return an architecture as the fields of `ARCH_COLUMNS`."""
    record = arch_to_dict(arch, space)
    lists = {name: "[" + ",".join(map(str, record[name])) + "]" for name in ("ks", "e", "d")}
    return {"space": space.name, **lists, "r": str(arch.resolution_px)}


@dataclass(frozen=True, slots=True)
class ArchColumns:
    """The columns of a file that contain architectures.

    Attributes:
        lists: columns with one field of the dictionary each; empty if one column holds the whole dictionary.
        whole: the column with the whole dictionary, or empty.
    """

    lists: tuple[str, ...] = ()
    whole: str = ""

    @classmethod
    def of(cls, header: Sequence[str], first: Mapping[str, str], name: str) -> ArchColumns:
        """Find the columns by name, or by the fields of the first row.

        Raises:
            FormatError: if no column or more than one holds architectures.
        """
        found = cls.find(header, first)
        if found is None:
            raise FormatError(
                f"{name}: no architectures: columns ks, e, d and r are expected, or one with dictionaries of them; "
                f"the file has {', '.join(header[:40])[:200]!r}"
            )
        return found

    @classmethod
    def find(cls, header: Sequence[str], first: Mapping[str, str]) -> ArchColumns | None:
        """Find the columns as `of` does; return None if there are none."""
        if {"ks", "e", "d"} <= set(header):
            return cls(lists=("ks", "e", "d", *(name for name in header if name in _ALONE)))
        whole = [name for name in header if _holds_arch(first.get(name, ""))]
        if len(whole) > 1:
            raise FormatError(f"several columns hold architectures: {', '.join(map(repr, whole))[:200]}; leave one")
        return cls(whole=whole[0]) if whole else None

    def record(self, row: Mapping[str, str], where: str) -> dict[str, Any]:
        """Return the dictionary of a row for `arch_from_dict`, with the fields of its space if the file has them.

        Raises:
            FormatError: for fields that are not lists or numbers.
        """
        if self.whole:
            record = parse_value(row[self.whole], f"{where}: {self.whole}")
            if not isinstance(record, dict):
                raise FormatError(f"{where}: {self.whole} is {row[self.whole][:40]!r}; a dictionary is expected")
            beside = {name: parse_value(row[name], f"{where}: {name}") for name in _ALONE if row.get(name)}
        else:
            record = {name: _parse_list(row[name], f"{where}: {name}") for name in self.lists if row[name]}
            beside = {}
        beside |= {name: row[name] for name in SPACE_FIELDS if row.get(name)}
        for name in beside.keys() & record.keys():
            if record[name] is not None and _one(record[name]) != _one(beside[name]):
                values = f"{str(beside[name])[:40]!r} in its column and {str(record[name])[:40]!r} in {self.whole}"
                raise FormatError(f"{where}: {name} is {values}; one value is expected")
        return {**record, **beside}


_OURS = ArchColumns(lists=("ks", "e", "d", "r"))


def arch_of_row(row: Mapping[str, str], space: Space, where: str) -> Arch:
    """Return the architecture of a row of our own files: the inverse of `arch_fields`.

    Raises:
        FormatError: for fields that are not a member of the space; names the row.
    """
    try:
        return arch_from_dict(_OURS.record(row, where), space)
    except FormatError:
        raise  # already names the row
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error


def _holds_arch(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        value = parse_value(text, "")
    except FormatError:
        return False
    return isinstance(value, dict) and (isinstance(value.get("arch"), dict) or {"e", "d"} <= set(value))


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _parse_list(text: str, where: str) -> Any:
    words = text.split()
    if len(words) > 1 and all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        return [int(word) for word in words]
    return parse_value(text, where)
