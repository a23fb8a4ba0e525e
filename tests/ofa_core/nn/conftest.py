from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_core.arch import Arch
from ofa_core.genomes import sample_arch
from ofa_core.space import Space
from ofa_core.spaces import get_space, tiny

# Slim members of both families: all mechanisms (squeeze-and-excite, three kernels, feature mix or none), little work.
SPACES: dict[str, Space] = {
    "tiny": tiny(),
    "mbv3": get_space("mbv3-w0.35").with_classes(11),
    "proxyless": replace(get_space("proxyless-w0.35"), n_classes=7, first_stride=1),
}


@pytest.fixture(params=list(SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    return SPACES[request.param]


def random_arch(space: Space, seed: int, resolution_px: int = 32) -> Arch:
    return sample_arch(space, np.random.default_rng(seed), (resolution_px,))


def randomise(net, seed: int = 0) -> None:
    """Batch norm and transform matrices away from their identity starts, which could hide a fault."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return torch.rand(tensor.shape, generator=generator) - 0.5

    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if "matrices" in name:
                tensor += 0.2 * noise(tensor)
            elif name.endswith(("bn.weight", "bn.bias", "running_mean", "running_var")):
                tensor += 0.6 * noise(tensor)


@pytest.fixture
def make_net():
    from ofa_core.nn.supernet import Supernet

    def make(space: Space, seed: int = 0, **options):
        net = Supernet(space, seed=seed, **options)
        randomise(net, seed)
        return net

    return make
