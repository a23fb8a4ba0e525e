"""Predict the energy of networks and blocks from the measured energy of whole networks (docs/adr/0006).

Power meters are too slow for blocks: a network has to run for half a minute. The energy of a network above idle is

    energy = watts * sum + pj_per_mac * MACs + pj_per_element * elements

with the table's sum in milliseconds, and the number of elements of feature maps and weights. Each term is a sum over
blocks, which attributes the network's energy to its blocks without measuring them. The coefficients are not negative
and fitted by least squares on relative errors. The model has the first term only, unless the others clearly lower the
leave-one-out error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.calibration import GAIN_OF_A_TERM, MIN_NETWORKS, conformal_quantile, left_out_errors, mape_of
from ofa_core.errors import TableError
from ofa_core.measured_networks import Network, sum_by
from ofa_core.samples import implausible
from ofa_core.table import LatencyTable

__all__ = ["EnergyModel", "fit_energy", "giga_sizes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Energy of inference above idle, in millijoules per batch.

    Attributes:
        watts: power above idle while the network runs.
        pj_per_mac: additional picojoules for each multiply-accumulate.
        pj_per_element: additional picojoules for each element of feature maps and weights.
        batch_size: images per inference.
        n_networks: number of networks that the model is fitted to.
        loo_errors: leave-one-out errors, log(energy / prediction), in the order of the networks.
    """

    watts: float
    pj_per_mac: float
    pj_per_element: float
    batch_size: int
    n_networks: int
    loo_errors: tuple[float, ...]

    @property
    def loo_mape(self) -> float:
        """Mean absolute leave-one-out error, as a fraction."""
        return mape_of(self.loo_errors)

    def margin(self, confidence: float = 0.9) -> float:
        """Return the factor m such that an energy lies in [prediction / m, prediction * m] with this probability."""
        return math.exp(conformal_quantile(np.abs(self.loo_errors), confidence))

    def predict(self, sum_ms: Floats, giga_macs: Floats, giga_elements: Floats) -> Floats:
        """Return (n,) millijoules from (n,) sums of the table and of `giga_sizes`."""
        return self.watts * sum_ms + self.pj_per_mac * giga_macs + self.pj_per_element * giga_elements

    def block_mj(self, block: BlockSpec, latency_ms: float) -> float:
        """Return the energy attributed to a block of this latency, in millijoules per batch."""
        macs, elements = giga_sizes(block, self.batch_size)
        return self.watts * latency_ms + self.pj_per_mac * macs + self.pj_per_element * elements


def giga_sizes(block: BlockSpec, batch_size: int) -> tuple[float, float]:
    """Return multiply-accumulates, and elements of feature maps and weights, of a block, in 10^9 per batch."""
    return batch_size * block.macs / 1e9, (batch_size * block.activation_elements + block.params) / 1e9


def fit_energy(networks: Sequence[Network], table: LatencyTable) -> EnergyModel | None:
    """Fit the model to the `reference` networks with a measured energy.

    Args:
        networks: networks measured in the table's context.
        table: source of the sums. A network that it cannot sum needs a recorded sum.

    Returns:
        The model; None for fewer than five networks.

    Raises:
        TableError: for an implausible energy.
    """
    batch_size = table.context.batch_size
    known = [(_sizes(net, table), net.energy_mj) for net in networks if net.role == "reference" and net.energy_mj]
    known = [(sizes, mj) for sizes, mj in known if sizes[0] is not None]
    if len(known) < MIN_NETWORKS:
        return None
    sizes = np.array([sizes for sizes, _ in known], dtype=np.float64)
    truth = np.array([mj for _, mj in known], dtype=np.float64)
    bad = implausible(truth)
    if bad is not None:
        raise TableError(f"energy of a network is {truth[bad]:g} mJ; finite, positive numbers to 1e9 are expected")
    simple, rich = (left_out_errors(sizes[:, :n], truth, _solve) for n in (1, 3))
    n_terms = 3 if mape_of(rich) < GAIN_OF_A_TERM * mape_of(simple) else 1
    watts, per_mac, per_element = (*_solve(sizes[:, :n_terms], truth).tolist(), 0.0, 0.0)[:3]
    errors = rich if n_terms == 3 else simple
    return EnergyModel(watts, per_mac, per_element, batch_size, len(truth), tuple(errors.tolist()))


def _sizes(net: Network, table: LatencyTable) -> tuple[float | None, float, float]:
    sizes = [giga_sizes(block, table.context.batch_size) for block in net.space.blocks(net.arch)]
    macs, elements = np.sum(sizes, axis=0).tolist()
    return sum_by(table, net), macs, elements


def _solve(sizes: Floats, truth: Floats) -> Floats:
    """Return coefficients >= 0 for (n, p) sizes by relative least squares; at least one is positive."""
    from scipy.optimize import nnls

    return np.asarray(nnls(sizes / truth[:, None], np.ones(len(truth)))[0])
