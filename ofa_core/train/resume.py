"""Where a run stands: begun anew, read from the newest checkpoint of its folder, and written to the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ofa_core.errors import FormatError, OfaError
from ofa_core.formats.checkpoint import checkpoint_dict, checkpoint_from_dict
from ofa_core.formats.published_weights import load_published, to_published
from ofa_core.nn.kernels import BUILTIN, KernelPlan
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.schema import Count, PositiveCount
from ofa_core.space import Space
from ofa_core.train.checkpoints import load_latest, newest, save_state
from ofa_core.train.config import Config, build_phases, comparable, differences, without_rates
from ofa_core.train.distributed import Process
from ofa_core.train.divergence import DivergedError, check_finite
from ofa_core.train.identity import DataIdentity, class_difference
from ofa_core.train.kernel_cache import remembered_plan

__all__ = ["RunFolder", "RunState", "begun", "diverged", "restore_optimizer", "resumed", "save"]

Warn = Callable[[str], None]


@dataclass(frozen=True)
class _Settings:
    recipe: dict[str, Any]
    run: dict[str, Any]
    phase: list[dict[str, Any]]


@dataclass(frozen=True)
class _Images:
    classes: list[str]
    n_train: Count
    n_val: Count
    train_digest: str
    val_digest: str


@dataclass(frozen=True)
class _Content:
    """The shape of a checkpoint. The inside of `net`, `plan`, `teacher` and `optimizer` is checked where it is used."""

    config: _Settings
    world: PositiveCount
    net: dict[str, Any]
    plan: list[list[Any]]
    teacher: dict[str, Any] | None
    optimizer: dict[str, Any] | None
    phase_index: Count
    step: Count
    n_steps: Count
    data: _Images | None = None  # version 0.1.0 wrote none


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, and what has to be the same for a run to go on in it.

    Attributes:
        path: the folder.
        config: the settings.
        data: identity of the images.
        process: this process among all.
    """

    path: Path
    config: Config
    data: DataIdentity
    process: Process


@dataclass
class RunState:
    """What changes while a run goes on."""

    net: Supernet
    teacher: SubNet | None = None
    phase_index: int = 0
    step: int = 0
    n_steps: int = 0
    optimizer_state: dict[str, Any] | None = None


def begun(folder: RunFolder, space: Space, start_from: Path | None, warn: Warn) -> RunState:
    """A new run, from random weights or those of a file."""
    config = folder.config
    plan = _plan(config, space, folder.process, warn)
    net = Supernet(space, dropout=config.space.dropout, seed=config.run.seed, plan=plan)
    if start_from is not None:
        _load_weights(net, start_from, folder.data, warn)
    return RunState(net)


def resumed(folder: RunFolder, space: Space, warn: Warn) -> RunState | None:
    """The run that the folder holds; None if it holds none.

    Learning rates may change, so that a run that diverged can go on from its last checkpoint.

    Raises:
        OfaError: if the settings, the images or the number of processes are others than those of the checkpoint.
    """
    content = load_latest(folder.path, warn, _Content)
    if content is None:
        return None
    then, now = content["config"], comparable(folder.config)
    changed = differences(without_rates(then), without_rates(now))
    if changed:
        raise OfaError(
            f"{folder.path} holds a run with other settings ({changed}); resume needs the same configuration"
        )
    if content["world"] != folder.process.world:
        raise OfaError(f"{folder.path}: the run had {content['world']} processes, now there are {folder.process.world}")
    if content["phase_index"] > len(build_phases(folder.config, space)):
        raise FormatError(f"{folder.path}: phase_index is {content['phase_index']}; the run has fewer phases")
    net = checkpoint_from_dict(content["net"], str(folder.path)).net
    if not isinstance(net, Supernet):
        raise FormatError(f"{folder.path}: net is a sub-net; a supernet is expected")
    _check_data(folder, content.get("data"), net.space.n_classes)
    rates = differences(then, now)
    if rates:
        warn(f"{folder.path} goes on with other learning rates ({rates})")
    net.plan = KernelPlan.from_list(content["plan"])
    cast(Classifier, net.layers[-1]).dropout = folder.config.space.dropout
    teacher = None
    if content["teacher"] is not None:
        teacher = extract(net, space.largest())
        load_published(teacher, content["teacher"], "teacher")
        teacher.requires_grad_(False)
    return RunState(net, teacher, content["phase_index"], content["step"], content["n_steps"], content["optimizer"])


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], source: Path) -> None:
    """Give an optimizer the state of a checkpoint.

    Raises:
        FormatError: for a state that is not of such an optimizer.
    """
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise FormatError(f"{source}: the state of the optimizer is damaged ({reason})") from error


def _check_data(folder: RunFolder, then: dict[str, Any] | None, n_classes: int) -> None:
    """Refuse other images; a checkpoint of version 0.1.0 says no more of them than the number of classes."""
    changed = "" if then is None else folder.data.changes_since(then)
    if then is None and n_classes != len(folder.data.classes):
        changed = f"{n_classes} classes then, {len(folder.data.classes)} now"
    if changed:
        raise OfaError(f"{folder.path} holds a run on other images ({changed}); resume needs the same images")


def save(folder: RunFolder, run: RunState, optimizer: torch.optim.Optimizer | None, warn: Warn | None) -> None:
    """Write a checkpoint on the first process; without `warn` a failure ends the run, else it is told and goes on.

    Raises:
        DivergedError: if weights or optimizer hold nan or inf: the checkpoint before stays the last one.
    """
    if not folder.process.is_root:
        return
    try:
        check_finite(run.net, optimizer)
    except DivergedError as error:
        raise diverged(folder, error) from error
    content = {
        "config": comparable(folder.config),
        "data": folder.data.to_dict(),
        "world": folder.process.world,
        "net": checkpoint_dict(run.net, run.net.space, folder.config.preprocessing, classes=folder.data.classes),
        "plan": run.net.plan.to_list(),
        "teacher": None if run.teacher is None else to_published(run.teacher),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "phase_index": run.phase_index,
        "step": run.step,
        "n_steps": run.n_steps,
    }
    try:
        save_state(folder.path, run.n_steps, content)
    except OfaError as error:
        if warn is None:
            raise
        warn(str(error))


def diverged(folder: RunFolder, error: DivergedError) -> DivergedError:
    """The error with the last good checkpoint and what to do."""
    good = newest(folder.path)
    if good is None:
        return DivergedError(
            f"{error}; no checkpoint was written yet: start again with lower rates, as by lr_scale in [recipe]"
        )
    return DivergedError(
        f"{error}; the last good checkpoint is {good}: go on from it by --resume, with lower rates, as by lr_scale "
        "in [recipe]"
    )


def _plan(config: Config, space: Space, process: Process, warn: Warn) -> KernelPlan:
    """Measured on the first process and used by all, since the forms differ in the last bits."""
    if process.device != "cpu" or not config.run.fast_gradients:
        return BUILTIN
    box: list[Any] = [None]
    if process.is_root:
        box = [remembered_plan(space.all_blocks(), config.recipe.batch_size or 64, warn).to_list()]
    if process.world > 1:
        torch.distributed.broadcast_object_list(box)
    return KernelPlan.from_list(box[0])


def _load_weights(net: Supernet, path: Path, data: DataIdentity, warn: Warn) -> None:
    from ofa_core.formats.checkpoint import read_checkpoint
    from ofa_core.formats.published_weights import read_state_dict

    try:
        read = read_checkpoint(path)
    except FormatError:
        load_published(net, read_state_dict(path), str(path))
        return
    load_published(net, to_published(read.net), str(path))
    if read.classes is not None and read.classes != data.classes:
        warn(f"{path} is of other classes ({class_difference(read.classes, data.classes)}); its classifier is kept")
