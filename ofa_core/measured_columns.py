"""Find the column of latency or accuracy in a CSV file, and its unit.

Files of other tools name a column `Latency (ms)`, `lat_us` or `Top-1 Acc (%)`. The unit must be in the name or be
given. It is never guessed: a table in seconds that is read as milliseconds looks like a fast device.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ofa_core.errors import FormatError

__all__ = ["LATENCY", "TOP1", "Quantity", "ValueColumn", "find_column", "recognised_column", "unit_to_ms"]

Quantity = Literal["latency_ms", "top1"]
LATENCY: Quantity = "latency_ms"
TOP1: Quantity = "top1"

# Factor to milliseconds, or to percent.
_UNITS: dict[str, tuple[Quantity, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), (LATENCY, 1e3)),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), (LATENCY, 1.0)),
    **dict.fromkeys(("us", "usec", "\u00b5s", "\u03bcs", "microsecond", "microseconds"), (LATENCY, 1e-3)),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), (LATENCY, 1e-6)),
    **dict.fromkeys(("%", "percent", "pct"), (TOP1, 1.0)),
    "fraction": (TOP1, 100.0),
}
_UNIT_NAMES = "s, ms, us, ns, % or fraction"
_LATENCY_WORDS = frozenset({"latency", "lat", "mean", "avg", "average"})
_TOP1_WORDS = frozenset({"top1", "top", "1", "acc", "acc1", "accuracy"})
_EXPECTED = (
    "expected is latency_ms or Latency (ms, s, us or ns), or top1 or Top-1 Acc (% or fraction); "
    "choose another one with --column NAME, or --column NAME=UNIT (ofa-profile convert takes it too)"
)
_WORDS: dict[Quantity, str] = {LATENCY: "latency", TOP1: "accuracy"}


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """A column of measured values.

    Attributes:
        name: name in the file.
        quantity: `latency_ms` or `top1`.
        factor: factor from the file's unit to milliseconds or percent.
    """

    name: str
    quantity: Quantity
    factor: float

    @property
    def reading(self) -> str:
        """Return the interpretation of the column, for people."""
        unit = "milliseconds" if self.quantity == LATENCY else "percent"
        factor = "" if self.factor == 1 else f", times {self.factor:g}"
        return f"column {self.name!r} read as {_WORDS[self.quantity]} in {unit}{factor}"

    def checked(self, value: float, where: str) -> float:
        """Return a value in milliseconds or percent.

        Raises:
            FormatError: for an accuracy above 100 %.
        """
        value *= self.factor
        if self.quantity == TOP1 and value > 100 + 1e-9:
            unit = "percent" if self.factor == 1 else "a fraction"
            raise FormatError(f"{where}: {self.name} is {value / self.factor:g} as {unit}; at most 100 % is expected")
        return value


def find_column(header: Sequence[str], wanted: str | None, quantity: Quantity | None, name: str) -> ValueColumn:
    """Find the column of measured values in a file.

    Args:
        header: names of the columns.
        wanted: a column's name, `NAME=UNIT`, or a quantity (default: latency, else accuracy).
        quantity: required quantity (default: any).
        name: name of the file, for errors.

    Raises:
        FormatError: for no such column, several of them, a missing unit, or another quantity.
    """
    column = _asked(header, wanted, name) if wanted is not None else None
    if column is None:
        kinds: tuple[Quantity, ...] = (LATENCY, TOP1) if quantity is None else (quantity,)
        if wanted in (LATENCY, TOP1):
            kinds = tuple(kind for kind in kinds if kind == wanted)
        column = next((found for kind in kinds if (found := recognised_column(header, kind, name)) is not None), None)
    if column is None:
        values = "measured values" if quantity is None else f"measured values of {_WORDS[quantity]}"
        raise FormatError(f"{name}: no column of {values}; {_there(header)}; {_EXPECTED}")
    if quantity is not None and quantity != column.quantity:
        holds, expected = _WORDS[column.quantity], _WORDS[quantity]
        raise FormatError(f"{name}: column {column.name!r} holds {holds}; {expected} is expected")
    return column


def unit_to_ms(title: str) -> float | None:
    """Return the factor to milliseconds of the unit in a column's name; None for no unit of time, or several."""
    factors = {_UNITS[word][1] for word in _words(title) if word in _UNITS and _UNITS[word][0] == LATENCY}
    return factors.pop() if len(factors) == 1 else None


def _asked(header: Sequence[str], wanted: str, name: str) -> ValueColumn | None:
    """Return the column of a `--column` value; None for a quantity without a column of this name."""
    if wanted in header:
        return _with_unit(wanted, name)
    if wanted in (LATENCY, TOP1):
        return None
    title, given, unit = wanted.rpartition("=")
    title = title if given else wanted
    if title not in header:
        raise FormatError(f"{name}: no column {title[:60]!r}; {_there(header)}")
    if unit.lower() not in _UNITS:
        raise FormatError(f"--column {wanted[:60]!r}: unknown unit {unit[:20]!r}; {_UNIT_NAMES} is expected")
    said = {_UNITS[word] for word in _words(title) if word in _UNITS}
    if said - {_UNITS[unit.lower()]}:
        raise FormatError(f"--column {wanted[:60]!r}: the column's name has another unit than {unit[:20]!r}")
    return ValueColumn(title, *_UNITS[unit.lower()])


def recognised_column(header: Sequence[str], quantity: Quantity, name: str) -> ValueColumn | None:
    """Return the column whose name shows the quantity; None if there is none.

    Raises:
        FormatError: for several such columns, or a name without a unit.
    """
    if quantity in header:
        return ValueColumn(quantity, quantity, 1.0)
    found = [title for title in header if _shows(title, quantity)]
    if len(found) > 1:
        listed = ", ".join(map(repr, found))[:200]
        raise FormatError(f"{name}: several columns of {_WORDS[quantity]}: {listed}; choose one with --column")
    return _with_unit(found[0], name) if found else None


def _shows(title: str, quantity: Quantity) -> bool:
    words = {word for word in _words(title) if word not in _UNITS}
    if quantity == LATENCY:
        return bool(words & {"latency", "lat"}) and words <= _LATENCY_WORDS
    named = bool(words & {"top1", "acc", "acc1", "accuracy"}) or {"top", "1"} <= words
    return named and words <= _TOP1_WORDS


def _with_unit(title: str, name: str) -> ValueColumn:
    if title in (LATENCY, TOP1):
        return ValueColumn(title, LATENCY if title == LATENCY else TOP1, 1.0)
    units = {_UNITS[word] for word in _words(title) if word in _UNITS}
    if len(units) != 1:
        several = "several units" if units else "no unit"
        raise FormatError(
            f"{name}: column {title[:60]!r} names {several}; give one with --column '{title[:60]}=UNIT', "
            f"where UNIT is {_UNIT_NAMES}"
        )
    return ValueColumn(title, *units.pop())


def _words(title: str) -> list[str]:
    return [word for word in re.split(r"[\s_()\[\]{}:;,/@.-]+", title.lower().replace("%", " % ")) if word]


def _there(header: Sequence[str]) -> str:
    return f"the file has {', '.join(header[:40])[:300]!r}"
