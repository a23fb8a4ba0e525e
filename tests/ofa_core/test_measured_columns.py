from __future__ import annotations

import pytest

from ofa_core.errors import FormatError
from ofa_core.measured_columns import LATENCY, TOP1, find_column, unit_to_ms


@pytest.mark.parametrize(
    ("title", "quantity", "factor"),
    [
        ("latency_ms", LATENCY, 1),
        ("Latency (ms)", LATENCY, 1),
        ("Latency [us]", LATENCY, 1e-3),
        ("latency (\u00b5s)", LATENCY, 1e-3),
        ("Mean Latency (s)", LATENCY, 1e3),
        ("lat_ns", LATENCY, 1e-6),
        ("top1", TOP1, 1),
        ("Top-1 Acc (%)", TOP1, 1),
        ("Acc@1 (percent)", TOP1, 1),
        ("top1_fraction", TOP1, 100),
        ("accuracy (fraction)", TOP1, 100),
    ],
)
def test_a_name_with_a_unit_is_recognised(title: str, quantity: str, factor: float) -> None:
    column = find_column(["id", title, "MACs", "Top-5 Acc (%)", "p90_ms"], None, None, "f.csv")
    assert (column.name, column.quantity, column.factor) == (title, quantity, factor)


@pytest.mark.parametrize(
    ("header", "wanted", "quantity", "message"),
    [
        (["latency"], None, None, r"column 'latency' names no unit; give one with --column 'latency=UNIT'"),
        (["Top-1 Acc"], None, TOP1, "column 'Top-1 Acc' names no unit"),
        (["accuracy"], "accuracy", None, "names no unit"),
        (["Latency (ms / s)"], None, None, "names several units"),
        (
            ["Latency (ms)", "Latency (s)"],
            None,
            None,
            "several columns of latency: 'Latency .ms.', 'Lat",
        ),
        (["a", "fps"], None, None, "no column of measured values; the file has 'a, fps'; expected is latency_ms or"),
        (["latency_ms"], None, TOP1, "no column of measured values of accuracy; the file has 'latency_ms'"),
        (["latency_ms"], "other", None, "no column 'other'; the file has 'latency_ms'"),
        (["latency_ms"], "latency_ms=us", None, "the column's name has another unit than 'us'"),
        (["time"], "time=minutes", None, "unknown unit 'minutes'"),
        (["time"], "speed=ms", None, "no column 'speed'"),
        (["Latency (ms)"], "Latency (ms)", TOP1, "holds latency; accuracy is expected"),
        (["energy_mj"], "energy_mj", None, "names no unit"),
        (["Top-1 error (%)"], None, TOP1, "no column of measured values of accuracy"),
        (["Top-5 Acc (%)"], None, TOP1, "no column of measured values of accuracy"),
        (["p90_ms", "std latency (ms)"], None, None, "no column of measured values"),
    ],
)
def test_what_is_not_clear_is_refused(
    header: list[str], wanted: str | None, quantity: str | None, message: str
) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        find_column(header, wanted, quantity, "f.csv")
    assert "\n" not in str(caught.value)


def test_a_column_is_named_by_the_user() -> None:
    header = ["lat_ms:pixel", "time", "Latency (ms)", "Top-1 Acc (%)", "a=b", "top1"]
    assert find_column(header, "lat_ms:pixel", None, "f").factor == 1
    assert find_column(header, "time=us", None, "f").factor == 1e-3
    assert find_column(header, "time=fraction", None, "f").quantity == TOP1
    assert find_column(header, "latency_ms", None, "f").name == "Latency (ms)"  # the quantity
    assert find_column(header, "top1", None, "f").name == "top1"
    assert find_column(header, "top1=fraction", None, "f").factor == 100
    assert find_column(header, "a=b=ms", None, "f").name == "a=b"
    assert find_column(header[:4], None, TOP1, "f").name == "Top-1 Acc (%)"


@pytest.mark.parametrize(
    ("title", "factor"),
    [("mean", None), ("latency_us", 1e-3), ("ms", 1), ("time (s)", 1e3), ("ms_us", None), ("%", None)],
)
def test_units_of_time(title: str, factor: float | None) -> None:
    assert unit_to_ms(title) == factor
