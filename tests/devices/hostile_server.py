"""An ssh server that answers as a seed says. It serves one connection after another, each in threads of its own.

It runs what it is asked to run, so it must run in a private namespace only; see `test_hostile.py`.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import paramiko

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
LONGEST_S = 2.5  # of what goes on without end, so that the tests end
BEFORE = ("silent", "endless lines", "endless line", "garbage", "closed", "banner and garbage")
EXEC = (
    "refused", "unanswered", "chatter", "endless lines", "endless line", "endless stderr", "garbage", "early exit",
    "group 1", "group 0", "group -1", "group 2147483648", "group 99999999999", "group 2", "root", "etc", "numbers",
    "die", "cut",
)  # fmt: skip
SFTP = ("refused", "unanswered", "chatter", "silent", "garbage", "packets", "die", "closed")
NOISE = b"Last login: \x1b[2J\x07 from \xff\n"


class Server(paramiko.ServerInterface):
    """Answers honestly, except where `faults` (exec number or "sftp" -> kind) or the seed say otherwise."""

    def __init__(self, rng: random.Random, faults: dict[object, str], share: float, folder: Path) -> None:
        self._rng, self._faults, self._share, self._folder = rng, faults, share, folder
        self._n_exec = 0
        self.transport: paramiko.Transport | None = None

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        fault = self._fault(self._n_exec, EXEC)
        self._n_exec += 1
        return self._begin(channel, fault, ["sh", "-c", command.decode()])

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        return self._begin(channel, self._fault("sftp", SFTP), [SFTP_SERVER])

    def _fault(self, key: object, kinds: tuple[str, ...]) -> str:
        return self._faults.get(key) or (self._rng.choice(kinds) if self._rng.random() < self._share else "")

    def _begin(self, channel: paramiko.Channel, fault: str, command: list[str]) -> bool:
        if fault == "refused":
            return False
        if fault == "unanswered":
            time.sleep(LONGEST_S)
            return True
        threading.Thread(target=self._serve, args=(channel, fault, command), daemon=True).start()
        return True

    def _serve(self, channel: paramiko.Channel, fault: str, command: list[str]) -> None:
        time.sleep(0.05)  # until the request is answered
        with contextlib.suppress(Exception):
            if fault in ("", "chatter", "endless stderr", "cut"):
                self._honest(channel, fault, command)
            else:
                self._lie(channel, fault, command[-1])
        with contextlib.suppress(Exception):
            channel.close()

    def _honest(self, channel: paramiko.Channel, fault: str, command: list[str]) -> None:
        if fault == "chatter":
            channel.sendall(NOISE * 200)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(self._folder)}, cwd=self._folder,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def feed() -> None:
            with contextlib.suppress(Exception):
                while data := channel.recv(65536):
                    process.stdin.write(data)
                    process.stdin.flush()
            with contextlib.suppress(Exception):
                process.stdin.close()

        def complain() -> None:
            with contextlib.suppress(Exception):
                while data := process.stderr.read1(65536):
                    channel.sendall_stderr(data)

        for work in (feed, complain):
            threading.Thread(target=work, daemon=True).start()
        if fault == "endless stderr":
            threading.Thread(target=_repeat, args=(channel.sendall_stderr, NOISE * 99), daemon=True).start()
        while data := process.stdout.read1(65536):
            channel.sendall(data)
            if fault == "cut" and self.transport is not None:
                self.transport.close()
        channel.send_exit_status(process.wait() & 255)

    def _lie(self, channel: paramiko.Channel, fault: str, command: str) -> None:
        found = re.search("OFA_LATENCY_TOKEN=([0-9a-f]+)", command)
        mark = f"@ofa-latency@ {found[1] if found else ''}".encode()
        if fault.startswith("group"):
            channel.sendall(f"{mark.decode()} {fault[6:]}\n@ofa-latency@ {fault[6:]}\n".encode())
            _repeat(lambda _: time.sleep(0.1), b"", lambda: channel.closed)
        elif fault in ("root", "etc"):
            channel.sendall(mark + b" 4000\n" + {"root": b"/\n", "etc": b"/etc/ofa-latency-abcdef/..\n"}[fault])
        elif fault == "numbers":
            nines = b"9" * 400
            text = b"\n".join((b"@@ meminfo", b"MemTotal: -" + nines, b"@@ max_freq", b"/cpu0/cpufreq/x:-" + nines))
            channel.sendall(mark + b" 4000\n" + text + b"\n@@ uname\n\x1b[2J\n")
        elif fault == "endless lines":
            _repeat(channel.sendall, NOISE * 999)
        elif fault == "endless line":
            _repeat(channel.sendall, b"x" * 65536)
        elif fault == "early exit":
            channel.send_exit_status(self._rng.randrange(256))
        elif fault == "die" and self.transport is not None:
            self.transport.close()
        elif fault == "silent":
            time.sleep(LONGEST_S)
        elif fault == "packets":
            for _ in range(20):
                body = self._rng.randbytes(self._rng.randrange(1, 60))
                channel.sendall(len(body).to_bytes(4) + body)
        elif fault == "garbage":
            channel.sendall(self._rng.randbytes(5000))
        channel.send_exit_status(0)


def _repeat(send: object, data: bytes, is_over: object = bool) -> None:
    end = time.monotonic() + LONGEST_S
    with contextlib.suppress(Exception):
        while time.monotonic() < end and not is_over():  # type: ignore[operator]
            send(data)  # type: ignore[operator]


class Listener:
    """Accepts connections on a loopback port; `expect` says how the next ones are served."""

    def __init__(self, folder: Path) -> None:
        self.key = paramiko.ECDSAKey.generate()
        self.folder = folder
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.expect(random.Random(0))
        threading.Thread(target=self._accept, daemon=True).start()

    def expect(
        self, rng: random.Random, *, before: str = "", faults: dict[object, str] | None = None, share: float = 0.0
    ) -> None:
        self._plan = (rng, before, faults or {}, share)

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection, *self._plan), daemon=True).start()

    def _serve(
        self, connection: socket.socket, rng: random.Random, before: str, faults: dict[object, str], share: float
    ) -> None:
        with contextlib.suppress(Exception):
            if before:
                _before(connection, rng, before)
                connection.close()
                return
            server = Server(rng, faults, share, self.folder)
            server.transport = paramiko.Transport(connection)
            server.transport.add_server_key(self.key)
            server.transport.start_server(server=server)


def _before(connection: socket.socket, rng: random.Random, fault: str) -> None:
    if fault == "silent":
        time.sleep(LONGEST_S)
    elif fault == "endless lines":
        _repeat(connection.sendall, NOISE * 99)
    elif fault == "endless line":
        _repeat(connection.sendall, b"x" * 4096)
    elif fault == "garbage":
        connection.sendall(rng.randbytes(5000))
    elif fault == "banner and garbage":
        connection.sendall(b"SSH-2.0-x\r\n" + rng.randbytes(5000))
