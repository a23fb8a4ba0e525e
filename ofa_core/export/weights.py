"""Weights of blocks: random ones for measuring, and checks.

Latency does not depend on the values if they are ordinary numbers; zeros may be skipped and denormals are slow. The
magnitudes of the random weights differ by at most a factor of three, and they are scaled so that activations stay
near 1 throughout a network (He et al., "Delving deep into rectifiers", 2015, with the gain of each activation).
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
    "random_net_weights",
    "random_weights",
]

SQUARED_GAIN = {"none": 1.0, "relu": 2.0, "relu6": 2.0, "h_swish": 3.0, "h_sigmoid": 4.0}
"""About 1 / E[act(z)^2] for standard normal z: the layer after an activation compensates for it."""

SHORTCUT_SHARE = 0.1
"""Variance of a residual branch relative to its block's input, so that values do not grow along a stage."""

POOLED_SQUARED_GAIN = 4.0
"""As `SQUARED_GAIN`, for the layers after the pooling, whose input is a mean over pixels."""

BIAS_SIZE = 0.1


def random_weights(block: BlockSpec, seed: int = 0, *, repeat: int = 0) -> BlockWeights:
    """Return random non-zero weights, equal for equal arguments on every machine.

    Args:
        block: the block.
        seed: seed of the random numbers.
        repeat: number of equal blocks before this one in its network.

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
    """Return random weights of a network; equal blocks get different ones, as in a trained network.

    Shared weights would stay in the cache and lower the latency. The first of several equal blocks has the weights of
    the block's own file, `random_weights(block, seed)`.
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
        OfaError: for tensors that are missing, of another shape or type, or not finite; names the layer.
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
    """Return the gain that the next layer compensates for; a gate of about 1/2 adds to that of an activation."""
    if layer.role == "se_reduce":
        return before
    if layer.role == "se_expand":
        return before * SQUARED_GAIN["h_sigmoid"]
    return SQUARED_GAIN[layer.act]


def _signed(rng: np.random.Generator, shape: tuple[int, ...], rms: float) -> NDArray[np.float32]:
    """Return values of either sign, of root mean square `rms` and magnitudes from 0.48 to 1.44 times `rms`."""
    values = rng.random(shape, dtype=np.float32)
    values *= np.float32(2)
    values -= np.float32(1)
    values += np.copysign(np.float32(0.5), values)
    values *= np.float32(rms / (13 / 12) ** 0.5)
    return values
