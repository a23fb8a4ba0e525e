"""Write files whole or not at all, and only in places where a file is allowed.

A file is written to a temporary name in its folder and renamed. A killed process leaves the temporary file, which the
next write into the folder removes. The writer holds a lock on its temporary file, so that others do not remove a file
that is being written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from ofa_core.errors import OutputError

__all__ = [
    "append_whole",
    "atomic_path",
    "check_file",
    "check_folder",
    "is_visible",
    "naming",
    "sweep",
    "write_bytes",
    "write_text",
]

_PREFIX = ".ofa-tmp-"
_MAX_SUFFIX = 16  # characters; a name has at most 255
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link that leads to itself"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Provide a temporary path in the same folder, and rename it to `path` if the body ends without an error.

    Missing parent folders are created. If `path` is a link, its target is written and the link stays. After an error
    the temporary file is removed and `path` is unchanged.

    Args:
        path: the final file.

    Yields:
        The path to write to; it keeps the suffix of `path`.

    Raises:
        OutputError: if `path` cannot be a file or cannot be written; names the file and the remedy.
    """
    target = check_file(path)
    with naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        handle, temporary = _temporary(target)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with atomic replacement."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write bytes with atomic replacement."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def check_file(path: Path) -> Path:
    """Return the path that is written for `path`: itself, or the target of a link.

    Raises:
        OutputError: if it exists and is not a regular file, or its folder cannot be written.
    """
    target = Path(os.path.realpath(path))
    kind = _kind(path, target)
    if kind is not None:
        raise OutputError(f"{path} is {kind}; name a new file or a regular one")
    _check_parent(path, target.parent)
    return target


def check_folder(path: Path) -> None:
    """Check that `path` is a folder or can be created.

    Raises:
        OutputError: if it is something else, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    kind = _kind(path, target)
    if kind != "a folder" and (kind is not None or target.exists()):
        raise OutputError(f"{path} is {kind or 'a file'}; name a folder")
    _check_parent(path, target)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file and the remedy to a file system error in the body.

    Raises:
        OutputError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(f"{path}: {reason}{_remedy(path, error)}") from error


def append_whole(file: FileIO, data: bytes) -> None:
    """Append a line to an unbuffered file and wait until it is on the disk; if that fails, remove it again."""
    before = os.fstat(file.fileno()).st_size
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(before)
        raise


def sweep(folder: Path) -> None:
    """Remove the temporary files in a folder whose writers have ended."""
    for entry in os.scandir(folder):
        if entry.name.startswith(_PREFIX) and entry.is_file(follow_symlinks=False):
            with suppress(OSError):  # its writer has renamed or removed it, or still holds its lock
                handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()
                finally:
                    os.close(handle)


def is_visible(path: Path) -> bool:
    """Return True for a name that is neither hidden nor temporary."""
    return not path.name.startswith(".")


def _temporary(target: Path) -> tuple[int, Path]:
    """Create a temporary file beside the target and lock it."""
    suffix = target.suffix if len(target.suffix) <= _MAX_SUFFIX else ""
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=suffix, dir=target.parent)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        temporary = Path(name)
        if temporary.exists():  # another process may have removed it before the lock
            return handle, temporary
        os.close(handle)


def _kind(path: Path, target: Path) -> str | None:
    """Return the kind of file at `target` in words; None for a regular file or no file."""
    try:
        mode = target.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; name another file") from error
    return next((words for is_kind, words in _KINDS if is_kind(mode)), None)


def _check_parent(path: Path, parent: Path) -> None:
    """Check that the nearest existing parent is a folder and can be written."""
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(f"{path}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write into {parent}; choose another folder")


def _remedy(path: Path, error: OSError) -> str:
    if error.errno not in _FULL:
        return ""
    temporary = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  # nosec B108 # named, not written to
    if path.is_relative_to(temporary):
        return f"; free some space in {temporary}, or choose another folder, by TMPDIR for temporary files"
    return "; free some space there, or choose another folder, and run the same command again"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
