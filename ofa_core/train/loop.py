"""The training of one phase, from any step on.

Everything random in a step is a function of (seed, phase, step), so a phase may stop after any step and go on in
another process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
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

__all__ = ["Amp", "Step", "archs_of_step", "learning_rate", "make_optimizer", "n_steps", "train_phase", "train_step"]

Amp = Literal["none", "bf16", "fp16"]


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        phase: name.
        index: number within the phase.
        px: image size.
        lr: learning rate.
        loss: mean over the step's sub-nets.
        top1: of the training images, percent.
        n_images: on all ranks.
    """

    phase: str
    index: int
    px: int
    lr: float
    loss: float
    top1: float
    n_images: int


def n_steps(phase: Phase, loader: Loader) -> tuple[int, int]:
    """Steps of a phase's warm-up, and of the whole phase."""
    warmup = round(phase.warmup_epochs * loader.n_batches)
    return warmup, warmup + max(1, round(phase.epochs * loader.n_batches)) if phase.epochs else warmup


def learning_rate(phase: Phase, step: int, warmup: int, total: int, world: int) -> float:
    """Linear warm-up, then half a cosine per step down to 0 (public code)."""
    peak = phase.lr * world
    if step < warmup:
        start = phase.lr if phase.warmup_lr is None else phase.warmup_lr
        return start + (peak - start) * step / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimizer(net: nn.Module, phase: Phase) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay spares batch norm and biases."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        (spared if "bn." in name or name.endswith("bias") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": phase.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum, nesterov=phase.momentum > 0, foreach=True)


def archs_of_step(space: Space, phase: Phase, px: int, seed: int, phase_index: int, step: int) -> list[Arch]:
    """The sub-nets of a step, equal on all ranks.

    Args:
        space: restricted to the phase.
        phase: says how many, and how they are drawn.
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


def train_step(
    model: nn.Module,
    batch: Batch,
    archs: list[Arch] | None,
    phase: Phase,
    teacher: SubNet | None = None,
    *,
    scale: float = 1.0,
    amp: AbstractContextManager[object] | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[float, float]:
    """Add the gradients of one batch for each sub-net; no update.

    Args:
        model: the supernet, wrapped or not; or a plain network.
        batch: on the device of the model.
        archs: sub-nets of a supernet; None for a plain network.
        phase: losses.
        teacher: soft labels; None without. A sandwich teaches itself.
        scale: factor of the loss (gradient accumulation).
        amp: autocast.
        scaler: of fp16.

    Returns:
        Mean loss and mean top-1 (percent) over the sub-nets.
    """
    soft = None
    amp = amp or nullcontext()
    if teacher is not None and phase.kd_ratio > 0:
        teacher.train(phase.teacher_mode == "train")
        with torch.no_grad(), amp:
            soft = teacher(batch.images)
    losses, hits = [], []
    members: list[Arch | None] = [None] if archs is None else list(archs)
    for i, arch in enumerate(members):
        silent = isinstance(model, DistributedDataParallel) and i < len(members) - 1
        with model.no_sync() if silent else nullcontext():  # type: ignore[operator]
            with amp:
                logits = model(batch.images) if arch is None else model(batch.images, arch)
            loss = step_loss(
                logits.float(), batch.labels, soft, kd_ratio=phase.kd_ratio, label_smoothing=phase.label_smoothing
            )
            scaled = loss * scale
            (scaled if scaler is None else scaler.scale(scaled)).backward()  # type: ignore[no-untyped-call]
        if phase.sampling == "sandwich" and i == 0 and phase.kd_ratio > 0:
            soft = logits.detach()
        losses.append(loss.detach())
        hits.append((logits.argmax(1) == batch.labels).float().mean())
    return torch.stack(losses).mean().item(), 100 * torch.stack(hits).mean().item()


def train_phase(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    loader: Loader,
    phase: Phase,
    *,
    phase_index: int,
    seed: int,
    start: int = 0,
    teacher: SubNet | None = None,
    process: Process = ALONE,
    amp: Amp = "none",
    fixed: bool = False,
    after_step: Callable[[int], bool] = lambda _: False,
) -> Iterator[Step]:
    """Train one phase, yielding after every step.

    Args:
        model: as `train_step` takes it, on the process's device.
        optimizer: of its parameters, in the state that belongs to step `start`.
        loader: training batches.
        phase: the recipe.
        phase_index: number of the phase in the run.
        seed: of the run.
        start: first step to do.
        teacher: for distillation.
        process: this process among all.
        amp: mixed precision.
        fixed: the model is a plain network, there are no sub-nets to sample.
        after_step: called with the number of steps done; True ends the phase early.

    Yields:
        One `Step` per step.

    Raises:
        DivergedError: for a loss that is not finite or grows without end, before it changes the weights.
        OfaError: for a batch of which fewer than two images can be read.
    """
    net = model.module if isinstance(model, DistributedDataParallel) else model
    part = restricted(net.space, phase) if isinstance(net, Supernet) else None
    warmup, total = n_steps(phase, loader)
    device = torch.device(process.device)
    dtype = torch.bfloat16 if amp == "bf16" else torch.float16
    autocast = nullcontext() if amp == "none" else torch.autocast(device.type, dtype)
    scaler = torch.amp.GradScaler() if amp == "fp16" and device.type == "cuda" else None
    keep_zeros = phase.unused == "decay"
    restore_zero_gradients(optimizer, keep_zeros=keep_zeros)
    watch = LossWatch(phase, len(loader.source.classes), total)
    step = start
    while step < total:
        epoch, first = divmod(step, loader.n_batches)
        for batch in loader.batches(epoch, first):
            if step >= total:
                break
            _check_batch(batch, loader, phase, step)
            torch.manual_seed(int(rng_for(seed, 4, phase_index, step, process.rank).integers(2**62)))  # dropout
            lr = learning_rate(phase, step, warmup, total, process.world)
            for group in optimizer.param_groups:
                group["lr"] = lr
            model.train()
            if step % phase.accumulate == 0:
                optimizer.zero_grad(set_to_none=not keep_zeros)
            moved = Batch(batch.images.to(device), batch.labels.to(device), batch.index, batch.px)
            archs = None if fixed or part is None else archs_of_step(part, phase, batch.px, seed, phase_index, step)
            loss, top1 = train_step(
                model, moved, archs, phase, teacher, scale=1 / phase.accumulate, amp=autocast, scaler=scaler
            )
            totals = sum_over_ranks(torch.tensor([loss, top1, 1.0, len(batch.labels)], dtype=torch.float64), process)
            mean_loss, mean_top1 = (totals[:2] / totals[2]).tolist()
            watch.check(step, mean_loss, lr)
            if (step + 1) % phase.accumulate == 0:
                _update(optimizer, scaler)
            step += 1
            yield Step(phase.name, step - 1, batch.px, lr, mean_loss, mean_top1, int(totals[3]))
            if after_step(step):
                return


def _check_batch(batch: Batch, loader: Loader, phase: Phase, step: int) -> None:
    """Refuse a batch of fewer than two images: batch norm has no statistics of one."""
    if len(batch.labels) < 2:
        raise OfaError(
            f"step {step} in phase {phase.name} has {len(batch.labels)} readable images of {loader.batch_size}: "
            f"{loader.unreadable.summary()}"
        )


def _update(optimizer: torch.optim.SGD, scaler: torch.amp.GradScaler | None) -> None:
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def restore_zero_gradients(optimizer: torch.optim.SGD, *, keep_zeros: bool) -> None:
    """After a resume: parameters that were trained before have zero gradients, not none, as without the break."""
    if not keep_zeros:
        return
    for parameter, state in optimizer.state.items():
        if state.get("momentum_buffer") is not None and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
