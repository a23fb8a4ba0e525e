"""Nothing that a terminal obeys reaches it from a device, a file or an error."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import pytest
import typer

from ofa_core.cli_app import new_app, run_app
from ofa_core.errors import OfaError
from ofa_core.terminal import PlainStream, console, plain_streams, shown

NASTY = "\x1b]0;owned\x07\x1b[2J\r\x08\x9b31m\u202ex\udcff"
PLAIN = "\\x1b]0;owned\\x07\\x1b[2J\\r\\x08\\x9b31m\\u202ex\\udcff"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (NASTY, PLAIN),
        ("two\nlines\tand é 火 \N{NO-BREAK SPACE}", "two\nlines\tand é 火 \N{NO-BREAK SPACE}"),
        ("\x00\x7f\x85\u2028\u2066", "\\x00\\x7f\\x85\\u2028\\u2066"),
        ("C:\\x1b", "C:\\x1b"),
    ],
)
def test_what_a_terminal_obeys_is_shown(text: str, plain: str) -> None:
    assert shown(text) == plain


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_streams_are_plain_in_the_body_and_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with plain_streams():
        print(NASTY)
        sys.stderr.writelines([NASTY, "\n"])
        assert not sys.stderr.isatty()
    assert sys.stdout is out
    assert sys.stderr is err
    assert out.getvalue() == err.getvalue() == f"{PLAIN}\n"


def test_a_console_takes_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", PlainStream(terminal))
    drawn = console(stderr=True)
    drawn.print(f"[red]x:x:y[/red] :warning: {NASTY}", soft_wrap=True)
    assert drawn.is_terminal
    assert terminal.getvalue() == f"[red]x:x:y[/red] :warning: {PLAIN}\n"


def test_a_drawn_tables_cells_are_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", PlainStream(terminal))
    table = Table("file")
    table.add_row("[bold]a\x1b[2J:x:")
    console().print(table)
    assert "[bold]a\\x1b[2J:x:" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


def an_app() -> typer.Typer:
    app = new_app("Say things.")

    @app.callback()
    def default(file: Annotated[str, typer.Argument()], how: Annotated[str, typer.Option()] = "out") -> None:
        if how == "error":
            raise OfaError(f"{file}: {NASTY}")
        typer.echo(NASTY, err=how == "err")

    return app


@pytest.mark.parametrize("how", ["out", "err", "error"])
def test_commands_print_and_fail_in_plain_text(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_app(an_app(), ["file", "--how", how], prog="prog")
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\\x9b31m" in out + err


@pytest.mark.parametrize("word", ["a\x1b[2J", "a\nb", "a\tb", "\udcff", "\u202ea"])
def test_an_unprintable_word_is_wrong_usage(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(an_app(), [word], prog="prog") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.isascii()
    assert run_app(an_app(), ["ein\N{NO-BREAK SPACE}Wört/火"], prog="prog") == 0
