from __future__ import annotations

import logging

import pytest

from ofa_core.cli_app import new_app, run_app

LOG = logging.getLogger("ofa_core.example")


@pytest.fixture
def app():
    app = new_app("An example.")

    def work() -> None:
        LOG.debug("a detail")
        LOG.info("3 of 4")
        LOG.warning("the table is old\nand from \x1b[31mfar away")

    app.callback()(work)
    app.command()(work)
    return app


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["ofa-x: 3 of 4", "ofa-x: warning: the table is old and from \\x1b[31mfar away"]),
        (["-q"], ["ofa-x: warning: the table is old and from \\x1b[31mfar away"]),
        (["work", "--quiet"], ["ofa-x: warning: the table is old and from \\x1b[31mfar away"]),
        (
            ["work", "-v"],
            ["ofa-x: a detail", "ofa-x: 3 of 4", "ofa-x: warning: the table is old and from \\x1b[31mfar away"],
        ),
    ],
)
def test_lines_begin_with_the_program(app, capsys, words, expected) -> None:
    assert run_app(app, words, prog="ofa-x") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == expected
    assert captured.out == ""


def test_the_options_are_in_every_help(app, capsys) -> None:
    for words in (["--help"], ["work", "--help"]):
        assert run_app(app, words, prog="ofa-x") == 0
        text = capsys.readouterr().out
        assert "--verbose" in text
        assert "--quiet" in text


def test_nothing_is_shown_after_the_command_nor_in_a_library(app, capsys) -> None:
    run_app(app, ["-v"], prog="ofa-x")
    capsys.readouterr()
    LOG.info("later")
    assert capsys.readouterr().err == ""
    assert logging.getLogger("ofa_core").level == logging.NOTSET
    assert logging.getLogger("ofa_core").propagate
