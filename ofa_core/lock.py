"""Locks that allow one command at a time on a file, and that end with the process that holds them.

The lock of `luts/local.csv` is the hidden file `luts/.local.csv.lock`. Only the kernel's lock on that file counts, not
its existence, so the lock file that a killed process left is reused.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ofa_core.atomic import naming
from ofa_core.errors import InUseError

__all__ = ["lock_path", "only_one"]

_MAX_TEXT = 120


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock of a file while the body runs.

    Args:
        path: the file, which need not exist. Links to one file share its lock.

    Raises:
        InUseError: if another process holds it; the message names that process.
        OutputError: if no lock file can be created in the folder.
    """
    from filelock import FileLock, Timeout

    file = lock_path(path)
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InUseError(
                f"{path} is in use by {_holder(file)}; wait until it ends, or choose another name"
            ) from None
    try:
        with naming(file):
            file.write_text(json.dumps(_this_process()) + "\n", encoding="utf-8")
        yield
    finally:
        file.unlink(missing_ok=True)  # while locked: others that have opened the file notice that it is gone
        lock.release()


def lock_path(path: Path) -> Path:
    """Return the file that is locked while `path` is in use."""
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name[:200]}.lock")


def _this_process() -> dict[str, object]:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": command,
    }


def _holder(file: Path) -> str:
    """Describe the process that wrote a lock file; its content is not trusted."""
    try:
        holder = json.loads(file.read_text(encoding="utf-8")[:10_000])
        words = [_printable(holder[name]) for name in ("pid", "host", "since", "command")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
    return f"process {words[0]} on {words[1]} since {words[2]} ({words[3]})"


def _printable(value: object) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
