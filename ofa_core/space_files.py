"""The values of `--space`: a built-in name, a TOML file, or a supernet's checkpoint.

A TOML file describes a space in the table `[space]`, either in full (with `[[space.stages]]`) or as changes to a
built-in one. The settings of `ofa-train` have the same table and are accepted too (docs/formats.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ofa_core.blocks import Act
from ofa_core.errors import FormatError, OfaError, SpaceError
from ofa_core.space import Space, Stage
from ofa_core.space_record import check_space, labelled, space_to_dict
from ofa_core.spaces import get_space
from ofa_core.toml_tables import from_table, read_toml

__all__ = ["SPACE_FILES", "SpaceConfig", "build_space", "read_space", "space_from", "space_table", "space_toml"]

SPACE_FILES = (".toml", ".pt", ".pth")
KNOWN_CLASSES = {"digits": 10, "cifar10": 10}
"""Number of classes of image sources that have a fixed one."""


@dataclass(frozen=True)
class SpaceConfig:
    """The table `[space]` of a TOML file: changes to a built-in space, or, with `stages`, a complete space.

    Attributes:
        name: name of a built-in space; with `stages`, the name of this space.
        first_stride: stride of the stem; 1 keeps the size of small images.
        stage_strides: strides of the stages' first blocks.
        resolutions: input sizes in pixels.
        dropout: probability before the classifier, in training.
        n_classes: outputs of the classifier (default: the number of classes of the images).
        stages: see `ofa_core.space.Stage`.
        first_c: this field and those below are the fields of `ofa_core.space.Space`.
    """

    name: str = "mbv3-w1.0"
    first_stride: int | None = None
    stage_strides: tuple[int, ...] | None = None
    resolutions: tuple[int, ...] | None = None
    dropout: float = 0.1
    n_classes: int | None = None
    stages: tuple[Stage, ...] | None = None
    first_c: int | None = None
    first_act: Act | None = None
    base_c: int | None = None
    base_act: Act | None = None
    base_shortcut: bool | None = None
    final_expand_c: int | None = None
    feature_c: int | None = None
    head_act: Act | None = None
    kernels: tuple[int, ...] | None = None
    expands: tuple[int, ...] | None = None


def build_space(config: SpaceConfig, n_classes: int | None = None) -> Space:
    """Build the space of a table `[space]`.

    Args:
        config: the table.
        n_classes: number of classes of the images, if known.

    Raises:
        SpaceError: for an unknown name, invalid values, or a number of classes that differs from the images'.
        ArchError: for an invalid input size.
    """
    if None not in (config.n_classes, n_classes) and config.n_classes != n_classes:
        raise SpaceError(f"the space has n_classes = {config.n_classes}; the images have {n_classes} classes")
    given = {f.name: getattr(config, f.name) for f in fields(Space) if getattr(config, f.name) is not None}
    if n_classes is not None:
        given["n_classes"] = n_classes
    if config.resolutions is not None:
        given["resolutions"] = tuple(sorted(set(config.resolutions)))
    if config.stages is None:
        space = replace(get_space(config.name), **{**given, "name": get_space(config.name).name})
    else:
        lacking = [f.name for f in fields(Space) if f.name not in given]
        if lacking:
            raise SpaceError(f"a space with stages needs {', '.join(lacking)} too")
        space = Space(**given)
    if config.stage_strides is not None:
        if len(config.stage_strides) != len(space.stages) or not set(config.stage_strides) <= {1, 2}:
            raise SpaceError(
                f"stage_strides {list(config.stage_strides)}: one of 1 or 2 for each of {len(space.stages)} stages"
            )
        stages = zip(space.stages, config.stage_strides, strict=True)
        space = replace(space, stages=tuple(replace(stage, stride=s) for stage, s in stages))
    return labelled(check_space(space))


def space_from(text: str) -> Space:
    """Return the space of a `--space` value.

    Args:
        text: a built-in name, a `.toml` file (a space, or settings of `ofa-train`), or a `.pt` or `.pth` file (a
            checkpoint of `ofa-train`).

    Raises:
        SpaceError: for an unknown name, or a file that does not describe a complete space.
        FormatError: for a file that cannot be read.
    """
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return read_space(path)
    if suffix in SPACE_FILES:
        return _space_of_checkpoint(path)
    try:
        return get_space(text)
    except SpaceError as error:
        raise SpaceError(f"{error}, or a .toml file, or a supernet.pt") from error


def read_space_table(path: Path) -> dict[str, Any]:
    """Return the table `[space]` of a TOML file, unchecked.

    Raises:
        SpaceError: if there is no such table.
        FormatError: for a file that is not TOML.
    """
    described = read_toml(path).get("space")
    if not isinstance(described, dict):
        raise SpaceError(f"{path}: no table [space]; it describes a search space (docs/formats.md)")
    return described


def space_table(text: str) -> dict[str, Any]:
    """Return a `--space` value as the table `[space]`; arguments and errors are those of `space_from`."""
    if Path(text).suffix.lower() == ".toml":
        return read_space_table(Path(text))
    space = space_from(text)
    return {"name": text} if Path(text).suffix.lower() not in SPACE_FILES else space_to_dict(space)


def read_space(path: Path) -> Space:
    """Read the space of a TOML file.

    Raises:
        SpaceError: if the table `[space]` does not describe a space, or the number of classes is unknown.
        FormatError: for a file that is not TOML.
    """
    table = read_toml(path)
    described = read_space_table(path)
    try:
        config = from_table(SpaceConfig, described, "space")
        n_classes = config.n_classes if config.n_classes is not None else _n_classes(table)
        return build_space(replace(config, n_classes=n_classes))
    except OfaError as error:
        raise SpaceError(f"{path}: {error}") from error


def space_toml(space: Space) -> str:
    """Return a space as TOML text for `read_space`."""
    values = space_to_dict(space)
    stages = values.pop("stages")
    lines = ["[space]", *map(_toml_line, values.items())]
    for stage in stages:
        lines += ["", "[[space.stages]]", *map(_toml_line, stage.items())]
    return "\n".join(lines) + "\n"


def _toml_line(item: tuple[str, Any]) -> str:
    return f"{item[0]} = {json.dumps(item[1])}"  # numbers, texts, booleans and lists look the same in TOML


def _n_classes(table: Mapping[str, Any]) -> int | None:
    """Return the number of classes of a run's images; None for a file that holds a space only.

    Raises:
        SpaceError: if it would have to be counted.
    """
    if set(table) == {"space"}:
        return None
    data = table.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    kind = str(source).partition(":")[0]
    if kind not in KNOWN_CLASSES:
        images = "its images" if source is None else repr(str(source)[:80])
        raise SpaceError(f"the number of classes of {images} is unknown; give n_classes in [space]")
    return KNOWN_CLASSES[kind]


def _space_of_checkpoint(path: Path) -> Space:
    try:
        from ofa_core.formats.checkpoint import read_space_of
    except ImportError as error:
        raise FormatError(
            f"{path}: reading a checkpoint takes torch (pip install 'ofa-latency[torch]'); the TOML file of its "
            "training describes the space as well"
        ) from error
    return read_space_of(path)
