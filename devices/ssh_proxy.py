"""Connect through a command whose stdin and stdout are the connection (`ProxyJump`, `ProxyCommand`)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from typing import IO

from devices.errors import DeviceUnreachableError

__all__ = ["ProxySocket", "one_line", "open_proxy"]

_END_SECONDS = 1.0
_WORDS_BYTES = 2000


class ProxySocket(socket.socket):
    """A socket that is connected to a command's stdin and stdout; `close` ends the command. Made by `open_proxy`.

    Attributes:
        command: the command.
        words: after `close`, the last lines of the command's stderr, else its exit code, else empty.
    """

    def __init__(self, fileno: int, command: Sequence[str], process: subprocess.Popen[bytes], errors: IO[bytes]):
        super().__init__(fileno=fileno)
        self.command = tuple(command)
        self.words = ""
        self._process = process
        self._errors = errors
        self._closing = threading.Lock()  # paramiko's thread may close it too

    def close(self) -> None:
        """Close the socket, and kill the command with its children if it does not end."""
        with self._closing:
            super().close()
            if self._errors.closed:
                return
            try:
                self._process.wait(_END_SECONDS)
                self.words = f"exit code {self._process.returncode}"
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._errors.seek(max(0, os.fstat(self._errors.fileno()).st_size - _WORDS_BYTES))
            self.words = one_line(self._errors.read()) or self.words
            self._errors.close()


def one_line(words: bytes) -> str:
    """Return a program's output in one line without control characters."""
    lines = words.decode("utf-8", "replace").splitlines()
    printable = ("".join(c for c in line if c.isprintable()).strip() for line in lines)
    return "; ".join(line for line in printable if line)


def open_proxy(command: Sequence[str]) -> ProxySocket:
    """Start a command that reaches a host. It has no terminal, so that it cannot ask for a password.

    Raises:
        DeviceUnreachableError: the command cannot be started.
    """
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115  read until the connection is closed
    try:
        process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
        )
    except OSError as error:
        ours.close()
        errors.close()
        raise DeviceUnreachableError(f"cannot start {command[0]}: {error.strerror or error}") from error
    finally:
        theirs.close()
    return ProxySocket(ours.detach(), command, process, errors)
