"""Tables become dataclasses, or an error that names the place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ofa_core.errors import FormatError, OfaError
from ofa_core.toml_tables import from_table, read_toml


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Whole:
    rate: float
    kind: Literal["big", "small"] = "big"
    pair: tuple[float, float] = (0.0, 1.0)
    limit: int | None = None
    flag: bool = False
    parts: tuple[Part, ...] = field(default_factory=tuple)


def test_every_kind_of_value() -> None:
    table = {
        "rate": 1,
        "kind": "small",
        "pair": [1, 2.5],
        "limit": 3,
        "flag": True,
        "parts": [{"name": "a", "sizes": [1]}],
    }
    whole = from_table(Whole, table)
    assert whole == Whole(1.0, "small", (1.0, 2.5), 3, True, (Part("a", (1,)),))
    assert isinstance(whole.rate, float)
    assert from_table(Whole, {"rate": 0.5}) == Whole(0.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "the file has no rate"),
        ({"rate": "fast"}, "rate is 'fast'; a number is expected"),
        ({"rate": True}, "rate is True; a number is expected"),
        ({"rate": float("nan")}, "rate is nan; a finite number is expected"),
        ({"rate": 10**400}, "which is too large"),
        ({"rate": 1, "kind": "smal"}, "kind is 'smal'; choose one of big, small; did you mean small?"),
        ({"rate": 1, "pair": [1]}, "pair has 1 entries; 2 are expected"),
        ({"rate": 1, "limit": 1.5}, "limit is 1.5; a whole number is expected"),
        ({"rate": 1, "flag": 1}, "flag is 1; true or false is expected"),
        ({"rate": 1, "parts": {"name": "a"}}, "parts is {'name': 'a'}; a list is expected"),
        ({"rate": 1, "parts": [{"sizes": []}]}, "parts[0] has no name"),
        ({"rate": 1, "parts": [{"name": 3}]}, "parts[0].name is 3; text is expected"),
        ({"rate": 1, "parts": [3]}, "parts[0] is 3; a table is expected"),
        ({"rate": 1, "rat": 2}, "unknown key rat; did you mean rate?"),
        ({"rate": 1, "\x1b": 2}, "unknown key '\\x1b'; known: rate, kind, pair, limit, flag, parts"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(OfaError) as raised:
        from_table(Whole, table)
    assert str(raised.value).endswith(message)
    assert len(str(raised.value)) < 250


def test_files_that_are_not_toml(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x = 1\n[y]\nz = [2]")
    assert read_toml(tmp_path / "a.toml") == {"x": 1, "y": {"z": [2]}}
    for data in (b"x = ", b"\xff", b"a = " + b"[" * 5000):
        (tmp_path / "b.toml").write_bytes(data)
        with pytest.raises(FormatError, match=r"b\.toml: not TOML: "):
            read_toml(tmp_path / "b.toml")
    with pytest.raises(FormatError, match=r"absent: No such file"):
        read_toml(tmp_path / "absent")
