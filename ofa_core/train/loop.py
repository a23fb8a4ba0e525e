"""Train one phase, from any step on.

All randomness of a step comes from (seed, phase, step). So a phase may stop after any step and continue in another
process with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.genomes import sample_arch
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.train.batches import Batch, Loader, rng_for
from ofa_core.train.distributed import ALONE, Process, sum_over_ranks
from ofa_core.train.divergence import LossWatch
from ofa_core.train.losses import step_loss
from ofa_core.train.phases import Phase, restricted

__all__ = [
    "FULL_PRECISION",
    "Amp",
    "PhaseRun",
    "Precision",
    "Step",
    "archs_of_step",
    "learning_rate",
    "make_optimizer",
    "n_steps",
    "train_phase",
    "train_step",
]

Amp = Literal["none", "bf16", "fp16"]


@dataclass(frozen=True)
class Step:
    """The result of one training step.

    Attributes:
        phase: name of the phase.
        index: number of the step within the phase, from 0.
        px: image size.
        lr: learning rate.
        loss: mean over the step's sub-nets.
        top1: accuracy on the step's training images, in percent.
        n_images: number of images on all ranks.
    """

    phase: str
    index: int
    px: int
    lr: float
    loss: float
    top1: float
    n_images: int


@dataclass(frozen=True)
class Precision:
    """The numeric precision of a training step.

    Attributes:
        autocast: context of the forward pass.
        scaler: loss scaling of fp16; None without.
    """

    autocast: AbstractContextManager[object]
    scaler: torch.amp.GradScaler | None = None

    @classmethod
    def of(cls, amp: Amp, device: torch.device) -> Precision:
        """Return the precision of a setting on a device."""
        if amp == "none":
            return FULL_PRECISION
        autocast = torch.autocast(device.type, torch.bfloat16 if amp == "bf16" else torch.float16)
        return cls(autocast, torch.amp.GradScaler() if amp == "fp16" and device.type == "cuda" else None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def update(self, optimizer: torch.optim.SGD) -> None:
        """Move the parameters along their gradients."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()


FULL_PRECISION = Precision(nullcontext())


@dataclass(frozen=True)
class PhaseRun:
    """A phase that is ready to train.

    Attributes:
        model: a supernet or a plain network, possibly wrapped, on the process's device.
        optimizer: of the model's parameters, in the state of the first step to train.
        loader: training batches.
        phase: the settings.
        index: number of the phase in the run.
        seed: of the run.
        teacher: network to distil from; None without.
        process: this process among all.
        amp: mixed precision.
    """

    model: nn.Module
    optimizer: torch.optim.SGD
    loader: Loader
    phase: Phase
    index: int = 0
    seed: int = 0
    teacher: SubNet | None = None
    process: Process = ALONE
    amp: Amp = "none"

    @property
    def space(self) -> Space | None:
        """The space to sample sub-nets from; None for a plain network."""
        net = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        return restricted(net.space, self.phase) if isinstance(net, Supernet) else None


def train_phase(run: PhaseRun, start: int = 0) -> Iterator[Step]:
    """Train a phase, yielding after every step. Stop by leaving the loop.

    Args:
        run: the phase.
        start: first step to train.

    Yields:
        One `Step` per step.

    Raises:
        DivergedError: before the update, if the loss is not finite or stays far too high.
        OfaError: if fewer than two images of a batch can be read.
    """
    phase, loader, optimizer, space = run.phase, run.loader, run.optimizer, run.space
    device = torch.device(run.process.device)
    precision = Precision.of(run.amp, device)
    warmup, total = n_steps(phase, loader)
    watch = LossWatch(phase, len(loader.source.classes), total)
    keep_zeros = phase.unused == "decay"
    if keep_zeros:
        restore_zero_gradients(optimizer)
    for step, batch in enumerate(_batches(loader, start, total), start):
        _check_batch(batch, loader, phase, step)
        torch.manual_seed(int(rng_for(run.seed, 4, run.index, step, run.process.rank).integers(2**62)))  # for dropout
        lr = learning_rate(phase, step, warmup, total, run.process.world)
        for group in optimizer.param_groups:
            group["lr"] = lr
        if step % phase.accumulate == 0:
            optimizer.zero_grad(set_to_none=not keep_zeros)
        archs = None if space is None else archs_of_step(space, phase, batch.px, run.seed, run.index, step)
        moved = replace(batch, images=batch.images.to(device), labels=batch.labels.to(device))
        run.model.train()
        loss, top1 = train_step(run.model, moved, archs, phase, run.teacher, precision)
        totals = sum_over_ranks(torch.tensor([loss, top1, 1.0, len(batch.labels)], dtype=torch.float64), run.process)
        mean_loss, mean_top1 = (totals[:2] / totals[2]).tolist()
        watch.check(step, mean_loss, lr)
        if (step + 1) % phase.accumulate == 0:
            precision.update(optimizer)
        yield Step(phase.name, step, batch.px, lr, mean_loss, mean_top1, int(totals[3]))


def train_step(
    model: nn.Module,
    batch: Batch,
    archs: list[Arch] | None,
    phase: Phase,
    teacher: SubNet | None = None,
    precision: Precision = FULL_PRECISION,
) -> tuple[float, float]:
    """Add the gradients of one batch for each sub-net, without an update.

    Args:
        model: the supernet or a plain network, possibly wrapped.
        batch: on the device of the model.
        archs: sub-nets of a supernet; None for a plain network.
        phase: losses and gradient accumulation.
        teacher: network to distil from; None without. In a sandwich the largest sub-net is the teacher.
        precision: of the forward pass.

    Returns:
        Mean loss and mean top-1 (percent) over the sub-nets.
    """
    soft = None
    if teacher is not None and phase.kd_ratio > 0:
        teacher.train(phase.teacher_mode == "train")
        with torch.no_grad(), precision.autocast:
            soft = teacher(batch.images)
    losses, hits = [], []
    members: list[Arch | None] = [None] if archs is None else list(archs)
    for i, arch in enumerate(members):
        silent = isinstance(model, DistributedDataParallel) and i < len(members) - 1
        with model.no_sync() if silent else nullcontext():  # type: ignore[operator]
            with precision.autocast:
                logits = model(batch.images) if arch is None else model(batch.images, arch)
            loss = step_loss(
                logits.float(), batch.labels, soft, kd_ratio=phase.kd_ratio, label_smoothing=phase.label_smoothing
            )
            precision.backward(loss * (1 / phase.accumulate))
        if phase.sampling == "sandwich" and i == 0 and phase.kd_ratio > 0:
            soft = logits.detach()
        losses.append(loss.detach())
        hits.append((logits.argmax(1) == batch.labels).float().mean())
    return torch.stack(losses).mean().item(), 100 * torch.stack(hits).mean().item()


def n_steps(phase: Phase, loader: Loader) -> tuple[int, int]:
    """Return the number of steps of a phase's warm-up, and of the whole phase."""
    warmup = round(phase.warmup_epochs * loader.n_batches)
    return warmup, warmup + max(1, round(phase.epochs * loader.n_batches)) if phase.epochs else warmup


def learning_rate(phase: Phase, step: int, warmup: int, total: int, world: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine down to 0 (public code)."""
    peak = phase.lr * world
    if step < warmup:
        start = phase.lr if phase.warmup_lr is None else phase.warmup_lr
        return start + (peak - start) * step / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimizer(net: nn.Module, phase: Phase) -> torch.optim.SGD:
    """Return SGD with Nesterov momentum, without weight decay for batch norm and biases."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        (spared if "bn." in name or name.endswith("bias") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": phase.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum, nesterov=phase.momentum > 0, foreach=True)


def archs_of_step(space: Space, phase: Phase, px: int, seed: int, phase_index: int, step: int) -> list[Arch]:
    """Sample the sub-nets of a step; all ranks get the same ones.

    Args:
        space: restricted to the phase.
        phase: number of sub-nets and sampling rule.
        px: image size.
        seed: of the run.
        phase_index: number of the phase in the run.
        step: number of the step in the phase.
    """
    draws = [
        sample_arch(space, rng_for(seed, 3, phase_index, step, k), (px,))
        for k in range(phase.subnets_per_step - 2 * (phase.sampling == "sandwich"))
    ]
    if phase.sampling == "sandwich":
        return [space.largest(px), *draws, space.smallest(px)]
    return draws


def restore_zero_gradients(optimizer: torch.optim.SGD) -> None:
    """Set missing gradients of parameters with momentum to zero, as they were before a checkpoint.

    SGD skips a parameter without a gradient, and decays one whose gradient is zero.
    """
    for parameter, state in optimizer.state.items():
        if state.get("momentum_buffer") is not None and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _batches(loader: Loader, start: int, total: int) -> Iterator[Batch]:
    """Yield the batches of the steps from `start` to `total`, epoch after epoch."""
    step = start
    while step < total:
        epoch, first = divmod(step, loader.n_batches)
        for batch in loader.batches(epoch, first):
            yield batch
            step += 1
            if step >= total:
                return


def _check_batch(batch: Batch, loader: Loader, phase: Phase, step: int) -> None:
    """Refuse a batch of fewer than two images, for which batch norm has no statistics."""
    if len(batch.labels) < 2:
        raise OfaError(
            f"step {step} in phase {phase.name} has {len(batch.labels)} readable images of {loader.batch_size}: "
            f"{loader.unreadable.summary()}"
        )
