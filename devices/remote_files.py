"""Files on a device behind a connection: sent once, checked before they appear, resumed if the connection is lost.

A file is uploaded to `.DIGEST.part` beside its destination, where DIGEST comes from its SHA-256. The part's name thus
identifies its content: an upload that was cut continues, also in a later session. The device then checks size and
digest and renames the part, so that a file on the device is always complete. A file that is there with the same
content, from an earlier connection or session, is not sent again.

Transports differ only in how they send bytes: each passes a function for that to `RemoteFiles`.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devices.device import Device, checked_remote
from devices.errors import DeviceStorageError, DeviceUnreachableError
from devices.scripts import run_script

__all__ = ["RemoteFiles", "Upload"]

PULL_S = 300.0
CHECK_S = 300.0  # until the digest of a large file is computed

# $1: folder, $2: destination, $3: part. Prints the digest of the destination, the size of the part, and free space.
PREPARE = r"""mkdir -p -- "$1" || exit
exec 2> /dev/null
sum=$(sha256sum < "$2"); echo "sum ${sum%% *}"
echo "part $(wc -c < "$3")"
df -Pk -- "$1" || df -k -- "$1"
"""
# $1: part, $2: destination, $3: size, $4: digest. The digest is not checked on a device without sha256sum.
FINISH = r"""[ "$(wc -c < "$1")" -eq "$3" ] || { echo 'the file arrived incomplete' >&2; exit 1; }
sum=$(sha256sum < "$1" 2> /dev/null)
case ${sum%% *} in ''|"$4") ;; *) echo 'the file arrived damaged' >&2; exit 1 ;; esac
[ ! -d "$2" ] || { echo 'Is a directory' >&2; exit 1; }
chmod 700 "$1" && mv -f -- "$1" "$2"
"""


class Upload(Protocol):
    """Sends a file to the device; `n_sent` bytes of it are there already and may be skipped.

    Raises:
        DeviceStorageError: the device does not store the file; the message is the reason only.
        DeviceUnreachableError: the connection was lost.
    """

    def __call__(self, local: Path, data: bytes, part: str, n_sent: int) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Prepared:
    """State of a destination: digest (empty if there is no file), size of the part, free space (None if unknown)."""

    digest: str
    n_sent: int
    free_bytes: int | None


class RemoteFiles:
    """The files of a device's work directory.

    Args:
        device: runs the scripts.
        connect: connects again if the connection was lost, and calls `forget` then.
        upload: sends a file.
    """

    def __init__(self, device: Device, connect: Callable[[], None], upload: Upload) -> None:
        self._device = device
        self._connect = connect
        self._upload = upload
        self._present: dict[str, str] = {}  # digest by path, of files that are known to be there

    def forget(self) -> None:
        """Check each file again before its next use, because the device may have been restarted."""
        self._present.clear()

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the device; see `Device.push`. A lost connection is resumed once."""
        path = f"{self._device.work_dir}/{checked_remote(remote)}"
        what = f"cannot put {local} as {remote}"
        try:
            data = local.read_bytes()
        except OSError as error:
            raise DeviceStorageError(f"{what}: {error.strerror or error}") from error
        digest = hashlib.sha256(data).hexdigest()
        self._connect()
        if self._present.get(path) == digest:
            return
        try:
            self._send(local, data, path, digest)
        except DeviceStorageError as error:
            raise DeviceStorageError(f"{what}: {error}") from error
        self._present[path] = digest

    def _send(self, local: Path, data: bytes, path: str, digest: str) -> None:
        part = f"{posixpath.dirname(path)}/.{digest[:24]}.part"
        for attempt in (1, 2):
            there = self._prepare(path, part)
            if there.digest == digest:
                return
            n_sent = there.n_sent if there.n_sent <= len(data) else 0
            self._check_space(there, len(data) - n_sent, path)
            try:
                self._upload(local, data, part, n_sent)
                break
            except DeviceStorageError as error:
                run_script(self._device, 'rm -f -- "$1"', part)
                free = self._prepare(path, part).free_bytes
                hint = f" ({free / 2**20:.1f} MiB free)" if free is not None else ""
                raise DeviceStorageError(f"{error}{hint}") from error
            except DeviceUnreachableError:
                if attempt == 2:
                    raise
        moved = run_script(self._device, FINISH, part, path, str(len(data)), digest, timeout_s=CHECK_S)
        if moved.rc != 0:
            run_script(self._device, 'rm -f -- "$1"', part)
            raise DeviceStorageError(moved.reason)

    def _prepare(self, path: str, part: str) -> _Prepared:
        """Make the folder of `path`, and read the state of the destination."""
        done = run_script(self._device, PREPARE, posixpath.dirname(path), path, part, timeout_s=CHECK_S)
        if done.rc != 0 and not done.stdout:
            raise DeviceStorageError(done.reason)
        found = re.search(r"^sum ([0-9a-f]{64})?\s*^part +(\d{1,15})?", done.text, re.MULTILINE)
        free = re.search(r"^\S.*?\s\d+\s+\d+\s+(\d{1,15})\s+\d+%", done.text, re.MULTILINE)
        return _Prepared(
            digest=(found and found[1]) or "",
            n_sent=int((found and found[2]) or 0),
            free_bytes=int(free[1]) * 1024 if free else None,
        )

    def _check_space(self, there: _Prepared, n_bytes: int, path: str) -> None:
        if there.free_bytes is not None and there.free_bytes < n_bytes:
            free, needed = there.free_bytes / 2**20, n_bytes / 2**20
            folder = posixpath.dirname(path)
            raise DeviceStorageError(
                f"No space left on device: {free:.1f} MiB free in {folder}, {needed:.1f} MiB needed"
            )

    def pull(self, remote: str, local: Path) -> None:
        """Fetch a file of at most `devices.process.MAX_OUTPUT_BYTES`; see `Device.pull`."""
        path = f"{self._device.work_dir}/{checked_remote(remote)}"
        temporary = local.with_name(f".{local.name}.part")
        try:
            done = self._device.run(["cat", path], timeout_s=PULL_S)
            if done.rc != 0:
                raise DeviceStorageError(f"cannot fetch {remote} to {local}: {done.reason}")
            temporary.write_bytes(done.stdout)
            temporary.replace(local)
        except OSError as error:
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
