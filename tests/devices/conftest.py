"""Real servers to connect to: an sshd on a loopback port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Sshd:
    """A running sshd that accepts one key.

    Attributes:
        port: on the loopback interface.
        home: a home directory whose `.ssh` has the key and knows the host.
        folder: of keys and configuration.
        process: the listening one.
    """

    port: int
    home: Path
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    def write_known_hosts(self, key: str = "host") -> None:
        kind, text = (self.folder / f"{key}.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    def cut(self) -> None:
        """Kill the processes that serve the connections, as a broken network would end them."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Process numbers of the connections' servers."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True).stdout
        return [int(pid) for pid in children.split()]


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """An sshd of its own for the test, and a HOME that knows it."""
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(program).exists():
        pytest.skip("there is no sshd; tools/install_test_devices.sh installs it")
    if os.geteuid() != 0:
        pytest.skip("sshd runs its sessions as root here; the test needs to be root")
    folder, home = tmp_path / "sshd", tmp_path / "home"
    for path in (folder, home / ".ssh"):
        path.mkdir(mode=0o700, parents=True)
    for name in ("host", "other", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",
        "PidFile": "none",
        "MaxStartups": "100",
        "SetEnv": f"HOME={home}",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd confines its unprivileged part
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stdin=subprocess.DEVNULL, stderr=log)
    server = Sshd(port, home, folder, process)
    server.write_known_hosts()
    (home / ".ssh" / "config").write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {folder / 'user'}\n"
        "  IdentitiesOnly yes\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    try:
        _wait_for(port, folder / "log")
        yield server
    finally:
        server.cut()
        process.kill()
        process.wait()


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                pytest.fail(f"sshd does not listen: {log.read_text()}")
            time.sleep(0.01)
        else:
            return
