"""A trained sub-net as the folded tensors that writers of model files take."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import ConvLayer, MBConv, SubNet

__all__ = ["FoldedLayer", "folded_layers"]

# Weight (out, in / groups, k, k) or (out, in), and bias (out,), both float32.
FoldedLayer = tuple[NDArray[np.float32], NDArray[np.float32]]


def folded_layers(net: SubNet) -> list[list[FoldedLayer]]:
    """For each block its weighted layers in order, batch norm folded into the convolution before it.

    The order within a block is expand (if any), depth-wise, squeeze and excite (if any), project. The pooling has none.
    """
    return [list(_folded(layer)) for layer in net.layers]


def _folded(layer: nn.Module) -> Iterator[FoldedLayer]:
    if isinstance(layer, ConvLayer):
        yield _conv(layer.conv, layer.bn)
    elif isinstance(layer, MBConv):
        if layer.expand is not None:
            yield _conv(layer.expand, layer.expand_bn)
        yield _conv(layer.depthwise, layer.depthwise_bn)
        if layer.se is not None:
            yield _conv(layer.se.reduce, None)
            yield _conv(layer.se.expand, None)
        yield _conv(layer.project, layer.project_bn)
    elif isinstance(layer, Classifier):
        yield _float32(layer.linear.weight), _float32(layer.linear.bias)


def _conv(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> FoldedLayer:
    weight = _double(conv.weight)
    if norm is None:
        bias = np.zeros(len(weight)) if conv.bias is None else _double(conv.bias)
        return weight.astype(np.float32), bias.astype(np.float32)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)
    bias = _double(norm.bias) - _double(norm.running_mean) * scale
    return (weight * scale[:, None, None, None]).astype(np.float32), bias.astype(np.float32)


def _double(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy()


def _float32(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().float().numpy()
