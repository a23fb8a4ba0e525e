"""Temporary folders on this machine that are removed even if their session was killed.

A session locks its folder, and the system releases the lock when the process ends in any way. A new session removes the
unlocked folders beside its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

__all__ = ["SessionFolder", "sweep"]

_PREFIX = "ofa-latency"
_NAME = re.compile(rf"{_PREFIX}-[a-z]+-[a-z0-9_]{{8}}")
_N_TRIES = 10


class SessionFolder:
    """A private folder; `close` removes it. As a context manager it returns the path.

        with SessionFolder("models") as folder:
            (folder / "block.onnx").write_bytes(data)

    Args:
        kind: purpose, in lower case letters; part of its name.
        parent: folder in which it is made; the system's temporary folder by default. Folders of ended sessions in it
            are removed.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, kind: str, parent: Path | None = None) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        sweep(parent)
        for _ in range(_N_TRIES):
            self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{kind}-", dir=parent))  # mode 0700
            with contextlib.suppress(FileNotFoundError):  # another session removed it before it was locked
                self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                with contextlib.suppress(OSError):  # on a file system without locks no session removes it
                    fcntl.flock(self._lock, fcntl.LOCK_EX)
                if _is_at(self._lock, self.path):
                    return
                os.close(self._lock)
        raise FileNotFoundError(2, "another program removes each new folder", str(parent))

    def close(self) -> None:
        """Remove the folder; no effect when repeated."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep(parent: Path) -> None:
    """Remove the folders in `parent` whose sessions have ended."""
    with contextlib.suppress(OSError):
        for path in sorted(parent.iterdir()):
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid != os.geteuid():
            return
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its session still runs
        if _is_at(lock, path):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
