"""Common parts of the four command lines: a default action beside sub-commands, and errors that end in one line.

A command line here does its main job without naming it (`ofa-search --lut ...`), and has a few sub-commands
(`ofa-search report DIR`). Its main job is the app's callback:

    app = new_app("Find the best sub-net for a latency limit.")

    @app.callback()
    def search(lut: Path, ...) -> None: ...

    @app.command()
    def report(folder: Path) -> None: ...

    def main() -> int:
        return run_app(app, prog="ofa-search")

A first word that is a sub-command selects it, and then neither the callback's parameters apply nor is it called.
Anything else belongs to the callback, positional arguments included. `./report` is a file, `report` the sub-command.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path, PosixPath
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ofa_core.atomic import check_file, check_folder
from ofa_core.errors import OfaError, OutputError
from ofa_core.extras import missing_package
from ofa_core.messages import message_line, message_options, messages_on_stderr
from ofa_core.terminal import plain_streams, shown

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_KNOWN_ERROR",
    "EXIT_UNSTABLE",
    "EXIT_USAGE",
    "DefaultGroup",
    "ResolutionOption",
    "new_app",
    "out_file",
    "out_file_or_folder",
    "out_folder",
    "parse_pixels",
    "run_app",
    "to_file",
    "to_folder",
    "with_value",
]

EXIT_KNOWN_ERROR = 1
EXIT_USAGE = 2
EXIT_UNSTABLE = 3
EXIT_INTERRUPTED = 130

ResolutionOption = Annotated[
    int | None,
    typer.Option("--resolution", metavar="PX", help="Use this input size in pixels instead of the one in the file."),
]

Errors = tuple[type[Exception], ...]

_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?")
_SELECTED = "ofa_core.cli_app.selected"


class DefaultGroup(TyperGroup):
    """A group whose callback is a command of its own, run when the first word names no sub-command."""

    def __init__(self, **attrs: Any) -> None:
        attrs["invoke_without_command"] = True
        attrs["subcommand_metavar"] = attrs.get("subcommand_metavar") or "| COMMAND [ARGS]..."
        super().__init__(**attrs)
        below = [sub for c in self.commands.values() if isinstance(c, TyperGroup) for sub in c.commands.values()]
        for command in (self, *self.commands.values(), *below):
            if command.callback is not None:
                command.callback = _keeping_inputs(command.callback)
            command.params = [*command.params, *message_options()]

    # The context's class is private in new versions of typer and click's in old ones, hence Any.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Decide who gets the words: a sub-command, or the callback with all of them."""
        if args and args[0] in self.commands:
            ctx.meta[_SELECTED] = args[0]
        else:
            ctx.allow_interspersed_args = True
            ctx.allow_extra_args = False
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> Any:
        """The callback's parameters; none where a sub-command was selected, so that none is missed."""
        return [] if _SELECTED in ctx.meta else super().get_params(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the sub-command or the callback, never both."""
        callback = self.callback
        try:
            if _SELECTED in ctx.meta:
                self.callback = None
            return super().invoke(ctx)
        finally:
            self.callback = callback


class OutputPath(PosixPath):
    """A file that is written, to tell it from files that are read among the values of a command line."""


def _keeping_inputs(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return the callback of a command that first checks that no output replaces an input or another output."""

    @wraps(callback)
    def checked(**values: Any) -> Any:
        for name, out in values.items():
            others = (value for other, value in values.items() if other != name)
            if isinstance(out, OutputPath) and os.path.realpath(out) in _files_of(others):
                raise typer.BadParameter(f"{out} is an input or another output of this command; name another file")
        return callback(**values)

    return checked


def _files_of(values: Iterable[Any]) -> set[str]:
    """Return the real paths of all files in the values of a command line, and the networks beside the tables."""
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    paths = [item if isinstance(item, Path) else Path(item) for item in flat if isinstance(item, str | Path)]
    beside = [path.with_suffix(".networks.csv") for path in paths if path.suffix == ".csv"]
    return {os.path.realpath(path) for path in (*paths, *beside)}


def new_app(help_text: str) -> typer.Typer:
    """An empty app with a default action, `-h`, shell completion, and no traceback dressing of its own."""
    return typer.Typer(
        cls=DefaultGroup,
        help=help_text,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run_app(
    app: typer.Typer,
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    errors: Errors | Callable[[], Errors] = (OfaError,),
) -> int:
    """Run an app and turn however it ends into an exit code.

    Args:
        app: the app.
        argv: words after the program's name; None takes the process's own.
        prog: name of the program, in its help and before its errors.
        errors: what the program raises on purpose: one line on stderr and exit code 1. `OSError` is always among
            them: a full disk or a missing folder is no fault of the program. A function is called only after
            something went wrong, so that `--help` need not import what it names.

    Returns:
        0 done, 1 known error, 2 usage, 130 interrupted, 143 or 129 ended by SIGTERM or SIGHUP, or what the app asked
        for with `typer.Exit`. A reader that closed the pipe early (`| head`) ends the program quietly with 1, as it
        does others.
    """
    received: list[int] = []
    words = sys.argv[1:] if argv is None else list(argv)
    for word in words:
        if shown(word) != word or "\n" in word or "\t" in word:
            return _usage(prog, f"{word[:200]!r} holds control characters or bytes that are no text; rename the file")
    # Help is our own text, and may be coloured.
    plain = nullcontext() if {"-h", "--help"}.intersection(words) else plain_streams()
    with _signals_as_interrupts(received), plain, messages_on_stderr(prog):
        code = _run(app, words, prog, errors)
    if received:
        return 128 + received[0]
    return code


def _run(app: typer.Typer, argv: Sequence[str], prog: str, errors: Errors | Callable[[], Errors]) -> int:
    try:
        app(args=list(argv), prog_name=prog)
        sys.stdout.flush()
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # typer's word for a KeyboardInterrupt, which it swallows
            sys.stderr.write(f"{prog}: interrupted\n")
        return end.code if isinstance(end.code, int) else EXIT_KNOWN_ERROR if end.code else 0
    except KeyboardInterrupt:
        sys.stderr.write(f"{prog}: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # What is still buffered would be flushed, and fail again, when the interpreter ends.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        return EXIT_KNOWN_ERROR
    except errors() if callable(errors) else errors as error:  # noqa: B030  (both are tuples of exceptions)
        return _fail(prog, str(error) or type(error).__name__)
    except ImportError as error:
        line = missing_package(error)
        if line is None:
            raise
        return _fail(prog, line)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        return _fail(prog, f"{error.filename}: {reason}" if error.filename else reason)
    return 0


@contextmanager
def _signals_as_interrupts(received: list[int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that it cleans up; note them in `received`.

    One that is ignored (nohup) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pid = os.getpid()

    def interrupt(number: int, _: object) -> None:
        if os.getpid() != pid:  # a forked worker: it ends as it would have ended
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(number)
        raise KeyboardInterrupt

    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    changed = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def with_value(words: Sequence[str], option: str, value: str) -> list[str]:
    """Return the words of a command line with a value after an option that is followed by no number."""
    out = list(words)
    for i in reversed([i for i, word in enumerate(out) if word == option]):
        if not (i + 1 < len(out) and _NUMBER.fullmatch(out[i + 1])):
            out.insert(i + 1, value)
    return out


def parse_pixels(text: str, option: str = "--resolutions") -> tuple[int, ...]:
    """Read resolutions from a command line: `160,192,224`, or `128-224:16`, the step 4 unless told.

    Args:
        text: what the user typed.
        option: named in the usage error.

    Returns:
        Pixels, ascending, each once; not checked further.

    Raises:
        typer.BadParameter: for anything else.
    """
    pixels: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4})(?::(\d{1,3}))?)?\s*", part)
        first, last, step = (int(g) if g else None for g in match.groups()) if match else (None, None, None)
        if first is None or (last is not None and last < first) or step == 0:
            raise typer.BadParameter(
                f"{part[:40]!r} is not an input size; give sizes such as 160,192,224 or 128-224:16", param_hint=option
            )
        pixels.update(range(first, (first if last is None else last) + 1, step or 4))
    return tuple(sorted(pixels))


def out_file(text: str | Path) -> Path:
    """Read the name of a file to be written from a command line, as the `parser` of an option or of its default.

    Raises:
        typer.BadParameter: if no file can be written there, before anything else is done.
    """
    if not text or str(text).endswith("/"):
        raise typer.BadParameter(f"give the name of a file, not {text!r}")
    try:
        check_file(Path(text))
    except OutputError as error:
        raise typer.BadParameter(str(error)) from error
    return OutputPath(text)


def out_folder(text: str | Path) -> Path:
    """Read the name of a folder to be filled from a command line, as the `parser` of an option.

    Raises:
        typer.BadParameter: if it can be no folder, before anything else is done.
    """
    if not text:
        raise typer.BadParameter("give the name of a folder; . is the current folder")
    try:
        check_folder(Path(text))
    except OutputError as error:
        raise typer.BadParameter(str(error)) from error
    return Path(text)


def to_file(*names: str, help: str) -> Any:  # noqa: A002  (as typer calls it)
    """Return a typer option that names a file to be written."""
    return typer.Option(*names, parser=out_file, metavar="FILE", help=help)


def to_folder(*names: str, help: str) -> Any:  # noqa: A002
    """Return a typer option that names a folder to be filled."""
    return typer.Option(*names, parser=out_folder, metavar="FOLDER", help=help)


def out_file_or_folder(text: str | Path) -> Path:
    """Read the name of a file, which has a suffix, or of a folder, which has none, that is to be written."""
    return out_file(text) if Path(text).suffix else out_folder(text)


def _fail(prog: str, message: str) -> int:
    sys.stderr.write(message_line(prog, logging.INFO, message))
    return EXIT_KNOWN_ERROR


def _usage(prog: str, message: str) -> int:
    _fail(prog, message)
    return EXIT_USAGE
