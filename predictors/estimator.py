"""`Estimator`: the interface of every predictor of whole networks.

Estimators follow scikit-learn: `__init__` only stores its arguments, `fit` starts from scratch and returns the object,
fitted attributes end in `_`, and `predict` changes nothing. Architectures are `Arch` objects, OFA dicts or genome
arrays; `Space.genomes` converts them once, and everything after that is vectorised over genomes.

To add a predictor: write one module with a subclass, and one row in `predictors.persistence`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ofa_core.arch import Arch
from ofa_core.backend_names import DTYPES
from ofa_core.errors import PredictorError
from ofa_core.genomes import Genomes, genomes_of
from ofa_core.measured_columns import LATENCY
from ofa_core.samples import LARGEST, SMALLEST, implausible, is_constant
from ofa_core.space import Space
from ofa_core.spaces import get_space

__all__ = [
    "Archs",
    "Bounds",
    "Estimator",
    "Floats",
    "Parts",
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
    """Return a space, or the built-in space of that name.

    Raises:
        SpaceError: for an unknown name.
    """
    return get_space(space) if isinstance(space, str) else space


def as_genomes(archs: Archs, space: Space) -> Genomes:
    """Convert architectures to genomes of `space`, and check them.

    Args:
        archs: n `Arch` objects, OFA dicts, or an integer array (n, 1 + n_slots).
        space: space of the architectures.

    Returns:
        (n, 1 + n_slots) int16.

    Raises:
        ArchError: if an architecture is not a member of `space`.
        SpaceError: if a dict names another space.
        PredictorError: if a genome holds a code that `space` does not have.
    """
    if isinstance(archs, Arch | Mapping):
        archs = [archs]
    if isinstance(archs, np.ndarray) and archs.dtype != object:
        genomes = genomes_of(space, archs)
        if genomes.size and (genomes.min() < 0 or genomes[:, 1:].max() > space.n_codes):
            raise PredictorError(f"a genome holds a code outside 0..{space.n_codes}, the codes of {space.name}")
        return genomes
    return genomes_of(space, archs)


def as_targets(values: ArrayLike, n: int, name: str) -> Floats:
    """Return measured values as (n,) float64, after checking that they are finite, positive and plausible.

    Raises:
        PredictorError: for another shape, or naming the first bad value.
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
    """Refuse measurements that no model can be fitted to.

    Args:
        space: space of the networks.
        genomes: (n, 1 + n_slots) different networks.
        values: (n,) measured values.
        name: name of the values, for the error.
        hint: advice if all values are equal.

    Raises:
        PredictorError: if all values are equal, or the networks differ only in their resolution.
    """
    if is_constant(values):
        raise PredictorError(f"{name} is {values[0]:g} for all {len(values)} networks: no model can be fitted; {hint}")
    if not np.ptp(genomes[:, 1:], axis=0).any():
        raise PredictorError(
            f"the {len(values)} networks differ only in their resolution: no model of the other choices of "
            f"{space.name} can be fitted; measure random sub-nets"
        )


@dataclass(frozen=True)
class Parts:
    """A fitted predictor taken apart for a file (`predictors.persistence`).

    Attributes:
        space: space of its architectures.
        facts: JSON values; not checked yet when read from a file.
        arrays: arrays by name; check them with `predictors.saved_arrays.Arrays`.
        files: further files by name.
        inner: predictors that this one is built on.
    """

    space: Space
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    inner: tuple[Estimator, ...] = ()


class Estimator(ABC):
    """A predictor of one number per architecture, with an interval.

    A subclass stores a `space` (object or name), defines `fit`, `_point` and `_bounds`, and converts itself to `Parts`
    and back.
    """

    quantity: ClassVar[str] = LATENCY  # or TOP1
    space: Space | str

    @property
    def dtype(self) -> str:
        """Type of weights and activations of the networks that an accuracy is predicted of, as in tables."""
        return DTYPES["fp32"]

    @property
    def label(self) -> str:
        """Name in tables and plots."""
        return type(self).__name__

    @property
    def note(self) -> str:
        """Method and error of the prediction, in one sentence."""
        return ""

    @property
    def resolutions(self) -> tuple[int, ...] | None:
        """Resolutions that can be predicted, ascending; None means any."""
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
        """Predict architectures; the predictor does not change.

        Args:
            archs: n `Arch` objects, OFA dicts, or genomes.
            return_interval: True to return the interval too.
            confidence: probability that the true value lies in the interval.

        Returns:
            (n,) float64: milliseconds per batch, or top-1 in percent. With `return_interval` three such arrays:
            prediction, lower and upper bound; the bounds are NaN where the error is unknown.

        Raises:
            PredictorError: if the predictor is not fitted, or cannot predict a resolution.
            ArchError: if an architecture is not in its space.
        """
        genomes = self._genomes(archs)
        point = self._point(genomes)
        if not return_interval:
            return point
        return (point, *self._bounds(genomes, point, _checked(confidence)))

    def predict_interval(self, archs: Archs, confidence: float = 0.9) -> Bounds:
        """Return the interval only: (n,) lower and (n,) upper bounds."""
        genomes = self._genomes(archs)
        return self._bounds(genomes, self._point(genomes), _checked(confidence))

    @abstractmethod
    def _point(self, genomes: Genomes) -> Floats:
        """Return (n,) predictions."""

    @abstractmethod
    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:
        """Return (n,) lower and (n,) upper bounds around `point`."""

    @abstractmethod
    def to_parts(self) -> Parts:
        """Return the fitted predictor as parts of a file."""

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Build a fitted predictor from the parts of a file.

        Raises:
            FormatError: if a part is missing or wrong.
        """

    def _genomes(self, archs: Archs) -> Genomes:
        if not self.fitted:
            raise PredictorError(f"this {type(self).__name__} is not fitted; call fit first")
        return as_genomes(archs, as_space(self.space))

    def has_seen(self, archs: Archs) -> NDArray[np.bool_]:
        """Return (n,) True for networks that the predictor is known to be fitted to: do not evaluate on these."""
        remembered = {row.tobytes() for row in getattr(self, "networks_", ())}
        return np.array([row.tobytes() in remembered for row in self._genomes(archs)], dtype=bool)

    @property
    def fitted(self) -> bool:
        """True once the predictor can predict."""
        return any(name.endswith("_") for name in vars(self))

    def forget(self) -> None:
        """Delete all fitted attributes."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  (scikit-learn's signature)
        """Return the constructor's arguments, for scikit-learn's `clone`."""
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
    """Refuse resolutions that an accuracy model was not fitted to.

    Raises:
        PredictorError: naming the first one, and the known ones.
    """
    strange = ~np.isin(genomes[:, 0], known)
    if strange.any():
        px = int(genomes[int(np.argmax(strange)), 0])
        some = ", ".join(map(str, known)) if len(known) < 9 else f"{known[0]} to {known[-1]} step {known[1] - known[0]}"
        raise PredictorError(f"the accuracy model has no data at {px} px, only at {some} px")
