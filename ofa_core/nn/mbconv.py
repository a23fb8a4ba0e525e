"""The layers of the family, each in two forms with the same parameter names: elastic, and plain.

The elastic form in this module is built from the largest `BlockSpec` of its place and called with the actual spec. The
plain form (`subnet.py`) is built from one spec and consists of torch's own modules. `slice_state` returns the weights
of the plain form.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from ofa_core.blocks import BlockSpec
from ofa_core.errors import ArchError
from ofa_core.nn.elastic import ElasticBatchNorm, ElasticConv, ElasticDepthwise, ElasticSE, activate
from ofa_core.nn.kernels import BUILTIN, KernelPlan

__all__ = ["Classifier", "ElasticConvLayer", "ElasticLayer", "ElasticMBConv", "elastic_layer", "global_pool"]


def global_pool(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, c, 1, 1), the mean."""
    return x.mean((2, 3), keepdim=True)


class ElasticConvLayer(nn.Module):
    """Stem, final expansion and feature mix: a convolution, batch norm unless it is the feature mix, an activation.

    Args:
        largest: the largest form of the layer.
    """

    def __init__(self, largest: BlockSpec) -> None:
        super().__init__()
        self.conv = ElasticConv(largest.in_c, largest.out_c, largest.kernel_px, largest.stride)
        self.bn = None if largest.op == "feature_mix" else ElasticBatchNorm(largest.out_c)

    def forward(self, x: Tensor, spec: BlockSpec, plan: KernelPlan = BUILTIN) -> Tensor:  # noqa: ARG002
        """(n, in_c, in_px, in_px) -> (n, out_c, out_px, out_px)."""
        x = self.conv(x, spec.out_c)
        return activate(x if self.bn is None else self.bn(x), spec.act)

    def slice_state(self, spec: BlockSpec) -> Iterator[tuple[str, Tensor]]:
        """Return parameters and statistics of the plain form, by name."""
        yield "conv.weight", self.conv.slice_weight(spec.out_c, spec.in_c)
        if self.bn is not None:
            yield from _named("bn", self.bn.slice_parts(spec.out_c))


class ElasticMBConv(nn.Module):
    """An inverted residual block: expand 1x1, depth-wise k x k, squeeze-and-excite, project 1x1, shortcut.

    Args:
        largest: the largest form of the block.
        kernels: choices of kernel size, ascending; one for a fixed block.
    """

    def __init__(self, largest: BlockSpec, kernels: tuple[int, ...]) -> None:
        super().__init__()
        mid_c = largest.mid_c
        self.expand = ElasticConv(largest.in_c, mid_c) if largest.expands else None
        self.expand_bn = ElasticBatchNorm(mid_c) if largest.expands else None
        self.depthwise = ElasticDepthwise(mid_c, kernels, largest.stride)
        self.depthwise_bn = ElasticBatchNorm(mid_c)
        self.se = ElasticSE(mid_c) if largest.se else None
        self.project = ElasticConv(mid_c, largest.out_c)
        self.project_bn = ElasticBatchNorm(largest.out_c)

    def forward(self, x: Tensor, spec: BlockSpec, plan: KernelPlan = BUILTIN) -> Tensor:
        """(n, in_c, in_px, in_px) -> (n, out_c, out_px, out_px)."""
        y: Tensor = x
        if self.expand is not None and self.expand_bn is not None:
            y = activate(self.expand_bn(self.expand(y, spec.mid_c)), spec.act)  # (n, mid_c, in_px, in_px)
        y = activate(self.depthwise_bn(self.depthwise(y, spec.kernel_px, plan)), spec.act)  # (n, mid_c, out_px, out_px)
        if self.se is not None:
            y = self.se(y)
        y = self.project_bn(self.project(y, spec.out_c))
        return x + y if spec.shortcut else y

    def slice_state(self, spec: BlockSpec) -> Iterator[tuple[str, Tensor]]:
        """Return parameters and statistics of the plain form, by name."""
        if self.expand is not None and self.expand_bn is not None:
            yield "expand.weight", self.expand.slice_weight(spec.mid_c, spec.in_c)
            yield from _named("expand_bn", self.expand_bn.slice_parts(spec.mid_c))
        yield "depthwise.weight", self.depthwise.slice_weight(spec.mid_c, spec.kernel_px)
        yield from _named("depthwise_bn", self.depthwise_bn.slice_parts(spec.mid_c))
        if self.se is not None:
            yield from _named("se", self.se.slice_parts(spec.mid_c))
        yield "project.weight", self.project.slice_weight(spec.out_c, spec.mid_c)
        yield from _named("project_bn", self.project_bn.slice_parts(spec.out_c))


class Classifier(nn.Module):
    """Dropout and the linear layer; its size is fixed, so both forms are equal.

    Args:
        spec: the layer.
        dropout: probability.
    """

    def __init__(self, spec: BlockSpec, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(spec.in_c, spec.out_c)

    def forward(self, x: Tensor, spec: BlockSpec | None = None, plan: KernelPlan = BUILTIN) -> Tensor:  # noqa: ARG002
        """(n, in_c, 1, 1) -> (n, classes)."""
        x = functional.dropout(x.flatten(1), self.dropout, self.training)
        return functional.linear(x, self.linear.weight, self.linear.bias)

    def slice_state(self, spec: BlockSpec) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002
        """Return the parameters by name."""
        yield "linear.weight", self.linear.weight
        yield "linear.bias", self.linear.bias


class ElasticPool(nn.Module):
    """The global average pooling as a layer."""

    def forward(self, x: Tensor, spec: BlockSpec, plan: KernelPlan = BUILTIN) -> Tensor:  # noqa: ARG002
        """(n, c, h, w) -> (n, c, 1, 1)."""
        return global_pool(x)

    def slice_state(self, spec: BlockSpec) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002
        """Return no tensors."""
        return iter(())


ElasticLayer = ElasticConvLayer | ElasticMBConv | ElasticPool | Classifier


def elastic_layer(largest: BlockSpec, kernels: tuple[int, ...], dropout: float = 0.0) -> ElasticLayer:
    """Return the elastic layer whose largest form is `largest`.

    Args:
        largest: the largest form of the layer.
        kernels: choices of kernel size of an `mbconv`.
        dropout: probability before the classifier.
    """
    if largest.op in ("first_conv", "final_expand", "feature_mix"):
        return ElasticConvLayer(largest)
    if largest.op == "mbconv":
        return ElasticMBConv(largest, kernels)
    if largest.op == "avg_pool":
        return ElasticPool()
    if largest.op == "classifier":
        return Classifier(largest, dropout)
    raise ArchError(f"no layer for {largest.op!r}")


def _named(prefix: str, parts: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((f"{prefix}.{name}", tensor) for name, tensor in parts.items())
