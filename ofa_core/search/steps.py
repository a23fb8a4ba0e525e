"""The steps of `ofa-search` between its options and its files; they need protocols only, no predictor or device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.calibration import Calibration
from ofa_core.context import Context
from ofa_core.measured_networks import Network
from ofa_core.search.archive import Watch
from ofa_core.search.console import progress
from ofa_core.search.problem import Problem
from ofa_core.search.protocols import Archs, LatencyPredictor
from ofa_core.search.run import SearchResult, fill_front, search
from ofa_core.search.solver import SolveSettings

__all__ = [
    "LatencySource",
    "is_table",
    "make_search",
    "with_front",
]

_log = logging.getLogger(__name__)


class TableSource(Protocol):
    """A latency table, calibrated or not."""

    @property
    def energy_(self) -> object | None:
        """The energy model; None if no energy was measured."""
        ...

    def energy_mj(self, archs: Archs) -> NDArray[np.float64]:
        """Return (n,) millijoules above idle per batch."""
        ...

    def block_ms(self, resolutions: Iterable[int]) -> Callable[[BlockSpec, int], float]:
        """Return a function from a block and one of these resolutions to its latency in ms."""
        ...

    def with_sums(self, networks: Sequence[Network]) -> list[Network]:
        """Return networks with the table's sums."""
        ...


class LatencySource(LatencyPredictor, Protocol):
    """A latency predictor that a user names with --lut."""

    @property
    def label(self) -> str:
        """Device and origin, a few words."""
        ...

    @property
    def note(self) -> str:
        """Method and error, one sentence."""
        ...

    @property
    def n_filled(self) -> int:
        """Number of blocks whose latency is an estimate."""
        ...

    @property
    def context(self) -> Context | None:
        """Context of the measurements; None if it is unknown."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of a table's sums; None without one."""
        ...

    @property
    def lut(self) -> TableSource | None:
        """The latency table of the device: the predictor itself, a part of it, or None."""
        ...


def is_table(latency: LatencySource) -> bool:
    """Return True if the predictor is a latency table, and not fitted to whole networks."""
    own: object = latency.lut
    return own is latency


def make_search(seed: int, algorithm: str = "anneal") -> Callable[[Problem, Sequence[Arch]], SearchResult]:
    """Return the search, with progress on stderr, as a function of the problem and architectures to begin with."""

    def run(problem: Problem, start: Sequence[Arch]) -> SearchResult:
        with progress("search") as news:
            return search(
                problem,
                seed=seed,
                settings=SolveSettings(algorithm=algorithm),
                start=start,
                on_batch=lambda n, best: news(f"{n} sub-nets, best {best:.2f}"),
            )

    return run


def with_front(result: SearchResult) -> SearchResult:
    """Return a result with a full front, with progress on stderr."""
    with progress("fill the front") as news:
        return fill_front(result, watch=Watch(lambda n, _best: news(f"{n} sub-nets")))
