"""Peak memory of activations."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_core.blocks import BlockSpec
from ofa_core.context import Context
from ofa_core.errors import OfaError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.search.memory import allowed_within, memory_quantity, peak_table
from ofa_core.spaces import get_space


def test_the_peak_of_a_block_by_hand():
    block = BlockSpec("mbconv", 14, 14, 8, 48, 8, 3, 1, "relu", False, True)
    assert block.peak_elements == (8 + 48 + 48) * 14 * 14  # the block's input, and both sides of the depth-wise part
    halved = BlockSpec("mbconv", 14, 7, 8, 48, 16, 3, 2, "relu", False, False)
    assert halved.peak_elements == 48 * 14 * 14 + 48 * 7 * 7
    narrow = BlockSpec("mbconv", 14, 14, 8, 8, 32, 3, 1, "relu", False, False)
    assert narrow.peak_elements == (8 + 32) * 14 * 14
    first = BlockSpec("first_conv", 224, 112, 3, 0, 16, 3, 2, "h_swish", False, False)
    assert first.peak_elements == 3 * 224**2 + 16 * 112**2


def test_a_network_has_the_peak_of_its_largest_layer():
    space = get_space("mbv3-w1.0")
    genomes = sample_genomes(space, 200, np.random.default_rng(0), [160, 224])
    values = memory_quantity(peak_table(space, [224, 160], None)).values(genomes)
    expected = [4e-6 * max(b.peak_elements for b in space.blocks(arch)) for arch in decode(space, genomes)]
    assert values == pytest.approx(expected)


def test_a_limit_forbids_exactly_the_networks_beyond_it():
    space = get_space("mbv3-w1.0")
    table = peak_table(space, [160, 224], None)
    genomes = sample_genomes(space, 3000, np.random.default_rng(1), [160, 224])
    values = memory_quantity(table).values(genomes)
    for limit in np.unique(values)[[0, 2, -2]]:
        allowed = allowed_within(table, limit)
        rows = np.searchsorted(table.resolutions, genomes[:, 0])
        fits = allowed[rows[:, None], np.arange(space.n_slots), genomes[:, 1:]].all(axis=1)
        assert (fits == (values <= limit)).all()
        assert 0 < fits.sum() < len(fits)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_memory_counts_the_data_type_and_the_batch(dtype: str, size: int) -> None:
    space = get_space("tiny")
    one = peak_table(space, [24], None).slots
    context = Context(dtype=dtype, batch_size=3)
    assert peak_table(space, [24], context).slots == pytest.approx(3 * size / 4 * one)


def test_a_data_type_of_unknown_size_is_no_guess() -> None:
    with pytest.raises(OfaError, match="no size is known for the data type 'int4' of the table"):
        peak_table(get_space("tiny"), [24], Context(dtype="int4"))
