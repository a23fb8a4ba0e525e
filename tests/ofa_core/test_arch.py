from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.errors import ArchError
from ofa_core.genomes import sample_arch
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space

spaces = st.sampled_from([get_space(name) for name in SPACE_NAMES])
seeds = st.integers(0, 2**32 - 1)


def draw(space: Space, seed: int) -> Arch:
    return sample_arch(space, np.random.default_rng(seed))


# ---- the value -------------------------------------------------------------------------------------------------------


def test_an_architecture_holds_its_active_blocks_only() -> None:
    arch = Arch((1, 2), (3, 5, 3), (3, 6, 6), 28)
    assert arch.n_blocks == 3
    assert arch.stages() == (((3, 3),), ((5, 6), (3, 6)))
    assert arch.at(32) == Arch((1, 2), (3, 5, 3), (3, 6, 6), 32)
    assert str(arch) == "r28 k3e3 k5e6-k3e6"
    with pytest.raises(ArchError, match=r"depths \[1, 2\] mean 3 active blocks, but there are 2 kernels and 3"):
        Arch((1, 2), (3, 5), (3, 6, 6), 28)


@given(spaces, seeds, seeds)
def test_equality_is_being_the_same_network(space: Space, seed: int, other_seed: int) -> None:
    a, b = draw(space, seed), draw(space, other_seed)
    assert (a == b) == (space.blocks(a) == space.blocks(b) and a.depths == b.depths)
    assert (a == b) == (arch_to_dict(a, space) == arch_to_dict(b, space))
    assert hash(a) == hash(draw(space, seed))
