"""The settings of a run: dataclasses, read from TOML and checked key by key."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ofa_core.errors import OfaError, SpaceError
from ofa_core.formats.checkpoint import Preprocessing
from ofa_core.space import Space, check_resolution
from ofa_core.spaces import get_space
from ofa_core.train.images import IMAGENET, Augmentation
from ofa_core.train.phases import RECIPES, Phase, scaled

__all__ = [
    "Config",
    "DataConfig",
    "RecipeConfig",
    "RunConfig",
    "SpaceConfig",
    "build_phases",
    "build_space",
    "embedded",
]
__all__ += ["comparable", "differences", "from_table", "read_config"]

T = TypeVar("T")


@dataclass(frozen=True)
class SpaceConfig:
    """The search space.

    Attributes:
        name: of a known space.
        first_stride: of the stem, for small images (1 keeps their size).
        stage_strides: of the stages' first blocks, likewise.
        resolutions: image sizes in pixels.
        dropout: before the classifier.
    """

    name: str = "mbv3-w1.0"
    first_stride: int | None = None
    stage_strides: tuple[int, ...] | None = None
    resolutions: tuple[int, ...] | None = None
    dropout: float = 0.1


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        source: see `ofa_core.train.sources.open_sources`.
        workers: processes that decode and augment.
        held_out: training images kept for accuracy tables (published: 10,000), at most half.
        n_calibration: images of a batch norm calibration (published: 2000).
        eval_batch_size: images per batch of evaluation and calibration.
    """

    source: str = "digits"
    workers: int = 0
    held_out: int = 10_000
    n_calibration: int = 2000
    eval_batch_size: int = 200


@dataclass(frozen=True)
class RecipeConfig:
    """The phases.

    Attributes:
        name: `progressive`, `joint` or `sandwich`.
        epochs: all phases together, each keeping its share; None is as published.
        lr_scale: factor of every learning rate.
        batch_size: images per process and step; None is as published.
        kd_ratio: weight of the teacher where the recipe has one.
        teacher_mode: `train` (published) or `eval`.
        unused: `decay` (published) or `skip`: parameters outside a step's sub-nets.
        accumulate: steps per update.
        keep_squeezed: see `ofa_core.nn.sorting.sort_channels`.
    """

    name: Literal["progressive", "joint", "sandwich"] = "progressive"
    epochs: float | None = None
    lr_scale: float = 1.0
    batch_size: int | None = None
    kd_ratio: float | None = None
    teacher_mode: Literal["train", "eval"] = "train"
    unused: Literal["decay", "skip"] = "decay"
    accumulate: int = 1
    keep_squeezed: bool = False


@dataclass(frozen=True)
class RunConfig:
    """How it runs.

    Attributes:
        seed: of weights, order, augmentation and sub-nets.
        device: `auto`, `cpu` or `cuda`.
        amp: `none`, `bf16` or `fp16`.
        checkpoint_s: seconds between checkpoints.
        compile: `torch.compile` the network in fine-tuning; a supernet runs another sub-net in every step. Meant for
            GPUs: on a CPU it takes minutes and gains nothing.
        fast_gradients: measure at start which depth-wise shapes take the matrix form of the weight gradient (CPU).
    """

    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["none", "bf16", "fp16"] = "none"
    checkpoint_s: float = 300.0
    compile: bool = False
    fast_gradients: bool = True


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; the same configuration on the same machine gives the same bits.

    Attributes:
        space: see `SpaceConfig`.
        data: see `DataConfig`.
        augmentation: of training images.
        preprocessing: stored with every checkpoint.
        recipe: see `RecipeConfig`; ignored where `phase` is given.
        phase: the phases one by one.
        run: see `RunConfig`.
    """

    space: SpaceConfig = field(default_factory=SpaceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    preprocessing: Preprocessing = IMAGENET
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    phase: tuple[Phase, ...] = ()
    run: RunConfig = field(default_factory=RunConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)


def embedded() -> Config:
    """The run that needs no data and no GPU: the tiny space on scikit-learn's digits, all phases in minutes."""
    return Config(
        space=SpaceConfig("tiny", dropout=0.0),
        data=DataConfig("digits", held_out=300, n_calibration=500),
        augmentation=Augmentation(scale=(0.6, 1.0), flip=False, brightness=0.2, saturation=0.0),
        preprocessing=Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct"),
        recipe=RecipeConfig(epochs=50, batch_size=48),
    )


def build_space(config: SpaceConfig, n_classes: int) -> Space:
    """The search space of a run.

    Raises:
        SpaceError: for an unknown name, or strides that do not fit it.
        ArchError: for an image size that no network takes.
    """
    space = get_space(config.name).with_classes(n_classes)
    if config.first_stride is not None:
        space = replace(space, first_stride=config.first_stride)
    if config.stage_strides is not None:
        if len(config.stage_strides) != len(space.stages) or not set(config.stage_strides) <= {1, 2}:
            raise SpaceError(
                f"stage_strides {list(config.stage_strides)}: one of 1 or 2 for each of {len(space.stages)} stages"
            )
        stages = zip(space.stages, config.stage_strides, strict=True)
        space = replace(space, stages=tuple(replace(stage, stride=s) for stage, s in stages))
    if config.resolutions is not None:
        for px in config.resolutions:
            check_resolution(px)
        space = replace(space, resolutions=tuple(sorted(set(config.resolutions))))
    return space


def build_phases(config: Config, space: Space) -> tuple[Phase, ...]:
    """The phases of a run, in order."""
    if config.phase:
        return config.phase
    recipe = config.recipe
    phases = RECIPES[recipe.name](space)
    if recipe.epochs is not None:
        phases = scaled(phases, recipe.epochs)
    changes: dict[str, Any] = {"teacher_mode": recipe.teacher_mode, "unused": recipe.unused}
    changes |= {"accumulate": recipe.accumulate, "dropout": config.space.dropout}
    if recipe.batch_size is not None:
        changes["batch_size"] = recipe.batch_size
    out = []
    for phase in phases:
        kd = phase.kd_ratio if recipe.kd_ratio is None or not phase.kd_ratio else recipe.kd_ratio
        out.append(replace(phase, lr=phase.lr * recipe.lr_scale, kd_ratio=kd, **changes))
    return tuple(out)


def read_config(path: Path) -> Config:
    """Read a TOML file: tables `space`, `data`, `augmentation`, `preprocessing`, `recipe`, `run`, and `[[phase]]`.

    Raises:
        OfaError: for a file that is not TOML, an unknown key (with the nearest known one), or a value of another type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OfaError(f"{path}: not TOML: {error}") from error
    try:
        return from_table(Config, table)
    except OfaError as error:
        raise OfaError(f"{path}: {error}") from error


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
        if not isinstance(value, list):
            raise OfaError(f"{place} is {value!r}; a list is expected")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise OfaError(f"{place} has {len(value)} entries; {len(arguments)} are expected")
        return tuple(_converted(arguments[0], v, f"{place}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise OfaError(f"{place} is {value!r}; {hint.__name__} is expected")
    return value


def comparable(config: Config) -> dict[str, Any]:
    """The settings that decide the result; how often checkpoints are written is free to change."""
    fixed = replace(config, run=replace(config.run, checkpoint_s=0.0), data=replace(config.data, workers=0))
    plain: dict[str, Any] = _plain(fixed.to_dict())
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """The settings that differ, in words."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = differences(a, b, f"{prefix}{key}.")
            found += [inner] if inner else []
        elif a != b:
            found.append(f"{prefix}{key}: {a!r} then, {b!r} now")
    return "; ".join(found)
