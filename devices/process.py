"""Run a process on this machine to its end, with limits on its time and its output."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO

from devices.device import Completed
from devices.errors import DeviceProcessError, DeviceTimeoutError

__all__ = ["MAX_OUTPUT_BYTES", "OutputTimeoutError", "close_pipes", "kill_group", "run_to_end", "spawn"]

MAX_OUTPUT_BYTES = 64 * 2**20
"""Maximum output of a program that is run to its end, for stdout and stderr each."""

_READ_BYTES = 1 << 16
_KILL_WAIT_S = 10.0


class OutputTimeoutError(DeviceTimeoutError):
    """A program that did not end in time.

    Attributes:
        stdout: its output so far.
    """

    def __init__(self, message: str, stdout: bytes) -> None:
        super().__init__(message)
        self.stdout = stdout


def spawn(argv: Sequence[str], work_dir: str | None, *, stdin: int, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own.

    Raises:
        DeviceProcessError: it cannot be started; `__cause__` is the system's error.
    """
    try:
        return subprocess.Popen(
            list(argv), cwd=work_dir, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    except OSError as error:
        raise DeviceProcessError(f"cannot start {argv[0]}: {error.strerror or error}") from error


def run_to_end(
    argv: Sequence[str],
    *,
    timeout_s: float,
    input: bytes | None = None,  # noqa: A002  subprocess's name
    work_dir: str | None = None,
) -> Completed:
    """Run a program to its end, then kill the rest of its process group.

    Raises:
        DeviceProcessError: it cannot be started, or writes more than `MAX_OUTPUT_BYTES`.
        OutputTimeoutError: it did not end in time.
    """
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    process = spawn(argv, work_dir, stdin=stdin, stderr=subprocess.PIPE)
    deadline = time.monotonic() + timeout_s
    out = {"stdout": bytearray(), "stderr": bytearray()}
    try:
        _exchange(process, memoryview(input or b""), out, deadline, argv[0])
        rc = process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        message = f"{argv[0]} did not end within {timeout_s:g} s"
        raise OutputTimeoutError(message, bytes(out["stdout"])) from error
    finally:
        kill_group(process)
        close_pipes(process)
    return Completed(rc, bytes(out["stdout"]), bytes(out["stderr"]))


def _exchange(
    process: subprocess.Popen[bytes], rest: memoryview, out: dict[str, bytearray], deadline: float, program: str
) -> None:
    """Write the input, and read both outputs to their end."""
    with selectors.DefaultSelector() as selector:
        for name in out:
            selector.register(getattr(process, name), selectors.EVENT_READ, name)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")
        while selector.get_map():
            left_s = deadline - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if key.data == "stdin":
                    rest = _write_some(key.fd, rest)
                    done = not rest
                else:
                    chunk = os.read(key.fd, _READ_BYTES)
                    out[key.data] += chunk
                    done = not chunk
                    if len(out[key.data]) > MAX_OUTPUT_BYTES:
                        raise DeviceProcessError(f"{program} wrote more than {MAX_OUTPUT_BYTES >> 20} MiB")
                if done:
                    selector.unregister(key.fileobj)
                    if key.data == "stdin" and process.stdin is not None:
                        process.stdin.close()


def _write_some(fd: int, rest: memoryview) -> memoryview:
    try:
        return rest[os.write(fd, rest[:_READ_BYTES]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:  # a program need not read its input
        return rest[:0]


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process's group, and wait for the end of the process."""
    # The group may outlive its leader. Its number is not reused while a member lives.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_WAIT_S)


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes to a process."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
