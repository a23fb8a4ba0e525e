from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.dense import CHUNK, DenseSums, DenseTable, total_macs, total_params
from ofa_core.errors import MissingBlockError, TableError
from ofa_core.genomes import decode, encode, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, tiny
from ofa_core.table import Context, Entry, LatencyTable


def macs_table(space: Space, resolutions: tuple[int, ...]) -> DenseTable:
    return DenseTable.build(space, resolutions, lambda block, px: float(block.macs))


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_dense_macs_are_the_spaces_macs(name: str) -> None:
    space = get_space(name)
    resolutions = space.resolutions[:: len(space.resolutions) - 1]
    genomes = sample_genomes(space, 100, np.random.default_rng(0), resolutions)
    expected = [space.macs(arch) for arch in decode(space, genomes)]
    assert macs_table(space, resolutions).sum(genomes) == pytest.approx(expected, rel=1e-15)


@given(st.integers(0, 2**32 - 1))
def test_the_dense_sum_is_the_tables_sum_with_values_per_resolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = tiny()
    entries = {(px, b): Entry(float(rng.random())) for px in (24, 32) for b in space.all_blocks([px])}
    table = LatencyTable(Context(), entries)
    genomes = sample_genomes(space, 20, rng, [24, 32])
    dense = table.dense(space, [32, 24, 24])
    assert dense.resolutions.tolist() == [24, 32]
    assert dense.sum(genomes) == pytest.approx(table.sum_ms(space, decode(space, genomes)), rel=1e-12)


def test_more_rows_than_a_chunk_and_none() -> None:
    space = mobilenet_v3()
    dense = macs_table(space, (160,))
    genomes = sample_genomes(space, CHUNK + 3, np.random.default_rng(0), [160])
    whole = dense.sum(genomes)
    assert (dense.sum(genomes[CHUNK - 1 :]) == whole[CHUNK - 1 :]).all()
    assert dense.sum(genomes[:0]).shape == (0,)


def test_each_block_is_asked_once_per_resolution() -> None:
    asked = []

    def value(block: object, px: int) -> float:
        asked.append((px, block))
        return 1.0

    dense = DenseTable.build(tiny(), (24, 28), value)  # type: ignore[arg-type]
    assert len(asked) == len(set(asked))
    assert {px for px, _ in asked} == {24, 28}
    genomes = encode(tiny(), [tiny().largest(24), tiny().smallest(24)])
    assert dense.sum(genomes).tolist() == [4 + 6, 2 + 6]


def test_an_odd_number_of_slots() -> None:
    space = get_space("proxyless-w1.3")
    assert space.n_slots % 2 == 1
    arch = space.largest(160)
    assert macs_table(space, (160,)).sum(encode(space, [arch]))[0] == space.macs(arch)


@pytest.mark.parametrize("px", [0, 28, 36, 1024])
def test_a_resolution_that_is_not_there_is_named(px: int) -> None:
    genomes = encode(tiny(), [tiny().largest(24)])
    genomes[0, 0] = px
    with pytest.raises(TableError, match=f"no values at {px} px; there are 24, 32"):
        macs_table(tiny(), (24, 32)).sum(genomes)


def test_an_incomplete_table_is_refused() -> None:
    table = LatencyTable(Context(), {(None, b): Entry(1.0) for b in tiny().all_blocks([24])})
    with pytest.raises(MissingBlockError, match=r"at 28 px and \d+ more"):
        table.dense(tiny(), [24, 28])


def test_dense_sums_build_a_table_when_a_resolution_first_occurs() -> None:
    built = []

    def build(pixels: tuple[int, ...]) -> DenseTable:
        built.append(pixels)
        return macs_table(tiny(), pixels)

    sums = DenseSums(build, (24,))
    assert sums.sum(encode(tiny(), [])).shape == (0,)
    assert built == []
    archs = [tiny().largest(28), tiny().smallest(24)]
    for _ in range(2):
        assert sums.sum(encode(tiny(), archs)).tolist() == [tiny().macs(arch) for arch in archs]
    assert built == [(24, 28)]
    assert sums.sum(encode(tiny(), [tiny().largest(32)])).tolist() == [tiny().macs(tiny().largest(32))]
    assert built == [(24, 28), (24, 28, 32)]


def test_total_macs_and_parameters() -> None:
    space = mobilenet_v3()
    genomes = sample_genomes(space, 20, np.random.default_rng(0))
    archs = decode(space, genomes)
    assert total_macs(space, genomes).tolist() == [space.macs(arch) for arch in archs]
    assert total_params(space, genomes).tolist() == [space.params(arch) for arch in archs]
