"""Real servers to connect to: an sshd on a loopback port, and phones in private namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "profiler" / "native"))
from android_system import CACHE


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

    def log_text(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text()

    def cut(self) -> None:
        """Kill the processes that serve the connections, as a broken network would end them."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Process numbers of the connections' servers."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True).stdout
        return [int(pid) for pid in children.split()]


SSH = """#!/bin/sh
# The real ssh, for which HOME is the user's home: ssh looks into the password file only, so HOME is mounted there, for
# ssh alone. It finds the hosts of HOME/hosts, too.
exec unshare --mount sh -c 'home=$(getent passwd "$(id -u)" | cut -d: -f6)
  mount --bind "$HOME" "$home" && if [ -f "$HOME/hosts" ]; then mount --bind "$HOME/hosts" /etc/hosts; fi
  exec {real} "$@"' sh "$@"
"""


def _install_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("ssh")
    if real is None or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("there is no ssh here, or nobody may mount a home for it")
    folder.mkdir()
    (folder / "ssh").write_text(SSH.format(real=real))
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


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
        f"  IdentitiesOnly yes\nHost *\n  UserKnownHostsFile {server.known_hosts}\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    _install_ssh(tmp_path / "bin", monkeypatch)
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


# ---- phones --------------------------------------------------------------------------------------------------------

COOL = """IsStatusOverride: false
Thermal Status: 0
Current temperatures from HAL:
\tTemperature{mValue=31.5, mType=0, mName=CPU0, mStatus=0}
"""
CHARGED = "Current Battery Service state:\n  USB powered: true\n  status: 2\n  level: 87\n  temperature: 291\n"


@dataclass
class Phones:
    """Real adbd processes in private namespaces, and the adb server that knows them.

    Attributes:
        folder: what the phones show of themselves, `phone1`, `phone2`, ...
        process: of the namespaces.
    """

    folder: Path
    process: subprocess.Popen[str]

    def serial(self, number: int = 1) -> str:
        return f"127.0.0.1:{6999 + 2 * number}"

    def plug(self, number: int, *, unplug: bool = False) -> None:
        """Start a phone's adbd again, or kill it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("stop" if unplug else "start", number, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline().split()[1] == str(number)

    def wait(self, number: int) -> None:
        """Wait until adb can use a phone, whose adbd may just have been started."""
        deadline, serial = time.monotonic() + 20, self.serial(number)
        while subprocess.run(["adb", "-s", serial, "get-state"], capture_output=True).stdout.strip() != b"device":
            if time.monotonic() > deadline:
                pytest.fail(f"phone {number} does not come: {(self.folder / f'adbd{number}.log').read_text()}")
            subprocess.run(["adb", "disconnect", serial], capture_output=True)
            subprocess.run(["adb", "connect", serial], capture_output=True)
            time.sleep(0.05)

    def set(self, number: int, name: str, text: str) -> None:
        """Change what a phone shows: `thermalservice`, `battery` or `props`."""
        temporary = self.folder / f"phone{number}" / f".{name}"
        temporary.write_text(text)
        temporary.replace(self.folder / f"phone{number}" / name)


ARM_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
"""What /proc/cpuinfo of a Cortex-A76 says, for libraries that read it (qemu before 8.1 shows the host's)."""


@dataclass(frozen=True)
class FakePhone:
    """What a phone is.

    Attributes:
        model: `ro.product.model`.
        size: of /data, for mount.
        machine: what `uname -m` says; aarch64 programs are run by qemu.
        abi: `ro.product.cpu.abi`; a phone without it is a Linux machine with an adbd.
        system: folder that becomes its /system, instead of all of this machine's programs.
        delay_s: seconds that each command takes longer to start; needs `system`.
    """

    model: str
    size: str = "400m"
    machine: str = "x86_64"
    abi: str = ""
    system: Path | None = None
    delay_s: float = 0.0


def _make_phone(folder: Path, number: int, phone: FakePhone) -> None:
    own = folder / f"phone{number}"
    for cpu, khz in ((0, 1_900_000), (1, 2_450_000)):
        (own / "cpu" / f"cpu{cpu}" / "cpufreq").mkdir(parents=True)
        (own / "cpu" / f"cpu{cpu}" / "cpufreq" / "cpuinfo_max_freq").write_text(f"{khz}\n")
        (own / "cpu" / f"cpu{cpu}" / "cpufreq" / "scaling_governor").write_text("schedutil\n")
    for name in ("online", "possible", "present"):
        (own / "cpu" / name).write_text("0-1\n")
    (own / "size").write_text(phone.size)
    props = {"ro.product.model": phone.model, "ro.product.manufacturer": "Fake", "ro.build.version.release": "8.1.0"}
    if phone.abi:
        props |= {"ro.product.cpu.abi": phone.abi, "ro.board.platform": "msm8998"}
    (own / "props").write_text("".join(f"{k}={v}\n" for k, v in props.items()) + f"machine={phone.machine}\n")
    if phone.system is not None:
        shutil.copytree(phone.system, own / "system")
        (own / "delay").write_text(str(phone.delay_s))
    if phone.machine == "aarch64":
        (own / "cpuinfo").write_text(ARM_CPUINFO + ARM_CPUINFO.replace("processor\t: 0", "processor\t: 1"))
    (own / "thermalservice").write_text(COOL)
    (own / "battery").write_text(CHARGED)


@contextlib.contextmanager
def running_phones(wanted: Sequence[FakePhone]) -> Iterator[Phones]:
    """Start these phones; skips with a reason where they cannot be had."""
    if os.uname().machine != "x86_64":
        pytest.skip("the adbd of the tests is built for x86-64")
    for program in ("adb", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}; tools/install_test_devices.sh installs it")
    if not (CACHE / "adbd" / ".complete").exists():
        pytest.skip(f"there is no adbd in {CACHE}; tools/install_test_devices.sh unpacks it")
    if any(phone.system is not None for phone in wanted) and not (CACHE / "busybox" / ".complete").exists():
        pytest.skip(f"there is no busybox in {CACHE}; tools/install_test_devices.sh unpacks it")
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*namespaces, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make namespaces")
    with tempfile.TemporaryDirectory(prefix="phones-") as name:  # short: a UNIX socket's path holds 107 bytes
        folder = Path(name)
        for number, phone in enumerate(wanted, start=1):
            _make_phone(folder, number, phone)
        script = Path(__file__).with_name("adb_phones.sh")
        command = [*namespaces, "bash", script, folder, CACHE, str(len(wanted))]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        assert process.stdout is not None
        assert process.stdin is not None
        patch = pytest.MonkeyPatch()
        try:
            if process.stdout.readline() != "ready\n":
                pytest.fail(f"no phones: {(folder / 'log').read_text()}")
            patch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{folder}/adb.sock")
            phones = Phones(folder, process)
            for number in range(1, len(wanted) + 1):
                phones.wait(number)
            yield phones
        finally:
            patch.undo()
            process.kill()  # --kill-child takes the namespaces along
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture(scope="session")
def all_phones() -> Iterator[Phones]:
    """A Pixel 2, and a Samsung Note8 with little storage."""
    with running_phones([FakePhone("Pixel 2"), FakePhone("SM-N950F", "3m")]) as phones:
        yield phones


@pytest.fixture
def phones(all_phones: Phones, monkeypatch: pytest.MonkeyPatch) -> Phones:
    """The same, cool and charged."""
    monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{all_phones.folder}/adb.sock")
    for number in (1, 2):
        all_phones.wait(number)
        all_phones.set(number, "thermalservice", COOL)
        all_phones.set(number, "battery", CHARGED)
    return all_phones


@pytest.fixture(scope="module")
def arm_phone() -> Iterator[tuple[Phones, Path]]:
    """A phone whose aarch64 programs are run by qemu, and the runtime for it."""
    if not (CACHE / "aarch64" / ".complete").exists():
        pytest.skip(f"there is no aarch64 root in {CACHE}; tools/install_test_devices.sh makes it")
    with running_phones([FakePhone("Pixel 4", machine="aarch64")]) as phones:
        try_it = ["adb", "-s", phones.serial(1), "shell", "-T", "/arm/lib/ld-linux-aarch64.so.1 --version"]
        if subprocess.run(try_it, capture_output=True).returncode:
            pytest.skip("this kernel has no binfmt_misc per namespace (Linux 6.7 or newer has)")
        yield phones, CACHE / "aarch64" / "libLiteRt.so"


# ---- a device type of another package --------------------------------------------------------------------------------


@pytest.fixture
def toy_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of `toy_board.py`, installed: its module and its entry point are on the path."""
    site = tmp_path / "site"
    metadata = site / "toy_board-1.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("toy_board.py"), site)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-board\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[ofa_latency.devices]\nboard = toy_board:SCHEME\nboard2 = toy_board:open_board\nbroken = toy_board:absent\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "toy_board", raising=False)
