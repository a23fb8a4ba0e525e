from __future__ import annotations

from dataclasses import replace

import numpy as np
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


@pytest.mark.parametrize(("noise", "level"), [(0.01, "INFO"), (0.6, "WARNING")])
def test_the_error_of_the_estimates_is_logged_once_and_is_a_warning_above_10_percent(
    tiny_space, make_table, caplog, noise, level
):
    whole = make_table(tiny_space, tiny_space.resolutions)
    factors = np.exp(noise * np.random.default_rng(0).standard_normal(len(whole.entries)))
    part = {
        key: replace(entry, latency_ms=entry.latency_ms * factor)
        for (key, entry), factor in list(zip(whole.entries.items(), factors, strict=True))[::2]
    }
    table = LatencyTable(whole.context, part)
    caplog.set_level("INFO")
    for _ in range(2):
        filled_table(table, tiny_space)
    (record,) = [record for record in caplog.records if record.name == "predictors.filling"]
    assert record.levelname == level
    assert "leave-one-out error" in record.message
    assert ("measure more blocks" in record.message) == (level == "WARNING")
