"""Arrays of a saved predictor; their shape, type and range are checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import FormatError, OfaError
from ofa_core.genomes import Genomes
from ofa_core.schema import MAX_NUMBER
from ofa_core.space import Space, check_resolution
from predictors.estimator import Floats

__all__ = ["MAX_LOG_ERROR", "Arrays"]

MAX_LOG_ERROR = 50.0


@dataclass(frozen=True)
class Arrays:
    """The arrays of one predictor.

    Attributes:
        arrays: arrays by name.
    """

    arrays: Mapping[str, NDArray[Any]]

    def floats(self, name: str, *shape: int | None, least: float = -MAX_NUMBER) -> Floats:
        """Return an array of finite numbers.

        Args:
            name: name of the array.
            shape: expected shape; None is any length above 0.
            least: smallest allowed value.

        Raises:
            FormatError: if the array is missing, or has another shape, type or range.
        """
        values = self._found(name)
        fits = values.ndim == len(shape) and all(
            n > 0 if wanted is None else n == wanted for n, wanted in zip(values.shape, shape, strict=True)
        )
        if not fits or values.dtype.kind not in "fiu":
            wanted = " x ".join("n" if n is None else str(n) for n in shape) or "one number"
            raise FormatError(f"{name} is an array of {values.shape} {values.dtype}; numbers are expected: {wanted}")
        numbers = values.astype(np.float64)
        if not ((numbers >= least) & (numbers <= MAX_NUMBER)).all():
            raise FormatError(f"{name} has values that are not finite or out of range")
        return numbers

    def log_errors(self, name: str) -> Floats:
        """Return errors, log(measured / predicted), whose exponentials are finite."""
        errors = self.floats(name, None)
        if np.abs(errors).max() > MAX_LOG_ERROR:
            raise FormatError(f"{name} has values above {MAX_LOG_ERROR}")
        return errors

    def number(self, name: str) -> float:
        """Return a single number."""
        return float(self.floats(name))

    def ceiling(self) -> float:
        """Return the ceiling of an accuracy; infinite if the file has none, as older files."""
        ceiling = self.arrays.get("ceiling", np.array(np.inf))
        is_infinite = ceiling.shape == () and ceiling.dtype.kind == "f" and float(ceiling) == np.inf
        return np.inf if is_infinite else self.number("ceiling")

    def genomes(self, name: str, space: Space) -> Genomes:
        """Return (n, 1 + n_slots) members of a space; n may be 0."""
        values = self._found(name)
        if values.ndim != 2 or values.shape[1] != 1 + space.n_slots or values.dtype.kind not in "iu":
            kind = f"{values.shape} {values.dtype}"
            raise FormatError(f"{name} is an array of {kind}; networks of {space.name} are expected")
        if len(values) and not ((values[:, 1:] >= 0) & (values[:, 1:] <= space.n_codes)).all():
            raise FormatError(f"{name} has choices that {space.name} does not have")
        try:
            for px in np.unique(values[:, 0]):
                check_resolution(int(px))
        except OfaError as error:
            raise FormatError(f"{name}: {error}") from error
        return values

    def _found(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            raise FormatError(f"has no array {name}, only {', '.join(sorted(self.arrays)[:20])}")
        return self.arrays[name]
