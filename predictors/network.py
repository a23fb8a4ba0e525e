"""`NetworkPredictor`: latency of whole networks, fitted to measured networks of a device.

A few dozen measured sub-nets are enough (docs/predictors.md). The model is a sum over physical quantities
(`predictors.network_basis`). Priors may enter as further non-negative columns (`predictors.mixture`), which the
physical quantities then only correct:

- the sum of the device's own table;
- sources: predictors of other devices. They enter by their predicted latencies: a prediction has less noise than one
  measurement, and exists for every architecture. A source whose predictions do not increase with network size is
  ignored. With sources, 5 to 20 measured networks of a new device are enough.

With many networks boosted trees may correct the rest, if cross-validation shows a gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ofa_core.context import check_context
from ofa_core.dense import DenseTable
from ofa_core.errors import FormatError, PredictorError
from ofa_core.genomes import Genomes, sample_genomes
from ofa_core.measured_columns import LATENCY
from ofa_core.schema import NonNegative, Range, structured
from ofa_core.space import Space
from ofa_core.table import Context, LatencyTable
from predictors.coverage import extrapolation_note, shared_choices
from predictors.device_regime import Regime, follows_work, regime_of
from predictors.estimator import Archs, Bounds, Estimator, Floats, Parts, as_genomes, as_space, as_targets, check_varied
from predictors.features import feature_names
from predictors.intervals import ConformalErrors
from predictors.lut import LatencyEstimator, LutPredictor
from predictors.mixture import Mixture, fit_mixture
from predictors.network_basis import AdditiveModel
from predictors.residual_trees import ResidualTrees, fit_residual_trees
from predictors.saved_arrays import Arrays

__all__ = ["MIN_NETWORKS", "NetworkPredictor", "Source", "as_source", "table_prior"]

MIN_NETWORKS = 5
PLAUSIBILITY_ROWS = 256

Source = Estimator | LatencyTable | tuple[Any, Any]


class NetworkPredictor(LatencyEstimator):
    """Latency of whole networks on one device.

        predictor = NetworkPredictor("mbv3-w1.2").fit(archs, latency_ms)
        y, low, high = predictor.predict(others, return_interval=True)
        transferred = NetworkPredictor("mbv3-w1.2").fit(few_archs, latency_ms, sources=[predictor])

    Args:
        space: space of the architectures.
        table: the device's latency table, as a prior.
        fill: True to estimate blocks that this table lacks; otherwise only its complete resolutions are predicted.
        boost: `auto` adds boosted trees from 700 networks on, if xgboost is installed and cross-validation shows a
            gain; `never` does not.
        device: name in tables and plots.
        context: conditions of the measurements, if known.

    Attributes:
        mixture_: fitted model.
        regime_: additive or launch-bound, with rank correlations.
        n_networks_: number of different networks.
        trees_: correction by boosted trees, or None.
        priors_: the device's own table, if any, and the sources.
        seen_: resolutions of the networks.
        errors_: leave-one-out errors of the whole model.
        lut_: the device's own table among the priors, or None.
        networks_: (n, 1 + n_slots) genomes of the networks.
    """

    mixture_: Mixture
    regime_: Regime
    n_networks_: int
    trees_: ResidualTrees | None
    priors_: tuple[Estimator, ...]
    seen_: tuple[int, ...]
    errors_: ConformalErrors
    lut_: LutPredictor | None
    networks_: Genomes

    def __init__(
        self,
        space: Space | str,
        *,
        table: LatencyTable | None = None,
        boost: str = "auto",
        device: str = "",
        context: Context | None = None,
        fill: bool = True,
    ) -> None:
        self.space = space
        self.table = table
        self.fill = fill
        self.boost = boost
        self.device = device
        self.context = context

    def fit(self, archs: Archs, latency_ms: ArrayLike, sources: Sequence[Source] = ()) -> Self:
        """Fit to measured networks.

        Args:
            archs: n networks, at least 5 different ones. About 30 chosen by `predictors.network_design` make a good
                predictor; with sources, 10 to 20. Repeated networks count once, with the geometric mean.
            latency_ms: (n,) milliseconds per batch.
            sources: other devices, as in `as_source`.

        Raises:
            PredictorError: for too few networks, values that are equal or not finite and positive, or a wrong source.
        """
        if self.boost not in ("auto", "never"):
            raise PredictorError(f"boost is {self.boost!r}; auto or never is expected")
        space = as_space(self.space)
        own = None if self.table is None else table_prior(self.table, space, fill=self.fill)
        priors = [*([] if own is None else [own]), *(as_source(source, space) for source in sources)]
        every = as_genomes(archs, space)
        genomes, y = _once_each(every, as_targets(latency_ms, len(every), "latency_ms"))
        if len(y) < MIN_NETWORKS:
            raise PredictorError(f"{len(y)} different networks; at least {MIN_NETWORKS} are needed")
        check_varied(space, genomes, y, "latency_ms", "are these measurements?")
        self.forget()
        usable = _usable(priors, space, np.unique(genomes[:, 0]))
        mixture = fit_mixture(space, genomes, y, _predictions(priors, genomes)[:, usable])
        weights = np.zeros(len(priors))
        weights[usable] = mixture.weights
        mixture = replace(mixture, weights=weights)
        found = fit_residual_trees(space, genomes, mixture.held_out, y) if self.boost == "auto" else None
        self.trees_, self.errors_ = (None, mixture.errors) if found is None else found
        self.regime_ = regime_of(space, genomes, y)
        self._set_model(mixture, priors, own, genomes)
        return self

    def _set_model(
        self, mixture: Mixture, priors: Sequence[Estimator], own: LutPredictor | None, networks: Genomes
    ) -> None:
        self.mixture_, self.priors_, self.lut_ = mixture, tuple(priors), own
        self.networks_, self.n_networks_ = networks, len(networks)
        self.seen_ = tuple(int(px) for px in np.unique(networks[:, 0]))
        self._dense_ = mixture.physical.dense(tuple(sorted({*as_space(self.space).resolutions, *self.seen_})))

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Resolutions of the measured networks, and those of the space in between, as far as the own table has them."""
        seen = self.seen_
        known = {*seen, *(px for px in as_space(self.space).resolutions if seen[0] <= px <= seen[-1])}
        if self.lut_ is not None and not self.lut_.fill:
            known &= set(self.lut_.resolutions)
        return tuple(sorted(known))

    @property
    def calibrated(self) -> bool:
        """True: the model is fitted to whole networks."""
        return True

    @property
    def lut(self) -> LutPredictor | None:
        """The device's own table, if the prediction is built on one."""
        return self.lut_

    @property
    def label(self) -> str:
        """Device and number of networks."""
        name = self.device or "device"
        if self.context is not None:
            name = replace(self.context, device=self.device or self.context.device).label
        return f"{name}, fitted to {self.n_networks_} networks"

    @property
    def note(self) -> str:
        """Leave-one-out error, regime, and weight of the priors."""
        text = (
            f"fitted to {self.n_networks_} whole networks, leave-one-out error "
            f"{100 * self.errors_.mape:.1f} %; {self.regime_}"
            f"{extrapolation_note(shared_choices(as_space(self.space), self.networks_))}"
        )
        if not self.priors_:
            return text
        used = self.mixture_.weights > 0
        n_tables = int(self.lut_ is not None)
        parts = [f"the table is {'' if used[0] else 'not '}used"] if n_tables else []
        if len(used) > n_tables:
            parts.append(f"{int(used[n_tables:].sum())} of {len(used) - n_tables} sources are used")
        share = 100 - 100 * self.mixture_.share
        have = "they have" if len(used) > n_tables else "it has"
        return f"{text}; {'; '.join(parts)}; {have} {share:.0f} % of the weight"

    def _point(self, genomes: Genomes) -> Floats:
        if not len(genomes):
            return np.zeros(0)
        y = self._physical_at(genomes).sum(genomes)
        for k in np.flatnonzero(self.mixture_.weights > 0):
            y = y + self.mixture_.weights[k] * self.priors_[k].predict(genomes)
        y = np.maximum(y, self.mixture_.floor_ms)
        return y if self.trees_ is None else y * self.trees_.factor(as_space(self.space), genomes)

    def _physical_at(self, genomes: Genomes) -> DenseTable:
        if np.isin(genomes[:, 0], self._dense_.resolutions).all():
            return self._dense_
        return self.mixture_.physical.dense(tuple(np.unique(genomes[:, 0]).tolist()))

    def _bounds(self, genomes: Genomes, point: Floats, confidence: float) -> Bounds:  # noqa: ARG002
        return self.errors_.bounds(point, confidence)

    # ---- files -----------------------------------------------------------------------------------------------------

    def to_parts(self) -> Parts:
        """Return the fitted predictor as parts of a file; the priors are inner predictors."""
        mixture = self.mixture_
        return Parts(
            as_space(self.space),
            facts={
                "boost": self.boost,
                "device": self.device,
                "context": None if self.context is None else asdict(self.context),
                "has_table": self.lut_ is not None,
                "regime": asdict(self.regime_),
                "floor_ms": mixture.floor_ms,
                "share": mixture.share,
            },
            arrays={
                "constant": np.array(mixture.physical.constant),
                "stages": mixture.physical.stages,
                "fixed": mixture.physical.fixed,
                "weights": mixture.weights,
                "held_out": mixture.held_out,
                "mixture_errors": mixture.errors.log_errors,
                "errors": self.errors_.log_errors,
                "networks": self.networks_,
            },
            files={} if self.trees_ is None else {"trees.json": self.trees_.model_json},
            inner=self.priors_,
        )

    @classmethod
    def from_parts(cls, parts: Parts) -> Self:
        """Build a fitted predictor from the parts of a file."""
        facts, take, space = structured(parts.facts, _Facts, "facts"), Arrays(parts.arrays), parts.space
        if facts.context is not None:
            check_context(facts.context, "facts.context")
        networks = take.genomes("networks", space)
        if not len(networks):
            raise FormatError("networks has no rows")
        own = None
        if facts.has_table:
            if not parts.inner or not isinstance(parts.inner[0], LutPredictor):
                raise FormatError("facts.has_table is true, but the first source is not a table")
            own = parts.inner[0]
        n_features = len(feature_names(space))
        physical = AdditiveModel(
            space,
            take.number("constant"),
            take.floats("stages", len(space.stages), n_features),
            take.floats("fixed", n_features),
        )
        weights, held_out = take.floats("weights", len(parts.inner)), take.floats("held_out", None)
        errors = ConformalErrors(take.log_errors("mixture_errors"))
        predictor = cls(space, boost=facts.boost, device=facts.device, context=facts.context)
        trees = parts.files.get("trees.json")
        predictor.trees_ = None if trees is None else ResidualTrees.from_json(trees, space)
        predictor.errors_, predictor.regime_ = ConformalErrors(take.log_errors("errors")), facts.regime
        mixture = Mixture(physical, weights, facts.floor_ms, facts.share, errors, held_out)
        predictor._set_model(mixture, parts.inner, own, networks)
        return predictor


@dataclass(frozen=True)
class _Facts:
    boost: Literal["auto", "never"]
    device: str
    context: Context | None
    has_table: bool
    regime: Regime
    floor_ms: NonNegative
    share: Annotated[float, Range(0, 1.000001)]


def as_source(source: Source, space: Space) -> Estimator:
    """Return the predictor of another device.

    Args:
        source: a fitted predictor; a `LatencyTable`; or a pair of networks and their latencies, to which a
            `NetworkPredictor` is fitted. Read files with `predictors.loading.load_latency`.
        space: space of the architectures.

    Raises:
        PredictorError: for a predictor of another space, or another type.
    """
    if isinstance(source, Estimator):
        if as_space(source.space) != space:
            raise PredictorError(
                f"a source predicts {as_space(source.space).name}, but the measured networks are {space.name}"
            )
        if source.quantity != LATENCY:
            raise PredictorError(f"a source predicts {source.quantity}; a predictor of {LATENCY} is expected")
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return NetworkPredictor(space).fit(*source)
    if isinstance(source, LatencyTable):
        return table_prior(source, space)
    raise PredictorError(
        f"a source is a predictor, a table or (archs, latency_ms), not {type(source).__name__}; "
        "read files with predictors.loading.load_latency"
    )


def table_prior(table: LatencyTable, space: Space, *, fill: bool = True) -> LutPredictor:
    """Return the uncalibrated sum of a table as a prior; with `fill`, missing blocks are estimated.

    Raises:
        PredictorError: if `table` is not a table.
    """
    if not isinstance(table, LatencyTable):
        raise PredictorError(f"table is a {type(table).__name__}; a LatencyTable is expected (LatencyTable.read)")
    return LutPredictor(space, fill=fill).fit(table)


def _predictions(priors: Sequence[Estimator], genomes: Genomes) -> Floats:
    """Return (n, K) predictions of K priors."""
    if not priors:
        return np.zeros((len(genomes), 0))
    return np.column_stack([prior.predict(genomes) for prior in priors])


def _usable(priors: Sequence[Estimator], space: Space, pixels: Genomes) -> list[int]:
    """Return the indices of the priors that increase with network size; a few networks cannot exclude the others."""
    if not priors:
        return []
    some = sample_genomes(space, PLAUSIBILITY_ROWS, np.random.default_rng(0), [int(px) for px in pixels])
    predicted = _predictions(priors, some)
    return [k for k in range(len(priors)) if follows_work(space, some, predicted[:, k])]


def _once_each(genomes: Genomes, latency_ms: Floats) -> tuple[Genomes, Floats]:
    """Return the different networks, each with the geometric mean of its latencies."""
    nets, inverse, counts = np.unique(genomes, axis=0, return_inverse=True, return_counts=True)
    if len(nets) == len(genomes):
        return genomes, latency_ms
    return nets, np.exp(np.bincount(inverse.reshape(-1), np.log(latency_ms)) / counts)
