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
    """A long-lived process on a device, read and written in lines of UTF-8 text."""

    def write_line(self, line: str) -> None:
        """Write `line`, which contains no line break, and a line break to the process's stdin.

        Raises:
            ChannelClosedError: the process takes no more input.
            DeviceTimeoutError: the process reads none of its input for a minute.
            DeviceUnreachableError: the connection was lost.
        """

    def read_line(self, timeout_s: float) -> str:
        """Return the next line of the process's stdout without its line break; bytes that are not UTF-8 are replaced.

        Raises:
            DeviceTimeoutError: there was no complete line within `timeout_s`. A later call may continue.
            ChannelClosedError: the output has ended.
            LineTooLongError: the line is longer than `MAX_LINE_BYTES`.
            DeviceUnreachableError: the connection was lost.
        """

    def kill(self) -> None:
        """Kill the process and its children; no effect if they have ended."""

    def wait(self, timeout_s: float) -> int:
        """Return the exit code as in `Completed.rc`.

        Raises:
            DeviceTimeoutError: the process still runs after `timeout_s`.
        """

    def stderr_tail(self) -> str:
        """Return the last kilobytes of the process's stderr."""


class ClosedAtExit(ABC):
    """Mixin: a context manager that closes on exit."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Device(Protocol):
    """A machine that runs programs. A context manager; `close` ends everything it started.

        with open_device("ssh:me@host") as device:
            device.push(Path("model.onnx"), "models/model.onnx")
            print(device.run(["ls", "models"], timeout_s=10).text)

    Attributes:
        name: device name in messages and tables.
        kind: `computer` or `phone`.
        work_dir: absolute path of the private directory on the device, in which programs start; `close` removes it.
        python: default Python interpreter.
        runs_here: True if its processes share this machine's cores, so that this program must stay idle meanwhile.
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
        """Run a program in the work directory to its end. A failing exit code raises no error.

        Raises:
            DeviceProcessError: there is no such program, or no permission to run it.
            DeviceTimeoutError: it did not end within `timeout_s`; it was killed with its children.
            DeviceUnreachableError: the connection was lost.
        """

    def start(self, argv: Sequence[str]) -> Channel:
        """Start a long-lived process in the work directory.

        Raises as `run` does. A transport that cannot distinguish a missing program from one that ended raises at the
        first `read_line`.
        """

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the device as `remote`, a path below the work directory.

        Folders are made; an existing file is replaced.

        Raises:
            DeviceStorageError: the file is missing, the path leaves the work directory, or there is no space or
                permission.
            DeviceUnreachableError: the connection was lost.
        """

    def pull(self, remote: str, local: Path) -> None:
        """Fetch the file `remote` below the work directory; raises as `push` does."""

    def facts(self) -> DeviceFacts:
        """Read what the machine is, in one round trip."""

    def conditions(self) -> Conditions:
        """Read the machine's state, in one round trip of about a third of a second."""

    def close(self) -> None:
        """End what was started, remove the work directory and disconnect; no effect when repeated."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def checked_remote(remote: str) -> str:
    """Return `remote` normalised, after checking that it is relative and stays below the work directory.

    Raises:
        DeviceStorageError: it is empty, absolute, or contains `..`.
    """
    path = PurePosixPath(remote)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in remote:
        raise DeviceStorageError(f"remote path {remote!r} must be relative and stay below the work directory")
    return str(path)
