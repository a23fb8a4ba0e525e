"""Find the changes between two tables that exceed noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ofa_core.blocks import BlockSpec
from ofa_core.context import reference_ns_of
from ofa_core.errors import TableError
from ofa_core.table import Entry, Key, LatencyTable

__all__ = ["Change", "Comparison", "compare"]

SMALLEST_CHANGE = 0.05  # of one block; smaller changes are not reported
SMALLEST_SHIFT = 0.03  # of all blocks together
N_SIGMA = 4.0  # one in eight unchanged tables of two thousand blocks shows a change
CI90_TO_SIGMA = 1 / 2.13  # a 90 % interval over 5 processes has t = 2.13 standard errors


@dataclass(frozen=True, slots=True)
class Change:
    """A block whose latency changed relative to the others.

    Attributes:
        block: the block.
        resolution_px: input size of the table's row; None if rows hold for any.
        old_ms: latency in the first table.
        new_ms: latency in the second table.
        ratio: new latency divided by the old one and by the common shift.
        sigmas: deviation in standard errors.
    """

    block: BlockSpec
    resolution_px: int | None
    old_ms: float
    new_ms: float
    ratio: float
    sigmas: float

    @property
    def where(self) -> str:
        """The block and the input size of the table's row."""
        return self.block.label() + (f" at {self.resolution_px} px" if self.resolution_px else "")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two tables.

    Attributes:
        context: differences of the contexts, which may explain the rest.
        n_common: number of blocks measured in both.
        only_old: number of blocks that only the first table has.
        only_new: number of blocks that only the second table has.
        shift: common factor of all blocks, at equal machine speed if both tables name theirs.
        spread: robust standard deviation of the blocks' log ratios around the shift.
        changes: changed blocks, largest change first.
        ratios: log ratio of each block in both tables.
    """

    context: tuple[str, ...]
    n_common: int
    only_old: int
    only_new: int
    shift: float
    spread: float
    changes: tuple[Change, ...]
    ratios: tuple[tuple[Key, float], ...]

    @property
    def shifted(self) -> bool:
        """True if all blocks together became slower or faster."""
        return abs(math.log(self.shift)) > math.log1p(SMALLEST_SHIFT)

    @property
    def changed(self) -> bool:
        """True if all blocks together or single ones changed."""
        return self.shifted or bool(self.changes)


def compare(old: LatencyTable, new: LatencyTable) -> Comparison:
    """Compare two tables block by block.

    A block is changed if its ratio differs from the common one by more than 5 % and by more than four standard errors:
    its own, from the intervals of both tables, and the robust spread of all ratios.

    Raises:
        TableError: if no block is measured in both.
    """
    mine = {key: entry for key, entry in old.entries.items() if entry.measured}
    theirs = {key: entry for key, entry in new.entries.items() if entry.measured}
    common = [key for key in mine if key in theirs and mine[key].latency_ms and theirs[key].latency_ms]
    if not common:
        raise TableError("no block is measured in both tables; give tables of the same space and resolutions")
    ratios = np.array([math.log(_ms(theirs[key]) / _ms(mine[key])) for key in common])
    centre = float(np.median(ratios))
    spread = 1.4826 * float(np.median(np.abs(ratios - centre)))
    changes = []
    for key, ratio in zip(common, ratios.tolist(), strict=True):
        change = _change(key, mine[key], theirs[key], ratio - centre, spread)
        if change is not None:
            changes.append(change)
    context = [d for d in old.context.differences(new.context) if not d.startswith("statistic")]
    return Comparison(
        context=tuple(context),
        n_common=len(common),
        only_old=len(mine) - len(common),
        only_new=len(theirs) - len(common),
        shift=math.exp(centre) / _speed_ratio(old, new),
        spread=spread,
        changes=tuple(sorted(changes, key=lambda c: -abs(math.log(c.ratio)))),
        ratios=tuple(zip(common, ratios.tolist(), strict=True)),
    )


def _change(key: Key, old: Entry, new: Entry, deviation: float, spread: float) -> Change | None:
    own = math.hypot(*(CI90_TO_SIGMA * (e.ci90_ms or 0.0) / _ms(e) for e in (old, new)))
    noise = max(math.hypot(own, spread), 1e-9)
    if abs(deviation) < math.log1p(SMALLEST_CHANGE) or abs(deviation) < N_SIGMA * noise:
        return None
    return Change(key[1], key[0], _ms(old), _ms(new), math.exp(deviation), abs(deviation) / noise)


def _speed_ratio(old: LatencyTable, new: LatencyTable) -> float:
    """Return the ratio of the tables' reference times of the speed probe; 1 if a table names none."""
    try:
        return reference_ns_of(new.context.statistic) / reference_ns_of(old.context.statistic)
    except TableError:
        return 1.0


def _ms(entry: Entry) -> float:
    assert entry.latency_ms is not None
    return entry.latency_ms
