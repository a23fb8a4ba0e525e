"""Files by sftp, with a bound on every wait, and on the size of what is fetched."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import paramiko

from devices.errors import DeviceTimeoutError

__all__ = ["QUIET_S", "bounded", "fetch", "open_sftp", "transfer_s"]

OPEN_S = 30.0
QUIET_S = 30.0  # longest silence in the middle of something
_SLOWEST_BYTES_PER_S = 1 << 15
_CHUNK_BYTES = 1 << 15
_MAX_FETCH_BYTES = 1 << 24


@contextlib.contextmanager
def bounded(transport: paramiko.Transport, seconds: float, what: str) -> Iterator[None]:
    """Close the connection if the body takes longer: paramiko waits without end for several answers.

    Raises:
        DeviceTimeoutError: it did.
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
    """Longest time that a transfer may take."""
    return OPEN_S + n_bytes / _SLOWEST_BYTES_PER_S


def open_sftp(transport: paramiko.Transport) -> paramiko.SFTPClient:
    """Open an sftp session whose reads give up after `QUIET_S`; raises what paramiko raises."""
    session = transport.open_session(timeout=OPEN_S)
    try:
        session.settimeout(QUIET_S)
        session.invoke_subsystem("sftp")
        return paramiko.SFTPClient(session)
    except BaseException:
        session.close()
        raise


def fetch(files: paramiko.SFTPClient, path: str) -> bytes:
    """Read a file of at most 16 MiB; what the server says of its size is not believed."""
    data = bytearray()
    with files.open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            data += chunk
            if len(data) > _MAX_FETCH_BYTES:
                raise OSError(0, f"it is larger than {_MAX_FETCH_BYTES >> 20} MiB")
    return bytes(data)
