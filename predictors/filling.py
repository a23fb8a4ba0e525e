"""Fill a latency table: estimate the blocks that it lacks from the blocks that it has."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ofa_core.space import Space
from ofa_core.table import Entry, Key, LatencyTable
from predictors.block_latency import BlockPredictor

__all__ = ["FilledTable", "all_resolutions", "fill_blocks", "filled_table"]

_LOG = logging.getLogger(__name__)
CONFIDENCE = 0.9
MAX_ERROR = 0.1  # leave-one-out, of a block; estimates with more get a warning


@dataclass(frozen=True)
class FilledTable:
    """A latency table with estimated blocks.

    Attributes:
        table: the table; estimated blocks have status `filled`.
        spread_ms: half-width of the 90 % interval of each block that was estimated here.
    """

    table: LatencyTable
    spread_ms: Mapping[Key, float]


def fill_blocks(table: LatencyTable, space: Space, resolutions: Iterable[int]) -> FilledTable:
    """Estimate the blocks of `space` that a table lacks at these resolutions.

    Args:
        table: the table; it is not changed.
        space: space whose blocks are needed.
        resolutions: input sizes in pixels.

    Raises:
        PredictorError: if the table has too few measured blocks to estimate others.
    """
    keys = table.missing(space, resolutions)
    if not keys:
        return FilledTable(table, {})
    values, low, high = _block_model(table).predict_with_interval(keys, CONFIDENCE)
    more = {key: Entry(latency_ms=float(value), status="filled") for key, value in zip(keys, values, strict=True)}
    spread_ms = dict(zip(keys, ((high - low) / 2).tolist(), strict=True))
    return FilledTable(table.with_entries(more), spread_ms)


def filled_table(table: LatencyTable, space: Space) -> LatencyTable:
    """Return the table with all blocks of `space`, at the resolutions of the space and of the table."""
    return fill_blocks(table, space, all_resolutions(table, space)).table


def all_resolutions(table: LatencyTable, space: Space) -> list[int]:
    """Return the resolutions of the space and of the table, ascending."""
    return sorted({*space.resolutions, *table.input_sizes()})


@lru_cache(maxsize=4)
def _block_model(table: LatencyTable) -> BlockPredictor:
    """Return the fitted model of a table's blocks, and log its error once."""
    model = BlockPredictor().fit(table)
    level, advice = logging.INFO, ""
    if model.mape_ > MAX_ERROR:
        level, advice = logging.WARNING, ": estimates are rough; measure more blocks (--share, or --plan all)"
    _LOG.log(
        level, "%s: blocks that were not measured are estimated; leave-one-out error %.1f %%%s",
        table.context.label, 100 * model.mape_, advice,
    )  # fmt: skip
    return model
