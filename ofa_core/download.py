"""Download files of known content into a cache.

A file is identified by a digest of its content, so any address or mirror may deliver it. It appears under its final
name after its digest was verified. If a download is cut, the part that was received stays beside it, and the next
attempt, also of a later command, continues there. Proxies are those of urllib (`https_proxy` and the like).
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ofa_core.atomic import check_file, naming
from ofa_core.errors import OfaError

__all__ = ["Download", "cache_folder", "fetch", "git_blob_sha1", "holds"]

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 60.0  # without a single byte
_REPORT_S = 5.0
_CHUNK_BYTES = 1 << 16
_MAX_BYTES = 1 << 32
_ATTEMPTS = 5
_MAX_REASON = 200
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True, slots=True)
class Download:
    """A file to download.

    Attributes:
        addresses: http or https addresses of the same file; the first that works is used.
        sha256: checksum of the file, 64 hexadecimal digits; empty if the git blob id is given.
        n_bytes: its size; None if it is not known.
        max_bytes: a longer answer is refused.
        git_blob_sha1: git blob id of the file, 40 hexadecimal digits: SHA-1 over `blob SIZE`, a zero byte and the
            content.
    """

    addresses: tuple[str, ...]
    sha256: str = ""
    n_bytes: int | None = None
    git_blob_sha1: str = ""
    max_bytes: int = _MAX_BYTES

    @property
    def digest(self) -> str:
        """The checksum, or else the git blob id."""
        digest = self.sha256 or self.git_blob_sha1
        assert digest, "nothing is downloaded without a digest"
        return digest.lower()

    @property
    def digest_name(self) -> str:
        """Name of the kind of digest."""
        return "SHA-256 checksum" if self.sha256 else "git blob id"

    def digest_of(self, path: Path) -> str:
        """Return the digest of a path's content, of the kind that this file has."""
        if not self.sha256:
            return git_blob_sha1(path)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the folder of everything that is downloaded: `$XDG_CACHE_HOME/ofa-latency`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "ofa-latency")


def git_blob_sha1(path: Path) -> str:
    """Return the git blob id of a file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(file: Download, dest: Path) -> Path:
    """Download a file to `dest`, unless it is there already.

    Several threads and processes may fetch one file: one downloads it, the others wait.

    Returns:
        `dest`, whose content has the checksum of `file`.

    Raises:
        OfaError: no address delivers the file. The message has the address, size and checksum, so that the user can
            put the file at `dest`.
        OutputError: `dest` cannot be written.
    """
    if holds(dest, file):
        return dest
    check_file(dest)
    part = dest.with_name(f".{file.digest[:24]}.part")
    with naming(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as stream:
            if not holds(dest, file):  # another process may have downloaded it meanwhile
                _download(file, dest, stream)
                part.replace(dest)
    return dest


def holds(path: Path, file: Download) -> bool:
    """Return True if a path has the content of a file."""
    try:
        if file.n_bytes is not None and path.stat().st_size != file.n_bytes:
            return False
        return file.digest_of(path) == file.digest
    except OSError:
        return False


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Open the part of a file to append to it, alone; an empty part is removed at the end."""
    while True:
        with part.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_at(stream, part):  # renamed or removed while this process waited
                continue
            try:
                yield stream
            finally:
                if _is_at(stream, part) and stream.tell() == 0:
                    part.unlink()
            return


def _is_at(stream: IO[bytes], path: Path) -> bool:
    """Return True if a path still names an open file."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


def _download(file: Download, dest: Path, stream: IO[bytes]) -> None:
    """Complete the part; raises OfaError as `fetch` does."""
    failures = []
    for address in file.addresses:
        reason = _complete(address, file, stream)
        if not reason:
            return
        failures.append(f"{address} ({reason})")
    size = f"{file.n_bytes} bytes, " if file.n_bytes is not None else ""
    again = "run the command again to continue the download" if stream.tell() else "run the command again"
    raise OfaError(
        f"cannot download {'; '.join(failures)}: {again}, or download the file elsewhere ({size}"
        f"{file.digest_name} {file.digest}) "
        f"and save it as {dest}"
    )


def _complete(address: str, file: Download, stream: IO[bytes]) -> str:
    """Append what the part lacks, and verify it; return the reason if that fails, else an empty text.

    An attempt follows on one that received something, or that had continued a part and found a wrong checksum.
    """
    reason = ""
    for _ in range(_ATTEMPTS):
        n_before = stream.tell()
        reason = _append(address, file, stream)
        stream.flush()
        if not reason:
            digest = file.digest_of(Path(stream.name))
            if digest == file.digest:
                os.fsync(stream.fileno())
                return ""
            _restart(stream)
            reason = f"its {file.digest_name} is {digest}, not {file.digest}; it is not kept"
        if stream.tell() == n_before:
            break
    return reason


def _append(address: str, file: Download, stream: IO[bytes]) -> str:
    """Request the bytes that the part lacks and append them; return the reason if some are missing."""
    if file.n_bytes is not None and stream.tell() >= file.n_bytes:
        if stream.tell() == file.n_bytes:
            return ""
        _restart(stream)
    if not address.startswith(("http://", "https://")):
        return "not an http or https address"
    n_before = stream.tell()
    request = urllib.request.Request(address, headers={"Range": f"bytes={n_before}-"} if n_before else {})  # noqa: S310
    try:
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT_S) as reply:
            if n_before and not _continues(reply, n_before):
                _restart(stream)
            return _copy(reply, file, stream)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _RANGE_NOT_SATISFIABLE:
                _restart(stream)
            return f"HTTP status {error.code} {_words(error)}"
    except (http.client.HTTPException, OSError, ValueError) as error:
        return _words(error)


def _continues(reply: http.client.HTTPResponse, n_before: int) -> bool:
    """Return True if a reply starts where the part ends; a server may send the whole file instead."""
    return reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {n_before}-")


def _copy(reply: http.client.HTTPResponse, file: Download, stream: IO[bytes]) -> str:
    """Append a reply to the part; return the reason if the reply is too long or ends early."""
    length = reply.headers.get("Content-Length", "")
    n_bytes = file.n_bytes if file.n_bytes is not None else stream.tell() + int(length) if length.isdecimal() else None
    limit = file.n_bytes if file.n_bytes is not None else file.max_bytes
    if n_bytes is not None and n_bytes > limit:
        _restart(stream)
        return f"it is larger than {limit} bytes"
    name = reply.url.rpartition("/")[2]
    _LOG.info("downloading %s%s", reply.url, f" ({_mib(n_bytes)})" if n_bytes is not None else "")
    reported = time.monotonic()
    while True:
        try:
            chunk = reply.read(_CHUNK_BYTES)
        except (http.client.HTTPException, OSError) as error:
            return f"it was cut at {stream.tell()} bytes: {_words(error)}"
        if not chunk:
            break
        if stream.tell() + len(chunk) > limit:
            _restart(stream)
            return f"it is larger than {limit} bytes"
        with naming(Path(stream.name)):
            stream.write(chunk)
        if time.monotonic() - reported > _REPORT_S:
            reported = time.monotonic()
            _LOG.info("%s: %s%s", name, _mib(stream.tell()), f" of {_mib(n_bytes)}" if n_bytes is not None else "")
    if n_bytes is not None and stream.tell() < n_bytes:
        return f"it was cut at {stream.tell()} of {n_bytes} bytes"
    return ""


def _restart(stream: IO[bytes]) -> None:
    stream.seek(0)
    stream.truncate()


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"


def _words(error: Exception) -> str:
    """Return an error's reason in one line, without its number."""
    reason = getattr(error, "reason", error)
    words = str(getattr(reason, "strerror", None) or reason or type(error).__name__)
    return " ".join(words.split())[:_MAX_REASON]
