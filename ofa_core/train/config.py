"""The settings of a run as dataclasses, read from TOML and checked key by key."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

from ofa_core.errors import OfaError
from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.space import Space
from ofa_core.space_files import SpaceConfig, build_space
from ofa_core.toml_tables import from_table, read_toml
from ofa_core.train.images import IMAGENET, Augmentation
from ofa_core.train.limits import check_limits
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
__all__ += ["as_table", "comparable", "differences", "from_table", "read_config", "settings_of", "without_rates"]


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        source: see `ofa_core.train.sources.open_sources`.
        workers: number of processes that decode and augment images.
        held_out: training images kept for accuracy tables (published: 10,000), at most half.
        n_calibration: images of a batch norm calibration (published: 2000).
        eval_batch_size: images per batch of evaluation and calibration.
    """

    source: str = "digits"
    workers: int = 0
    held_out: int = 10_000
    n_calibration: int = 2000
    eval_batch_size: int = 200

    def __post_init__(self) -> None:
        limits = {"workers": (0, 1024), "held_out": (0, inf), "n_calibration": (2, inf), "eval_batch_size": (1, inf)}
        check_limits(self, limits, "data.")


@dataclass(frozen=True)
class RecipeConfig:
    """The phases.

    Attributes:
        name: `progressive`, `joint` or `sandwich`.
        epochs: of all phases together, in the published proportions; None is as published.
        lr_scale: factor of every learning rate.
        batch_size: images per process and step; None is as published.
        kd_ratio: weight of distillation in phases that have it; None is as published.
        teacher_mode: `train` (published) or `eval`, see `Phase`.
        unused: `decay` (published) or `skip`, see `Phase`.
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

    def __post_init__(self) -> None:
        limits = {"epochs": (0, inf), "lr_scale": (1e-9, 1e9), "batch_size": (2, inf), "kd_ratio": (0, inf)}
        check_limits(self, {**limits, "accumulate": (1, inf)}, "recipe.")


@dataclass(frozen=True)
class RunConfig:
    """The execution of a run.

    Attributes:
        seed: of weights, order, augmentation and sub-nets.
        device: `auto`, `cpu` or `cuda`.
        amp: `none`, `bf16` or `fp16`.
        checkpoint_s: seconds between checkpoints.
        compile: use `torch.compile` in fine-tuning; a supernet, which runs another sub-net in every step, is never
            compiled. Meant for GPUs: on a CPU it takes minutes and gains nothing.
        fast_gradients: on a CPU, measure at the start the fastest weight gradient of each depth-wise shape.
    """

    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["none", "bf16", "fp16"] = "none"
    checkpoint_s: float = 300.0
    compile: bool = False
    fast_gradients: bool = True

    def __post_init__(self) -> None:
        check_limits(self, {"seed": (0, 2**63 - 1), "checkpoint_s": (0, inf)}, "run.")


@dataclass(frozen=True)
class Config:
    """All settings of a run; the same settings on the same machine give the same bits.

    Attributes:
        space: see `SpaceConfig`.
        data: see `DataConfig`.
        augmentation: of training images.
        preprocessing: stored with every checkpoint.
        recipe: see `RecipeConfig`; ignored if `phase` is set.
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
        """Return plain values, for a checkpoint."""
        return asdict(self)


def embedded() -> Config:
    """Return the settings of a run without data or GPU: the tiny space on scikit-learn's digits, in minutes."""
    return Config(
        space=SpaceConfig("tiny", dropout=0.0),
        data=DataConfig("digits", held_out=300, n_calibration=500),
        augmentation=Augmentation(scale=(0.6, 1.0), flip=False, brightness=0.2, saturation=0.0),
        preprocessing=Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct"),
        recipe=RecipeConfig(epochs=50, batch_size=48),
    )


def build_phases(config: Config, space: Space) -> tuple[Phase, ...]:
    """Return the phases of a run, in order."""
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
        OfaError: if the file is not TOML, a key is unknown (with the nearest known one), or a value has another type.
    """
    table = read_toml(path)
    try:
        return from_table(Config, table)
    except OfaError as error:
        raise OfaError(f"{path}: {error}") from error


def settings_of(path: Path | None, source: str) -> Config:
    """Return the settings of a file; without one, those that suit the images."""
    if path is not None:
        return read_config(path)
    return embedded() if source == "digits" else Config(data=DataConfig(source))


def as_table(settings: Any) -> dict[str, Any]:
    """Return a part of the settings as it would stand in a file."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items() if v is not None}


def comparable(config: Config) -> dict[str, Any]:
    """Return the settings that change the result: all but the number of workers and the time between checkpoints."""
    fixed = replace(config, run=replace(config.run, checkpoint_s=0.0), data=replace(config.data, workers=0))
    plain: dict[str, Any] = _plain(fixed.to_dict())
    return plain


def without_rates(settings: dict[str, Any]) -> dict[str, Any]:
    """Return comparable settings without learning rates and precision, which may change on resume."""
    recipe = {k: v for k, v in settings["recipe"].items() if k != "lr_scale"}
    run = {k: v for k, v in settings["run"].items() if k != "amp"}
    phases = [{k: v for k, v in phase.items() if k not in ("lr", "warmup_lr")} for phase in settings["phase"]]
    return {**settings, "recipe": recipe, "run": run, "phase": phases}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """Describe the settings that differ; a missing setting equals None."""
    found = []
    for key in sorted(old.keys() | new.keys(), key=str):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = differences(a, b, f"{prefix}{key}.")
            found += [inner] if inner else []
        elif a != b:
            found.append(f"{prefix}{key}: {a!r:.60} then, {b!r:.60} now")
    return "; ".join(found)
