"""Fold batch norm into the convolution before it, for inference; gradients pass through."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import ConvLayer, MBConv, SubNet

__all__ = ["Pair", "fold", "folded_layers"]

Pair = tuple[Tensor, Tensor]
"""Weight (out, in / groups, k, k) or (out, in), and bias (out,)."""


def folded_layers(net: SubNet) -> list[list[Pair]]:
    """Return float32 weight and bias of each layer of each block, in the order of `ofa_core.export.layers.layers`."""
    return [list(_layers(block)) for block in net.layers]


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> Pair:
    """Return weight and bias of the convolution that also normalises with the running statistics.

    Computed in float64, returned as float32.
    """
    weight = conv.weight.double()
    if norm is None:
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias
        return weight.float(), bias.float()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return (weight * scale[:, None, None, None]).float(), bias.float()


def _layers(block: nn.Module) -> Iterator[Pair]:
    if isinstance(block, ConvLayer):
        yield fold(block.conv, block.bn)
    elif isinstance(block, MBConv):
        if block.expand is not None:
            yield fold(block.expand, block.expand_bn)
        yield fold(block.depthwise, block.depthwise_bn)
        if block.se is not None:
            yield fold(block.se.reduce, None)
            yield fold(block.se.expand, None)
        yield fold(block.project, block.project_bn)
    elif isinstance(block, Classifier):
        yield block.linear.weight.float(), block.linear.bias.float()
