"""sftp sessions with a limit on every wait. paramiko waits without end for several answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import paramiko

from devices.errors import DeviceTimeoutError

__all__ = ["QUIET_S", "bounded", "open_sftp", "transfer_s"]

OPEN_S = 30.0
QUIET_S = 30.0  # longest time without an answer
_SLOWEST_BYTES_PER_S = 1 << 15


@contextlib.contextmanager
def bounded(transport: paramiko.Transport, seconds: float, what: str) -> Iterator[None]:
    """Close the connection if the body takes longer than `seconds`.

    Raises:
        DeviceTimeoutError: it took longer.
    """
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        transport.close()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if is_late.is_set():
            raise DeviceTimeoutError(f"{what} did not end within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


def transfer_s(n_bytes: int) -> float:
    """Return the longest time that a transfer may take."""
    return OPEN_S + n_bytes / _SLOWEST_BYTES_PER_S


def open_sftp(transport: paramiko.Transport) -> paramiko.SFTPClient:
    """Open an sftp session whose reads end after `QUIET_S` without an answer; raises paramiko's errors."""
    session = transport.open_session(timeout=OPEN_S)
    try:
        session.settimeout(QUIET_S)
        session.invoke_subsystem("sftp")
        return paramiko.SFTPClient(session)
    except BaseException:
        session.close()
        raise
