"""Set-ups of the tests that connect to the real sshd of `conftest.py`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devices.remote_options import RemoteOptions
from devices.ssh import SshDevice
from devices.ssh_config import Host, resolve
from devices.ssh_connect import connect


def configure(sshd, text: str) -> None:
    """Put lines before those of the fixture: the first value of a setting counts."""
    file = sshd.home / ".ssh" / "config"
    file.write_text(f"{text}\n{file.read_text()}")


def answer(host: Host) -> str:
    """Return the output of `echo here` over a connection."""
    with connect(host) as client:
        _, stdout, _ = client.exec_command("echo here")
        return str(stdout.read().decode())


def move_known_hosts(sshd, file: Path, name: str) -> None:
    """Move the only line of known_hosts to a file, under another name of the host."""
    words = sshd.known_hosts.read_text().split()
    sshd.known_hosts.write_text("")
    file.write_text(f"{name} {words[1]} {words[2]}\n")


def gates(sshd) -> str:
    """Return the settings of two jump hosts; only they could resolve the name of the box."""
    host = f"  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.folder / 'user'}\n"
    return f"Host gate\n{host}Host second\n{host}  User root\n"


@contextmanager
def box_device(parent: Path) -> Iterator[SshDevice]:
    """Connect to the box; its work directory is made in a new folder `there` in `parent`."""
    (parent / "there").mkdir()
    options = RemoteOptions(parent_dir=str(parent / "there"), python=sys.executable, pauses_s=(0, 0.1))
    with SshDevice(resolve("box"), options) as opened:
        yield opened


def wait_for(condition, seconds: float = 20) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
