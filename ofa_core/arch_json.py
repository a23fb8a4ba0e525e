"""Architectures in files: the public dialects of the OFA dict, `arch.json`, and what is written.

The public form, "the OFA dict", pads every stage to its maximum depth:

    {"wid": None, "ks": [20], "e": [20], "d": [5], "r": [224]}

What stands in the unused slots means nothing; it is dropped on reading and written as the smallest choice.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofa_core.arch import Arch
from ofa_core.atomic import write_text
from ofa_core.errors import ArchError, FormatError

if TYPE_CHECKING:
    from ofa_core.space import Space

__all__ = ["ARCH_SCHEMA", "arch_from_dict", "arch_to_dict", "read_arch_dict", "write_arch"]

ARCH_SCHEMA = 1
MAX_ARCH_FILE_BYTES = 1_000_000


def arch_from_dict(data: Mapping[str, Any], space: Space, *, resolution_px: int | None = None) -> Arch:
    """Read any public dialect of the OFA architecture dictionary.

    Understood: padded lists (the published form; zeros or anything else in unused slots); compact lists of length
    sum(d) (nsganetv2, NAT); scalars that hold for every block (`set_active_subnet`); the resolution as `r` (list or
    number) or `image_size`; a width as `w`, checked against the space; the dictionary inside an `arch` field (what
    this project's own commands print). `d` of a stage that has only one depth is taken as that depth, as the published
    ProxylessNAS code does.

    Args:
        data: the dictionary.
        space: the space it is meant in.
        resolution_px: used where the dictionary names no resolution.

    Returns:
        A validated member of `space`.

    Raises:
        ArchError: naming the field, its value and what would be right.
    """
    inner = data.get("arch")
    if isinstance(inner, Mapping):
        data = inner
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
    arch = Arch(
        tuple(depths),
        _active(_ints(data["ks"], "ks"), "ks", depths, max_depths),
        _active(_ints(data["e"], "e"), "e", depths, max_depths),
        _resolution(data, resolution_px),
    )
    space.validate(arch)
    return arch


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
    """Read an architecture file: JSON, or a Python dictionary literal as DyNAS-T prints it.

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
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                data = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise FormatError(f"{path}: neither JSON nor a dictionary: {str(error)[:200]}") from error
    if not isinstance(data, dict):
        raise FormatError(f"{path}: holds a {type(data).__name__}; an architecture is a dictionary with ks, e, d and r")
    schema = data.get("schema", ARCH_SCHEMA)
    if schema != ARCH_SCHEMA:
        raise FormatError(f"{path}: schema {_shown(schema)}; this version reads schema {ARCH_SCHEMA}")
    return {str(key): value for key, value in data.items()}


def write_arch(path: Path, arch: Arch, space: Space) -> None:
    """Write `arch.json`: the OFA dict plus `schema` and `space` (docs/formats.md)."""
    record = {"schema": ARCH_SCHEMA, "space": space.name, **arch_to_dict(arch, space)}
    write_text(path, json.dumps(record) + "\n")


def _ints(value: Any, name: str) -> list[int]:
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    out = []
    for item in values:
        if isinstance(item, bool) or not isinstance(item, int | float) or not abs(item) < 1e6 or item != int(item):
            raise ArchError(f"{name} holds {_shown(item)}; whole numbers are expected")
        out.append(int(item))
    return out


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


def _resolution(data: Mapping[str, Any], default: int | None) -> int:
    for name in ("r", "image_size"):
        if data.get(name) is not None:
            values = _ints(data[name], name)
            if len(values) != 1:
                raise ArchError(f"{name} holds {len(values)} resolutions; one is expected")
            return values[0]
    if default is None:
        raise ArchError("the architecture names no resolution (r or image_size), and none was given")
    return default


def _check_width(data: Mapping[str, Any], space: Space) -> None:
    width = data.get("w")
    name = space.name.rpartition("-w")[2]
    if not isinstance(width, int | float) or not name.replace(".", "").isdigit():
        return
    if not float(name) - 1e-6 <= width <= float(name) + 1e-6:
        shown = f"{width:g}" if abs(width) < 1e6 else "a huge one"
        raise ArchError(f"the architecture has width {shown}, the space {space.name} another one")
