"""Initialise new networks: the published initialisation and batch norm settings (public code, `init_models`)."""

from __future__ import annotations

import math

import torch
from torch import nn

from ofa_core.nn.elastic import ElasticConv, ElasticDepthwise
from ofa_core.space import Space

__all__ = ["BN_MOMENTUM", "bn_eps", "initialise"]

BN_MOMENTUM = 0.1


def bn_eps(space: Space) -> float:
    """Return the epsilon of batch normalisation: 1e-5 for MobileNetV3-like spaces, 1e-3 for ProxylessNAS-like ones."""
    return 1e-5 if space.feature_c else 1e-3


def initialise(net: nn.Module, seed: int) -> None:
    """Fill a network in place.

    Convolutions are normal with variance 2 / (k^2 * output channels) ("he_fout", depth-wise ones too), the linear
    layer is uniform within 1 / sqrt(inputs), biases are 0, batch norm and kernel transform matrices are unchanged.

    Args:
        net: an elastic or plain network.
        seed: seed of a private generator; the global one is not used.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | ElasticConv | ElasticDepthwise):
                out_c, _, height, width = module.weight.shape
                drawn = torch.randn(module.weight.shape, generator=generator) * math.sqrt(2 / (out_c * height * width))
                module.weight.copy_(drawn)
                if isinstance(module, nn.Conv2d) and module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
                module.weight.copy_((torch.rand(module.weight.shape, generator=generator) * 2 - 1) * bound)
                module.bias.zero_()
