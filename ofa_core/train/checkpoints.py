"""The state of a run: begin it, write it to checkpoints, and resume it from the newest readable one.

A checkpoint appears whole or not at all, and the last two are kept, so that a damaged one costs the steps between two.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from ofa_core.errors import FormatError, OfaError, OutputError
from ofa_core.formats.checkpoint import checkpoint_dict, checkpoint_from_dict, read_checkpoint
from ofa_core.formats.published_weights import load_published, read_state_dict, to_published
from ofa_core.formats.torch_files import read_torch, write_torch
from ofa_core.nn.kernels import BUILTIN, KernelPlan
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.schema import Count, PositiveCount, structured
from ofa_core.space import Space
from ofa_core.train.config import build_phases, comparable, differences, without_rates
from ofa_core.train.divergence import DivergedError, check_finite
from ofa_core.train.identity import class_difference
from ofa_core.train.kernel_cache import remembered_plan
from ofa_core.train.run import TrainingRun

__all__ = [
    "SCHEMA",
    "RunState",
    "begin",
    "load_latest",
    "name_last_checkpoint",
    "newest",
    "restore_optimizer",
    "resume_from",
    "save",
    "save_state",
]

SCHEMA = 1
KEPT = 2
_NAME = re.compile(r"run-(\d{10})\.pt")

_log = logging.getLogger(__name__)


@dataclass
class RunState:
    """The part of a run that changes while it trains.

    Attributes:
        net: the supernet.
        teacher: network to distil from; None before the first phase that distils.
        phase_index: number of the phase.
        step: steps trained in the phase.
        n_steps: steps trained in the run.
        optimizer_state: from a checkpoint; None once it is restored, and between phases.
    """

    net: Supernet
    teacher: SubNet | None = None
    phase_index: int = 0
    step: int = 0
    n_steps: int = 0
    optimizer_state: dict[str, Any] | None = None


def begin(run: TrainingRun, space: Space, start_from: Path | None = None) -> RunState:
    """Return the state of a new run, with random weights or those of a file."""
    net = Supernet(space, dropout=run.config.space.dropout, seed=run.config.run.seed, plan=_plan(run, space))
    if start_from is not None:
        _load_weights(net, start_from, run.data.train.classes)
    return RunState(net)


def resume_from(run: TrainingRun, space: Space) -> RunState | None:
    """Return the state in the newest checkpoint of `run.out`; None without a checkpoint.

    Learning rates and precision may differ from those of the checkpoint, so that a run that diverged can continue.

    Raises:
        OfaError: if other settings, the images or the number of processes differ from those of the checkpoint.
    """
    content = load_latest(run.out, _Content)
    if content is None:
        return None
    then, now = content["config"], comparable(run.config)
    changed = differences(without_rates(then), without_rates(now))
    if changed:
        raise OfaError(f"{run.out} holds a run with other settings ({changed}); --resume needs the same settings")
    if content["world"] != run.process.world:
        raise OfaError(
            f"{run.out} holds a run of {content['world']} processes, and this one has {run.process.world}; "
            "--resume needs the same number"
        )
    if content["phase_index"] > len(build_phases(run.config, space)):
        raise FormatError(f"{run.out}: phase_index is {content['phase_index']}; the run has fewer phases")
    net = checkpoint_from_dict(content["net"], str(run.out)).net
    if not isinstance(net, Supernet):
        raise FormatError(f"{run.out}: net is a sub-net; a supernet is expected")
    _check_data(run, content.get("data"), net.space.n_classes)
    rates = differences(then, now)
    if rates:
        _log.warning("%s continues with changed settings (%s)", run.out, rates)
    net.plan = KernelPlan.from_list(content["plan"])
    cast(Classifier, net.layers[-1]).dropout = run.config.space.dropout
    teacher = None
    if content["teacher"] is not None:
        teacher = extract(net, space.largest())
        load_published(teacher, content["teacher"], "teacher")
        teacher.requires_grad_(False)
    return RunState(net, teacher, content["phase_index"], content["step"], content["n_steps"], content["optimizer"])


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], source: Path) -> None:
    """Load the state in a checkpoint into an optimizer.

    Raises:
        FormatError: if the state is not that of such an optimizer.
    """
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise FormatError(f"{source}: the state of the optimizer is damaged ({reason})") from error


def save(run: TrainingRun, state: RunState, optimizer: torch.optim.Optimizer | None) -> None:
    """Write a checkpoint, on the first process only.

    Raises:
        DivergedError: if weights or optimizer hold nan or inf; the previous checkpoint stays the last one.
        OutputError: if it cannot be written; the previous checkpoint stays.
    """
    if not run.process.is_root:
        return
    check_finite(state.net, optimizer)
    classes = run.data.train.classes
    content = {
        "config": comparable(run.config),
        "data": run.identity.to_dict(),
        "world": run.process.world,
        "net": checkpoint_dict(state.net, state.net.space, run.config.preprocessing, classes=classes),
        "plan": state.net.plan.to_list(),
        "teacher": None if state.teacher is None else to_published(state.teacher),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "phase_index": state.phase_index,
        "step": state.step,
        "n_steps": state.n_steps,
    }
    save_state(run.out, state.n_steps, content)


@contextmanager
def name_last_checkpoint(folder: Path) -> Iterator[None]:
    """Add the last checkpoint and the remedy to a `DivergedError` of the body."""
    try:
        yield
    except DivergedError as error:
        last = newest(folder)
        start = (
            "no checkpoint was written yet: start again with"
            if last is None
            else f"continue from {last} with --resume and"
        )
        raise DivergedError(f"{error}; {start} a lower learning rate, such as lr_scale = 0.5 in [recipe]") from error


# ---- files -----------------------------------------------------------------------------------------------------------


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder; None without any."""
    return next(iter(_files(folder)), None)


def save_state(folder: Path, n_steps: int, content: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the last two.

    Args:
        folder: of the run.
        n_steps: steps since the start of the run.
        content: plain values and tensors.

    Raises:
        OutputError: if it cannot be written, such as on a full disk; the previous checkpoint stays.
    """
    path = folder / f"run-{n_steps:010d}.pt"
    try:
        write_torch(path, {"schema": SCHEMA, **content})
    except OutputError as error:
        raise OutputError(f"{error}; the previous checkpoint is unchanged") from error
    for old in _files(folder)[KEPT:]:
        old.unlink()
    return path


def load_latest(folder: Path, shape: Any = dict[str, Any]) -> dict[str, Any] | None:
    """Return the content of the newest readable checkpoint; None without any checkpoint.

    Args:
        folder: of the run.
        shape: fields and types of a checkpoint, as `structured` takes them.

    Raises:
        FormatError: if there are checkpoints and none is readable.
    """
    files = _files(folder)
    for path in files:
        try:
            content: dict[str, Any] = structured(read_torch(path), dict[str, Any], str(path))
            if content.get("schema") == SCHEMA:
                structured(content, shape, str(path))
                return content
        except FormatError as error:
            reason = str(error).removeprefix(f"{path}: ")
            _log.warning("%s: skipped a damaged checkpoint (%s)", path, reason)
            continue
        raise FormatError(f"{path}: a checkpoint of schema {SCHEMA} is expected, which this version reads")
    if files:
        raise FormatError(f"{folder}: none of the {len(files)} checkpoints is readable")
    return None


def _files(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, newest first."""
    return sorted((p for p in folder.glob("run-*.pt") if _NAME.fullmatch(p.name)), reverse=True)


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
    """The fields of a checkpoint. `net`, `plan`, `teacher` and `optimizer` are checked where they are used."""

    config: _Settings
    world: PositiveCount
    net: dict[str, Any]
    plan: list[list[Any]]
    teacher: dict[str, Any] | None
    optimizer: dict[str, Any] | None
    phase_index: Count
    step: Count
    n_steps: Count
    data: _Images | None = None  # absent in files of version 0.1.0


# ---- weights, kernels and images of a run ----------------------------------------------------------------------------


def _check_data(run: TrainingRun, then: dict[str, Any] | None, n_classes: int) -> None:
    """Refuse other images; a checkpoint of version 0.1.0 holds the number of classes only."""
    changed = "" if then is None else run.identity.changes_since(then)
    if then is None and n_classes != len(run.identity.classes):
        changed = f"{n_classes} classes then, {len(run.identity.classes)} now"
    if changed:
        raise OfaError(f"{run.out} holds a run on other images ({changed}); --resume needs the same images")


def _plan(run: TrainingRun, space: Space) -> KernelPlan:
    """Measure the kernel plan on the first process and send it to all, since the forms differ in the last bits."""
    if run.process.device != "cpu" or not run.config.run.fast_gradients:
        return BUILTIN
    box: list[Any] = [None]
    if run.process.is_root:
        box = [remembered_plan(space.all_blocks(), run.config.recipe.batch_size or 64).to_list()]
    if run.process.world > 1:
        torch.distributed.broadcast_object_list(box)
    return KernelPlan.from_list(box[0])


def _load_weights(net: Supernet, path: Path, classes: tuple[str, ...]) -> None:
    try:
        read = read_checkpoint(path)
    except FormatError:
        load_published(net, read_state_dict(path), str(path))
        return
    load_published(net, to_published(read.net), str(path))
    if read.classes is not None and read.classes != classes:
        difference = class_difference(read.classes, classes)
        _log.warning("%s was trained on other classes (%s); training starts from its classifier", path, difference)
