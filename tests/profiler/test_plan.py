from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_core.errors import OfaError
from ofa_core.spaces import mobilenet_v3, tiny
from profiler.plan import N_ANCHORS, PROBE, BlockItem, NetworkItem, make_plan, reference_archs

SPACE = mobilenet_v3()
BLOCKS = SPACE.all_blocks((160, 192, 224))
NETS = [NetworkItem(SPACE, arch) for arch in reference_archs(SPACE, (160, 192, 224), 24, np.random.default_rng(0))]


def test_one_chunk_where_memory_allows() -> None:
    plan = make_plan([*BLOCKS, *BLOCKS], NETS, np.random.default_rng(0), memory_bytes=10**12)
    assert len(plan.items) == len(BLOCKS) + len(NETS)
    assert plan.chunks == (tuple(range(len(plan.items))),)
    assert plan.anchors == tuple(range(len(BLOCKS), len(plan.items)))


@settings(max_examples=30, deadline=None)
@given(memory=st.integers(200_000_000, 3_000_000_000), seed=st.integers(0, 100))
def test_chunks_hold_everything_once_and_fit(memory: int, seed: int) -> None:
    plan = make_plan(BLOCKS, NETS, np.random.default_rng(seed), memory_bytes=memory)
    if len(plan.chunks) == 1:
        return
    assert len(plan.anchors) == N_ANCHORS
    counted = [i for chunk in plan.chunks for i in chunk if i not in plan.anchors]
    assert sorted([*counted, *plan.anchors]) == list(range(len(plan.items)))
    largest = max(item.memory_bytes for item in plan.items)
    for chunk in plan.chunks:
        assert set(plan.anchors) <= set(chunk)
        assert sum(plan.items[i].memory_bytes for i in chunk) <= memory + 2 * largest


def test_ids_are_unique_and_stable() -> None:
    every = [BlockItem(b) for s in (SPACE, mobilenet_v3(1.2), tiny()) for b in s.all_blocks()]
    assert len({item.id for item in every}) == len({item.block for item in every})
    assert BlockItem(PROBE).id == "mbconv/10-10/80-320-80/k5s1/h_swish/+"


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(OfaError, match="nothing to measure"):
        make_plan([], [], np.random.default_rng(0))


def test_references_are_different_nets_at_resolutions_in_turn() -> None:
    first = reference_archs(SPACE, (160, 224), 10, np.random.default_rng(0))
    assert [a.resolution_px for a in first] == [160, 224] * 5
    more = reference_archs(SPACE, (160, 224), 10, np.random.default_rng(0), avoid=first)
    assert not {a.at(0) for a in first} & {a.at(0) for a in more}
    with pytest.raises(OfaError) as raised:
        reference_archs(tiny(), (32,), 401, np.random.default_rng(0))
    assert str(raised.value) == (
        "only 400 distinct sub-nets of tiny are left (401 requested): ask for at most 400 with --nets"
    )


def test_all_sub_nets_of_a_small_space_are_drawn() -> None:
    rng = np.random.default_rng(0)
    assert len({a.at(0) for a in reference_archs(tiny(), (24, 28), 400, rng)}) == 400
    stages = tuple(replace(stage, depths=(1, 2, 3)) for stage in tiny().stages[:1])
    space = replace(tiny(), name="lopsided", stages=stages, kernels=(3,), expands=(3, 4, 5, 6, 7, 8))
    archs = reference_archs(space, (24,), 6 + 36 + 216, rng)  # a network of depth 1 is drawn 36 times as often
    assert len(set(archs)) == space.n_subnets == 258
    assert reference_archs(space, (24,), 0, rng) == []
    with pytest.raises(OfaError) as raised:
        reference_archs(space, (24,), 1, rng, avoid=archs)
    assert str(raised.value) == (
        "only 0 distinct sub-nets of lopsided are left (1 requested): all are in the table's networks file"
    )
