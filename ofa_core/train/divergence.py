"""Detect diverged training: a loss or weights that are not finite, or a loss that stays far too high.

The run stops before anything is written, so that the last checkpoint stays usable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from ofa_core.errors import OfaError
from ofa_core.formats.torch_files import first_nonfinite
from ofa_core.train.phases import Phase

__all__ = ["DivergedError", "LossWatch", "check_finite"]

TIMES_CHANCE = 10.0  # limit of the loss, in losses of guessing; the start of a healthy run stays below it
PATIENCE = 10  # steps in a row above the limit


class DivergedError(OfaError):
    """The loss or the weights are not finite, or the loss stays far too high."""


@dataclass
class LossWatch:
    """The check of each loss of a phase.

    Attributes:
        phase: the phase.
        n_classes: number of classes; guessing has the loss log(n_classes).
        n_steps: number of steps of the phase.
        n_high: number of steps in a row with a high loss.
    """

    phase: Phase
    n_classes: int
    n_steps: int
    n_high: int = 0

    def check(self, step: int, loss: float, lr: float) -> None:
        """Check the mean loss of a step.

        Raises:
            DivergedError: at once for nan or inf; after ten steps for a loss over ten times that of guessing.
        """
        place = f"step {step} of {self.n_steps} in phase {self.phase.name}, learning rate {lr:.4g}"
        if not math.isfinite(loss):
            raise DivergedError(f"training diverged: the loss is {loss} at {place}")
        guessing = (1 + self.phase.kd_ratio) * math.log(max(self.n_classes, 2))
        self.n_high = self.n_high + 1 if loss > TIMES_CHANCE * guessing else 0
        if self.n_high >= PATIENCE:
            raise DivergedError(
                f"training diverged: the loss is {loss:.4g} at {place}, over {TIMES_CHANCE:g} times that of "
                f"guessing ({guessing:.2f}) for {PATIENCE} steps in a row"
            )


def check_finite(net: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Check that weights, and the state of an optimizer, are finite.

    Raises:
        DivergedError: with the name of the first tensor that holds nan or inf.
    """
    name = first_nonfinite(net.state_dict())
    if name is None and optimizer is not None:
        states = [state for state in optimizer.state.values() if isinstance(state, dict)]
        moments = {f"{key} of parameter {i}": value for i, state in enumerate(states) for key, value in state.items()}
        name = first_nonfinite({key: value for key, value in moments.items() if isinstance(value, torch.Tensor)})
    if name is not None:
        raise DivergedError(f"training diverged: {name} holds nan or inf")
