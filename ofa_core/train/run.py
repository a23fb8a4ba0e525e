"""A whole run: the phases one after another, with checkpoints that any later process can go on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from ofa_core.errors import FormatError, OfaError
from ofa_core.formats.checkpoint import checkpoint_dict, checkpoint_from_dict, load_published, to_published
from ofa_core.formats.checkpoint import write_checkpoint as write_net
from ofa_core.nn.allocator import keep_freed_memory
from ofa_core.nn.kernels import BUILTIN, KernelPlan
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.sorting import sort_channels
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.space import Space
from ofa_core.train.config import Config, build_phases, build_space, comparable, differences
from ofa_core.train.distributed import Process, any_rank, wrapped
from ofa_core.train.evaluation import Evaluator
from ofa_core.train.loading import Loader, Unreadable, split_held_out
from ofa_core.train.log import Log, open_log, plot_log, write_phase
from ofa_core.train.loop import Step, make_optimizer, n_steps, train_phase
from ofa_core.train.phases import Phase, restricted
from ofa_core.train.plans import remembered_plan
from ofa_core.train.sources import Source, open_sources
from ofa_core.train.state import load_latest, save_state

__all__ = ["SUPERNET_FILE", "Data", "Events", "StoppedError", "open_data", "train_supernet"]

SUPERNET_FILE = "supernet.pt"


class StoppedError(OfaError):
    """The run was asked to stop, and has written a checkpoint."""


@dataclass(frozen=True)
class Events:
    """What a run tells whoever started it.

    Attributes:
        start: phase, its first step to do, its number of steps.
        step: after each.
        epoch: after each pass over the training images: phase, passes done in it, the net (to be left as it is).
        warn: one line.
        stop: whether to write a checkpoint and end.
    """

    start: Callable[[Phase, int, int], None] = lambda *_: None
    step: Callable[[Step], None] = lambda _: None
    epoch: Callable[[Phase, int, Supernet], None] = lambda *_: None
    warn: Callable[[str], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Data:
    """The images of a run, opened.

    Attributes:
        train: source of training images.
        val: source of validation images.
        train_indices: trained on.
        held_out: training images for accuracy tables.
        unreadable: where undecodable images are noted.
    """

    train: Source
    val: Source
    train_indices: Any
    held_out: Any
    unreadable: Unreadable = field(default_factory=Unreadable)

    def loader(self, config: Config, phase: Phase, space: Space, process: Process) -> Loader:
        """Training batches of a phase."""
        return Loader(
            self.train,
            self.train_indices,
            phase.batch_size,
            space.resolutions,
            config.preprocessing,
            config.augmentation,
            config.run.seed,
            config.data.workers,
            process.rank,
            process.world,
            self.unreadable,
        )

    def evaluator(self, config: Config, process: Process, *, held_out: bool = False) -> Evaluator:
        """Evaluation on the validation images, or on the held-out training images."""
        import numpy as np

        images = self.train if held_out else self.val
        indices = self.held_out if held_out else np.arange(len(self.val.labels))
        return Evaluator(
            images,
            indices,
            self.train,
            self.train_indices,
            config.preprocessing,
            config.augmentation,
            config.data.n_calibration,
            config.data.eval_batch_size,
            config.data.workers,
            process,
            self.unreadable,
        )


def open_data(config: Config) -> Data:
    """Open the images of a configuration and split off the held-out ones."""
    train, val = open_sources(config.data.source)
    return Data(train, val, *split_held_out(len(train.labels), config.data.held_out))


@dataclass
class _Run:
    """What changes while a run goes on."""

    net: Supernet
    teacher: SubNet | None = None
    phase_index: int = 0
    step: int = 0
    n_steps: int = 0
    optimizer_state: dict[str, Any] | None = None


def train_supernet(
    config: Config,
    folder: Path,
    data: Data,
    process: Process,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    events: Events | None = None,
) -> Supernet:
    """Train a supernet through all phases.

    Args:
        config: the run.
        folder: gets `run-*.pt` (checkpoints), `supernet.pt` (the result), `log.csv`, `phases.csv` (accuracy after
            each), `tensorboard/`, `training.png`.
        data: its images.
        process: this process among all.
        resume: go on from the folder's newest checkpoint; without any, start.
        start_from: published or own supernet weights to begin with, instead of random ones.
        events: progress, warnings, and the wish to stop.

    Returns:
        The trained supernet, in evaluation mode.

    Raises:
        OfaError: for a folder that holds another run, or settings that do not fit.
        StoppedError: after a wish to stop.
    """
    events = events or Events()
    space = build_space(config.space, len(data.train.classes))
    phases = build_phases(config, space)
    if process.device == "cpu":
        keep_freed_memory()
    run = _started(config, folder, space, process, events, resume=resume, start_from=start_from)
    run.net.to(process.device)
    if run.teacher is not None:
        run.teacher.to(process.device)
    folder.mkdir(parents=True, exist_ok=True)
    with open_log(folder, run.n_steps) if process.is_root else _no_log() as log:
        for index in range(run.phase_index, len(phases)):
            _run_phase(config, folder, data, process, events, run, phases, index, log)
    run.net.eval()
    if process.is_root:
        write_net(folder / SUPERNET_FILE, run.net, space, config.preprocessing)
        if plot_log(folder) is None:
            events.warn("matplotlib is not installed: no training.png")
    return run.net


class _no_log:  # noqa: N801 (stands for a context manager function)
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _started(
    config: Config,
    folder: Path,
    space: Space,
    process: Process,
    events: Events,
    *,
    resume: bool,
    start_from: Path | None,
) -> _Run:
    """A new run, or the one that the folder holds."""
    content = load_latest(folder, events.warn)
    if content is not None and not resume:
        raise OfaError(f"{folder} holds a run already; go on with --resume, or choose another folder")
    if content is None:
        plan = _plan(config, space, process, events)
        net = Supernet(space, dropout=config.space.dropout, seed=config.run.seed, plan=plan)
        if start_from is not None:
            _load_weights(net, start_from)
        return _Run(net)
    changed = differences(content["config"], comparable(config))
    if changed:
        raise OfaError(f"{folder} holds a run with other settings ({changed}); resume needs the same configuration")
    if content["world"] != process.world:
        raise OfaError(f"{folder}: the run had {content['world']} processes, now there are {process.world}")
    net = cast(Supernet, checkpoint_from_dict(content["net"], str(folder)).net)
    net.plan = KernelPlan.from_list(content["plan"])
    cast(Classifier, net.layers[-1]).dropout = config.space.dropout
    teacher = None
    if content["teacher"] is not None:
        teacher = extract(net, space.largest())
        load_published(teacher, content["teacher"], "teacher")
        teacher.requires_grad_(False)
    return _Run(net, teacher, content["phase_index"], content["step"], content["n_steps"], content["optimizer"])


def _plan(config: Config, space: Space, process: Process, events: Events) -> KernelPlan:
    """Measured on the first process and used by all, since the forms differ in the last bits."""
    if process.device != "cpu" or not config.run.fast_gradients:
        return BUILTIN
    box: list[Any] = [None]
    if process.is_root:
        box = [remembered_plan(space.all_blocks(), config.recipe.batch_size or 64, events.warn).to_list()]
    if process.world > 1:
        torch.distributed.broadcast_object_list(box)
    return KernelPlan.from_list(box[0])


def _load_weights(net: Supernet, path: Path) -> None:
    from ofa_core.formats.checkpoint import read_checkpoint, read_state_dict

    try:
        read = read_checkpoint(path)
    except FormatError:
        load_published(net, read_state_dict(path), str(path))
        return
    load_published(net, to_published(read.net), str(path))


def _run_phase(
    config: Config,
    folder: Path,
    data: Data,
    process: Process,
    events: Events,
    run: _Run,
    phases: tuple[Phase, ...],
    index: int,
    log: Log | None,
) -> None:
    phase, net = phases[index], run.net
    fresh = run.phase_index != index or run.step == 0
    if fresh:
        _prepare(config, run, phase, index)
    cast(Classifier, net.layers[-1]).dropout = phase.dropout
    loader = data.loader(config, phase, net.space, process)
    optimizer = make_optimizer(net, phase)
    if run.optimizer_state is not None:
        optimizer.load_state_dict(run.optimizer_state)
        run.optimizer_state = None
    _, total = n_steps(phase, loader)
    events.start(phase, run.step, total)
    saved_at = time.monotonic()

    def after_step(done: int) -> bool:
        nonlocal saved_at
        if done % phase.accumulate and done < total:
            return False
        stop = any_rank(events.stop(), process)
        due = any_rank(time.monotonic() - saved_at >= config.run.checkpoint_s, process)
        if stop or due:
            run.step = done
            _save(config, folder, process, run, optimizer, log, events.warn if not stop else None)
            saved_at = time.monotonic()
        return stop

    steps = train_phase(
        wrapped(net, process),
        optimizer,
        loader,
        phase,
        phase_index=index,
        seed=config.run.seed,
        start=run.step,
        teacher=run.teacher if phase.kd_ratio > 0 and phase.sampling == "random" else None,
        process=process,
        amp=config.run.amp,
        after_step=lambda done: _counted(run) and after_step(done),
    )
    done = run.step
    for step in steps:
        done = step.index + 1
        if log is not None:
            log.step(run.n_steps + 1, step)
        events.step(step)
        if done % loader.n_batches == 0:
            events.epoch(phase, done // loader.n_batches, net)
    if done < total:
        raise StoppedError(f"stopped in phase {phase.name} after {done} of {total} steps; go on with --resume")
    _report_unreadable(data, events)
    _validate(config, folder, data, process, run, phase, log)
    run.phase_index, run.step = index + 1, 0
    _save(config, folder, process, run, None, log, None)


def _validate(
    config: Config, folder: Path, data: Data, process: Process, run: _Run, phase: Phase, log: Log | None
) -> None:
    """Accuracy of the ends of what the phase sampled, at the largest image size, into `phases.csv`."""
    part = restricted(run.net.space, phase)
    evaluator = data.evaluator(config, process)
    px = part.resolutions[-1]
    for name, arch in {"largest": part.largest(px), "smallest": part.smallest(px)}.items():
        result = evaluator.accuracy(run.net, arch)
        if log is not None:
            log.scalar(f"val/top1 {name}", result.top1, run.n_steps)
            write_phase(folder / "phases.csv", phase.name, name, str(arch), result.top1, result.loss)


def _counted(run: _Run) -> bool:
    run.n_steps += 1
    return True


def _prepare(config: Config, run: _Run, phase: Phase, index: int) -> None:
    """What happens between phases: channel sorting; the net as trained so far becomes the teacher after the first."""
    if phase.sort_kept is not None:
        sort_channels(run.net, kept=phase.sort_kept, keep_squeezed=config.recipe.keep_squeezed)
    if phase.kd_ratio > 0 and phase.sampling == "random" and run.teacher is None:
        run.teacher = extract(run.net, run.net.space.largest())
        run.teacher.requires_grad_(False)
    run.phase_index, run.step = index, 0


def _save(
    config: Config,
    folder: Path,
    process: Process,
    run: _Run,
    optimizer: torch.optim.Optimizer | None,
    log: Log | None,
    warn: Callable[[str], None] | None,
) -> None:
    """Write a checkpoint on the first process; without `warn` a failure ends the run, else it is told and goes on."""
    if not process.is_root:
        return
    if log is not None:
        log.flush()
    content = {
        "config": comparable(config),
        "world": process.world,
        "net": checkpoint_dict(run.net, run.net.space, config.preprocessing),
        "plan": run.net.plan.to_list(),
        "teacher": None if run.teacher is None else to_published(run.teacher),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "phase_index": run.phase_index,
        "step": run.step,
        "n_steps": run.n_steps,
    }
    try:
        save_state(folder, run.n_steps, content)
    except OfaError as error:
        if warn is None:
            raise
        warn(str(error))


def _report_unreadable(data: Data, events: Events) -> None:
    names = list(data.unreadable.names.values())
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        events.warn(f"{len(names)} images cannot be decoded and were left out: {'; '.join(names[:3])}{more}")
