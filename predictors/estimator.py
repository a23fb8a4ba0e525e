"""`Estimator`: what every predictor of whole networks shares, and nothing else.

An estimator in scikit-learn's sense: `__init__` only stores its arguments, `fit` learns from scratch and returns the
object, learnt attributes end in `_`. Architectures come as `Arch` objects, OFA dicts or genome arrays, any number at
once, and go through `Space.genomes`; everything behind that door is vectorised over genomes.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ofa_core.arch import Arch
from ofa_core.errors import PredictorError
from ofa_core.genomes import Genomes, genomes_of
from ofa_core.samples import LARGEST, SMALLEST, implausible, is_constant
from ofa_core.space import Space
from ofa_core.spaces import get_space

__all__ = [
    "Archs",
    "Bounds",
    "Estimator",
    "Floats",
    "as_genomes",
    "as_space",
    "as_targets",
    "check_resolutions",
    "check_varied",
]

Floats = NDArray[np.float64]
Archs = Sequence[Arch | Mapping[str, Any]] | NDArray[np.integer]
Bounds = tuple[Floats, Floats]


def as_space(space: Space | str) -> Space:
    """A space or the space of that name.

    Raises:
        SpaceError: for an unknown name.
    """
    return get_space(space) if isinstance(space, str) else space


def as_genomes(archs: Archs, space: Space) -> Genomes:
    """Architectures in any form as genomes of `space`, and nothing that is not one.

    Args:
        archs: n `Arch` objects, OFA dicts, or an integer array (n, 1 + n_slots).
        space: their space.

    Returns:
        (n, 1 + n_slots) int16.

    Raises:
        ArchError: for what is no member of `space`.
        SpaceError: for the dict of another space.
        PredictorError: for a genome with codes that `space` does not have.
    """
    if isinstance(archs, Arch | Mapping):
        archs = [archs]
    if isinstance(archs, np.ndarray) and archs.dtype != object:
        genomes = genomes_of(space, archs)
        if genomes.size and (genomes.min() < 0 or genomes[:, 1:].max() > space.n_codes):
            raise PredictorError(f"a genome holds a code outside 0..{space.n_codes}, all that {space.name} has")
        return genomes
    return genomes_of(space, archs)


def as_targets(values: ArrayLike, n: int, name: str) -> Floats:
    """Measured values, checked: finite, positive, of a plausible magnitude, one per architecture.

    Raises:
        PredictorError: for anything else, with the first bad value.
    """
    targets = np.asarray(values, dtype=np.float64)
    if targets.shape != (n,):
        raise PredictorError(f"{name} has shape {targets.shape}; ({n},) is expected, one value per architecture")
    bad = implausible(targets)
    if bad is not None:
        raise PredictorError(
            f"{name}[{bad}] is {targets[bad]}; finite numbers > 0 are expected, from {SMALLEST:g} to {LARGEST:g}"
        )
    return targets


def check_varied(space: Space, genomes: Genomes, values: Floats, name: str, hint: str) -> None:
    """Refuse measurements from which nothing can be learnt.

    Args:
        space: the space.
        genomes: (n, 1 + n_slots) different networks.
        values: (n,) what was measured.
        name: of the values.
        hint: what to check where all values are equal.

    Raises:
        PredictorError: if all values are equal, or the networks differ in their resolution alone.
    """
    if is_constant(values):
        raise PredictorError(f"{name} is {values[0]:g} for all {len(values)} networks: nothing can be learnt; {hint}")
    if not np.ptp(genomes[:, 1:], axis=0).any():
        raise PredictorError(
            f"the {len(values)} networks differ in their resolution alone: nothing can be learnt of the other choices "
            f"of {space.name}; measure random sub-nets"
        )


class Estimator(ABC):
    """A predictor of one number per architecture, with an interval.

    A subclass stores a `space` (object or name) and gives `_point` and `_bounds`.
    """

    space: Space | str

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        return type(self).__name__

    @property
    def note(self) -> str:
        """One sentence for people: what the figure is, and how sure."""
        return ""

    @property
    def resolutions(self) -> tuple[int, ...] | None:
        """Input sizes that it knows, ascending; None is any."""
        return None

    @overload
    def predict(self, archs: Archs, *, return_interval: Literal[False] = ..., confidence: float = ...) -> Floats: ...
    @overload
    def predict(
        self, archs: Archs, *, return_interval: Literal[True], confidence: float = ...
    ) -> tuple[Floats, Floats, Floats]: ...
    def predict(
        self, archs: Archs, *, return_interval: bool = False, confidence: float = 0.9
    ) -> Floats | tuple[Floats, Floats, Floats]:
        """Predict.

        Args:
            archs: n `Arch` objects, OFA dicts, or genomes.
            return_interval: also give the interval.
            confidence: probability that the truth lies in it.

        Returns:
            (n,) float64: milliseconds per batch, or top-1 in percent. With `return_interval` three such arrays:
            prediction, low, high; the bounds are NaN where nothing is known about the error.

        Raises:
            PredictorError: if it is not fitted, or asked for what it cannot know.
            ArchError: for an architecture that is not in its space.
        """
        genomes = self._genomes(archs)
        point = self._point(genomes)
        if not return_interval:
            return point
        return (point, *self._bounds(genomes, point, _checked(confidence)))

    def predict_interval(self, archs: Archs, confidence: float = 0.9) -> Bounds:
        """The interval alone: (low, high), each (n,)."""
        genomes = self._genomes(archs)
        return self._bounds(genomes, self._point(genomes), _checked(confidence))

    @abstractmethod
    def _point(self, genomes: Genomes) -> Floats:
        """(n,) predictions."""

    @abstractmethod
    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:
        """(n,) lower and (n,) upper bounds around `point`."""

    def _genomes(self, archs: Archs) -> Genomes:
        if not self.fitted:
            raise PredictorError(f"this {type(self).__name__} is not fitted; call fit first")
        return as_genomes(archs, as_space(self.space))

    def has_seen(self, archs: Archs) -> NDArray[np.bool_]:
        """(n,) which of these networks it was fitted to, as far as it remembers: they are no test of it."""
        remembered = {row.tobytes() for row in getattr(self, "networks_", ())}
        return np.array([row.tobytes() in remembered for row in self._genomes(archs)], dtype=bool)

    @property
    def fitted(self) -> bool:
        """Whether `fit` has been called."""
        return any(name.endswith("_") for name in vars(self))

    def forget(self) -> None:
        """Drop everything learnt."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  (scikit-learn's signature)
        """The constructor's arguments, as scikit-learn's `clone` wants them."""
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        def short(value: Any) -> str:
            return repr(value.name if isinstance(value, Space) else value)

        return f"{type(self).__name__}({', '.join(f'{k}={short(v)}' for k, v in self.get_params().items())})"


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise PredictorError(f"confidence is {confidence}; a probability between 0 and 1 is expected")
    return float(confidence)


def check_resolutions(genomes: Genomes, known: Sequence[int]) -> None:
    """Refuse input sizes that an accuracy model has never seen.

    Raises:
        PredictorError: naming the first one, and those that are known.
    """
    strange = ~np.isin(genomes[:, 0], known)
    if strange.any():
        px = int(genomes[int(np.argmax(strange)), 0])
        some = ", ".join(map(str, known)) if len(known) < 9 else f"{known[0]} to {known[-1]} step {known[1] - known[0]}"
        raise PredictorError(f"no accuracy is known at {px} px; the accuracy model knows {some}")
