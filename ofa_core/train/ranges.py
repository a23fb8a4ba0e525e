"""Find the ranges of a sub-net's tensors on images, for its quantisation.

The network runs in float32 on a few hundred training images, prepared as for evaluation, and the values of each tensor
of `range_names` are watched.

- `minmax`: the smallest and the largest value;
- `percentile`: without the smallest and the largest 0.01 % of the values;
- `mse`: the part of the true range whose int8 grid has the smallest mean squared error.

The last two run the images twice: first for the extremes, then for a histogram between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.layers import BlockWeights, Layer, LayerAct, LayerWeights, emit_block
from ofa_core.export.network_ranges import Ranges
from ofa_core.export.quantisation import Grid, Range, range_names
from ofa_core.nn.elastic import activate

__all__ = ["METHODS", "Method", "find_ranges"]

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
N_BINS = 2048
PERCENT_OUTSIDE = 0.01  # at each end
SHRINKS = np.linspace(1.0, 0.2, 41)  # of the true range, tried by `mse`
LIMITS: dict[LayerAct, Range] = {
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "h_swish": (-3.0, np.inf),
    "h_sigmoid": (-3.0, 3.0),
    "none": (-np.inf, np.inf),
}
"""Values before an activation that make a difference after it."""


@torch.no_grad()
def find_ranges(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    batches: Sequence[Tensor],
    method: Method = "minmax",
) -> Ranges:
    """Run a network on images, and return the ranges of its tensors.

    Args:
        blocks: the layers.
        weights: tensors of each block, with batch norm folded in.
        batches: (n, 3, px, px) images, prepared as for evaluation.
        method: see the module.

    Raises:
        OfaError: for an unknown method, no images, or values that are not finite.
    """
    if method not in METHODS:
        raise OfaError(f"ranges by {method!r}: one of {', '.join(METHODS)} is expected")
    n_images = sum(len(batch) for batch in batches)
    if not n_images:
        raise OfaError("ranges for int8 need images, and there are none that can be read")
    found = _extremes(blocks, weights, batches)
    if method != "minmax":
        narrow = _percentiles if method == "percentile" else _least_squares
        for (i, name), (counts, act) in _histograms(blocks, weights, batches, found).items():
            found[i][name] = narrow(counts, found[i][name], act)
    return Ranges(tuple(found), method, n_images)


def _extremes(
    blocks: Sequence[BlockSpec], weights: Sequence[BlockWeights], batches: Iterable[Tensor]
) -> list[dict[str, Range]]:
    found = [dict.fromkeys(range_names(block), (np.inf, -np.inf)) for block in blocks]

    def see(i: int, name: str, values: Tensor, _: LayerAct) -> None:
        low, high = (float(v) for v in values.aminmax())
        if not np.isfinite([low, high]).all():
            raise OfaError(f"block {i} ({blocks[i].label()}): {name} has values that are not finite")
        found[i][name] = min(low, found[i][name][0]), max(high, found[i][name][1])

    _watch(blocks, weights, batches, see)
    return found


def _histograms(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    batches: Iterable[Tensor],
    extremes: Sequence[dict[str, Range]],
) -> dict[tuple[int, str], tuple[NDArray[np.float64], LayerAct]]:
    """Return the counts of values in equal bins between the extremes, and the activation that follows."""
    found: dict[tuple[int, str], tuple[NDArray[np.float64], LayerAct]] = {}

    def see(i: int, name: str, values: Tensor, act: LayerAct) -> None:
        low, high = extremes[i][name]
        if low < high:
            counts = torch.histc(values, N_BINS, low, high).double().cpu().numpy()
            found[i, name] = found[i, name][0] + counts if (i, name) in found else counts, act

    _watch(blocks, weights, batches, see)
    return found


def _percentiles(counts: NDArray[np.float64], extremes: Range, act: LayerAct) -> Range:  # noqa: ARG001
    edges = np.linspace(*extremes, N_BINS + 1)
    share = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
    low, high = np.interp([PERCENT_OUTSIDE / 100, 1 - PERCENT_OUTSIDE / 100], share, edges)
    return float(low), float(high)


def _least_squares(counts: NDArray[np.float64], extremes: Range, act: LayerAct) -> Range:
    edges = np.linspace(*extremes, N_BINS + 1)
    values = np.clip((edges[1:] + edges[:-1]) / 2, *LIMITS[act])
    low, high = extremes

    def error(shrink: float) -> float:
        ends = np.clip((shrink * low, shrink * high), *LIMITS[act])
        grid = Grid.covering(*ends.tolist())
        return float(counts @ (grid.dequantise(grid.quantise(values)) - values) ** 2)

    best = min(SHRINKS, key=error)
    return float(best * low), float(best * high)


def _watch(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    batches: Iterable[Tensor],
    see: Callable[[int, str, Tensor, LayerAct], None],
) -> None:
    """Run batches through a network, and pass each tensor of `range_names` to `see` with its block's number."""
    for batch in batches:
        x = batch.contiguous(memory_format=torch.channels_last)
        for i, (block, tensors) in enumerate(zip(blocks, weights, strict=True)):

            def see_here(name: str, values: Tensor, act: LayerAct = "none", i: int = i) -> None:
                see(i, name, values, act)

            see_here("input", x)
            x = emit_block(_Watched(see_here), block, tensors, x)


class _Watched:
    """The `Graph` of a block that runs in float32, and passes each of its values to `see`."""

    def __init__(self, see: Callable[..., None]) -> None:
        self._see = see

    def conv(self, x: Tensor, layer: Layer, weights: LayerWeights) -> Tensor:
        weight, bias = _tensors(weights, x)
        y = functional.conv2d(x, weight, bias, layer.stride, layer.kernel_px // 2, 1, layer.groups)
        return self._activated(y, layer)

    def linear(self, x: Tensor, layer: Layer, weights: LayerWeights) -> Tensor:
        return self._activated(functional.linear(x.flatten(1), *_tensors(weights, x)), layer)

    def pool(self, x: Tensor) -> Tensor:
        return self._seen("pool", x.mean((2, 3), keepdim=True))

    def multiply(self, x: Tensor, gate: Tensor) -> Tensor:
        return self._seen("se_gate", x * gate)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return self._seen("shortcut", x + y)

    def _activated(self, y: Tensor, layer: Layer) -> Tensor:
        self._see(layer.role, y, layer.act)
        return functional.hardsigmoid(y) if layer.act == "h_sigmoid" else activate(y, layer.act)

    def _seen(self, name: str, y: Tensor) -> Tensor:
        self._see(name, y)
        return y


def _tensors(weights: LayerWeights, like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(weights.weight).to(like.device), torch.from_numpy(weights.bias).to(like.device)
