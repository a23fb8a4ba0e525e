"""Weights whose products x86 processors without VNNI can add in 16 bits.

There, onnxruntime multiplies uint8 activations by int8 weights with an instruction that adds two products, of
neighbouring channels, in 16 bits. The sum saturates, without a message, if both products are large and of one sign.
Two weights whose sum is at most 128 steps always fit, because 255 * 128 < 2^15. So the step of an output channel
follows from its largest sum of two weights, not only from its largest weight. Depth-wise convolutions are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_core.export.layers import Layer

__all__ = ["largest_sums"]


def largest_sums(layer: Layer, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return, for each output channel, its largest weight or its largest sum of two that are added in 16 bits.

    Args:
        layer: the layer. Which taps of a larger kernel are added depends on the runtime: there it is any two.
        weight: (out, fan-in), of any sign; the size counts.
    """
    largest: NDArray[np.float32] = np.maximum(weight.max(axis=1), -weight.min(axis=1))
    if layer.role == "depthwise":
        return largest
    if layer.kernel_px == 1:
        n = weight.shape[1] // 2 * 2
        sums = weight[:, 0:n:2] + weight[:, 1:n:2]  # of opposite signs: smaller than the larger weight
    else:
        ordered = np.sort(weight, axis=1)
        sums = ordered[:, [0, -2]] + ordered[:, [1, -1]]
    np.maximum(largest, np.abs(sums, out=sums).max(axis=1, initial=0), out=largest)
    return largest
