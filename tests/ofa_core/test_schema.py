"""Values of files, checked against dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ofa_core.errors import FormatError
from ofa_core.schema import Count, NonNegative, Positive, structured


@dataclass(frozen=True)
class Inner:
    ms: Positive
    names: list[str]


@dataclass(frozen=True)
class Outer:
    n: Count
    pair: tuple[int, int]
    many: tuple[NonNegative, ...]
    inner: Inner | None
    by_name: dict[str, float]
    yes: bool
    later: float | None = None


GOOD: dict[str, Any] = {
    "n": 3, "pair": [1, 2], "many": [0, 0.5], "inner": {"ms": 1, "names": ["a"]}, "by_name": {"x": 1e3}, "yes": True,
}  # fmt: skip


def test_what_is_right_comes_back_as_it_is() -> None:
    inner = Inner(1.0, ["a"])
    assert structured(GOOD, Outer, "x") == Outer(3, (1, 2), (0.0, 0.5), inner, {"x": 1e3}, True)
    assert structured({**GOOD, "inner": None, "later": 2, "foreign": []}, Outer, "x").later == 2.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": -1}, r"x.json: n is -1; a number >= 0 is expected"),
        ({"n": True}, "n is True; a whole number"),
        ({"n": 1.0}, "n is 1.0; a whole number"),
        ({"n": "3"}, "n is '3'; a whole number"),
        ({"n": 10**30}, "n is 10+; a whole number"),
        ({"n": None}, "n is None"),
        ({"pair": [1]}, "pair has 1 values; 2 are expected"),
        ({"pair": "12"}, "pair is '12'; a list"),
        ({"many": [1.0, float("nan")]}, r"many\[1\] is nan; a finite number"),
        ({"many": [float("inf")]}, r"many\[0\] is inf"),
        ({"many": [1e300]}, r"many\[0\] is 1e\+300"),
        ({"many": {"a": 1}}, "many is .*; a list"),
        ({"inner": {"ms": 0, "names": []}}, r"inner.ms is 0.0; a number > 0"),
        ({"inner": {"ms": 1, "names": "abc"}}, "inner.names is 'abc'; a list"),
        ({"inner": {"ms": 1, "names": ["\ud800"]}}, r"inner.names\[0\] is .*ud800.*; text that can be written"),
        ({"inner": {"ms": 1}}, "inner.names is missing"),
        ({"inner": []}, "inner is .*; an object"),
        ({"by_name": {"x": "y"}}, "by_name.*x.* is 'y'; a finite number"),
        ({"by_name": [["x", 1]]}, "by_name is .*; an object"),
        ({"yes": 1}, "yes is 1; true or false"),
    ],
)
def test_the_field_the_value_and_what_it_should_be_are_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(FormatError, match=told) as error:
        structured({**GOOD, **change}, Outer, "x.json")
    assert str(error.value).isascii()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", [None, 3, "text", [], [GOOD], json.loads("[" * 500 + "]" * 500)])
def test_anything_else_is_one_line(value: object) -> None:
    with pytest.raises(FormatError, match=r"x.json: .*an object is expected"):
        structured(value, Outer, "x.json")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(FormatError, match=r"x\.json: yes is missing"):
        structured({k: v for k, v in GOOD.items() if k != "yes"}, Outer, "x.json")


def test_a_very_long_key_is_shortened_in_the_message() -> None:
    with pytest.raises(FormatError) as caught:
        structured({"k" * 50_000: 1}, dict[str, str], "x.json")
    assert len(str(caught.value)) < 200
    assert "x.json: ['kkk" in str(caught.value)
