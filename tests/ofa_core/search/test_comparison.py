from __future__ import annotations

import csv
import io

import pytest

from ofa_core.search.comparison import (
    Cell,
    Comparison,
    Contender,
    Device,
    csv_text,
    is_same_device,
    table_rows,
    unique_names,
)
from ofa_core.space import Space


@pytest.fixture
def comparison(small: Space) -> Comparison:
    arch = small.smallest()
    mine = Contender("=mine", "phone", small, arch, 70.25)
    theirs = Contender("theirs", "phone", small, arch, 71.5, published=True, published_ms=9.0)
    phone = Device("phone", 10.0, lambda space, arch: Cell(10.0, 9.0, 11.0))
    watch = Device("watch", 10.0, lambda space, arch: Cell(10.01, estimated=True))
    other = Device("other", None, lambda space, arch: Cell(None, why="no such space"))
    return Comparison.of([phone, watch, other], [mine, theirs])


def test_marks_of_limits_and_estimates(comparison: Comparison) -> None:
    titles, rows = table_rows(comparison)
    assert titles[3:] == ["phone (limit 10 ms)", "watch (limit 10 ms)", "other"]
    assert rows[0][3:] == ["10.00 ms*", "10.01 ms~", "unknown"]
    assert [row[2] for row in rows] == ["70.2", "71.5 published"]


def test_the_csv_has_a_row_per_network_and_device(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(comparison))))
    assert len(rows) == 6
    assert rows[0]["network"] == "'=mine"  # no formula for a spreadsheet
    assert [row["within_limit"] for row in rows[:3]] == ["1", "0", ""]
    assert [row["latency_ms"] for row in rows[:3]] == ["10.0", "10.01", ""]
    assert [row["estimated"] for row in rows[:3]] == ["0", "1", "0"]
    assert rows[2]["note"] == "no such space"
    assert (rows[3]["published_ms"], rows[0]["published_ms"]) == ("9.0", "")
    assert all(row["space"] == "tiny" and row["ks"].startswith("[") for row in rows)


def test_spellings_of_a_device() -> None:
    assert is_same_device("Pixel 2", "pixel2")
    assert is_same_device("LG-G8", "lg-g8")
    assert not is_same_device("Pixel 2", "pixel1")


def test_only_equal_names_get_their_places() -> None:
    assert unique_names(["a", "b", "a"], ["x", "y", "z"]) == ["a (x)", "b", "a (z)"]
