"""Weights of blocks: random ones for measuring, checks, and the folding of batch norm.

Latency does not depend on the values, as long as they are ordinary numbers: zeros may be skipped and denormals are
slow. The random weights here have magnitudes within a factor of three of each other and are scaled so that values stay
near 1 through a whole net (He et al., "Delving deep into rectifiers", 2015, with the gain of each activation).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.layers import BlockWeights, Layer, LayerWeights, layers

__all__ = [
    "check_weights",
    "fold_batch_norm",
    "random_net_weights",
    "random_weights",
]

SQUARED_GAIN = {"none": 1.0, "relu": 2.0, "relu6": 2.0, "h_swish": 3.0, "h_sigmoid": 4.0}
"""1 / E[act(z)^2] for standard normal z, about: what the layer after an activation makes up for."""

SHORTCUT_SHARE = 0.1
"""Variance of a residual branch in that of its block's input, so that long stages do not grow."""

POOLED_SQUARED_GAIN = 4.0
"""The same for the layers after the pooling, whose input is a mean over pixels."""

BIAS_SIZE = 0.1


def fold_batch_norm(
    weight: NDArray[np.float32],
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    eps: float,
) -> LayerWeights:
    """Put batch normalisation at inference into the convolution before it (computed in float64).

    Args:
        weight: (out, in / groups, k, k) of a convolution without bias.
        gamma: (out,) scale of the normalisation.
        beta: (out,) shift.
        mean: (out,) running mean.
        variance: (out,) running variance.
        eps: what the normalisation adds to the variance.

    Returns:
        Weight and bias of the one convolution that computes both.
    """
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)
    folded = weight * scale[:, None, None, None]
    return LayerWeights(folded.astype(np.float32), (beta - mean * scale).astype(np.float32))


def random_weights(block: BlockSpec, seed: int = 0, *, repeat: int = 0) -> BlockWeights:
    """Random non-zero weights that are the same for the same arguments, on every machine.

    Args:
        block: whose weights.
        seed: another number, other weights.
        repeat: how many equal blocks stand before this one in its net.

    Returns:
        Tensors without zeros, denormals or outliers.
    """
    text = repr((seed, repeat, astuple(block)))
    digest = hashlib.sha256(text.encode()).digest()
    rng = np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))
    squared_gain = POOLED_SQUARED_GAIN if block.op in ("feature_mix", "classifier") else 1.0
    tensors = []
    for layer in layers(block):
        gain = 1.0 if layer.role == "se_reduce" else squared_gain
        if layer.role == "project" and block.shortcut:
            gain *= SHORTCUT_SHARE
        weight = _signed(rng, layer.weight_shape, (gain / layer.fan_in) ** 0.5)
        tensors.append(LayerWeights(weight, _signed(rng, (layer.out_c,), BIAS_SIZE)))
        squared_gain = _squared_gain_after(layer, squared_gain)
    return BlockWeights(tuple(tensors))


def random_net_weights(blocks: Sequence[BlockSpec], seed: int = 0) -> tuple[BlockWeights, ...]:
    """Random weights of a whole net: equal blocks get different ones, or caches would see less than a net has.

    The first of equal blocks has the weights of its own file (`random_weights(block, seed)`).
    """
    met: dict[BlockSpec, int] = {}
    out = []
    for block in blocks:
        out.append(random_weights(block, seed, repeat=met.get(block, 0)))
        met[block] = met.get(block, 0) + 1
    return tuple(out)


def check_weights(blocks: Sequence[BlockSpec], weights: Sequence[BlockWeights]) -> None:
    """Check that `weights` fit `blocks`.

    Raises:
        OfaError: naming the first layer whose tensors are missing, misshapen, not float32 or not finite.
    """
    if len(weights) != len(blocks):
        raise OfaError(f"weights of {len(weights)} blocks for a net of {len(blocks)} blocks")
    for i, (block, tensors) in enumerate(zip(blocks, weights, strict=True)):
        where = f"block {i} ({block.label()})"
        roles = layers(block)
        if len(tensors.layers) != len(roles):
            raise OfaError(f"{where} has {len(roles)} weighted layers, got tensors of {len(tensors.layers)}")
        for layer, pair in zip(roles, tensors.layers, strict=True):
            for what, array, shape in (
                ("weight", pair.weight, layer.weight_shape),
                ("bias", pair.bias, (layer.out_c,)),
            ):
                if array.shape != shape or array.dtype != np.float32:
                    raise OfaError(
                        f"{layer.role} {what} of {where}: float32 {list(shape)} is needed, "
                        f"not {array.dtype} {list(array.shape)}"
                    )
                if not np.isfinite(array).all():
                    raise OfaError(f"{layer.role} {what} of {where} holds values that are not finite")


def _squared_gain_after(layer: Layer, before: float) -> float:
    """What the next layer of the main path makes up for: a gate of about 1/2 comes on top of an activation."""
    if layer.role == "se_reduce":
        return before
    if layer.role == "se_expand":
        return before * SQUARED_GAIN["h_sigmoid"]
    return SQUARED_GAIN[layer.act]


def _signed(rng: np.random.Generator, shape: tuple[int, ...], rms: float) -> NDArray[np.float32]:
    """Values of either sign with magnitudes from 0.48 to 1.44 times `rms`, and that root mean square."""
    values = rng.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)
    values += np.copysign(np.float32(0.5), values)
    values *= np.float32(rms / (13 / 12) ** 0.5)
    return values
