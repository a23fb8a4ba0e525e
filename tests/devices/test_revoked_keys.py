"""Files of `RevokedHostKeys`, made by the real ssh-keygen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import paramiko
import pytest
from ssh_setups import answer, configure

from devices.errors import HostKeyError
from devices.revoked_keys import revoking_file
from devices.ssh_config import resolve
from devices.ssh_connect import connect


@pytest.fixture(scope="module")
def public_keys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("a", "b"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return [folder / "a.pub", folder / "b.pub"]


def key_in(public: Path) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key_file(str(public.with_suffix("")))


def write_krl(krl: Path, *revoked: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", krl, *revoked], check=True)
    return krl


def test_a_list_of_keys_and_a_krl(tmp_path: Path, public_keys: list[Path]) -> None:
    a, b = (key_in(public) for public in public_keys)
    text = tmp_path / "revoked"
    text.write_bytes(b"# J\xfcrgen's\n\n  " + public_keys[0].read_bytes() + b"ssh-new AAAAB3NzaC1uZXc=\r\n")
    for file in (text, write_krl(tmp_path / "krl", public_keys[0]), write_krl(tmp_path / "-krl", public_keys[0])):
        assert revoking_file(a, [file]) == file
        assert revoking_file(b, [file]) is None
    (tmp_path / "empty").touch()
    krl_of_b = write_krl(tmp_path / "krl_b", public_keys[1])
    assert revoking_file(b, [tmp_path / "empty", text, krl_of_b]) == krl_of_b
    assert revoking_file(a, []) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "No such file or directory"),
        (b"ssh-ed25519\n", "line 1 is not a public key"),
        (b"# x\nssh-ed25519 AAA!\n", "line 2 is not a public key"),
        (b"ssh-ed25519 AAAAB3NzaC1uZXc=\n", "line 1 is not a public key"),
        (b"box ssh-ed25519 AAAAC3NzaC1lZDI1NTE5\n", "line 1 is not a public key"),
        (b"SSHKRL\n\0\0\0\0\1", "KRL"),
    ],
)
def test_a_file_that_cannot_be_read_refuses_every_key(
    tmp_path: Path, public_keys: list[Path], data: bytes | None, words: str
) -> None:
    file = tmp_path / "revoked"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(HostKeyError, match=r"RevokedHostKeys .*revoked cannot be read \(.*no host key") as caught:
        revoking_file(key_in(public_keys[0]), [file])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_krl_without_ssh_keygen(tmp_path: Path, public_keys: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    krl = write_krl(tmp_path / "krl", public_keys[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostKeyError, match="a KRL needs ssh-keygen, which is not installed"):
        revoking_file(key_in(public_keys[1]), [krl])


@pytest.mark.parametrize("form", ["list", "krl"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_host_with_a_revoked_key_is_refused(sshd, tmp_path: Path, form: str, *, is_known: bool) -> None:
    file, key = tmp_path / "my revoked keys", sshd.folder / "host.pub"
    configure(sshd, f'Host box\n  RevokedHostKeys "{file}"')
    with pytest.raises(HostKeyError, match=r"RevokedHostKeys /.* cannot be read \(No such file"):
        connect(resolve("box"))
    file.write_bytes((sshd.folder / "other.pub").read_bytes())
    assert answer(resolve("box")) == "here\n"
    if form == "list":
        file.write_bytes(key.read_bytes())
    else:
        file.unlink()
        write_krl(file, key)
    if not is_known:
        sshd.known_hosts.write_text("")
    with pytest.raises(
        HostKeyError, match=rf"REVOKED: ssh-ed25519 SHA256:.* is in {file} \(RevokedHostKeys\); refused"
    ):
        connect(resolve("box"))


def test_a_revoked_key_beside_a_good_one(sshd) -> None:
    """The host is known by two keys and presents the revoked one."""
    other = (sshd.folder / "other.pub").read_text().split()
    sshd.known_hosts.write_text(f"{sshd.known_hosts.read_text()}[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n")
    configure(sshd, f"Host box\n  RevokedHostKeys {sshd.folder}/host.pub")
    with pytest.raises(HostKeyError, match="REVOKED"):
        connect(resolve("box"))


def test_no_file(sshd) -> None:
    configure(sshd, "Host box\n  RevokedHostKeys none")
    assert resolve("box").revoked_keys == ()
    assert answer(resolve("box")) == "here\n"
