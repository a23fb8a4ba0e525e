"""The weights of a trained sub-net, for the writers of model files."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ofa_core.export.layers import BlockWeights, LayerWeights
from ofa_core.nn.folding import Pair, folded_layers
from ofa_core.nn.subnet import SubNet

__all__ = ["as_arrays", "trained_weights"]


@torch.no_grad()
def trained_weights(net: SubNet) -> list[BlockWeights]:
    """Return the weights of each block, batch norm folded into the convolution before it."""
    return as_arrays(folded_layers(net))


def as_arrays(blocks: Iterable[Iterable[Pair]]) -> list[BlockWeights]:
    """Return folded tensors as arrays, without their gradients."""
    return [BlockWeights(tuple(LayerWeights(_array(w), _array(b)) for w, b in layers)) for layers in blocks]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().cpu().numpy()
