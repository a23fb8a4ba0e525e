"""Train a supernet phase by phase, with checkpoints from which any later process can continue."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import torch

from ofa_core.errors import OfaError, OutputError
from ofa_core.extras import PACKAGES, is_installed
from ofa_core.formats.checkpoint import write_checkpoint
from ofa_core.nn.allocator import keep_freed_memory
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.sorting import sort_channels
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.train.checkpoints import (
    RunState,
    begin,
    name_last_checkpoint,
    newest,
    restore_optimizer,
    resume_from,
    save,
)
from ofa_core.train.distributed import any_rank, wrapped
from ofa_core.train.divergence import check_finite
from ofa_core.train.log import Log, open_log, plot_log, write_phase
from ofa_core.train.loop import PhaseRun, Step, make_optimizer, n_steps, train_phase
from ofa_core.train.phases import Phase, restricted
from ofa_core.train.run import TrainingRun

__all__ = ["SUPERNET_FILE", "StoppedError", "train_supernet"]

SUPERNET_FILE = "supernet.pt"

_log = logging.getLogger(__name__)


class StoppedError(OfaError):
    """The run was asked to stop and has written a checkpoint."""


def train_supernet(run: TrainingRun, *, resume: bool = False, start_from: Path | None = None) -> Supernet:
    """Train a supernet through all phases.

    `run.out` gets `run-*.pt` (checkpoints), `supernet.pt` (the result), `log.csv`, `phases.csv` (accuracy after each
    phase), `tensorboard/` and `training.png`.

    Args:
        run: settings, images, process and folder.
        resume: continue from the folder's newest checkpoint, if there is one.
        start_from: checkpoint or published weights to start from instead of random weights.

    Returns:
        The trained supernet, in evaluation mode.

    Raises:
        OfaError: if the folder holds another run, or settings or images do not fit.
        DivergedError: if the loss or the weights are not finite, or the loss stays far too high.
        StoppedError: if `run.events.stop` returned True.
    """
    space, phases = run.recipe()
    if run.process.device == "cpu":
        keep_freed_memory()
    state = resume_from(run, space) if resume else None
    if state is None and newest(run.out) is not None:
        raise OfaError(f"{run.out} already holds a run; continue it with --resume, or choose another folder")
    state = state or begin(run, space, start_from)
    state.net.to(run.process.device)
    if state.teacher is not None:
        state.teacher.to(run.process.device)
    run.out.mkdir(parents=True, exist_ok=True)
    _report_missing_packages()
    with open_log(run.out, state.n_steps) if run.process.is_root else nullcontext() as log:
        for index in range(state.phase_index, len(phases)):
            _run_phase(run, state, phases[index], index, log)
    state.net.eval()
    if run.process.is_root:
        classes = run.data.train.classes
        write_checkpoint(run.out / SUPERNET_FILE, state.net, space, run.config.preprocessing, classes=classes)
        plot_log(run.out)
    return state.net


def _run_phase(run: TrainingRun, state: RunState, phase: Phase, index: int, log: Log | None) -> None:
    """Train one phase from the state's step on, with checkpoints, and validate it."""
    if state.phase_index != index or state.step == 0:
        _start_phase(run, state, phase, index)
    ready = _phase_run(run, state, phase, index)
    total = n_steps(phase, ready.loader)[1]
    run.events.start(phase, state.step, total)
    saved_at = time.monotonic()
    with name_last_checkpoint(run.out):
        for step in train_phase(ready, state.step):
            state.step, state.n_steps = step.index + 1, state.n_steps + 1
            _report_step(run, state, ready, step, log)
            if state.step % phase.accumulate and state.step < total:
                continue  # a checkpoint holds no gradients
            stop = any_rank(run.events.stop(), run.process)
            if stop or any_rank(time.monotonic() - saved_at >= run.config.run.checkpoint_s, run.process):
                _save(run, state, ready.optimizer, log, required=stop)
                saved_at = time.monotonic()
            if stop:
                break
        check_finite(state.net)
    if state.step < total:
        raise StoppedError(f"stopped in phase {phase.name} after {state.step} of {total} steps; continue with --resume")
    if run.data.unreadable.names:
        _log.warning("%s; they are left out", run.data.unreadable.summary())
    _validate(run, state, phase, log)
    state.phase_index, state.step = index + 1, 0
    _save(run, state, None, log, required=True)


def _start_phase(run: TrainingRun, state: RunState, phase: Phase, index: int) -> None:
    """Sort the channels; make the net as trained so far the teacher, if the phase is the first with one."""
    if phase.sort_kept is not None:
        sort_channels(state.net, kept=phase.sort_kept, keep_squeezed=run.config.recipe.keep_squeezed)
    if phase.kd_ratio > 0 and phase.sampling == "random" and state.teacher is None:
        state.teacher = extract(state.net, state.net.space.largest())
        state.teacher.requires_grad_(False)
    state.phase_index, state.step = index, 0


def _phase_run(run: TrainingRun, state: RunState, phase: Phase, index: int) -> PhaseRun:
    """Return the phase with its optimizer and batches."""
    cast(Classifier, state.net.layers[-1]).dropout = phase.dropout
    optimizer = make_optimizer(state.net, phase)
    if state.optimizer_state is not None:
        restore_optimizer(optimizer, state.optimizer_state, run.out)
        state.optimizer_state = None
    return PhaseRun(
        wrapped(state.net, run.process),
        optimizer,
        run.loader(phase, state.net.space.resolutions),
        phase,
        index,
        run.config.run.seed,
        state.teacher if phase.kd_ratio > 0 and phase.sampling == "random" else None,
        run.process,
        run.config.run.amp,
    )


def _report_step(run: TrainingRun, state: RunState, ready: PhaseRun, step: Step, log: Log | None) -> None:
    if log is not None:
        log.step(state.n_steps, step)
    run.events.step(step)
    epochs, rest = divmod(state.step, ready.loader.n_batches)
    if rest == 0:
        run.events.epoch(ready.phase, epochs, state.net)


def _save(
    run: TrainingRun, state: RunState, optimizer: torch.optim.Optimizer | None, log: Log | None, *, required: bool
) -> None:
    """Write a checkpoint; if it is not required, training continues after a failed write."""
    if log is not None:
        log.flush()
    try:
        save(run, state, optimizer)
    except OutputError as error:
        if required:
            raise
        _log.warning("%s", error)


def _validate(run: TrainingRun, state: RunState, phase: Phase, log: Log | None) -> None:
    """Write the accuracy of the phase's largest and smallest sub-net at the largest image size to `phases.csv`."""
    part = restricted(state.net.space, phase)
    evaluator = run.data.evaluator(run.config, run.process)
    px = part.resolutions[-1]
    for name, arch in {"largest": part.largest(px), "smallest": part.smallest(px)}.items():
        result = evaluator.accuracy(state.net, arch)
        if log is not None:
            log.scalar(f"val/top1 {name}", result.top1, state.n_steps)
            write_phase(run.out / "phases.csv", phase.name, name, str(arch), result.top1, result.loss)


def _report_missing_packages() -> None:
    """Warn before the first step of records that cannot be written without a package."""
    for module, record in (("tensorboard", "tensorboard/"), ("matplotlib", "training.png")):
        if not is_installed(module):
            extra = PACKAGES[module].extra
            _log.warning("%s is not written without %s: pip install 'ofa-latency[%s]'", record, module, extra)
