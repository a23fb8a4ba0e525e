from __future__ import annotations

import pytest

from ofa_core.errors import PredictorError
from ofa_core.table import LatencyTable
from predictors.filling import fill_blocks, filled_table


def test_filling_returns_a_copy(tiny_space, make_table):
    whole = make_table(tiny_space, tiny_space.resolutions)
    part = LatencyTable(whole.context, dict(list(whole.entries.items())[::2]))
    entries = dict(part.entries)
    filled = fill_blocks(part, tiny_space, tiny_space.resolutions)
    assert part.entries == entries
    assert not filled.table.missing(tiny_space, tiny_space.resolutions)
    assert set(filled.spread_ms) == {key for key, entry in filled.table.entries.items() if entry.status == "filled"}
    assert all(spread > 0 for spread in filled.spread_ms.values())
    assert filled_table(part, tiny_space).entries == filled.table.entries


def test_a_complete_table_is_returned_as_it_is(tiny_space, make_table):
    whole = make_table(tiny_space, tiny_space.resolutions)
    filled = fill_blocks(whole, tiny_space, tiny_space.resolutions)
    assert filled.table is whole
    assert filled.spread_ms == {}


def test_too_few_blocks(tiny_space, make_table):
    whole = make_table(tiny_space, tiny_space.resolutions)
    few = LatencyTable(whole.context, dict(list(whole.entries.items())[:9]))
    with pytest.raises(PredictorError, match="9 measured blocks; at least 10 are needed"):
        filled_table(few, tiny_space)
