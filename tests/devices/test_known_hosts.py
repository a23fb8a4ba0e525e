"""No line of a known_hosts file is an error, and a revoked key lets nobody in."""

from __future__ import annotations

import base64
from pathlib import Path

import paramiko
import pytest

from devices.errors import HostKeyError
from devices.known_hosts import read_known_hosts
from devices.ssh_config import resolve
from devices.ssh_connect import connect


@pytest.fixture(scope="module")
def keys() -> list[paramiko.PKey]:
    return [paramiko.ECDSAKey.generate() for _ in range(2)]


def line(key: paramiko.PKey, names: str = "box") -> bytes:
    return f"{names} {key.get_name()} {base64.b64encode(key.asbytes()).decode()}\n".encode()


def read(tmp_path: Path, data: bytes, name: str = "box") -> tuple[list[paramiko.PKey], frozenset[bytes]]:
    file = tmp_path / "known_hosts"
    file.write_bytes(data)
    known = read_known_hosts([tmp_path / "absent", tmp_path, file])
    return known.keys_of(name), known.revoked


def test_plain_hashed_and_port_names(tmp_path: Path, keys: list[paramiko.PKey]) -> None:
    hashed = paramiko.HostKeys.hash_host("box")
    data = line(keys[0], "a,[box]:2222") + line(keys[1], hashed)
    assert read(tmp_path, data) == ([keys[1]], frozenset())
    assert read(tmp_path, data, "[box]:2222") == ([keys[0]], frozenset())
    assert read(tmp_path, data, "other") == ([], frozenset())


@pytest.mark.parametrize(
    "damage",
    [
        b"@cert-authority *.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB ca\n",
        b"@cert-authority\n@\n@revoked\n@revoked box\n@unknown box ssh-rsa AAAA\n",
        b"@revoked box ssh-ed25519 AAAA\n",
        b"# Schl\xfcssel\nh\xfctte ssh-rsa AAAA\n\xff\xfe\x00\n",
        b"box\nbox ssh-rsa\nbox ssh-rsa !!!!\nbox ssh-rsa AAAA\nbox ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==\n",
        b"box no-such-type AAAAB3Nz\n|1|x|y ssh-rsa AAAA\n|1| ssh-rsa AAAA\n",
        b"box ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBAAA\n",
        b"\r\n   \n\t\nbox\tssh-rsa\tAAAA\n" + b"x" * 100_000 + b"\n",
    ],
)
def test_other_lines_are_skipped(tmp_path: Path, keys: list[paramiko.PKey], damage: bytes) -> None:
    found, _ = read(tmp_path, damage + line(keys[0]) + damage)
    assert [key for key in found if key.asbytes() == keys[0].asbytes()] == [keys[0]]


def test_a_line_with_latin_1_in_its_comment_counts(tmp_path: Path, keys: list[paramiko.PKey]) -> None:
    assert read(tmp_path, line(keys[0]).rstrip() + b" J\xfcrgen\r\n")[0] == [keys[0]]


def test_a_revoked_key_is_not_trusted_for_any_host(tmp_path: Path, keys: list[paramiko.PKey]) -> None:
    for names in (b"@revoked * ", b"@revoked box ", b"@revoked\telsewhere "):
        data = line(keys[0]) + names + line(keys[0], "").lstrip() + line(keys[1])
        assert read(tmp_path, data) == ([keys[1]], {keys[0].asbytes()})


def test_a_host_with_a_revoked_key_is_refused(sshd) -> None:
    known = sshd.known_hosts.read_text()
    revoked = "@revoked * " + known.partition(" ")[2]
    for text in (known + revoked, revoked, revoked + known):
        sshd.known_hosts.write_text(text)
        with pytest.raises(HostKeyError, match=r"REVOKED.*SHA256:.*refused"):
            connect(resolve("box"))
    sshd.known_hosts.write_bytes(b"@cert-authority * ssh-ed25519 AAAA\nh\xfctte ssh-rsa AAAA\n" + known.encode())
    connect(resolve("box")).close()
