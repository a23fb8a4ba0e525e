"""Training that went wrong: a loss that is not finite or grows without end stops the run before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from ofa_core.errors import OfaError
from ofa_core.formats.torch_files import first_nonfinite
from ofa_core.train.phases import Phase

__all__ = ["DivergedError", "LossWatch", "check_finite"]

TIMES_CHANCE = 10.0  # of a network that guesses; the steep start of a healthy run stays below it
PATIENCE = 10  # steps in a row above it


class DivergedError(OfaError):
    """The loss or the weights are no longer numbers, or the loss grows without end."""


@dataclass
class LossWatch:
    """Checks each loss of one phase.

    Attributes:
        phase: the phase.
        n_classes: of the images; a network that guesses has the loss log(n_classes).
        n_steps: of the phase.
        n_high: steps in a row whose loss was high.
    """

    phase: Phase
    n_classes: int
    n_steps: int
    n_high: int = 0

    def check(self, step: int, loss: float, lr: float) -> None:
        """Take the mean loss of a step.

        Raises:
            DivergedError: for nan and inf at once, for a loss of ten times that of guessing after ten steps of it.
        """
        place = f"step {step} of {self.n_steps} in phase {self.phase.name}, learning rate {lr:.4g}"
        if not math.isfinite(loss):
            raise DivergedError(f"training diverged: the loss is {loss} at {place}")
        guessing = (1 + self.phase.kd_ratio) * math.log(max(self.n_classes, 2))
        self.n_high = self.n_high + 1 if loss > TIMES_CHANCE * guessing else 0
        if self.n_high >= PATIENCE:
            raise DivergedError(
                f"training diverged: the loss is {loss:.4g} at {place}, and was over {TIMES_CHANCE:g} times that of "
                f"guessing ({guessing:.2f}) for {PATIENCE} steps"
            )


def check_finite(net: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Refuse weights, or an optimizer's state, that hold nan or inf.

    Raises:
        DivergedError: with the name of the first such tensor.
    """
    name = first_nonfinite(net.state_dict())
    if name is None and optimizer is not None:
        states = [state for state in optimizer.state.values() if isinstance(state, dict)]
        moments = {f"{key} of parameter {i}": value for i, state in enumerate(states) for key, value in state.items()}
        name = first_nonfinite({key: value for key, value in moments.items() if isinstance(value, torch.Tensor)})
    if name is not None:
        raise DivergedError(f"training diverged: {name} holds nan or inf")
