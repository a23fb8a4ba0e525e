"""Sort the channels of every expansion by importance (paper, section 3, "elastic width").

A smaller expand ratio keeps leading channels, so before training them the channels are sorted by the L1 norm of the
weights that read them. All tensors along the expanded axis are sorted together, with the state of the optimiser, in
place. The largest sub-net computes the same function, and training continues unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ofa_core.blocks import make_divisible
from ofa_core.errors import ArchError
from ofa_core.nn.mbconv import ElasticMBConv
from ofa_core.nn.supernet import Supernet

__all__ = ["sort_channels"]


@torch.no_grad()
def sort_channels(
    net: Supernet,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    kept: Sequence[int] = (),
    keep_squeezed: bool = False,
) -> None:
    """Sort the expanded channels of every searchable block, in place.

    Args:
        net: the supernet.
        optimizer: optimiser whose state (such as momentum) is permuted too.
        kept: expand ratios below the largest that are already trained: a channel stays within its ratio, so that
            their sub-nets keep their channels. Published: none before the first expand phase, the
            middle ratio before the second.
        keep_squeezed: apply this rule to the squeeze-and-excite bottleneck too. The published code sorts the whole
            bottleneck every time, which changes sub-nets of the kept ratios.

    Raises:
        ArchError: for a ratio in `kept` that the space does not have.
    """
    for ratio in kept:
        if ratio not in net.space.expands[:-1]:
            smaller = ", ".join(map(str, net.space.expands[:-1]))
            raise ArchError(f"expand ratio {ratio} to keep is not allowed; choose one of {smaller}")
    for layer in net.layers:
        if isinstance(layer, ElasticMBConv) and layer.expand is not None:
            in_c = layer.expand.weight.shape[1]
            bounds = sorted(make_divisible(round(in_c * ratio)) for ratio in kept)
            _sort_block(layer, optimizer, bounds, keep_squeezed=keep_squeezed)


def _sort_block(
    layer: ElasticMBConv, optimizer: torch.optim.Optimizer | None, bounds: list[int], *, keep_squeezed: bool
) -> None:
    order = _order(layer.project.weight.abs().sum((0, 2, 3)), bounds)
    assert layer.expand is not None
    _permute(layer.expand.weight, 0, order, optimizer)
    _permute_norm(layer.expand_bn, order, optimizer)
    _permute(layer.depthwise.weight, 0, order, optimizer)
    _permute_norm(layer.depthwise_bn, order, optimizer)
    _permute(layer.project.weight, 1, order, optimizer)
    if layer.se is None:
        return
    reduce, expand = layer.se.reduce, layer.se.expand
    _permute(reduce.weight, 1, order, optimizer)
    _permute(expand.weight, 0, order, optimizer)
    _permute(expand.bias, 0, order, optimizer)
    squeezed_bounds = [make_divisible(bound // 4) for bound in bounds] if keep_squeezed else []
    inner = _order(expand.weight.abs().sum((0, 2, 3)), squeezed_bounds)
    _permute(expand.weight, 1, inner, optimizer)
    _permute(reduce.weight, 0, inner, optimizer)
    _permute(reduce.bias, 0, inner, optimizer)


def _order(importance: Tensor, bounds: list[int]) -> Tensor:
    """Return indices by descending importance within each group; ties keep their order, so that all ranks agree."""
    edges = [0, *bounds, len(importance)]
    groups = [
        start + torch.sort(importance[start:stop], descending=True, stable=True).indices
        for start, stop in pairwise(edges)
    ]
    return torch.cat(groups)


def _permute(tensor: Tensor | None, dim: int, order: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Reorder a parameter or buffer in place, and the optimiser's tensors of its shape."""
    assert tensor is not None
    tensor.copy_(tensor.index_select(dim, order))
    if optimizer is None or tensor not in optimizer.state:
        return
    for value in optimizer.state[tensor].values():
        if isinstance(value, Tensor) and value.shape == tensor.shape:
            value.copy_(value.index_select(dim, order))


def _permute_norm(norm: nn.BatchNorm2d | None, order: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    assert norm is not None
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        _permute(tensor, 0, order, optimizer)
