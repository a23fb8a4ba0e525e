"""Run one of the four commands inside this process, and watch what it touches."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.errors import DeviceError
from ofa_core.errors import OfaError

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.startfile", "subprocess.Popen", "socket.connect")

Call = tuple[str, ...] | Callable[[Path], object]


@dataclass(frozen=True)
class Ended:
    """How a command ended; `error` is the exception that it did not turn into a line."""

    code: int
    stdout: str
    stderr: str
    error: BaseException | None = None

    @property
    def traceback(self) -> str:
        return "" if self.error is None else "".join(traceback.format_exception(self.error))


def run_command(call: Call, folder: Path) -> Ended:
    """Run a command line in a folder, or a function of the folder whose known errors count as exit code 1."""
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd(), sys.argv
    os.chdir(folder)
    code, error = 1, None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if callable(call):
                call(folder)
                code = 0
            else:
                sys.argv = list(call)
                code = _main(call[0])()
    except (OfaError, DeviceError) as known:
        if callable(call):
            err.write(f"{known}\n")
        else:
            error = known
    except Exception as unknown:
        error = unknown
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
    return Ended(code, out.getvalue(), err.getvalue(), error)


def _main(program: str) -> Callable[[], int]:
    if program == "ofa-profile":
        from profiler.cli import main
    elif program == "ofa-predict":
        from predictors.cli import main
    elif program == "ofa-search":
        from ofa_core.search.cli import main
    else:
        from ofa_core.train.cli import main
    return main


class Watch:
    """Notes what this process writes outside of some folders, and each program that it starts.

    Python reports these events to audit hooks, whichever library causes them.
    """

    def __init__(self) -> None:
        self.inside: tuple[Path, ...] = ()
        self.seen: list[str] = []
        self._on = False
        sys.addaudithook(self._event)

    @contextlib.contextmanager
    def over(self, *inside: Path) -> Iterator[list[str]]:
        """Watch during the body; yields the list that is filled."""
        self.inside, self.seen, self._on = tuple(p.resolve() for p in inside), [], True
        try:
            yield self.seen
        finally:
            self._on = False

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes) and isinstance(flags, int) and flags & WRITING:
                self._check(event, path)
        elif event in CHANGES:
            for path in args:
                if isinstance(path, str | bytes):
                    self._check(event, path)
        elif event in PROGRAMS:
            self.seen.append(f"{event} {args[0]!r:.80}")

    def _check(self, event: str, path: str | bytes) -> None:
        where = Path(os.path.realpath(os.fsdecode(path)))
        if where != Path(os.devnull) and not any(where.is_relative_to(p) for p in self.inside):
            self.seen.append(f"{event} {where}")
