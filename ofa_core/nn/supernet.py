"""The supernet: all sub-nets of a space in one set of weights.

An architecture is a value: `net(x, arch)` runs it and `extract(net, arch)` returns a copy of it. The module keeps no
state of an architecture, so two threads may run two sub-nets of one supernet.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ofa_core.arch import Arch
from ofa_core.errors import ArchError
from ofa_core.nn.elastic import ElasticBatchNorm
from ofa_core.nn.initial import BN_MOMENTUM, bn_eps, initialise
from ofa_core.nn.kernels import BUILTIN, KernelPlan
from ofa_core.nn.mbconv import ElasticLayer, elastic_layer
from ofa_core.nn.subnet import SubNet, assemble
from ofa_core.space import Space

__all__ = ["Supernet", "active_layers", "extract"]


def active_layers(space: Space, arch: Arch) -> list[int]:
    """Return the index of each layer of `arch` in the largest sub-net: depth keeps the first blocks of a stage."""
    largest = space.layout(space.largest())
    first, head = len(largest.stem), len(largest.stem) + space.n_slots
    slots = [
        first + start + j for start, depth in zip(space.stage_starts, arch.depths, strict=True) for j in range(depth)
    ]
    return [*range(first), *slots, *range(head, head + len(largest.head))]


class Supernet(nn.Module):
    """All sub-nets of a space, sharing weights (paper, section 3).

    Args:
        space: the search space; it is the only source of shapes.
        dropout: probability before the classifier (published: 0.1).
        seed: seed of the initial weights.
        plan: form of the weight gradient by depth-wise shape (`measure_plan`).

    Attributes:
        layers: one elastic layer per entry of `space.blocks(space.largest())`.
    """

    def __init__(self, space: Space, *, dropout: float = 0.1, seed: int = 0, plan: KernelPlan = BUILTIN) -> None:
        super().__init__()
        self.space = space
        self.plan = plan
        layout = space.layout(space.largest())
        self.layers = nn.ModuleList(
            [
                *(elastic_layer(spec, (spec.kernel_px,), dropout) for spec in layout.stem),
                *(elastic_layer(spec, space.kernels, dropout) for spec in layout.searchable),
                *(elastic_layer(spec, (spec.kernel_px,), dropout) for spec in layout.head),
            ]
        )
        for module in self.modules():
            if isinstance(module, ElasticBatchNorm):
                module.eps, module.momentum = bn_eps(space), BN_MOMENTUM
        initialise(self, seed)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Run one sub-net.

        Args:
            x: (n, 3, px, px) with px = `arch.resolution_px`.
            arch: a member of the space.

        Returns:
            (n, classes) logits.

        Raises:
            ArchError: for an architecture that is not a member, or images of another size than its resolution.
        """
        self.space.validate(arch)
        if x.shape[-2:] != (arch.resolution_px, arch.resolution_px):
            raise ArchError(
                f"images of {x.shape[-2]}x{x.shape[-1]} px for an architecture at {arch.resolution_px} px; "
                "use arch.at(resolution_px)"
            )
        x = x.contiguous(memory_format=torch.channels_last)
        for i, spec in zip(active_layers(self.space, arch), self.space.blocks(arch), strict=True):
            x = self.layers[i](x, spec, self.plan)
        return x


@torch.no_grad()
def extract(net: Supernet, arch: Arch) -> SubNet:
    """Return a sub-net of a supernet as plain modules.

    Args:
        net: the supernet; not changed.
        arch: a member of its space.

    Returns:
        A network that shares no memory with `net`, in its mode (training or evaluation). Its batch norm statistics are
        those of the supernet, which rarely fit: calibrate before use (`ofa_core.train.bn_calibration`).
    """
    net.space.validate(arch)
    blocks = net.space.blocks(arch)
    layers = [cast(ElasticLayer, net.layers[i]) for i in active_layers(net.space, arch)]
    states = (dict(layer.slice_state(spec)) for layer, spec in zip(layers, blocks, strict=True))
    sub = assemble(blocks, states, bn_eps=bn_eps(net.space))
    return sub if net.training else sub.eval()
