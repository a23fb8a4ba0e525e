"""The blocks again, in torch, with batch norm: written from the published networks, not from the exporter."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, LayerWeights

sys.path.insert(0, str(Path(__file__).parent))


class TorchOracle:
    """Random torch modules of blocks, their folded weights, and their outputs in float64."""

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")

    def build(self, blocks: Sequence[BlockSpec], seed: int = 0) -> tuple[Any, tuple[BlockWeights, ...]]:
        self.torch.manual_seed(seed)
        modules, weights = zip(*(self._block(block) for block in blocks), strict=True)
        return self.torch.nn.Sequential(*modules).double().eval(), weights

    def run(self, module: Any, x: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            return module(self.torch.from_numpy(x).double()).numpy()

    def _act(self, name: str) -> Any:
        nn = self.torch.nn
        return {"relu": nn.ReLU, "relu6": nn.ReLU6, "h_swish": nn.Hardswish, "none": nn.Identity}[name]()

    def _conv_bn(self, in_c: int, out_c: int, k: int, stride: int, groups: int = 1) -> tuple[list[Any], LayerWeights]:
        nn = self.torch.nn
        conv = nn.Conv2d(in_c, out_c, k, stride, k // 2, groups=groups, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        bn = nn.BatchNorm2d(out_c)
        for tensor, low, high in ((bn.weight, 0.5, 1.5), (bn.running_var, 0.5, 1.5), (bn.bias, -0.2, 0.2)):
            nn.init.uniform_(tensor, low, high)
        nn.init.normal_(bn.running_mean, 0, 0.1)
        scale = bn.weight.detach().double() / (bn.running_var.double() + bn.eps).sqrt()
        weight = conv.weight.detach().double() * scale[:, None, None, None]
        bias = bn.bias.detach().double() - bn.running_mean.double() * scale
        return [conv, bn], LayerWeights(weight.float().numpy(), bias.float().numpy())

    def _plain(self, module: Any) -> LayerWeights:
        bias = module.bias if module.bias is not None else self.torch.zeros(module.weight.shape[0])
        return LayerWeights(module.weight.detach().numpy().copy(), bias.detach().numpy().copy())

    def _block(self, b: BlockSpec) -> tuple[Any, BlockWeights]:
        nn = self.torch.nn
        if b.op == "avg_pool":
            return nn.AdaptiveAvgPool2d(1), BlockWeights(())
        if b.op == "classifier":
            linear = nn.Linear(b.in_c, b.out_c)
            return nn.Sequential(nn.Flatten(), linear), BlockWeights((self._plain(linear),))
        if b.op == "feature_mix":
            conv = nn.Conv2d(b.in_c, b.out_c, 1, bias=False)
            return nn.Sequential(conv, self._act(b.act)), BlockWeights((self._plain(conv),))
        if b.op in ("first_conv", "final_expand"):
            body, folded = self._conv_bn(b.in_c, b.out_c, b.kernel_px, b.stride)
            return nn.Sequential(*body, self._act(b.act)), BlockWeights((folded,))
        return self._mbconv(b)

    def _mbconv(self, b: BlockSpec) -> tuple[Any, BlockWeights]:
        nn = self.torch.nn
        body: list[Any] = []
        weights: list[LayerWeights] = []
        if b.mid_c != b.in_c:
            part, folded = self._conv_bn(b.in_c, b.mid_c, 1, 1)
            body += [*part, self._act(b.act)]
            weights.append(folded)
        part, folded = self._conv_bn(b.mid_c, b.mid_c, b.kernel_px, b.stride, groups=b.mid_c)
        body += [*part, self._act(b.act)]
        weights.append(folded)
        if b.se:
            reduce, expand = nn.Conv2d(b.mid_c, b.se_c, 1), nn.Conv2d(b.se_c, b.mid_c, 1)
            gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), reduce, nn.ReLU(), expand, nn.Hardsigmoid())
            body.append(_combine(self.torch, gate, "mul"))
            weights += [self._plain(reduce), self._plain(expand)]
        part, folded = self._conv_bn(b.mid_c, b.out_c, 1, 1)
        body += part
        weights.append(folded)
        whole = nn.Sequential(*body)
        return (_combine(self.torch, whole, "add") if b.shortcut else whole), BlockWeights(tuple(weights))


def _combine(torch: Any, inner: Any, how: str) -> Any:
    """A module that computes x * inner(x) or x + inner(x)."""

    class Combine(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return x * self.inner(x) if how == "mul" else x + self.inner(x)

    return Combine()


@pytest.fixture(scope="session")
def oracle() -> TorchOracle:
    return TorchOracle()


def mbconv(px: int, in_c: int, mid_c: int, out_c: int, k: int, stride: int, act: Any, se: bool) -> BlockSpec:
    shortcut = stride == 1 and in_c == out_c
    return BlockSpec("mbconv", px, -(-px // stride), in_c, mid_c, out_c, k, stride, act, se, shortcut)


@pytest.fixture(scope="session")
def block_grid() -> Any:
    """All blocks of one kernel, stride and activation: SE, odd and even maps, expansion, shortcut or not."""

    def grid(k: int, stride: int, act: Any) -> list[BlockSpec]:
        return [
            mbconv(px, in_c, mid_c, out_c, k, stride, act, se)
            for se in (False, True)
            for px in (9, 10)
            for in_c, mid_c, out_c in ((8, 8, 8), (8, 8, 16), (8, 24, 8), (16, 48, 24))
        ]

    return grid


@pytest.fixture(scope="session")
def head_blocks() -> list[BlockSpec]:
    """Every op that is not an mbconv, with odd and even maps."""
    return [
        BlockSpec("first_conv", 32, 16, 3, 0, 8, 3, 2, "h_swish", False, False),
        BlockSpec("first_conv", 29, 15, 3, 0, 16, 3, 2, "relu6", False, False),
        BlockSpec("first_conv", 32, 32, 3, 0, 8, 3, 1, "relu", False, False),
        BlockSpec("final_expand", 7, 7, 24, 0, 96, 1, 1, "h_swish", False, False),
        BlockSpec("final_expand", 4, 4, 24, 0, 96, 1, 1, "relu6", False, False),
        BlockSpec("avg_pool", 7, 1, 96, 0, 96, 0, 1, "none", False, False),
        BlockSpec("avg_pool", 4, 1, 96, 0, 96, 0, 1, "none", False, False),
        BlockSpec("avg_pool", 1, 1, 96, 0, 96, 0, 1, "none", False, False),
        BlockSpec("feature_mix", 1, 1, 96, 0, 128, 1, 1, "h_swish", False, False),
        BlockSpec("classifier", 1, 1, 128, 0, 10, 1, 1, "none", False, False),
    ]
