"""`TransferPredictor`: latency on a new device from a few networks and what is known of other devices.

Other devices enter by their PREDICTED latencies: a prediction has less noise than one measurement, and there is one for
every architecture. Each source is a non-negative column of the model that `predictors.network` fits; models with one
source, with two, with all and with none are averaged by their leave-one-out errors. A source that does not help gets no
weight, and where none does, what is left is the model without sources: that is the gate. A source by whose word larger
and deeper networks take no longer is no latency, and is left out before any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike

from ofa_core.errors import PredictorError
from ofa_core.space import Space
from ofa_core.table import LatencyTable
from predictors.estimator import Archs, Estimator, as_space
from predictors.loading import load_latency
from predictors.network import NetworkPredictor, table_prior

__all__ = ["Source", "TransferPredictor", "as_source"]

Source = Estimator | LatencyTable | Path | str | tuple[Any, Any]


def as_source(source: Source, space: Space) -> Estimator:
    """What stands for another device, as a predictor.

    Args:
        source: a fitted predictor; a `LatencyTable`; the file of a table, of a `.predictor`, or a CSV of measured
            networks; or a pair of networks and their latencies, to which a `NetworkPredictor` is fitted.
        space: the space of the architectures.

    Raises:
        PredictorError: for a predictor of another space, or an object that is none of these.
    """
    if isinstance(source, Estimator):
        if as_space(source.space) != space:
            raise PredictorError(
                f"a source for {as_space(source.space).name}; the new device's networks are {space.name}"
            )
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return NetworkPredictor(space).fit(*source)
    if isinstance(source, LatencyTable):
        return table_prior(source, space)
    if isinstance(source, Path | str):
        return load_latency(Path(source), space, fill=True)
    raise PredictorError(
        f"a source is a predictor, a table, a file or (archs, latency_ms), not {type(source).__name__}"
    )


class TransferPredictor(NetworkPredictor):
    """Latency of whole networks on a new device, with other devices as sources.

        predictor = TransferPredictor("mbv3-w1.2").fit(archs, latency_ms, sources=[other, "luts/phone.csv"])

    Args:
        space: the space of the architectures.
        table: the device's own latency table (or its file), if there is one.
        boost: as of `NetworkPredictor`.
        device: a name for tables and plots.
        context: how the networks were measured, where that is known.
    """

    def fit(self, archs: Archs, latency_ms: ArrayLike, sources: Sequence[Source] = ()) -> Self:
        """Learn from a few measured networks.

        Args:
            archs: n networks of the new device, at least 5 different ones; 10 to 50 are usual.
            latency_ms: (n,) milliseconds per batch.
            sources: what is known of other devices, see `as_source`; none makes this a `NetworkPredictor`.

        Raises:
            PredictorError: for too few networks, numbers that are not finite and positive, or a source that is none.
        """
        space = as_space(self.space)
        priors: list[Estimator] = [] if self.table is None else [table_prior(self.table, space)]
        priors += [as_source(source, space) for source in sources]
        return self._learn(space, archs, latency_ms, priors)

    @property
    def note(self) -> str:
        """Its own error estimate, the regime, and how much it owes to its sources."""
        if not self.priors_:
            return super().note
        used = self.mixture_.weights > 0
        n_tables = self.lut_ is not None
        parts = [f"its table{'' if used[0] else ' not'}"] if n_tables else []
        if len(used) > n_tables:
            parts.append(f"{int(used[n_tables:].sum())} of {len(used) - n_tables} sources")
        share = 100 - 100 * self.mixture_.share
        return f"{super().note}; {' and '.join(parts)} used, with {share:.0f} % of the weight"
