"""Host keys that the files of ssh's `RevokedHostKeys` revoke: lists of public keys, or key revocation lists (KRL).

As with ssh, a file that cannot be read refuses every host. `ssh-keygen` reads the KRLs.
"""

from __future__ import annotations

import base64
import binascii
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import paramiko

from devices.errors import HostKeyError

__all__ = ["revoking_file"]

_KRL_MAGIC = b"SSHKRL\n\0"
_MAX_FILE_BYTES = 64 * 2**20
_SECONDS = 30.0


def revoking_file(key: paramiko.PKey, files: Iterable[Path]) -> Path | None:
    """Return the first file that revokes a key; None if no file does.

    Raises:
        HostKeyError: a file cannot be read, so that no key can be trusted.
    """
    for file in files:
        try:
            if _is_in(key, file):
                return file
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise HostKeyError(
                f"RevokedHostKeys {file} cannot be read ({words}), so no host key is accepted; "
                "restore the file, or remove the setting from ssh's configuration"
            ) from error
    return None


def _is_in(key: paramiko.PKey, file: Path) -> bool:
    with file.open("rb") as stream:
        data = stream.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
    return _is_in_krl(key, file) if data.startswith(_KRL_MAGIC) else key.asbytes() in _blobs(data)


def _blobs(data: bytes) -> set[bytes]:
    """Return the keys of lines of the form `TYPE BASE64 [COMMENT]`."""
    blobs = set()
    for number, line in enumerate(data.split(b"\n"), start=1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (IndexError, binascii.Error) as error:
            raise ValueError(f"line {number} is not a public key") from error
        if blob[4 : 4 + int.from_bytes(blob[:4], "big")] != words[0]:
            raise ValueError(f"line {number} is not a public key")
        blobs.add(blob)
    return blobs


def _is_in_krl(key: paramiko.PKey, file: Path) -> bool:
    with tempfile.NamedTemporaryFile("w", prefix="ofa-host-key-", suffix=".pub") as public:
        public.write(f"{key.get_name()} {base64.b64encode(key.asbytes()).decode()}\n")
        public.flush()
        command = ["ssh-keygen", "-Q", "-f", str(file.absolute()), public.name]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS)
        except FileNotFoundError as error:
            raise ValueError("a KRL needs ssh-keygen, which is not installed") from error
    if done.returncode not in (0, 1):
        raise ValueError(done.stderr.decode("utf-8", "replace").strip()[:200] or f"ssh-keygen -Q: {done.returncode}")
    return done.returncode == 1
