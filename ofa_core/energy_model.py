"""From the energy of whole networks to that of any network, and of its blocks (docs/adr/0006).

Power meters are too slow for blocks: a network has to run for half a minute. What a network takes above idle is

    energy = watts * sum + pj_per_mac * MACs + pj_per_element * elements

with the table's sum in milliseconds, and the elements of feature maps and weights that it moves. Each term is a sum
over blocks, so the network's energy is attributed to them; none of them was measured. The coefficients are not negative
and fitted by least squares on relative errors. The first term alone is the default; the others come in where they
clearly lower the leave-one-out error.
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
    """What inference takes above idle, in millijoules per batch.

    Attributes:
        watts: for as long as it runs.
        pj_per_mac: picojoules for each multiply-accumulate, besides.
        pj_per_element: picojoules for each element that is moved, besides.
        batch_size: images per inference.
        n_networks: whole networks it was fitted on.
        loo_errors: leave-one-out errors, log(energy / prediction), in their order.
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
        """The factor m such that an energy lies in [prediction / m, prediction * m] with this probability."""
        return math.exp(conformal_quantile(np.abs(self.loo_errors), confidence))

    def predict(self, sum_ms: Floats, giga_macs: Floats, giga_elements: Floats) -> Floats:
        """(n,) millijoules of n networks, from their sums in the table and of `giga_sizes`."""
        return self.watts * sum_ms + self.pj_per_mac * giga_macs + self.pj_per_element * giga_elements

    def block_mj(self, block: BlockSpec, latency_ms: float) -> float:
        """The energy attributed to a block whose latency in the table is `latency_ms`."""
        macs, elements = giga_sizes(block, self.batch_size)
        return self.watts * latency_ms + self.pj_per_mac * macs + self.pj_per_element * elements


def giga_sizes(block: BlockSpec, batch_size: int) -> tuple[float, float]:
    """A block's multiply-accumulates, and elements of feature maps and weights that it moves, each in 10^9 a batch."""
    return batch_size * block.macs / 1e9, (batch_size * block.activation_elements + block.params) / 1e9


def fit_energy(networks: Sequence[Network], table: LatencyTable) -> EnergyModel | None:
    """The model of the `reference` networks among these whose energy was measured.

    Args:
        networks: measured in the table's context.
        table: sums them; where it cannot, the sum that was written down with the network counts, if there is one.

    Returns:
        The model; None if there are fewer than five.

    Raises:
        TableError: for an energy that no meter gives.
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
    """Coefficients >= 0 of (n, p) sizes in relative least squares; one of them is positive, as all sizes are."""
    from scipy.optimize import nnls

    return np.asarray(nnls(sizes / truth[:, None], np.ones(len(truth)))[0])
