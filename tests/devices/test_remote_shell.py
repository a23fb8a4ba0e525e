"""Command lines for remote shells, and the marks in their output."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.remote_shell import MISSING, command_line, kill_script, split_end_mark, started_group


def test_the_end_mark() -> None:
    assert split_end_mark(b"why\n@ofa-latency@ end\n") == (b"why\n", True)
    assert split_end_mark(b"@ofa-latency@ end") == (b"", True)
    assert split_end_mark(b"@ofa-latency@ end\nmore") == (b"@ofa-latency@ end\nmore", False)
    assert split_end_mark(b"") == (b"", False)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1, max_size=3))
def test_no_shell_interprets_a_word(words: list[str]) -> None:
    line = command_line(["printf", "%s\\n", *words], "/", "f00d")
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    marker, _, rest = done.stdout.partition(b"\n")
    assert started_group(marker.decode(), "f00d")
    assert rest == b"".join(word.encode() + b"\n" for word in words)


def test_the_marker_line() -> None:
    assert started_group("@ofa-latency@ f00d 12", "f00d") == 12
    assert started_group("@ofa-latency@ f00d missing\r", "f00d") == MISSING
    assert started_group("Welcome to the machine", "f00d") is None
    assert kill_script([], "f00d") == "true"


@pytest.mark.parametrize(
    "line",
    [
        "@ofa-latency@ f00d 1", "@ofa-latency@ f00d 0", "@ofa-latency@ f00d -1", "@ofa-latency@ f00d 01",
        "@ofa-latency@ f00d 99999999999", "@ofa-latency@ f00d 2147483648", "@ofa-latency@ f00d \u0661\u0662",
        "@ofa-latency@ beef 12", "@ofa-latency@ 12", "@ofa-latency@ f00d 12 13", " @ofa-latency@ f00d 12",
    ],
)  # fmt: skip
def test_an_impossible_marker_is_ignored(line: str) -> None:
    assert started_group(line, "f00d") is None


def test_no_script_kills_a_group_of_1_or_less() -> None:
    for group in (1, 0, -1, 2**31):
        assert kill_script([group], "f00d") == "true"
    assert kill_script([1, 12], "f00d") == kill_script([12], "f00d")
    with pytest.raises(ValueError, match="no command line"):
        command_line(["a\0b"], "/", "f00d")
