"""Read host keys from known_hosts files (sshd(8)); a line that cannot be read is skipped.

A key marked `@revoked`, or revoked by a file of `RevokedHostKeys`, is refused for every host. Lines marked
`@cert-authority` are skipped: hosts are identified by their keys only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry

from devices.revoked_keys import revoking_file

__all__ = ["PARAMIKO_ERRORS", "KnownHosts", "error_text", "read_known_hosts"]

# paramiko checks little of what a host sends: besides its documented errors, Python's own are raised.
PARAMIKO_ERRORS = (
    paramiko.SSHException,
    paramiko.SFTPError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    struct.error,
)
"""Errors that paramiko raises for arbitrary input from a host or a file."""

_MAX_FILE_BYTES = 64 * 2**20


def error_text(error: Exception) -> str:
    """Return the message of an error of paramiko or of the system."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


@dataclass(frozen=True)
class KnownHosts:
    """Keys of known_hosts files.

    Attributes:
        entries: lines with a key and no marker, in order.
        revoked: keys that are marked `@revoked`, as bytes.
        revoked_files: files of `RevokedHostKeys`.
    """

    entries: tuple[HostKeyEntry, ...]
    revoked: frozenset[bytes]
    revoked_files: tuple[Path, ...] = ()

    def revocation(self, key: paramiko.PKey) -> str | None:
        """Return where a key is revoked, for messages; None if it is not.

        Raises:
            HostKeyError: a file of `RevokedHostKeys` cannot be read.
        """
        if key.asbytes() in self.revoked:
            return "is marked @revoked in known_hosts"
        file = revoking_file(key, self.revoked_files)
        return None if file is None else f"is in {file} (RevokedHostKeys)"

    def keys_of(self, name: str) -> list[paramiko.PKey]:
        """Return the keys that a host is known by and that are not revoked; the name is `host` or `[host]:port`."""
        keys = [entry.key for entry in self.entries if any(_is_name(text, name) for text in entry.hostnames)]
        return [key for key in keys if self.revocation(key) is None]


def read_known_hosts(files: Iterable[Path], revoked_files: Iterable[Path] = ()) -> KnownHosts:
    """Read known_hosts files in the order of their importance; those that cannot be read are skipped."""
    lines = [line for file in files for line in _entries(file)]
    return KnownHosts(
        tuple(entry for marker, entry in lines if not marker),
        frozenset(entry.key.asbytes() for marker, entry in lines if marker == "@revoked"),
        tuple(revoked_files),
    )


def _entries(file: Path) -> Iterator[tuple[str, HostKeyEntry]]:
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MAX_FILE_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return
    for number, line in enumerate(lines, start=1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#"):
            continue
        try:
            entry = HostKeyEntry.from_line(" ".join(words[:3]), number)
        except Exception:  # noqa: S112  # nosec B112
            # paramiko and its key library raise many types.
            continue
        if entry is not None:
            yield marker, entry


def _is_name(pattern: str, name: str) -> bool:
    """Return True if a name of a line, which may be hashed, is the host's."""
    if not pattern.startswith("|1|"):
        return pattern == name
    try:
        return paramiko.HostKeys.hash_host(name, pattern) == pattern
    except PARAMIKO_ERRORS:
        return False
