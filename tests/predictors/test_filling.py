from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_core.errors import PredictorError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.genomes import decode, sample_genomes
from ofa_core.spaces import get_space
from ofa_core.table import LatencyTable
from predictors.filling import all_resolutions, fill_blocks, filled_table
from predictors.lut import LutPredictor


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


@pytest.mark.parametrize(
    ("measured", "wanted", "is_far"),
    [
        ((160, 192, 224), 136, False),
        ((160, 192, 224), 128, True),
        ((160,), 192, False),
        ((160,), 196, True),
        ((160, 224), 256, False),
        ((160, 224), 320, True),
        ((128, 224), 176, False),
    ],
)
def test_resolutions_far_from_the_measured_ones_get_a_warning(space, make_table, caplog, measured, wanted, is_far):
    """They are no part of what --fill adds by itself; the warning appears once, with the measured range."""
    table = make_table(space, measured)
    predictor = LutPredictor(space, fill=True).fit(table)
    assert (wanted in predictor.resolutions) == (wanted in space.resolutions and not is_far)
    assert caplog.messages == []
    for _ in range(2):
        assert predictor.predict([space.smallest(wanted)])[0] > 0
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == is_far
    if is_far:
        assert (
            f"at {wanted} px are not reliable: blocks were measured at {measured[0]} to {measured[-1]} px" in warned[0]
        )


def test_estimated_blocks_do_not_widen_the_measured_range(space, make_table, caplog):
    near = fill_blocks(make_table(space, (224,)), space, [192]).table
    assert near.input_sizes() == (192, 224)
    assert caplog.messages == []
    fill_blocks(near, space, [160])
    assert "blocks were measured at 224 to 224 px only" in caplog.text
    assert 160 not in all_resolutions(near, space)


@pytest.mark.reference
@pytest.mark.parametrize(("kept", "wanted"), [((192, 208, 224), 160), ((224,), 192), ((160,), 192)])
def test_within_reach_the_sums_of_a_published_table_are_off_by_5_percent_at_most(reference_data, kept, wanted):
    """The table of a Note10, cut to some of its resolutions; others are estimated and compared with the published."""
    space = get_space("mbv3-w1.2")
    table = read_table(reference_data / "note10_lut")
    blocks = set(space.all_blocks(kept))
    part = LatencyTable(table.context, {key: entry for key, entry in table.entries.items() if key[1] in blocks})
    archs = decode(space, sample_genomes(space, 20, np.random.default_rng(0), [wanted]))
    estimated = fill_blocks(part, space, [wanted]).table.sum_ms(space, archs)
    errors = estimated / table.sum_ms(space, archs) - 1
    assert 0 < abs(errors.mean()) < 0.05
