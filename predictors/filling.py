"""Fill a latency table: estimate the blocks that it lacks from the blocks that it has.

Estimates at other resolutions than the measured ones were tested by cutting tables to some of their resolutions. Up to
a factor of `REACH` the sums of blocks were off by 5 % or less on average. Farther away they are estimated on demand
only, with a warning.
"""

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
REACH = 1.2  # of the wanted to the nearest measured resolution
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
    _warn_of_far(table, tuple(sorted({px for px, _ in keys if px is not None})))
    values, low, high = _block_model(table).predict_with_interval(keys, CONFIDENCE)
    more = {key: Entry(latency_ms=float(value), status="filled") for key, value in zip(keys, values, strict=True)}
    spread_ms = dict(zip(keys, ((high - low) / 2).tolist(), strict=True))
    return FilledTable(table.with_entries(more), spread_ms)


def filled_table(table: LatencyTable, space: Space) -> LatencyTable:
    """Return the table with all blocks of `space`, at `all_resolutions`."""
    return fill_blocks(table, space, all_resolutions(table, space)).table


def all_resolutions(table: LatencyTable, space: Space) -> list[int]:
    """Return the resolutions of the table, and those of the space within reach of them, ascending."""
    far = _far(table, space.resolutions)
    return sorted({*(px for px in space.resolutions if px not in far), *table.input_sizes()})


def _far(table: LatencyTable, pixels: Iterable[int]) -> list[int]:
    """Return the resolutions at which estimates were not tested; none if the table does not show its own."""
    measured = _measured_px(table)
    return [px for px in pixels if measured and not measured[0] / REACH <= px <= measured[-1] * REACH]


def _measured_px(table: LatencyTable) -> list[int]:
    """Return the resolutions whose first layer was measured, ascending."""
    first = ((block, entry) for (_, block), entry in table.entries.items() if block.op == "first_conv")
    return sorted({block.in_px for block, entry in first if entry.status != "filled"})


@lru_cache(maxsize=16)
def _warn_of_far(table: LatencyTable, pixels: tuple[int, ...]) -> None:
    """Log once that a table is asked for resolutions that are far from its own."""
    far, measured = _far(table, pixels), _measured_px(table)
    if far:
        _LOG.warning(
            "%s: the estimates at %s px are not reliable: blocks were measured at %d to %d px only; measure blocks "
            "there (--resolutions)",
            table.context.label, ", ".join(map(str, far)), measured[0], measured[-1],
        )  # fmt: skip


@lru_cache(maxsize=4)
def _block_model(table: LatencyTable) -> BlockPredictor:
    """Return the fitted model of a table's blocks, and log its error once."""
    model = BlockPredictor().fit(table)
    level, advice = logging.INFO, ""
    if model.mape_ > MAX_ERROR:
        level, advice = logging.WARNING, ": estimates are rough; measure more blocks (--fraction, or --plan all)"
    _LOG.log(
        level, "%s: blocks that were not measured are estimated; leave-one-out error %.1f %%%s",
        table.context.label, 100 * model.mape_, advice,
    )  # fmt: skip
    return model
