"""Tables and networks that follow a known rule, so that a test knows what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from ofa_core.blocks import BlockSpec
from ofa_core.genomes import decode, sample_genomes
from ofa_core.measured_networks import Network
from ofa_core.space import Space
from ofa_core.spaces import get_space, mobilenet_v3
from ofa_core.table import Context, Entry, Key, LatencyTable

CONTEXT = Context(device="rig", backend="onnxruntime", backend_version="1.20", statistic="median")


def rule_ms(block: BlockSpec) -> float:
    """A device: time for point-wise MACs, for kernel MACs, for bytes, and a call."""
    return 2e-8 * block.pointwise_macs + 6e-8 * block.kernel_macs + 1e-7 * block.activation_elements + 0.004


@pytest.fixture(scope="session")
def space() -> Space:
    return mobilenet_v3(1.0)


@pytest.fixture(scope="session")
def make_table() -> Callable[[Space, Iterable[int]], LatencyTable]:
    def make(space: Space, resolutions: Iterable[int], *, per_resolution: bool = False) -> LatencyTable:
        entries: dict[Key, Entry] = {}
        for px in resolutions:
            for block in space.all_blocks([px]):
                entries[(px if per_resolution else None, block)] = Entry(rule_ms(block), n_samples=9)
        return LatencyTable(CONTEXT, entries)

    return make


@pytest.fixture(scope="session")
def make_networks() -> Callable[..., list[Network]]:
    def make(
        space: Space,
        resolutions: list[int],
        n: int,
        *,
        scale: float = 1.1,
        noise: float = 0.01,
        role: str = "reference",
    ) -> list[Network]:
        rng = np.random.default_rng(7)
        nets = []
        for arch in decode(space, sample_genomes(space, n, rng, resolutions)):
            total = sum(rule_ms(b) for b in space.blocks(arch))
            truth = scale * total * float(np.exp(noise * rng.standard_normal()))
            nets.append(Network(space, arch, role, len(space.blocks(arch)), total, truth, n_samples=9))
        return nets

    return make


@pytest.fixture(scope="session")
def tiny_space() -> Space:
    return get_space("tiny")
