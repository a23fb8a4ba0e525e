"""Rough costs of blocks: a sum of rates times quantities, fitted to measured blocks before a Gaussian process.

Runtimes have kernels of different speed for one operation. XNNPACK computes depth-wise convolutions of more than 25
taps (7x7) several times slower per product than smaller ones. onnxruntime's int8 depth-wise kernel is slow where the
channels are no multiple of 16. No smooth function of the shape follows such steps, so each class of kernels has a rate
of its own here. Which classes a device has is not asked by name: `predictors.block_latency` takes the model with the
least leave-one-out error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ofa_core.blocks import BlockSpec
from predictors.estimator import Floats

__all__ = ["COST_MODELS", "CostModel", "Rates"]

MAX_FAST_TAPS = 25  # of XNNPACK's depth-wise kernels that read a window at once
LANES = 16  # channels that onnxruntime's int8 depth-wise kernel computes at once
LEAST = 1e-9  # of the largest cost: the logarithm of a cost must exist


@dataclass(frozen=True, slots=True)
class Rates:
    """Fitted rates of a cost model.

    Attributes:
        model: the cost model.
        rate: (q,) milliseconds per unit of each quantity, none negative.
        least: smallest cost in milliseconds.
    """

    model: CostModel
    rate: Floats
    least: float

    def log_ms(self, blocks: Sequence[BlockSpec]) -> Floats:
        """Return (n,) logarithms of the costs in milliseconds."""
        return np.asarray(np.log(np.maximum(self.model.quantities(blocks) @ self.rate, self.least)))


@dataclass(frozen=True, slots=True)
class CostModel:
    """Quantities that a block's latency is made of.

    Attributes:
        taps: True to give small, middle and large depth-wise kernels rates of their own.
        lanes: True to give depth-wise convolutions with partly used lanes a further rate.
    """

    taps: bool
    lanes: bool

    def quantities(self, blocks: Sequence[BlockSpec]) -> Floats:
        """Return (n, q) quantities."""
        rows = []
        for b in blocks:
            depthwise, taps = float(b.kernel_macs) if b.op == "mbconv" else 0.0, b.kernel_px**2
            swish = b.mid_c * (b.expands * b.in_px**2 + b.out_px**2) if b.act == "h_swish" else 0
            large, middle = taps > MAX_FAST_TAPS, 9 < taps <= MAX_FAST_TAPS
            rows.append(
                [
                    1.0,
                    b.pointwise_macs,
                    b.kernel_macs - depthwise,
                    b.macs - b.pointwise_macs - b.kernel_macs,
                    b.activation_elements,
                    swish,
                    b.params,
                    depthwise,
                    *([depthwise * large, depthwise * middle] if self.taps else []),
                    *([depthwise * (b.mid_c % LANES != 0)] if self.lanes else []),
                ]
            )
        return np.asarray(rows, dtype=np.float64)

    def fit(self, blocks: Sequence[BlockSpec], latency_ms: Floats) -> Rates:
        """Return the rates with the least relative squared error."""
        from scipy.optimize import nnls

        quantities = self.quantities(blocks)
        unit = np.maximum(quantities.max(axis=0), 1.0)
        rate, _ = nnls(quantities / unit / latency_ms[:, None], np.ones(len(blocks)))
        return Rates(self, rate / unit, LEAST * float(latency_ms.max()))


COST_MODELS = (CostModel(taps=True, lanes=False), CostModel(taps=False, lanes=True), CostModel(taps=True, lanes=True))
