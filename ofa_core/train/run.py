"""A training run as one value: settings, images, process, output and listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.train.batches import Loader, Unreadable, split_held_out
from ofa_core.train.config import Config, build_phases, build_space
from ofa_core.train.distributed import ALONE, Process
from ofa_core.train.evaluation import Evaluator
from ofa_core.train.identity import DataIdentity, identity_of
from ofa_core.train.loop import Step
from ofa_core.train.phases import Phase
from ofa_core.train.sources import Source, open_sources

__all__ = ["Data", "Events", "TrainingRun", "open_data"]


@dataclass(frozen=True)
class Data:
    """The opened images of a run.

    Attributes:
        train: source of training images.
        val: source of validation images.
        train_indices: images of `train` to train on.
        held_out: images of `train` to measure accuracy tables on.
        unreadable: collects the images that cannot be decoded.
    """

    train: Source
    val: Source
    train_indices: NDArray[np.int64]
    held_out: NDArray[np.int64]
    unreadable: Unreadable = field(default_factory=Unreadable)

    def loader(self, config: Config, phase: Phase, resolutions: tuple[int, ...], process: Process) -> Loader:
        """Return the training batches of a phase."""
        return Loader(
            self.train,
            self.train_indices,
            phase.batch_size,
            resolutions,
            config.preprocessing,
            config.augmentation,
            config.run.seed,
            config.data.workers,
            process.rank,
            process.world,
            self.unreadable,
        )

    def evaluator(self, config: Config, process: Process, *, held_out: bool = False) -> Evaluator:
        """Return an evaluator on the validation images, or on the held-out training images."""
        return Evaluator(
            self.train if held_out else self.val,
            self.held_out if held_out else np.arange(len(self.val.labels)),
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


@dataclass(frozen=True)
class Events:
    """Functions that a run calls.

    Attributes:
        start: before a phase: the phase, its first step to train, its number of steps.
        step: after each step.
        epoch: after each pass over the training images: the phase, the number of passes, the net (not to be changed).
        stop: after each step; True ends the run with a checkpoint.
    """

    start: Callable[[Phase, int, int], None] = lambda *_: None
    step: Callable[[Step], None] = lambda _: None
    epoch: Callable[[Phase, int, Supernet], None] = lambda *_: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class TrainingRun:
    """A run of training, of a supernet or of one sub-net.

    Attributes:
        config: the settings.
        data: the images.
        out: folder of a supernet's run, or file of a fine-tuned sub-net.
        process: this process among all.
        events: functions to call while it runs.

    Example:
        >>> from ofa_core.train.config import embedded
        >>> config = embedded()
        >>> run = TrainingRun(config, open_data(config), Path("runs/digits"))
        >>> [phase.name for phase in run.recipe()[1]]
        ['full', 'kernel', 'depth1', 'expand1']
    """

    config: Config
    data: Data
    out: Path
    process: Process = ALONE
    events: Events = Events()

    def recipe(self) -> tuple[Space, tuple[Phase, ...]]:
        """Return the space and the phases of a supernet's run.

        Raises:
            OfaError: for settings that contradict each other.
        """
        space = build_space(self.config.space, len(self.data.train.classes))
        return space, build_phases(self.config, space)

    def loader(self, phase: Phase, resolutions: tuple[int, ...]) -> Loader:
        """Return the training batches of a phase."""
        return self.data.loader(self.config, phase, resolutions, self.process)

    @cached_property
    def identity(self) -> DataIdentity:
        """The identity of the images, compared on resume."""
        return identity_of(self.data.train, self.data.val)
