from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ofa_core.errors import OfaError
from ofa_core.genomes import sample_arch
from ofa_core.spaces import get_space, tiny
from ofa_core.train.phases import Phase, joint_random, progressive_shrinking, restricted, sandwich, scaled


def test_the_published_recipe():
    """Figures of the authors' `train_ofa_net.py`; the full net's rate is the paper's 2.6 over 32 GPUs."""
    rows = [
        (p.name, p.epochs, p.warmup_epochs, p.lr, p.subnets_per_step, p.kernels, p.expands, p.n_depths, p.sort_kept)
        for p in progressive_shrinking(get_space("mbv3-w1.0"))
    ]
    assert rows == [
        ("full", 180, 5, 2.6 / 32, 1, (7,), (6,), 1, None),
        ("kernel", 120, 5, 3e-2, 1, None, (6,), 1, None),
        ("depth1", 25, 0, 2.5e-3, 2, None, (6,), 2, None),
        ("depth2", 120, 5, 7.5e-3, 2, None, (6,), 3, None),
        ("expand1", 25, 0, 2.5e-3, 4, None, (4, 6), None, ()),
        ("expand2", 120, 5, 7.5e-3, 4, None, (3, 4, 6), None, (4,)),
    ]
    for phase in progressive_shrinking(get_space("mbv3-w1.0")):
        assert (phase.batch_size, phase.momentum, phase.weight_decay) == (64, 0.9, 3e-5)
        assert (phase.label_smoothing, phase.dropout, phase.teacher_mode, phase.unused) == (0.1, 0.1, "train", "decay")
        assert phase.kd_ratio == (0.0 if phase.name == "full" else 1.0)


@pytest.mark.parametrize("name", ["mbv3-w1.0", "proxyless-w1.3", "tiny"])
def test_the_choices_grow_to_the_whole_space(name):
    space = get_space(name)
    phases = progressive_shrinking(space)
    sizes = [restricted(space, phase).n_subnets for phase in phases]
    assert sizes[0] == 1
    assert all(a < b for a, b in pairwise(sizes))
    assert sizes[-1] == space.n_subnets


def test_a_restricted_space_is_a_part_of_the_space():
    import numpy as np

    space = get_space("mbv3-w1.0")
    part = restricted(space, Phase("x", 1, 0.1, kernels=(5, 7), expands=(6,), n_depths=2))
    rng = np.random.default_rng(0)
    for _ in range(20):
        arch = sample_arch(part, rng)
        space.validate(arch)
        assert set(arch.kernels) <= {5, 7}
        assert set(arch.expands) == {6}
        assert min(arch.depths) >= 3


def test_choices_that_the_space_does_not_have():
    with pytest.raises(OfaError, match=r"phase x: kernels \[7\] are not in tiny, which has \[3, 5\]"):
        restricted(tiny(), Phase("x", 1, 0.1, kernels=(7,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subnets_per_step": 0}, "subnets_per_step is 0, at least 1"),
        ({"batch_size": 1}, "batch_size is 1, at least 2"),
        ({"sampling": "sandwich"}, "subnets_per_step is 1, a sandwich needs at least 2"),
        ({"epochs": -1}, "epochs is -1"),
    ],
)
def test_impossible_phases(change, message):
    with pytest.raises(OfaError, match=message):
        replace(Phase("x", 1, 0.1), **change)


def test_scaling_keeps_the_shares():
    phases = progressive_shrinking(get_space("mbv3-w1.0"))
    short = scaled(phases, 10, batch_size=32)
    assert sum(p.epochs + p.warmup_epochs for p in short) == pytest.approx(10)
    assert short[2].epochs / short[1].epochs == pytest.approx(25 / 120)
    assert {p.batch_size for p in short} == {32}


def test_the_other_recipes_sample_everything():
    space = tiny()
    for recipe in (joint_random, sandwich):
        (phase,) = recipe(space)
        assert restricted(space, phase).n_subnets == space.n_subnets
