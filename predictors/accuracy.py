"""Accuracy predictors: fitted to (architecture, top-1) pairs, read from a file, built in, or a mere proxy.

`load_accuracy` turns what a user says (`--accuracy ...`) into one of them. All give top-1 in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from ofa_core.calibration import conformal_quantile
from ofa_core.dense import total_macs
from ofa_core.errors import PredictorError
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from ofa_core.space_record import described_differences, require_space
from ofa_core.spaces import get_space
from predictors.coverage import extrapolation_note, shared_choices
from predictors.estimator import (
    Archs,
    Bounds,
    Estimator,
    Floats,
    as_genomes,
    as_space,
    as_targets,
    check_resolutions,
    check_varied,
)
from predictors.quadratic import (
    Design,
    QuadraticForm,
    Spectrum,
    bend,
    collapse,
    design,
    kernel_matrix,
    rbf_matrix,
    unbend,
)

if TYPE_CHECKING:
    from ofa_core.formats.acc_predictor import PublishedAccuracyPredictor

__all__ = ["MODELS", "AccuracyPredictor", "KernelMean", "MacsProxy", "fit_process", "load_accuracy"]

MODELS = ("auto", "quadratic", "rbf", "ridge")
MIN_ROWS = 20
NOISES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)  # shares of the variance of the targets
CEILINGS = (0.5, 1.0, 2.0, 4.0, np.inf)  # over the best row, in standard deviations: where accuracy saturates
MEAN = 1.0  # variance of the mean level: were it taken as known, a row left out would still be in it
HANDICAP = {"quadratic": 1.0, "ridge": 1.15, "rbf": 1.03}  # the slower and the cruder model must be better by this much


@dataclass(frozen=True)
class KernelMean:
    """A posterior mean that has no closed form: the rows stay."""

    rows: Design
    weights: Floats
    offset: float
    ceiling: float = np.inf

    def __call__(self, space: Space, genomes: Genomes) -> Floats:
        """(n,) values of (n, 1 + n_slots) genomes."""
        centred = self.rows.centred(self.rows)
        out = np.empty(len(genomes))
        for start in range(0, len(genomes), 2048):
            part = design(space, genomes[start : start + 2048]).centred(self.rows)
            out[start : start + 2048] = self.offset + rbf_matrix(part, centred) @ self.weights
        return bend(out, self.ceiling)

    def arrays(self) -> dict[str, Floats]:
        """The parts as arrays, for a file."""
        return {
            **vars(self.rows),
            "weights": self.weights,
            "offset": np.array(self.offset),
            "ceiling": np.array(self.ceiling),
        }


def fit_process(
    space: Space, nets: Genomes, y: Floats, counts: Floats, models: tuple[str, ...]
) -> tuple[str, KernelMean | QuadraticForm, Floats]:
    """The Gaussian process, ceiling and noise with the least leave-one-out error.

    Args:
        space: the space.
        nets: (n, 1 + n_slots) different genomes.
        y: (n,) percent.
        counts: (n,) how often each was measured, or how much it is trusted in proportion to the others.
        models: of `quadratic`, `rbf`, `ridge`.

    Returns:
        The model's name, its posterior mean, and (n,) leave-one-out errors in points.
    """
    rows = design(space, nets)
    centred = rows.centred(rows)
    best = np.inf
    for model in models:
        squared = float(model == "quadratic")
        kernel = rbf_matrix(centred, centred) if model == "rbf" else kernel_matrix(centred, centred, squared)
        spectrum = Spectrum(kernel + MEAN, counts)
        for ceiling, noise in product(float(y.max()) + float(y.std()) * np.array(CEILINGS), NOISES):
            z = unbend(y, ceiling)
            offset, scale = float(z.mean()), float(z.std()) or 1.0
            weights, residuals = spectrum.solve((z - offset) / scale, noise)
            errors = y - bend(z - scale * residuals, ceiling)
            score = float(np.average(np.abs(errors), weights=counts)) * HANDICAP[model]
            if score < best:
                level = offset + scale * MEAN * float(weights.sum())
                best, chosen = score, (model, errors, scale * weights, level, ceiling)
    model, errors, weights, level, ceiling = chosen
    if model == "rbf":
        return model, KernelMean(rows, weights, level, ceiling), errors
    return model, collapse(space, rows, weights, level, float(model == "quadratic"), ceiling), errors


class AccuracyPredictor(Estimator):
    """Top-1 from the choices of an architecture, learnt from measured sub-nets.

    Models: `quadratic` and `rbf` are Gaussian processes (linear plus squared, linear plus RBF kernel), `ridge` is the
    linear part alone, all over accuracies that saturate at a ceiling. `auto` takes the best of them by leave-one-out
    error, which also chooses the ceiling. Several measurements of one
    network are averaged first, so none of them judges another.

    Args:
        space: the space of the architectures.
        model: one of the above.

    Attributes:
        model_: the model that was chosen.
        errors_: leave-one-out errors in points one per different architecture.
        mae_: their mean absolute value.
        n_rows_: different architectures it was fitted to.
        mean_: the posterior mean.
        seen_: resolutions it was fitted on.
        shared_: choices that all architectures share.
    """

    model_: str
    errors_: Floats
    mae_: float
    n_rows_: int
    mean_: KernelMean | QuadraticForm
    seen_: tuple[int, ...]
    shared_: tuple[str, ...]

    def __init__(self, space: Space | str, *, model: str = "auto") -> None:
        self.space = space
        self.model = model

    def fit(self, archs: Archs, top1: ArrayLike) -> Self:
        """Learn.

        Args:
            archs: n measured architectures.
            top1: (n,) percent.

        Raises:
            PredictorError: for fewer than 20 different architectures, values that are no percentages, or values that
                are all equal.
        """
        self.forget()
        if self.model not in MODELS:
            raise PredictorError(f"unknown accuracy model {self.model!r}; one of {', '.join(MODELS)}")
        space = as_space(self.space)
        genomes = as_genomes(archs, space)
        values = as_targets(top1, len(genomes), "top1")
        if len(values) and not (values.max() <= 100 and values.max() > 1):
            raise PredictorError(f"top1 reaches {values.max():g}; percent are expected, between 1 and 100")
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
        """Those it was fitted on; with three or more, the space's other ones between them too."""
        seen = self.seen_
        if len(seen) < 3:
            return seen
        return tuple(sorted({*seen, *(px for px in as_space(self.space).resolutions if seen[0] <= px <= seen[-1])}))

    @property
    def label(self) -> str:
        """Model and rows."""
        return f"{self.model_} fitted to {self.n_rows_} sub-nets"

    @property
    def note(self) -> str:
        """Its own error estimate."""
        extrapolated = extrapolation_note(getattr(self, "shared_", ()))  # not in a .predictor
        return f"{self.label}, leave-one-out error {self.mae_:.3f} points{extrapolated}"

    def _point(self, genomes: Genomes) -> Floats:
        check_resolutions(genomes, self.resolutions)
        return np.clip(self.mean_(as_space(self.space), genomes), 0.0, 100.0)

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:  # noqa: ARG002
        margin = conformal_quantile(np.abs(self.errors_), confidence)
        return np.maximum(point - margin, 0.0), np.minimum(point + margin, 100.0)


class MacsProxy(Estimator):
    """Not an accuracy: a number that grows with the logarithm of the MACs, to rank architectures where there is none.

    Args:
        space: the space of the architectures.
    """

    def __init__(self, space: Space | str) -> None:
        self.space = space

    @property
    def fitted(self) -> bool:
        """There is nothing to fit."""
        return True

    @property
    def label(self) -> str:
        """Its name on the command line."""
        return "proxy:macs"

    @property
    def note(self) -> str:
        """That it is no accuracy."""
        return "not an accuracy: 10 x log10 of the MACs in millions, which only ranks"

    def fit(self, archs: Archs, top1: ArrayLike) -> Self:  # noqa: ARG002  (the estimator's signature)
        """Nothing to learn."""
        return self

    def _point(self, genomes: Genomes) -> Floats:
        return np.asarray(10.0 * np.log10(total_macs(as_space(self.space), genomes) / 1e6))

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:  # noqa: ARG002
        nothing = np.full(len(point), np.nan)
        return nothing, nothing.copy()


def load_accuracy(spec: str | None, space: Space, column: str | None = None) -> Estimator | PublishedAccuracyPredictor:
    """The accuracy predictor that a user means.

    Args:
        spec: None is the built-in one; `proxy:macs`; a `.pth` or `.npz` of the published predictor; a `.predictor` of
            this project; or a CSV of measured accuracies, which is fitted at once.
        space: the space of the architectures.
        column: of the CSV, as `find_column` takes it; None is the one that its name shows.

    Raises:
        PredictorError: if there is no built-in one for this space, or `spec` is nothing of the kind.
        FormatError: for a file that cannot be read.
        SpaceError: for a `.predictor` of another space.
    """
    if spec is None:
        from predictors.builtin_accuracy import BUILTIN_SPACE, BuiltinAccuracy

        builtin = get_space(BUILTIN_SPACE)
        if space != builtin:
            how = f"; {described_differences(space, builtin)}" if space.name.startswith(BUILTIN_SPACE) else ""
            raise PredictorError(
                f"there is no built-in accuracy model for {space.name} (only for {BUILTIN_SPACE}{how}); "
                f"give a file with --accuracy, or rank by size with --accuracy proxy:macs"
            )
        return BuiltinAccuracy(space)
    if spec == "proxy:macs":
        return MacsProxy(space)
    if spec.startswith("proxy:"):
        raise PredictorError(f"unknown proxy {spec!r}; there is proxy:macs")
    path = Path(spec)
    suffix = path.suffix.lower()
    if suffix in (".pth", ".pt", ".npz"):
        from ofa_core.formats.acc_predictor import read_acc_predictor

        return read_acc_predictor(path, space)
    if suffix == ".predictor":
        from predictors.persistence import load_predictor

        predictor = load_predictor(path)
        require_space(as_space(predictor.space), space, path)
        return predictor
    if suffix == ".csv":
        from ofa_core.measured_columns import TOP1
        from ofa_core.measured_files import MeasuredFile

        file = MeasuredFile.read(path)
        rows = file.select(space, file.column(column, TOP1))
        return AccuracyPredictor(space).fit(rows.genomes, rows.values)
    raise PredictorError(f"--accuracy {spec}: proxy:macs, a .pth, .npz, .predictor or .csv file is expected")
