"""Arrays of a saved predictor, checked for shape, type and size as they are taken out, and models made of them."""

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
from predictors.accuracy import KernelMean
from predictors.estimator import Floats
from predictors.quadratic import Design, QuadraticForm

__all__ = ["MAX_LOG_ERROR", "Arrays", "kernel_mean", "quadratic_form"]

MAX_LOG_ERROR = 50.0


@dataclass(frozen=True)
class Arrays:
    """The arrays of one predictor.

    Attributes:
        arrays: by name.
    """

    arrays: Mapping[str, NDArray[Any]]

    def floats(self, name: str, *shape: int | None, least: float = -MAX_NUMBER) -> Floats:
        """Take an array of finite numbers out.

        Args:
            name: of the array.
            shape: of the array; None is any length but 0.
            least: the smallest value.

        Raises:
            FormatError: if it is not there, or is another one.
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
        """Take errors out, log(measured / predicted), whose exponentials are finite."""
        errors = self.floats(name, None)
        if np.abs(errors).max() > MAX_LOG_ERROR:
            raise FormatError(f"{name} has values above {MAX_LOG_ERROR}")
        return errors

    def number(self, name: str) -> float:
        """Take a single number out."""
        return float(self.floats(name))

    def ceiling(self) -> float:
        """Take the ceiling of an accuracy out; without one, as in older files, it is infinite."""
        ceiling = self.arrays.get("ceiling", np.array(np.inf))
        is_infinite = ceiling.shape == () and ceiling.dtype.kind == "f" and float(ceiling) == np.inf
        return np.inf if is_infinite else self.number("ceiling")

    def genomes(self, name: str, space: Space) -> Genomes:
        """Take (n, 1 + n_slots) members of a space out; n may be 0."""
        values = self._found(name)
        if values.ndim != 2 or values.shape[1] != 1 + space.n_slots or values.dtype.kind not in "iu":
            raise FormatError(f"{name} is an array of {values.shape} {values.dtype}; networks of {space.name} expected")
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
            raise FormatError(f"no array {name} in it; has {', '.join(sorted(self.arrays)[:20])}")
        return self.arrays[name]


def quadratic_form(take: Arrays, space: Space) -> QuadraticForm:
    """Restore the closed form of a posterior mean."""
    n_columns = 3 * space.n_slots + 1
    return QuadraticForm(
        constant=take.number("constant"),
        slot=take.floats("slot", space.n_slots, 1 + space.n_codes),
        log_macs=take.number("log_macs"),
        decay=take.number("decay"),
        centre=take.floats("centre", n_columns),
        matrix=take.floats("matrix", n_columns, n_columns),
        ceiling=take.ceiling(),
    )


def kernel_mean(take: Arrays, space: Space) -> KernelMean:
    """Restore a posterior mean that keeps its rows."""
    weights = take.floats("weights", None)
    n, n_choices = len(weights), len(space.kernels) + len(space.expands)
    rows = Design(
        ordinals=take.floats("ordinals", n, 3 * space.n_slots),
        one_hot=take.floats("one_hot", n, space.n_slots * n_choices),
        log_macs=take.floats("log_macs", n),
        decay=take.floats("decay", n),
        stages=take.floats("stages", 3 * space.n_slots, 3 * len(space.stages)),
    )
    return KernelMean(rows, weights, take.number("offset"), take.ceiling())
