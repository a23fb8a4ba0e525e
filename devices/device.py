"""The protocols of a device and of a process that runs on it.

A program that measures uses these only, so that it works on this machine, behind ssh and on a phone alike. `Device` is
a protocol and not a base class: a device type shares code by composition (see `devices.remote_files`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from devices.errors import DeviceStorageError

if TYPE_CHECKING:
    from devices.facts import Conditions, DeviceFacts

__all__ = [
    "MAX_LINE_BYTES",
    "Channel",
    "ClosedAtExit",
    "Completed",
    "Device",
    "DeviceKind",
    "checked_remote",
]

MAX_LINE_BYTES = 64 * 2**20

DeviceKind = Literal["computer", "phone"]
"""A phone is measured on its big cores, is throttled by heat and usually has no Python; a computer has one."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Result of a program that ended.

    Attributes:
        rc: exit code; minus the signal's number (128 plus it through a shell) if a signal ended the program.
        stdout: its output.
        stderr: its error output.
    """

    rc: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """`stdout` as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def reason(self) -> str:
        """The reason for a failure: `stderr` as text, or the exit code if it is empty."""
        return self.stderr.decode("utf-8", "replace").strip() or f"exit code {self.rc}"


class Channel(Protocol):
    """A long-lived process on a device that speaks in lines of UTF-8 text."""

    def write_line(self, line: str) -> None:
        """Write `line` (which holds no line break) and a line break to the process's stdin.

        Raises:
            ChannelClosedError: the process takes no more input.
            DeviceTimeoutError: it reads none of its input for a minute.
            DeviceUnreachableError: the connection broke.
        """

    def read_line(self, timeout_s: float) -> str:
        """Return the next line of the process's stdout without its line break; bytes that are not UTF-8 are replaced.

        Raises:
            DeviceTimeoutError: there was no complete line within `timeout_s`. What has come stays; one may ask again.
            ChannelClosedError: the output has ended.
            LineTooLongError: the line is longer than `MAX_LINE_BYTES`.
            DeviceUnreachableError: the connection broke.
        """

    def kill(self) -> None:
        """End the process and its children at once; harmless when it has ended."""

    def wait(self, timeout_s: float) -> int:
        """Return the exit code as in `Completed.rc`.

        Raises:
            DeviceTimeoutError: the process still runs after `timeout_s`.
        """

    def stderr_tail(self) -> str:
        """Return the last few kilobytes of the process's stderr; empty when there are none."""


class ClosedAtExit(ABC):
    """A context manager that closes itself, as every `Device` is."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Device(Protocol):
    """A machine that runs programs: this one, one behind ssh, a phone. A context manager; `close` ends all it started.

    Attributes:
        name: device name in messages and tables.
        kind: `computer` or `phone`.
        work_dir: absolute path on the device of a private directory, where programs start and files go; gone after
            `close`.
        python: interpreter to run our programs with, unless the user names another.
        runs_here: whether its processes share this machine's cores, so that the host had better keep still while one
            measures.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> DeviceKind: ...  # noqa: D102
    @property
    def work_dir(self) -> str: ...  # noqa: D102
    @property
    def python(self) -> str: ...  # noqa: D102
    @property
    def runs_here(self) -> bool: ...  # noqa: D102

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run a program in the work directory to its end; its exit code is the caller's business.

        Raises:
            DeviceProcessError: there is no such program, or it may not be run.
            DeviceTimeoutError: it did not end within `timeout_s`; it has been killed, children included.
            DeviceUnreachableError: the connection broke.
        """

    def start(self, argv: Sequence[str]) -> Channel:
        """Start a long-lived process in the work directory.

        Raises as `run` does; a transport that cannot tell a missing program from one that ended says so at the first
        `read_line`.
        """

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the device as `remote`, a path below the work directory.

        Folders are made, a present file is replaced.

        Raises:
            DeviceStorageError: the file is missing, the path leaves the work directory, or there is no space or right.
            DeviceUnreachableError: the connection broke.
        """

    def pull(self, remote: str, local: Path) -> None:
        """Fetch the file `remote` below the work directory; raises as `push` does."""

    def facts(self) -> DeviceFacts:
        """Say what the machine is; one round trip."""

    def conditions(self) -> Conditions:
        """Say what state the machine is in now; one round trip of about a third of a second."""

    def close(self) -> None:
        """End what was started here, remove the work directory, disconnect; harmless when repeated."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def checked_remote(remote: str) -> str:
    """Return `remote` normalised if it is a relative path that stays below the work directory.

    Raises:
        DeviceStorageError: it is empty, absolute, or climbs with `..`.
    """
    path = PurePosixPath(remote)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in remote:
        raise DeviceStorageError(f"remote path {remote!r} must be relative and stay below the work directory")
    return str(path)
