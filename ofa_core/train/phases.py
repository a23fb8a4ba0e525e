"""Training recipes as data: one `Phase` per stage of training, and the published sequences.

The numbers come from the public code (`train_ofa_net.py`), and for the full net from section 4.1 of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from ofa_core.errors import OfaError
from ofa_core.space import Space
from ofa_core.train.limits import check_limits

__all__ = [
    "RECIPES",
    "Phase",
    "finetune",
    "joint_random",
    "progressive_shrinking",
    "restricted",
    "sandwich",
    "scaled",
]

Sampling = Literal["random", "sandwich"]
TeacherMode = Literal["train", "eval"]
Unused = Literal["decay", "skip"]


LIMITS = {
    "epochs": (0, inf),
    "lr": (0, inf),
    "warmup_epochs": (0, inf),
    "warmup_lr": (0, inf),
    "subnets_per_step": (1, inf),
    "kd_ratio": (0, inf),
    "batch_size": (2, inf),
    "accumulate": (1, inf),
    "momentum": (0, 0.999),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.999),
    "dropout": (0, 0.999),
}


@dataclass(frozen=True)
class Phase:
    """One stage of training.

    Attributes:
        name: in logs and checkpoints.
        epochs: passes over the training images, without the warm-up.
        lr: learning rate of one process at `batch_size`; multiplied by the number of processes.
        warmup_epochs: passes before, with a linearly growing rate.
        warmup_lr: rate at the start of the warm-up; None is `lr` of one process, as published.
        kernels: kernel sizes to sample from; None samples from all of the space.
        expands: expand ratios to sample from; None samples from all.
        n_depths: number of depths of a stage to sample from, starting at the deepest; None samples from all.
        subnets_per_step: sub-nets whose gradients are summed in one step.
        sampling: `random`; or `sandwich`: the largest, the smallest and random sub-nets, all but the largest distilled
            from it (Yu & Huang, 2019).
        kd_ratio: weight of the distillation loss; 0 turns it off.
        teacher_mode: `train`: the teacher normalises with batch statistics, as published; `eval`: with its running
            statistics.
        sort_kept: expand ratios whose channels keep their place when channels are sorted before the phase; None does
            not sort.
        unused: `decay`: weight decay and momentum also change parameters outside the step's sub-nets, as published;
            `skip`: those parameters stay.
        batch_size: images per process and step.
        accumulate: steps whose gradients are summed before an update.
        momentum: of SGD with Nesterov momentum.
        weight_decay: not applied to batch norm and biases.
        label_smoothing: of the hard loss.
        dropout: before the classifier.

    Example:
        >>> Phase("full", epochs=180, lr=0.08, warmup_epochs=5).batch_size
        64
    """

    name: str
    epochs: float
    lr: float
    warmup_epochs: float = 0
    warmup_lr: float | None = None
    kernels: tuple[int, ...] | None = None
    expands: tuple[int, ...] | None = None
    n_depths: int | None = None
    subnets_per_step: int = 1
    sampling: Sampling = "random"
    kd_ratio: float = 0.0
    teacher_mode: TeacherMode = "train"
    sort_kept: tuple[int, ...] | None = None
    unused: Unused = "decay"
    batch_size: int = 64
    accumulate: int = 1
    momentum: float = 0.9
    weight_decay: float = 3e-5
    label_smoothing: float = 0.1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_limits(self, LIMITS, f"phase {self.name}: ")
        if self.sampling == "sandwich" and self.subnets_per_step < 2:
            raise OfaError(
                f"phase {self.name}: subnets_per_step is {self.subnets_per_step}, a sandwich needs at least 2"
            )


def restricted(space: Space, phase: Phase) -> Space:
    """Return the part of a space that a phase samples from.

    Raises:
        OfaError: for choices that the space lacks.
    """
    for name, chosen, choices in (("kernels", phase.kernels, space.kernels), ("expands", phase.expands, space.expands)):
        unknown = set(chosen or ()) - set(choices)
        if unknown:
            raise OfaError(
                f"phase {phase.name}: {name} {sorted(unknown)} are not in {space.name}, which has {list(choices)}"
            )
    stages = tuple(
        replace(stage, depths=stage.depths[-min(phase.n_depths or len(stage.depths), len(stage.depths)) :])
        for stage in space.stages
    )
    return replace(
        space,
        kernels=tuple(sorted(phase.kernels or space.kernels)),
        expands=tuple(sorted(phase.expands or space.expands)),
        stages=stages,
    )


def progressive_shrinking(space: Space) -> tuple[Phase, ...]:
    """Return the published sequence for a space: full net, kernels, depths one by one, expand ratios one by one.

    For the published spaces the numbers are as published. A space with more or fewer choices gets more or fewer phases;
    the last of the depths and the last of the expand ratios are the long ones.
    """
    full = Phase("full", 180, 2.6 / 32, 5, kernels=space.kernels[-1:], expands=space.expands[-1:], n_depths=1)
    shared = replace(full, kd_ratio=1.0, kernels=None)
    phases = [full]
    if len(space.kernels) > 1:
        phases.append(replace(shared, name="kernel", epochs=120, lr=3e-2))
    n_depths = max(len(stage.depths) for stage in space.stages)
    for i in range(2, n_depths + 1):
        last = i == n_depths
        phase = _short_or_long(shared, f"depth{i - 1}", long=last)
        phases.append(replace(phase, n_depths=i, subnets_per_step=2))
    for i in range(2, len(space.expands) + 1):
        last = i == len(space.expands)
        phase = _short_or_long(shared, f"expand{i - 1}", long=last)
        kept = space.expands[-i + 1 : -1] if i > 2 else ()
        phases.append(replace(phase, expands=space.expands[-i:], n_depths=None, subnets_per_step=4, sort_kept=kept))
    return tuple(phases)


def _short_or_long(phase: Phase, name: str, *, long: bool) -> Phase:
    if long:
        return replace(phase, name=name, epochs=120, lr=7.5e-3, warmup_epochs=5)
    return replace(phase, name=name, epochs=25, lr=2.5e-3, warmup_epochs=0)


def joint_random(space: Space) -> tuple[Phase, ...]:  # noqa: ARG001 (recipes have one signature)
    """Return one phase with one random sub-net per step: the paper's baseline without progressive shrinking."""
    return (Phase("joint", 180, 2.6 / 32, 5),)


def sandwich(space: Space) -> tuple[Phase, ...]:  # noqa: ARG001
    """Return one phase with the sandwich rule and in-place distillation (Yu & Huang, 2019; BigNAS)."""
    return (Phase("sandwich", 180, 2.6 / 32, 5, subnets_per_step=4, sampling="sandwich", kd_ratio=1.0),)


RECIPES = {"progressive": progressive_shrinking, "joint": joint_random, "sandwich": sandwich}


def finetune(epochs: int = 25) -> Phase:
    """Return the phase that trains one extracted sub-net (the paper's "#25" and "#75" epochs)."""
    return Phase("finetune", epochs, 7.5e-3, kd_ratio=0.0)


def scaled(phases: tuple[Phase, ...], epochs: float, **changes: object) -> tuple[Phase, ...]:
    """Return the recipe with `epochs` passes in all, in the same proportions, and other fields replaced.

    Args:
        phases: the recipe.
        epochs: passes of all phases together, including warm-up.
        **changes: fields of `Phase` to replace in each.
    """
    total = sum(phase.epochs + phase.warmup_epochs for phase in phases)
    factor = epochs / total
    return tuple(
        replace(p, epochs=p.epochs * factor, warmup_epochs=p.warmup_epochs * factor, **changes)  # type: ignore[arg-type]
        for p in phases
    )
