"""A whole run: the phases one after another, with checkpoints that any later process can go on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from ofa_core.errors import OfaError
from ofa_core.extras import PACKAGES, is_installed
from ofa_core.formats.checkpoint import write_checkpoint as write_net
from ofa_core.nn.allocator import keep_freed_memory
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.sorting import sort_channels
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.space import Space
from ofa_core.train.batches import Loader, Unreadable, split_held_out
from ofa_core.train.checkpoints import newest
from ofa_core.train.config import Config, build_phases, build_space
from ofa_core.train.distributed import Process, any_rank, wrapped
from ofa_core.train.divergence import DivergedError, check_finite
from ofa_core.train.evaluation import Evaluator
from ofa_core.train.identity import identity_of
from ofa_core.train.log import Log, open_log, plot_log, write_phase
from ofa_core.train.loop import Step, make_optimizer, n_steps, train_phase
from ofa_core.train.phases import Phase, restricted
from ofa_core.train.resume import RunFolder, RunState, begun, diverged, restore_optimizer, resumed, save
from ofa_core.train.sources import Source, open_sources

__all__ = ["SUPERNET_FILE", "Data", "Events", "StoppedError", "open_data", "recipe_of", "train_supernet"]

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


def recipe_of(config: Config, data: Data) -> tuple[Space, tuple[Phase, ...]]:
    """The space and the phases of a run.

    Raises:
        OfaError: for settings that do not fit each other.
    """
    space = build_space(config.space, len(data.train.classes))
    return space, build_phases(config, space)


def open_data(config: Config) -> Data:
    """Open the images of a configuration and split off the held-out ones."""
    train, val = open_sources(config.data.source)
    return Data(train, val, *split_held_out(len(train.labels), config.data.held_out))


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
        OfaError: for a folder that holds another run, or settings or images that do not fit.
        DivergedError: if the loss or the weights are no longer finite, or the loss grows without end.
        StoppedError: after a wish to stop.
    """
    events = events or Events()
    space, phases = recipe_of(config, data)
    if process.device == "cpu":
        keep_freed_memory()
    where = RunFolder(folder, config, identity_of(data.train, data.val), process)
    found = resumed(where, space, events.warn) if resume else None
    if found is None and newest(folder) is not None:
        raise OfaError(f"{folder} holds a run already; go on with --resume, or choose another folder")
    run = found or begun(where, space, start_from, events.warn)
    run.net.to(process.device)
    if run.teacher is not None:
        run.teacher.to(process.device)
    folder.mkdir(parents=True, exist_ok=True)
    _report_missing(events)
    with open_log(folder, run.n_steps) if process.is_root else _no_log() as log:
        for index in range(run.phase_index, len(phases)):
            _run_phase(_Training(where, data, events, run, log), phases[index], index)
    run.net.eval()
    if process.is_root:
        write_net(folder / SUPERNET_FILE, run.net, space, config.preprocessing, classes=data.train.classes)
        plot_log(folder)
    return run.net


@dataclass(frozen=True)
class _Training:
    """A run that goes on."""

    folder: RunFolder
    data: Data
    events: Events
    run: RunState
    log: Log | None


class _no_log:  # noqa: N801 (stands for a context manager function)
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _report_missing(events: Events) -> None:
    """Say before the first step which records will be left out for want of a package."""
    for module, record in (("tensorboard", "tensorboard/"), ("matplotlib", "training.png")):
        if not is_installed(module):
            extra = PACKAGES[module].extra
            events.warn(f"{module} is not installed, so {record} is left out: pip install 'ofa-latency[{extra}]'")


def _run_phase(training: _Training, phase: Phase, index: int) -> None:
    config, process = training.folder.config, training.folder.process
    run, net = training.run, training.run.net
    if run.phase_index != index or run.step == 0:
        _prepare(config, run, phase, index)
    cast(Classifier, net.layers[-1]).dropout = phase.dropout
    loader = training.data.loader(config, phase, net.space, process)
    optimizer = make_optimizer(net, phase)
    if run.optimizer_state is not None:
        restore_optimizer(optimizer, run.optimizer_state, training.folder.path)
        run.optimizer_state = None
    _, total = n_steps(phase, loader)
    training.events.start(phase, run.step, total)
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
        after_step=_saving(training, phase, optimizer, total),
    )
    done = run.step
    try:
        for step in steps:
            done = step.index + 1
            _tell(training, phase, step, loader.n_batches)
        check_finite(net)
    except DivergedError as error:
        raise diverged(training.folder, error) from error
    if done < total:
        raise StoppedError(f"stopped in phase {phase.name} after {done} of {total} steps; go on with --resume")
    _report_unreadable(training.data, training.events)
    _validate(training, phase)
    run.phase_index, run.step = index + 1, 0
    _save(training, None, None)


def _saving(training: _Training, phase: Phase, optimizer: torch.optim.Optimizer, total: int) -> Callable[[int], bool]:
    """What follows each step: a checkpoint when one is due; True if the run shall stop."""
    run, events, process = training.run, training.events, training.folder.process
    saved_at = time.monotonic()

    def after_step(done: int) -> bool:
        nonlocal saved_at
        run.n_steps += 1
        if done % phase.accumulate and done < total:
            return False
        stop = any_rank(events.stop(), process)
        due = any_rank(time.monotonic() - saved_at >= training.folder.config.run.checkpoint_s, process)
        if stop or due:
            run.step = done
            _save(training, optimizer, events.warn if not stop else None)
            saved_at = time.monotonic()
        return stop

    return after_step


def _save(training: _Training, optimizer: torch.optim.Optimizer | None, warn: Callable[[str], None] | None) -> None:
    if training.log is not None:
        training.log.flush()
    save(training.folder, training.run, optimizer, warn)


def _tell(training: _Training, phase: Phase, step: Step, n_batches: int) -> None:
    if training.log is not None:
        training.log.step(training.run.n_steps + 1, step)
    training.events.step(step)
    done = step.index + 1
    if done % n_batches == 0:
        training.events.epoch(phase, done // n_batches, training.run.net)


def _validate(training: _Training, phase: Phase) -> None:
    """Accuracy of the ends of what the phase sampled, at the largest image size, into `phases.csv`."""
    net, log = training.run.net, training.log
    part = restricted(net.space, phase)
    evaluator = training.data.evaluator(training.folder.config, training.folder.process)
    px = part.resolutions[-1]
    for name, arch in {"largest": part.largest(px), "smallest": part.smallest(px)}.items():
        result = evaluator.accuracy(net, arch)
        if log is not None:
            log.scalar(f"val/top1 {name}", result.top1, training.run.n_steps)
            write_phase(training.folder.path / "phases.csv", phase.name, name, str(arch), result.top1, result.loss)


def _prepare(config: Config, run: RunState, phase: Phase, index: int) -> None:
    """What happens between phases: channel sorting; the net as trained so far becomes the teacher after the first."""
    if phase.sort_kept is not None:
        sort_channels(run.net, kept=phase.sort_kept, keep_squeezed=config.recipe.keep_squeezed)
    if phase.kd_ratio > 0 and phase.sampling == "random" and run.teacher is None:
        run.teacher = extract(run.net, run.net.space.largest())
        run.teacher.requires_grad_(False)
    run.phase_index, run.step = index, 0


def _report_unreadable(data: Data, events: Events) -> None:
    if data.unreadable.names:
        events.warn(f"{data.unreadable.summary()}, and left out")
