"""Append-only files: what survives, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ofa_core.errors import ContextMismatchError, FormatError
from ofa_core.jsonlines import LinesFile, append_line, at_line, read_lines, set_aside

ABOUT: dict[str, Any] = {"limit": 2, "items": ["a", "b"]}


def written(path: Path, *events: dict[str, Any]) -> Path:
    with LinesFile(path, ABOUT) as file:
        for event in events:
            file.append(event)
    return path


def test_events_are_continued(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "x.jsonl", {"n": 1})
    with LinesFile(path, ABOUT) as file:
        assert (file.resumed, file.events) == (True, [(2, {"n": 1})])
        file.append({"n": 2})
    append_line(path, {"n": 3})
    header, events = read_lines(path)
    assert header == {"schema": 1, **ABOUT}
    assert events == [(2, {"n": 1}), (3, {"n": 2}), (4, {"n": 3})]


def test_an_incomplete_last_line_is_removed(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"n": 1}, {"n": 2})
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with LinesFile(path, ABOUT) as file:
            assert file.resumed == (end >= first)
            assert len(file.events) == max(0, data[:end].count(b"\n") - 1)
        assert data.startswith(path.read_bytes())


def test_another_header_is_refused_unless_the_file_is_done(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"n": 1})
    before = path.read_bytes()
    with pytest.raises(ContextMismatchError) as raised:
        LinesFile(path, {"limit": 3, "items": ["a"]})
    assert str(raised.value) == (
        f"{path} holds other measurements (different items; limit '2', now '3'); "
        "--fresh sets the file aside and starts anew"
    )
    assert path.read_bytes() == before
    append_line(path, {"done": True})
    with LinesFile(path, {"limit": 3}) as file:
        assert not file.resumed
    assert read_lines(path) == ({"schema": 1, "limit": 3}, [])


def test_damage_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"n": 1}, {"n": 2})
    for damage, reason in ((b'{"n": 1', "Expecting"), (b"[1]", "not a JSON object"), (b"\xff", "utf-8")):
        path.write_bytes(b'{"schema":1}\n' + damage + b"\n{}\n")
        with pytest.raises(FormatError, match=rf"x\.jsonl, line 2: .*{reason}.*; --fresh sets"):
            read_lines(path)
    path.write_text('{"schema":7}\n')
    with pytest.raises(FormatError, match="schema 7; this version reads 1; --fresh"):
        read_lines(path)
    path.write_text("")
    with pytest.raises(FormatError, match="no complete line"):
        read_lines(path)
    with pytest.raises(FormatError, match=r"line 9: odd; --fresh"), at_line(path, 9):
        raise ValueError("odd")


def test_a_file_is_set_aside_under_a_free_name(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    set_aside(path)
    for content in ("a", "b"):
        path.write_text(content)
        set_aside(path)
    assert [(tmp_path / f"x.jsonl.{n}").read_text() for n in (1, 2)] == ["a", "b"]
    assert not path.exists()
