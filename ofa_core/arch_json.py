"""Architectures in files: the public dialects of the OFA dict, `arch.json`, and what is written.

The public form, "the OFA dict", pads every stage to its maximum depth:

    {"wid": None, "ks": [20], "e": [20], "d": [5], "r": [224]}

What stands in the unused slots means nothing; it is dropped on reading and written as the smallest choice. A field that
is null counts as not given. An architecture has one input size: several, or two fields that differ, are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofa_core.arch import Arch
from ofa_core.atomic import write_text
from ofa_core.errors import ArchError, FormatError
from ofa_core.literals import parse_value

if TYPE_CHECKING:
    from ofa_core.space import Space

__all__ = [
    "ARCH_SCHEMA",
    "RESOLUTION_FIELDS",
    "arch_from_dict",
    "arch_to_dict",
    "read_arch_dict",
    "resolution_of",
    "space_name_of",
    "write_arch",
]

ARCH_SCHEMA = 1
MAX_ARCH_FILE_BYTES = 1_000_000
RESOLUTION_FIELDS = ("r", "image_size", "img_size", "resolution")
_WIDTH_FIELDS = ("w", "wid")
_FAMILIES = {5: "mbv3", 6: "proxyless"}  # by the number of stages


def arch_from_dict(data: Mapping[str, Any], space: Space, *, resolution_px: int | None = None) -> Arch:
    """Read any public dialect of the OFA architecture dictionary.

    Understood: padded lists (the published form; zeros or anything else in unused slots); compact lists of length
    sum(d) (nsganetv2, NAT); scalars that hold for every block (`set_active_subnet`); the resolution as `r`,
    `image_size`, `img_size` or `resolution` (list or number); a width as `w`, checked against the space; the dictionary
    inside an `arch` field (what this project's own commands print). `d` of a stage that has only one depth is taken as
    that depth, as the published ProxylessNAS code does.

    Args:
        data: the dictionary.
        space: the space it is meant in.
        resolution_px: the input size, in place of the dictionary's own.

    Returns:
        A validated member of `space`.

    Raises:
        ArchError: naming the field, its value and what would be right.
        SpaceError: for an architecture of another space, naming what differs; another number of classes is none.
    """
    outer, data = data, _inner(data)
    _check_family(data)
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
        raise ArchError(f"the architecture names no resolution ({fields}); give one, as by --resolution PX")
    arch = Arch(
        tuple(depths),
        _active(_ints(data["ks"], "ks"), "ks", depths, max_depths),
        _active(_ints(data["e"], "e"), "e", depths, max_depths),
        resolution_px,
    )
    space.validate(arch)
    return arch


def resolution_of(*records: Mapping[str, Any]) -> int | None:
    """The one input size in pixels that the records name together; None if they name none.

    Args:
        records: dictionaries that speak of the same network, such as a `net.config` and its `run.config`.

    Raises:
        ArchError: for several sizes, with the field of each, or for what is no size.
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
        raise ArchError(f"{len(distinct)} input sizes where one is expected ({shown}); choose one by --resolution PX")
    return distinct.pop() if distinct else None


def space_name_of(record: Mapping[str, Any]) -> str | None:
    """The name of the space that a record names: by `space`, else by its width `w` and the number of its stages.

    Raises:
        ArchError: for an architecture of a family that is not supported, or a width that is none.
    """
    if record.get("space") is not None:
        return str(record["space"])[:200]
    data = _inner(record)
    if data is not record and data.get("space") is not None:
        return str(data["space"])[:200]
    _check_family(data)
    width, depths = _width_of(data), data.get("d")
    if width is None or not isinstance(depths, Sequence) or len(depths) not in _FAMILIES:
        return None
    return f"{_FAMILIES[len(depths)]}-w{width:g}"


def arch_to_dict(arch: Arch, space: Space) -> dict[str, Any]:
    """The OFA dict of `arch`: `wid`, `ks`, `e`, `d` and a one-element `r`; unused slots hold the smallest choice."""
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
        The dictionary, to be given to `arch_from_dict` once the space is known (its `space` field, if any, names it).

    Raises:
        FormatError: if the file is not there, too large, or holds no dictionary.
    """
    try:
        if path.stat().st_size > MAX_ARCH_FILE_BYTES:
            raise FormatError(f"{path}: {path.stat().st_size} bytes are too many for an architecture file")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file; an architecture is JSON with ks, e, d and r") from error
    data = parse_value(text, str(path))
    if not isinstance(data, dict):
        raise FormatError(f"{path}: holds a {type(data).__name__}; an architecture is a dictionary with ks, e, d and r")
    schema = data.get("schema", ARCH_SCHEMA)
    if schema != ARCH_SCHEMA:
        raise FormatError(f"{path}: schema {_shown(schema)}; this version reads schema {ARCH_SCHEMA}")
    return {str(key): value for key, value in data.items()}


def write_arch(path: Path, arch: Arch, space: Space) -> None:
    """Write `arch.json`: the OFA dict plus `schema` and the space (docs/formats.md)."""
    from ofa_core.space_record import space_fields

    named = space_fields(space)
    name = named.pop("space")
    record = {"schema": ARCH_SCHEMA, "space": name, **arch_to_dict(arch, space), **named}
    write_text(path, json.dumps(record) + "\n")


def _inner(data: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = data.get("arch")
    return inner if isinstance(inner, Mapping) else data


def _ints(value: Any, name: str) -> list[int]:
    out = []
    for item in _items(value):
        if isinstance(item, bool) or not isinstance(item, int | float) or not abs(item) < 1e6 or item != int(item):
            raise ArchError(f"{name} holds {_shown(item)}; whole numbers are expected")
        out.append(int(item))
    return out


def _items(value: Any) -> list[Any]:
    """A value as a list: a sequence or an array by its elements, anything else alone."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [item.item() if isinstance(item, np.generic) else item for item in value]
    return [value]


def _shown(item: Any) -> str:
    """A wrong value for an error: nothing that could be long or span lines."""
    if isinstance(item, str):
        return repr(item[:40])
    if isinstance(item, float | bool) or (isinstance(item, int) and abs(item) < 10**20):
        return repr(item)
    return f"a {type(item).__name__} of 20 digits or more" if isinstance(item, int) else f"a {type(item).__name__}"


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


def _check_family(data: Mapping[str, Any]) -> None:
    """Refuse an architecture of OFA-ResNet50: it has a list of widths, and expand ratios below 1."""
    ratios = [e for e in _items(data.get("e")) if isinstance(e, float) and 0 < e < 1]
    widths = _items(data.get("w"))
    if ratios or len(widths) > 1:
        sign = f"e holds {ratios[0]:g}" if ratios else f"w holds {len(widths)} widths"
        raise ArchError(f"{sign}: an architecture of OFA-ResNet50, which is not supported yet; mbv3 and proxyless are")


def _width_of(data: Mapping[str, Any]) -> float | None:
    widths = {}
    for field in _WIDTH_FIELDS:
        for width in _items(data.get(field)):
            if width is None:
                continue
            if isinstance(width, bool) or not isinstance(width, int | float) or not 0.1 <= width <= 4:
                raise ArchError(f"{field} is {_shown(width)}; a width from 0.1 to 4 is expected")
            widths[round(float(width), 3)] = field
    if len(widths) > 1:
        raise ArchError(f"{', '.join(f'{field} is {w:g}' for w, field in widths.items())}; one width is expected")
    return next(iter(widths), None)


def _check_space(record: Mapping[str, Any], space: Space) -> None:
    from ofa_core.space_record import SPACE_FIELDS, require_space, space_of_record
    from ofa_core.spaces import find_builtin

    holder = next((r for r in (record, _inner(record)) if r.get("space") is not None), None)
    if holder is None or (not holder.get(SPACE_FIELDS[1]) and find_builtin(str(holder["space"])) is None):
        return  # a label of somebody else
    found = space_of_record(record)
    if found is not None:
        require_space(found.with_classes(space.n_classes), space, "the architecture")


def _check_width(data: Mapping[str, Any], space: Space) -> None:
    from ofa_core.spaces import get_space

    width = _width_of(data)
    if width is None:
        return
    channels = [stage.width for stage in space.stages]
    if len(channels) not in _FAMILIES:
        raise ArchError(f"w is {width:g}, but {space.name} is of no width; leave w out")
    meant = get_space(f"{_FAMILIES[len(channels)]}-w{width:g}")
    if [stage.width for stage in meant.stages] != channels:
        raise ArchError(f"w is {width:g}, the width of {meant.name}; the space is {space.name}")
