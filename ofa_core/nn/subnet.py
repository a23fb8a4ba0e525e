"""A sub-net as a plain network of torch's own modules."""

# ruff: noqa: SLF001 (cloning goes around setattr, which would check each name again)

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.nn.elastic import activate
from ofa_core.nn.initial import BN_MOMENTUM, bn_eps, initialise
from ofa_core.nn.mbconv import Classifier, global_pool
from ofa_core.space import Space

__all__ = ["ConvLayer", "MBConv", "SubNet", "assemble", "build_subnet"]


M = TypeVar("M", bound=nn.Module)


class ConvLayer(nn.Module):
    """Stem, final expansion or feature mix.

    Args:
        spec: the layer.
        batch_norm: returns a batch norm for a number of channels.
    """

    def __init__(self, spec: BlockSpec, batch_norm: Callable[[int], nn.BatchNorm2d]) -> None:
        super().__init__()
        pad = spec.kernel_px // 2
        self.act = spec.act
        self.conv = nn.Conv2d(spec.in_c, spec.out_c, spec.kernel_px, spec.stride, pad, bias=False)
        self.bn = None if spec.op == "feature_mix" else batch_norm(spec.out_c)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_c, in_px, in_px) -> (n, out_c, out_px, out_px)."""
        x = self.conv(x)
        return activate(x if self.bn is None else self.bn(x), self.act)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excite of `channels`, with a bottleneck of `squeezed`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same."""
        y = functional.relu(self.reduce(global_pool(x)), inplace=True)
        return x * functional.hardsigmoid(self.expand(y))


class MBConv(nn.Module):
    """An inverted residual block.

    Args:
        spec: the block.
        batch_norm: returns a batch norm for a number of channels.
    """

    def __init__(self, spec: BlockSpec, batch_norm: Callable[[int], nn.BatchNorm2d]) -> None:
        super().__init__()
        mid_c, k = spec.mid_c, spec.kernel_px
        self.act = spec.act
        self.shortcut = spec.shortcut
        self.expand = nn.Conv2d(spec.in_c, mid_c, 1, bias=False) if spec.expands else None
        self.expand_bn = batch_norm(mid_c) if spec.expands else None
        self.depthwise = nn.Conv2d(mid_c, mid_c, k, spec.stride, k // 2, groups=mid_c, bias=False)
        self.depthwise_bn = batch_norm(mid_c)
        self.se = SqueezeExcite(mid_c, spec.se_c) if spec.se else None
        self.project = nn.Conv2d(mid_c, spec.out_c, 1, bias=False)
        self.project_bn = batch_norm(spec.out_c)

    def forward(self, x: Tensor, expanded: Tensor | None = None) -> Tensor:
        """(n, in_c, in_px, in_px) -> (n, out_c, out_px, out_px).

        `expanded` (n, mid_c, in_px, in_px) is the normalised output of the first convolution, before the
        activation, if the caller has computed it.
        """
        y: Tensor = x
        if expanded is not None:
            y = activate(expanded, self.act)
        elif self.expand is not None and self.expand_bn is not None:
            y = activate(self.expand_bn(self.expand(y)), self.act)
        y = activate(self.depthwise_bn(self.depthwise(y)), self.act)
        if self.se is not None:
            y = self.se(y)
        y = self.project_bn(self.project(y))
        return x + y if self.shortcut else y


class GlobalPool(nn.Module):
    """The global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, 1, 1)."""
        return global_pool(x)


class SubNet(nn.Module):
    """A plain network of the given layers.

    Args:
        blocks: the layers, stem to classifier: `space.blocks(arch)`, or those of a published `net.config`.
        bn_eps: epsilon of batch normalisation.
        bn_momentum: weight of a batch in the running statistics.
        dropout: probability before the classifier.
        block_indices: numbers of the `mbconv` blocks in published files, if they are not 0, 1, 2, ...
    """

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        *,
        bn_eps: float,
        bn_momentum: float = BN_MOMENTUM,
        dropout: float = 0.0,
        block_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.blocks = tuple(blocks)
        self.block_indices = None if block_indices is None else tuple(block_indices)
        self.bn_eps = bn_eps

        def batch_norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)

        self.layers = nn.ModuleList(_layer(spec, batch_norm, dropout) for spec in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, px, px) -> (n, classes); other input sizes than that of its blocks are possible."""
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x)
        return x


def build_subnet(space: Space, arch: Arch, *, dropout: float = 0.0, seed: int = 0) -> SubNet:
    """Return a new sub-net with initial weights.

    Args:
        space: the search space.
        arch: a member of the space.
        dropout: probability before the classifier.
        seed: seed of the initial weights.
    """
    space.validate(arch)
    net = SubNet(space.blocks(arch), bn_eps=bn_eps(space), dropout=dropout)
    initialise(net, seed)
    return net


def assemble(blocks: Sequence[BlockSpec], states: Iterable[dict[str, Tensor]], *, bn_eps: float) -> SubNet:
    """Return a sub-net with copies of the given weights.

    Building torch modules takes longer than copying weights, so empty modules are built once per layer and cloned.

    Args:
        blocks: the layers.
        states: complete state of each layer by name, as in `layer.state_dict()`.
        bn_eps: epsilon of batch normalisation.

    Returns:
        The network, in training mode.
    """
    net = _clone(_empty_net(bn_eps))
    net.blocks = tuple(blocks)
    layers = []
    for spec, state in zip(net.blocks, states, strict=True):
        layer = _clone(_empty_layer(replace(spec, in_px=1, out_px=1), bn_eps))
        _fill(layer, state)
        layers.append(layer)
    net.layers = nn.ModuleList(layers)
    return net


def _layer(spec: BlockSpec, batch_norm: Callable[[int], nn.BatchNorm2d], dropout: float) -> nn.Module:
    if spec.op == "mbconv":
        return MBConv(spec, batch_norm)
    if spec.op == "avg_pool":
        return GlobalPool()
    if spec.op == "classifier":
        return Classifier(spec, dropout)
    return ConvLayer(spec, batch_norm)


@lru_cache(maxsize=8)
def _empty_net(bn_eps: float) -> SubNet:
    return SubNet((), bn_eps=bn_eps)


@lru_cache(maxsize=2048)
def _empty_layer(spec: BlockSpec, bn_eps: float) -> nn.Module:
    with torch.device("meta"):
        return SubNet((spec,), bn_eps=bn_eps).layers[0]


def _clone(module: M) -> M:
    """Return a copy of a module tree that shares the tensors with the original, but no containers."""
    copied = type(module).__new__(type(module))
    copied.__dict__ = {k: v.copy() if isinstance(v, dict | set) else v for k, v in module.__dict__.items()}
    for name, child in module._modules.items():
        copied._modules[name] = None if child is None else _clone(child)
    return copied


def _fill(layer: nn.Module, state: dict[str, Tensor]) -> None:
    """Set each parameter and buffer of `layer` to a copy of its value."""
    for name, value in state.items():
        *path, leaf = name.split(".")
        module = layer
        for part in path:
            module = module._modules[part]  # type: ignore[assignment]
        copied = value.detach().clone(memory_format=torch.contiguous_format)
        if leaf in module._parameters:
            module._parameters[leaf] = nn.Parameter(copied)
        else:
            module._buffers[leaf] = copied
