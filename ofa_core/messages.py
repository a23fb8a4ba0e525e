"""Messages of the commands: lines on stderr that begin with the program's name.

Code below a `cli.py` logs: `logging.getLogger(__name__).warning("3 rows have no latency")`. While a command runs, its
lines appear as `ofa-predict: warning: 3 rows have no latency`. `-q` leaves warnings and errors, `-v` adds details.
In a program that only imports these packages, nothing is shown unless that program sets up logging.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from ofa_core.terminal import shown

__all__ = ["message_line", "message_options", "messages_on_stderr"]

PACKAGES = ("devices", "ofa_core", "predictors", "profiler")


def message_line(prog: str, level: int, text: str) -> str:
    """Return the line of a message: the program, the level from warnings on, and the text without control codes."""
    kind = "" if level < logging.WARNING else "warning: " if level < logging.ERROR else "error: "
    return f"{prog}: {kind}{shown(' '.join(text.split()))}\n"


class _StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment."""

    def __init__(self, prog: str) -> None:
        super().__init__()
        self._prog = prog

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            sys.stderr.write(message_line(self._prog, record.levelno, record.getMessage()))
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


@contextmanager
def messages_on_stderr(prog: str) -> Iterator[None]:
    """Show what the packages log while a command runs; `message_options` change how much."""
    handler = _StderrHandler(prog)
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def message_options() -> list[Any]:
    """Return the options `-v` and `-q`, which every command has; they set the level, and no command sees them."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def command(verbose: _Verbose = False, quiet: _Quiet = False) -> None: ...

    options = [option for option in typer.main.get_command(app).params if option.name in {"verbose", "quiet"}]
    for option in options:
        option.expose_value = False
    return options


def _set_verbose(value: bool) -> None:
    _set_level(logging.DEBUG if value else None)


def _set_quiet(value: bool) -> None:
    _set_level(logging.WARNING if value else None)


def _set_level(level: int | None) -> None:
    for name in PACKAGES if level is not None else ():
        logging.getLogger(name).setLevel(level or logging.NOTSET)


_Verbose = Annotated[bool, typer.Option("-v", "--verbose", callback=_set_verbose, help="Print details too.")]
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", callback=_set_quiet, help="Print warnings and errors only.")]
