"""`LatencyTable`: look-up, sums and contexts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ofa_core.blocks import BlockSpec
from ofa_core.errors import MissingBlockError, TableError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3, tiny
from ofa_core.table import Context, Entry, LatencyTable


def table_of(space: Space, resolutions: tuple[int, ...], seed: int = 0) -> LatencyTable:
    rng = np.random.default_rng(seed)
    blocks = space.all_blocks(resolutions)
    return LatencyTable(Context(device="synthetic"), {(None, b): Entry(float(rng.lognormal())) for b in blocks})


@pytest.fixture
def table() -> LatencyTable:
    return table_of(tiny(), (24, 28))


def test_a_failed_row_has_no_numbers_and_counts_as_unmeasured(table: LatencyTable, tmp_path: Path) -> None:
    key = next(iter(table.entries))
    failed = table.with_entries({key: Entry(None, status="failed")})
    failed.write(tmp_path / "t.csv")
    again = LatencyTable.read(tmp_path / "t.csv")
    assert again.entries[key] == Entry(None, status="failed")
    assert again.find(key[1]) is None
    assert again.n_failed == 1
    assert again.missing(tiny(), [24]) == [(24, key[1])]
    assert again.resolutions(tiny()) == (28,)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_table_holds_finite_latencies_only(value: float) -> None:
    with pytest.raises(TableError, match="a number from 0 to 1e"):
        LatencyTable(Context(), {(None, tiny().all_blocks([24])[0]): Entry(value)})


# ---- look-up ---------------------------------------------------------------------------------------------------------


def test_a_net_looks_up_its_own_resolution_first() -> None:
    block = next(b for b in tiny().all_blocks([24]) if b.op == "classifier")
    table = LatencyTable(Context(), {(None, block): Entry(1.0), (24, block): Entry(2.0), (28, block): Entry(3.0)})
    assert [table.latency_ms(block, px) for px in (None, 24, 28, 32)] == [1.0, 2.0, 3.0, 1.0]
    failed = table.with_entries({(24, block): Entry(None, status="failed")})
    assert failed.latency_ms(block, 24) == 1.0


def test_a_missing_block_is_named_with_its_nearest(table: LatencyTable) -> None:
    block = BlockSpec("mbconv", 12, 6, 8, 24, 16, 7, 2, "relu", False, False)
    message = r"no latency for mbconv 12x12 8->24->16 k7 s2 relu at 24 px; its nearest: mbconv 12x12 8->24->16 k5 s2"
    with pytest.raises(MissingBlockError, match=message):
        table.latency_ms(block, 24)
    empty = LatencyTable(Context(), {})
    with pytest.raises(MissingBlockError, match="and no mbconv at all"):
        empty.latency_ms(block)


def test_w10_keys_asked_of_a_w12_table_get_one_clear_line() -> None:
    table = table_of(mobilenet_v3(1.2), (160,))
    space = mobilenet_v3(1.0)
    with pytest.raises(MissingBlockError, match="first_conv 160x160 3->16 at 160 px") as caught:
        table.sum_ms(space, [space.largest(160)])
    assert "\n" not in str(caught.value)
    assert "nearest: first_conv 160x160 3->24" in str(caught.value)
    with pytest.raises(MissingBlockError, match=r"and \d+ more"):
        table.dense(space, [160])


def test_the_sum_is_the_sum_of_the_walk(table: LatencyTable) -> None:
    archs = decode(tiny(), sample_genomes(tiny(), 50, np.random.default_rng(0), (24, 28)))
    expected = [sum(table.latency_ms(b, a.resolution_px) for b in tiny().blocks(a)) for a in archs]
    assert table.sum_ms(tiny(), archs) == pytest.approx(expected, rel=1e-14)
    assert table.sum_ms(tiny(), []).shape == (0,)


def test_a_table_lists_its_spaces_and_resolutions(table: LatencyTable) -> None:
    assert table.spaces() == (tiny(),)
    assert table.resolutions(tiny()) == (24, 28)
    assert table.resolutions(mobilenet_v3()) == ()
    assert repr(table) == f"<LatencyTable synthetic unknown {len(table)} blocks>"


def test_tables_are_values(table: LatencyTable) -> None:
    block = tiny().all_blocks([24])[0]
    more = table.with_entries({(None, block): Entry(9.0)})
    assert more.latency_ms(block) == 9.0
    assert table.latency_ms(block) != 9.0


def test_contexts_name_their_differences() -> None:
    assert Context().differences(Context(batch_size=8, dtype="int8")) == [
        "dtype 'float32' != 'int8'",
        "batch_size 1 != 8",
    ]
