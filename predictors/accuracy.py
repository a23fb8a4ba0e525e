"""Accuracy predictors: fitted to measured sub-nets, or a proxy. Both take architectures, not weights.

Top-1 is in percent. `predictors.loading.load_accuracy` reads what `--accuracy` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ofa_core.backend_names import DTYPES
from ofa_core.calibration import conformal_quantile
from ofa_core.dense import DenseTable, total_macs
from ofa_core.errors import FormatError, PredictorError
from ofa_core.genomes import Genomes
from ofa_core.measured_columns import TOP1
from ofa_core.quadratic import QuadraticScore
from ofa_core.schema import Count, Range, structured
from ofa_core.space import MAX_RESOLUTION_PX, Space
from predictors.coverage import extrapolation_note, shared_choices
from predictors.estimator import (
    Archs,
    Bounds,
    Estimator,
    Floats,
    Parts,
    as_genomes,
    as_space,
    as_targets,
    check_resolutions,
    check_varied,
)
from predictors.gaussian_process import HANDICAP, KernelMean, QuadraticForm, fit_process
from predictors.saved_arrays import Arrays

__all__ = ["MODELS", "AccuracyPredictor", "MacsProxy"]

MODELS = ("auto", *HANDICAP)
MIN_ROWS = 20


class AccuracyPredictor(Estimator):
    """Top-1 from the choices of an architecture, fitted to measured sub-nets.

        predictor = AccuracyPredictor("mbv3-w1.0").fit(archs, top1_percent)
        top1, low, high = predictor.predict(others, return_interval=True)

    Models (`predictors.gaussian_process`): `quadratic` and `rbf` are Gaussian processes with a linear plus squared, or
    a linear plus RBF kernel; `ridge` has the linear part only. Accuracy saturates at a ceiling in all of them. `auto`
    selects the model by leave-one-out error, which also selects the ceiling. Repeated measurements of a network are
    averaged first, so that they do not validate each other.

    Args:
        space: space of the architectures.
        model: one of `MODELS`.
        dtype: type of weights and activations of the measured sub-nets: `float32` or `int8`.

    Attributes:
        model_: selected model.
        errors_: (n,) leave-one-out errors in percentage points, one per different architecture.
        mae_: mean absolute value of the errors.
        n_rows_: number of different architectures.
        mean_: posterior mean.
        seen_: resolutions of the architectures.
        shared_: choices that all architectures share.
    """

    quantity = TOP1
    model_: str
    errors_: Floats
    mae_: float
    n_rows_: int
    mean_: KernelMean | QuadraticForm
    seen_: tuple[int, ...]
    shared_: tuple[str, ...]

    def __init__(self, space: Space | str, *, model: str = "auto", dtype: str = DTYPES["fp32"]) -> None:
        self.space = space
        self.model = model
        self._dtype = dtype

    @property
    def dtype(self) -> str:
        """Type of weights and activations of the measured sub-nets, as in tables."""
        return self._dtype

    def fit(self, archs: Archs, top1: ArrayLike) -> Self:
        """Fit to measured architectures.

        Args:
            archs: n measured architectures.
            top1: (n,) percent.

        Raises:
            PredictorError: for fewer than 20 different architectures, values that are not percent, or equal values.
        """
        self.forget()
        if self.model not in MODELS:
            raise PredictorError(f"unknown accuracy model {self.model!r}; choose one of {', '.join(MODELS)}")
        space = as_space(self.space)
        genomes = as_genomes(archs, space)
        values = as_targets(top1, len(genomes), "top1")
        if len(values) and not (values.max() <= 100 and values.max() > 1):
            raise PredictorError(f"top1 has a maximum of {values.max():g}; percent are expected, between 1 and 100")
        nets, inverse, counts = np.unique(genomes, axis=0, return_inverse=True, return_counts=True)
        if len(nets) < MIN_ROWS:
            raise PredictorError(f"{len(nets)} different architectures; at least {MIN_ROWS} are needed")
        y = np.bincount(inverse.reshape(-1), values) / counts
        check_varied(space, nets, y, "top1", "was the supernet trained?")
        self.n_rows_ = len(nets)
        self.shared_ = shared_choices(space, nets)
        self.seen_ = tuple(int(px) for px in np.unique(nets[:, 0]))
        models = tuple(HANDICAP) if self.model == "auto" else (self.model,)
        self.model_, self.mean_, self.errors_ = fit_process(space, nets, y, counts.astype(np.float64), models)
        self.mae_ = float(np.mean(np.abs(self.errors_)))
        return self

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions of the measured architectures; with three or more, also those of the space in between."""
        seen = self.seen_
        if len(seen) < 3:
            return seen
        return tuple(sorted({*seen, *(px for px in as_space(self.space).resolutions if seen[0] <= px <= seen[-1])}))

    @property
    def label(self) -> str:
        """Model and number of architectures."""
        where = "" if self.dtype == DTYPES["fp32"] else f" in {self.dtype}"
        return f"{self.model_} fitted to {self.n_rows_} sub-nets{where}"

    @property
    def note(self) -> str:
        """Label and leave-one-out error."""
        return f"{self.label}, leave-one-out error {self.mae_:.3f} points{extrapolation_note(self.shared_)}"

    def _point(self, genomes: Genomes) -> Floats:
        check_resolutions(genomes, self.resolutions)
        return np.clip(self.mean_(as_space(self.space), genomes), 0.0, 100.0)

    def scores(self, genomes: Genomes) -> Floats:
        """Return (n, n_slots, 1 + n_codes): the predicted top-1, not clipped, with another code in one slot."""
        return self.mean_.scores(as_space(self.space), genomes)

    def quadratic(self, resolution_px: int) -> QuadraticScore | None:
        """Return the prediction at one resolution in closed form; None for the model `rbf`, which has none."""
        return self.mean_.at(as_space(self.space), resolution_px) if isinstance(self.mean_, QuadraticForm) else None

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:  # noqa: ARG002
        margin = conformal_quantile(np.abs(self.errors_), confidence)
        return np.maximum(point - margin, 0.0), np.minimum(point + margin, 100.0)

    def to_parts(self) -> Parts:
        """Return the fitted predictor as parts of a file."""
        facts = {
            "model": self.model,
            "chosen": self.model_,
            "n_rows": self.n_rows_,
            "seen": self.seen_,
            "shared": self.shared_,
        }
        return Parts(as_space(self.space), facts, {"errors": self.errors_, **self.mean_.arrays()})

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Build a fitted predictor from the parts of a file."""
        facts, take = structured(parts.facts, _Facts, "facts"), Arrays(parts.arrays)
        if not facts.seen:
            raise FormatError("facts: seen is empty; resolutions are expected")
        predictor = cls(parts.space, model=facts.model, dtype=facts.dtype)
        predictor.errors_ = take.floats("errors", None)
        predictor.mae_ = float(np.mean(np.abs(predictor.errors_)))
        predictor.model_, predictor.n_rows_, predictor.seen_ = facts.chosen, facts.n_rows, tuple(facts.seen)
        predictor.shared_ = tuple(facts.shared)
        mean = KernelMean if facts.chosen == "rbf" else QuadraticForm
        predictor.mean_ = mean.from_arrays(take, parts.space)
        return predictor


@dataclass(frozen=True)
class _Facts:
    model: str
    chosen: Literal["quadratic", "rbf", "ridge"]
    n_rows: Count
    seen: list[Annotated[int, Range(1, MAX_RESOLUTION_PX)]]
    dtype: Literal["float32", "int8"] = "float32"
    shared: list[str] = field(default_factory=list)  # not in files of version 0.1.0


class MacsProxy(Estimator):
    """Not an accuracy: 10 x log10 of the MACs in millions, to rank architectures where no accuracy model exists.

    Args:
        space: space of the architectures.
    """

    quantity = TOP1

    def __init__(self, space: Space | str) -> None:
        self.space = space

    @property
    def fitted(self) -> bool:
        """True: no fit is needed."""
        return True

    @property
    def label(self) -> str:
        """Name on the command line."""
        return "proxy:macs"

    @property
    def note(self) -> str:
        """Warning that the number is not an accuracy."""
        return "not an accuracy: 10 x log10 of the MACs in millions, for ranking only"

    def fit(self, archs: Archs, top1: ArrayLike) -> Self:  # noqa: ARG002  (the estimator's signature)
        """Return the proxy unchanged."""
        return self

    def _point(self, genomes: Genomes) -> Floats:
        return np.asarray(10.0 * np.log10(total_macs(as_space(self.space), genomes) / 1e6))

    def quadratic(self, resolution_px: int) -> QuadraticScore:
        """Return the score at one resolution: a function of a sum over blocks."""
        macs = DenseTable.build(as_space(self.space), [resolution_px], lambda block, _: block.macs / 1e6)
        sums = QuadraticScore.additive(float(macs.fixed[0]), macs.slots[0])
        return replace(sums, shape=lambda mmacs: 10.0 * np.log10(np.maximum(mmacs, 1e-300)))

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:  # noqa: ARG002
        unknown = np.full(len(point), np.nan)
        return unknown, unknown.copy()

    def to_parts(self) -> Parts:
        """Return the proxy as parts of a file."""
        return Parts(as_space(self.space))

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Build the proxy from the parts of a file."""
        return cls(parts.space)
