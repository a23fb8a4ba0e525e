"""Connections to a real sshd: host keys, keys and agents."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_setups import answer, configure, move_known_hosts

from devices.errors import (
    DeviceUnreachableError,
    HostKeyError,
)
from devices.ssh_config import Host, resolve
from devices.ssh_connect import connect
from devices.target import open_device


def test_an_unknown_host_is_refused_with_its_fingerprint(sshd) -> None:
    sshd.known_hosts.write_text("")
    listed = subprocess.run(["ssh-keygen", "-lf", sshd.folder / "host.pub"], capture_output=True, text=True).stdout
    with pytest.raises(HostKeyError) as caught:
        open_device("ssh:box")
    message = str(caught.value)
    assert listed.split()[1] in message
    assert "running `ssh box` once" in message
    assert "\n" not in message
    assert sshd.known_hosts.read_text() == ""


def test_a_changed_host_key_is_refused(sshd) -> None:
    sshd.write_known_hosts("other")
    with pytest.raises(HostKeyError, match=r"HAS CHANGED.*SHA256:.*ssh-keygen -R"):
        open_device("ssh:box")


def test_a_key_that_the_host_does_not_accept(sshd) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace(str(sshd.folder / "user"), str(sshd.folder / "stranger")))
    with pytest.raises(DeviceUnreachableError, match="the host accepts none of your keys"):
        open_device("ssh:box")


def test_an_unreachable_host(sshd) -> None:
    sshd.process.kill()
    sshd.process.wait()
    with pytest.raises(DeviceUnreachableError, match=r"root@\[127\.0\.0\.1\]"):
        connect(resolve("box"))


def test_a_key_known_without_the_port(sshd) -> None:
    """ssh takes it; another key under that name is another machine behind the same address, and not a changed one."""
    move_known_hosts(sshd, sshd.known_hosts, "127.0.0.1")
    assert answer(resolve("box")) == "here\n"
    kind, text = (sshd.folder / "other.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"127.0.0.1 {kind} {text}\n")
    with pytest.raises(HostKeyError, match="is not known"):
        connect(resolve("box"))


def test_names_in_known_hosts_ignore_case(sshd) -> None:
    assert Host("B", "Box.Test", 22, "u", (), False, None, ()).key_name == "box.test"


def test_a_changed_key_names_the_file(sshd, tmp_path: Path) -> None:
    kind, text = (sshd.folder / "other.pub").read_text().split()[:2]
    (tmp_path / "known").write_text(f"farm {kind} {text}\n")
    configure(sshd, f"Host box\n  HostKeyAlias farm\n  UserKnownHostsFile {tmp_path}/known")
    with pytest.raises(HostKeyError, match=f"HAS CHANGED.*`ssh-keygen -R farm -f {tmp_path}/known`"):
        connect(resolve("box"))


@pytest.fixture
def agent(sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A real ssh-agent that holds the user's key, whose file is encrypted."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        deadline = time.monotonic() + 20
        while subprocess.run(["ssh-add", "-q", sshd.folder / "user"], capture_output=True).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        change = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", sshd.folder / "user"]
        subprocess.run(change, check=True, capture_output=True)
        yield socket
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("ending", ["", ".pub"])
def test_an_encrypted_key_that_the_agent_holds(sshd, agent, ending: str) -> None:
    """`IdentitiesOnly` offers the agent's keys of the files that are named; the file may be the public one."""
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace(f"{sshd.folder / 'user'}\n", f"{sshd.folder / 'user'}{ending}\n"))
    assert resolve("box").only_keys
    assert answer(resolve("box")) == "here\n"


def test_other_keys_of_the_agent_are_not_offered(sshd, agent) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace(f"{sshd.folder / 'user'}\n", f"{sshd.folder / 'stranger'}\n"))
    with pytest.raises(DeviceUnreachableError, match="the host accepts none of your keys"):
        connect(resolve("box"))
    config.write_text(config.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no"))
    assert answer(resolve("box")) == "here\n"


def test_the_agent_that_the_configuration_names(sshd, agent, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(sshd, "Host box\n  IdentityAgent none")
    with pytest.raises(DeviceUnreachableError, match="a private key is encrypted"):
        connect(resolve("box"))
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace("IdentityAgent none", f"IdentityAgent {agent}"))
    assert answer(resolve("box")) == "here\n"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(DeviceUnreachableError, match=f"; repeat with SSH_AUTH_SOCK={agent}$"):
        connect(resolve("box"))
