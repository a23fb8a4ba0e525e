"""The weights of a trained sub-net, for the writers of model files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ofa_core.export.layers import BlockWeights, LayerWeights
from ofa_core.export.weights import fold_batch_norm
from ofa_core.nn.mbconv import Classifier
from ofa_core.nn.subnet import ConvLayer, MBConv, SubNet

__all__ = ["trained_weights"]


def trained_weights(net: SubNet) -> list[BlockWeights]:
    """Return the weights of each block, batch norm folded into the convolution before it."""
    return [BlockWeights(tuple(_layers(block))) for block in net.layers]


def _layers(block: nn.Module) -> Iterator[LayerWeights]:
    """Yield the weights of a block in the order of `ofa_core.export.layers.layers`."""
    if isinstance(block, ConvLayer):
        yield _conv(block.conv, block.bn)
    elif isinstance(block, MBConv):
        if block.expand is not None:
            yield _conv(block.expand, block.expand_bn)
        yield _conv(block.depthwise, block.depthwise_bn)
        if block.se is not None:
            yield _conv(block.se.reduce, None)
            yield _conv(block.se.expand, None)
        yield _conv(block.project, block.project_bn)
    elif isinstance(block, Classifier):
        yield LayerWeights(_float32(block.linear.weight), _float32(block.linear.bias))


def _conv(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> LayerWeights:
    weight = _float32(conv.weight)
    if norm is None:
        bias = np.zeros(len(weight), dtype=np.float32) if conv.bias is None else _float32(conv.bias)
        return LayerWeights(weight, bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    statistics = _float32(norm.running_mean), _float32(norm.running_var)
    return fold_batch_norm(weight, _float32(norm.weight), _float32(norm.bias), *statistics, norm.eps)


def _float32(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().float().numpy()
