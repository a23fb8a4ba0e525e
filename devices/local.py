"""This machine as a device. Each program runs in a private directory, in a session and process group of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from devices.device import MAX_LINE_BYTES, ClosedAtExit, Completed, DeviceKind, checked_remote
from devices.errors import (
    ChannelClosedError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    LineTooLongError,
)
from devices.facts import Conditions, DeviceFacts
from devices.process import close_pipes, kill_group, run_to_end, spawn
from devices.scripts import read_conditions, read_facts
from devices.session_folder import SessionFolder
from devices.target import Target

__all__ = ["LocalDevice", "open_target"]

_TAIL_BYTES = 8192
_MAX_STDERR_BYTES = 64 * 2**20
_LOOK_S = 5.0  # between two checks of the size of stderr
_READ_BYTES = 1 << 16
_KILL_WAIT_S = 10.0
_WRITE_TIMEOUT_S = 60.0


class LocalDevice(ClosedAtExit):
    """This machine.

    Args:
        parent_dir: folder in which the work directory is made; the system's temporary folder by default.
        python: interpreter; the running one by default.
        name: device name; the host name by default.

    Raises:
        DeviceStorageError: the work directory cannot be made.
    """

    def __init__(self, parent_dir: Path | None = None, *, python: str | None = None, name: str = "") -> None:
        self.name = name or os.uname().nodename
        self.kind: DeviceKind = "computer"
        self.python = python or sys.executable
        self.runs_here = True
        self._channels: list[LocalChannel] = []
        try:
            self._folder = SessionFolder("local", parent_dir)
        except OSError as error:
            raise DeviceStorageError(f"cannot make a work directory: {error}") from error
        self.work_dir = str(self._folder.path)

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run a program to its end; see `Device.run`."""
        return run_to_end(argv, timeout_s=timeout_s, input=input, work_dir=self.work_dir)

    def start(self, argv: Sequence[str]) -> LocalChannel:
        """Start a long-lived process; see `Device.start`."""
        self._channels = [channel for channel in self._channels if not channel.is_over]
        channel = LocalChannel(argv, self.work_dir)
        self._channels.append(channel)
        return channel

    def push(self, local: Path, remote: str) -> None:
        """Link (or copy, across file systems) a file into the work directory; see `Device.push`."""
        target = Path(self.work_dir, checked_remote(remote))
        temporary = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            try:
                os.link(local.resolve(strict=True), temporary)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP):
                    raise
                shutil.copyfile(local, temporary)
            temporary.replace(target)
            temporary.unlink(missing_ok=True)  # rename(2) keeps both names of one and the same file
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise DeviceStorageError(f"cannot put {local} as {remote}: {error.strerror or error}") from error

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file out of the work directory; see `Device.pull`."""
        temporary = local.with_name(f".{local.name}.{os.getpid()}")
        try:
            shutil.copyfile(Path(self.work_dir, checked_remote(remote)), temporary)
            temporary.replace(local)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: {error.strerror or error}") from error

    def facts(self) -> DeviceFacts:
        """Read what the machine is; see `Device.facts`."""
        return read_facts(self)

    def conditions(self) -> Conditions:
        """Read the machine's state; see `Device.conditions`."""
        return read_conditions(self)

    def close(self) -> None:
        """Kill what was started and remove the work directory."""
        for channel in self._channels:
            channel.kill()
        self._channels = []
        self._folder.close()


class LocalChannel:
    """A process on this machine, read and written in lines; see `Channel`. Its stderr goes to an unnamed file."""

    def __init__(self, argv: Sequence[str], work_dir: str) -> None:
        self._program = argv[0]
        self._stderr: IO[bytes] = tempfile.TemporaryFile(dir=work_dir)  # noqa: SIM115  lives as long as the channel
        try:
            self._process = spawn(argv, work_dir, stdin=subprocess.PIPE, stderr=self._stderr)
        except DeviceProcessError:
            self._stderr.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._buffer = bytearray()
        self._scanned = 0  # no line break before this place of the buffer
        self._tail = ""
        self.is_over = False

    def write_line(self, line: str) -> None:
        """Write one line to the process's stdin, and read its output meanwhile, so that neither side blocks."""
        rest = memoryview(line.encode() + b"\n")
        deadline = time.monotonic() + _WRITE_TIMEOUT_S
        try:
            while rest:
                try:
                    rest = rest[os.write(self._stdin.fileno(), rest) :]
                except BlockingIOError:
                    self._wait_for_room(deadline)
        except (OSError, ValueError) as error:
            raise ChannelClosedError(f"{self._program} takes no more input: {error}") from error

    def read_line(self, timeout_s: float) -> str:
        """Return the next complete line of the process's stdout."""
        deadline = time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._buffer)
            if self.is_over:
                raise ChannelClosedError(f"{self._program} was closed")
            left_s = max(0.0, deadline - time.monotonic())
            if self._selector.select(min(left_s, _LOOK_S)):
                self._fill()
            elif left_s <= _LOOK_S:
                raise DeviceTimeoutError(f"{self._program} wrote no line within {timeout_s:g} s")
            self._bound_stderr()
        line = self._buffer[:end].decode("utf-8", "replace")
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def _bound_stderr(self) -> None:
        """Free the disk space of a stderr that keeps growing."""
        fd = self._stderr.fileno()
        if os.fstat(fd).st_blocks * 512 > _MAX_STDERR_BYTES:
            os.ftruncate(fd, 0)  # the process continues at its own offset, after a hole

    def _wait_for_room(self, deadline: float) -> None:
        """Wait until the process can take more input, and read its output meanwhile."""
        with selectors.DefaultSelector() as both:
            both.register(self._stdin, selectors.EVENT_WRITE)
            both.register(self._stdout, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in both.select(max(0.0, deadline - time.monotonic()))]
        if not ready:
            raise DeviceTimeoutError(f"{self._program} read none of its input within {_WRITE_TIMEOUT_S:g} s")
        if self._stdout in ready:
            self._fill()

    def _fill(self) -> None:
        if len(self._buffer) > MAX_LINE_BYTES and b"\n" not in self._buffer:
            raise LineTooLongError(f"{self._program} wrote a line of more than {MAX_LINE_BYTES} bytes")
        chunk = os.read(self._stdout.fileno(), _READ_BYTES)
        if not chunk:
            raise ChannelClosedError(f"{self._program} has ended its output")
        self._buffer += chunk

    def kill(self) -> None:
        """Kill the process's group and wait for its end."""
        if self.is_over:
            return
        kill_group(self._process)
        with contextlib.suppress(subprocess.TimeoutExpired):  # only a process stuck in the kernel outlives SIGKILL
            self._process.wait(_KILL_WAIT_S)
        self._tail = self.stderr_tail()
        self.is_over = True
        self._selector.close()
        close_pipes(self._process)
        self._stderr.close()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code, minus the signal's number if a signal ended it."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise DeviceTimeoutError(f"{self._program} still runs after {timeout_s:g} s") from error

    def stderr_tail(self) -> str:
        """Return the last kilobytes of stderr, also after `kill`."""
        if self.is_over:
            return self._tail
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return tail.decode("utf-8", "replace")


def open_target(target: Target) -> LocalDevice:
    """Open this machine with the options of a target."""
    parent = Path(target.work_dir).expanduser() if target.work_dir is not None else None
    return LocalDevice(parent, python=target.python, name=target.name if target.name != "local" else "")
