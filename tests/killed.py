"""Run the commands as processes of their own, kill them, and look at what is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT_S = 120.0  # a bound against hanging, not a measure of speed
GONE_S = 30.0
MARK = "OFA_TEST_MARK"

_PROGRAMS = {
    "ofa-profile": "profiler.cli",
    "ofa-predict": "predictors.cli",
    "ofa-search": "ofa_core.search.cli",
    "ofa-train": "ofa_core.train.cli",
}
# Keeps what goes to an agent and comes from it; the agent is the interpreter's own process.
_WRAPPER = """#!/bin/sh
case "$*" in
  *.pyz*) tee -a "$OFA_TEST_LOG.requests" | {python} "$@" | tee -a "$OFA_TEST_LOG.replies" ;;
  *) exec {python} "$@" ;;
esac
"""


@dataclass(frozen=True)
class Desk:
    """A folder in which commands run, with home, temporary folder and logs of their own beside it.

    Attributes:
        root: has `work` (the commands' folder), `home`, `tmp`, `log.requests`, `log.replies` and `python`.
    """

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def python(self) -> Path:
        """An interpreter that keeps what is said to an agent, and by it."""
        return self.root / "python"

    def replies(self) -> list[list[int]]:
        """The wall clock times of every run that any agent has answered, in order."""
        return [reply["wall_ns"] for reply in _json_lines(self.root / "log.replies") if "wall_ns" in reply]

    def start(self, argv: tuple[str, ...], before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start a command; `before` is put before its words, `{python}` in them is the interpreter that keeps."""
        argv = tuple(word.replace("{python}", str(self.python)) for word in argv)
        program = f"import sys; from {_PROGRAMS[argv[0]]} import main; sys.argv[0] = {argv[0]!r}; sys.exit(main())"
        with (self.root / "stdout").open("wb") as out, (self.root / "stderr").open("wb") as err:
            return subprocess.Popen(
                [*before, sys.executable, "-c", program, *argv[1:]],
                cwd=self.work,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def run(self, argv: tuple[str, ...], before: tuple[str, ...] = ()) -> int:
        """Run a command to its end; a signal is a negative code."""
        return self.start(argv, before).wait(WAIT_S)

    def stderr(self) -> str:
        return (self.root / "stderr").read_text(errors="replace")

    def processes(self) -> list[int]:
        """Living processes that were started here."""
        mark = f"{MARK}={self.root}".encode()
        return [pid for pid in _pids() if mark in _read(Path(f"/proc/{pid}/environ")).split(b"\0") and _lives(pid)]

    def left_behind(self) -> list[str]:
        """Temporary files and folders, wherever they are, and processes that do not end by themselves."""
        deadline = time.monotonic() + GONE_S
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        files = [p for p in self.work.rglob(".*") if p.name.startswith(".ofa-tmp-") or ".part" in p.name]
        # torch's compiler makes a folder in every run, killed or not.
        temporary = [p for p in (self.root / "tmp").iterdir() if not p.name.startswith("torchinductor_")] + files
        return [*map(str, temporary), *(f"process {pid}" for pid in self.processes())]

    def _environment(self) -> dict[str, str]:
        home = {name: str(self.root / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        ours = {"TMPDIR": str(self.root / "tmp"), "OFA_TEST_LOG": str(self.root / "log"), MARK: str(self.root)}
        return {**os.environ, **home, **ours, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def make_desk(root: Path) -> Desk:
    """Make the folders and the interpreter."""
    for name in ("work", "home", "tmp"):
        (root / name).mkdir(parents=True)
    desk = Desk(root)
    desk.python.write_text(_WRAPPER.format(python=sys.executable))
    desk.python.chmod(0o755)
    return desk


def copy_work(source: Path, desk: Desk) -> None:
    """Begin with the files of another folder."""
    shutil.rmtree(desk.work)
    shutil.copytree(source, desk.work)


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a process (it alone, not what it started) after some seconds; False if it ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(WAIT_S)
        return True
    return False


def visits(journal: Path) -> list[dict[str, Any]]:
    """The visits of a journal, in order; a torn last line is none."""
    return [line for line in _json_lines(journal) if "w" in line]


def has_pilot(journal: Path) -> bool:
    """Whether a journal says what the pilot found out."""
    return any("pilot" in line for line in _json_lines(journal))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _lives(pid: int) -> bool:
    return b") Z " not in _read(Path(f"/proc/{pid}/stat"))
