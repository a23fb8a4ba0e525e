"""A machine behind ssh: one connection, one channel per program, files by sftp.

A connection that breaks ends the call at hand with `DeviceUnreachableError`; the next call connects again, with pauses
that grow, kills what the old connection left running and finds the files still there. So whoever repeats what failed
goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import paramiko

from devices.device import ClosedAtExit, Completed, DeviceKind, checked_remote
from devices.errors import (
    DeviceError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    HostKeyError,
    LineTooLongError,
)
from devices.facts import CONDITIONS_SCRIPT, FACTS_SCRIPT, Conditions, DeviceFacts, parse_conditions, parse_facts
from devices.known_hosts import PARAMIKO_ERRORS, error_text
from devices.remote_shell import BACKOFF_S, HOLD_WORK_DIR, MAKE_WORK_DIR, MISSING, command_line, kill_script, new_token
from devices.sftp import QUIET_S, bounded, fetch, open_sftp, transfer_s
from devices.ssh_channel import SshChannel
from devices.ssh_config import Host, resolve
from devices.ssh_connect import NotWelcomeError, connect
from devices.target import Target

__all__ = ["SshDevice", "open_target"]

_START_S = 30.0
_CHUNK_BYTES = 1 << 18
_WORK_DIR = re.compile(r"/([^/\0]+/){0,64}ofa-latency-[A-Za-z0-9]{6}")


class SshDevice(ClosedAtExit):
    """A machine behind ssh.

    Args:
        host: whom to connect to.
        name: what to call it.
        parent_dir: where the private work directory is made; the machine's temporary folder by default.
        python: interpreter of our programs; `python3` by default.
        keep: leave the work directory behind at `close`.
        backoff_s: pauses before each try to connect again.
        sleep: waits.

    Raises:
        HostKeyError, DeviceUnreachableError: no connection.
        DeviceStorageError: the work directory cannot be made.
    """

    def __init__(
        self,
        host: Host,
        *,
        name: str = "",
        parent_dir: str | None = None,
        python: str | None = None,
        keep: bool = False,
        backoff_s: Sequence[float] = BACKOFF_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self.name = name or host.alias
        self.kind: DeviceKind = "computer"
        self.python = python or "python3"
        self.runs_here = False
        self.work_dir = "/"
        self.n_reconnects = 0
        self._token = new_token()
        self._keep = keep
        self._backoff_s = tuple(backoff_s)
        self._sleep = sleep
        self._client: paramiko.SSHClient | None = connect(host)
        self._sftp: paramiko.SFTPClient | None = None
        self._channels: list[SshChannel] = []
        self._present: dict[str, str] = {}  # path -> sha256, of what we pushed over this connection
        self._earlier: dict[str, str] = {}  # likewise, over those that broke
        self._stale: set[int] = set()  # process groups that a broken connection may have left running
        self._folders: set[str] = set()
        self._is_closed = False
        try:
            self.work_dir = self._make_work_dir(parent_dir)
            self._hold_work_dir()
        except BaseException:
            self._drop()
            raise

    # ---- programs --------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run a program to its end; see `Device.run`."""
        deadline = time.monotonic() + timeout_s
        channel = self._spawn(argv)
        try:
            channel.feed(input or b"", deadline)
            stdout, stderr = channel.read_all(deadline)
            rc = channel.wait(max(0.0, deadline - time.monotonic()))
        except DeviceTimeoutError as error:
            channel.kill()
            raise DeviceTimeoutError(f"{argv[0]} did not end within {timeout_s:g} s") from error
        finally:
            channel.hang_up()
        return Completed(rc, stdout, stderr)

    def start(self, argv: Sequence[str]) -> SshChannel:
        """Start a long-lived process; see `Device.start`."""
        self._channels = [channel for channel in self._channels if not channel.is_over]
        channel = self._spawn(argv)
        self._channels.append(channel)
        return channel

    def _spawn(self, argv: Sequence[str]) -> SshChannel:
        session = self._session()
        channel = SshChannel(session, argv[0], self._kill)
        try:
            with bounded(session.get_transport(), _START_S, f"{self.name}: starting {argv[0]}"):
                # Each word is quoted.
                session.exec_command(command_line(argv, self.work_dir, self._token))  # nosec B601
            group = channel.read_group(self._token, _START_S)
        except PARAMIKO_ERRORS as error:
            channel.hang_up()
            if self._is_up():
                raise DeviceProcessError(f"{self.name}: does not run {argv[0]}: {error_text(error)}") from error
            raise DeviceUnreachableError(f"{self.name}: the connection broke: {error_text(error)}") from error
        except (DeviceTimeoutError, LineTooLongError) as error:
            channel.hang_up()
            hint = "does a login script print without end, or wait for input?"
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: {error}; {hint}") from error
        except DeviceProcessError as error:
            channel.hang_up()
            rc = channel.wait(_START_S)
            why = f"{self.work_dir} is gone" if rc == 125 else channel.stderr_tail().strip() or f"exit code {rc}"
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: {why}") from error
        if group == MISSING:
            channel.hang_up()
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: No such file or directory, or no right")
        channel.group = group
        return channel

    def _kill(self, group: int) -> None:
        """Kill a process group over a channel of its own; over a broken connection, once there is another."""
        self._stale.add(group)
        if self._is_up():
            with contextlib.suppress(DeviceError, *PARAMIKO_ERRORS):
                self._script(kill_script([group], self._token))
                self._stale.discard(group)

    # ---- files -----------------------------------------------------------------------------------------------------

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the machine under a temporary name, then rename it; see `Device.push`.

        What is there with the same content is not sent again, and an upload that was cut goes on where it was.
        """
        path = f"{self.work_dir}/{checked_remote(remote)}"
        try:
            data = local.read_bytes()
        except OSError as error:
            raise DeviceStorageError(f"cannot put {local} as {remote}: {error.strerror or error}") from error
        digest = hashlib.sha256(data).hexdigest()
        if self._present.get(path) == digest and self._is_up():
            return
        for attempt in (1, 2):
            try:
                self._connected()
                if self._earlier.pop(path, None) != digest or self._sha256(path) != digest:
                    with self._bounded(len(data), f"{self.name}: putting {local.name}"):
                        self._upload(data, path, digest)
                break
            except PARAMIKO_ERRORS as error:
                self._drop_sftp(error)
                if self._is_up():
                    why = getattr(error, "strerror", None) or str(error) or "failure"
                    hint = f" ({self._free_text(path)})" if "No such" not in why else ""
                    raise DeviceStorageError(f"cannot put {local} as {remote}: {why}{hint}") from error
                if attempt == 2:
                    raise DeviceUnreachableError(f"{self.name}: the connection broke twice: {error}") from error
        self._present[path] = digest

    def pull(self, remote: str, local: Path) -> None:
        """Fetch a file; see `Device.pull`."""
        path = f"{self.work_dir}/{checked_remote(remote)}"
        temporary = local.with_name(f".{local.name}.part")
        self._connected()
        try:
            with self._bounded(1 << 20, f"{self.name}: fetching {remote}"):
                temporary.write_bytes(fetch(self._files(), path))
            temporary.replace(local)
        except PARAMIKO_ERRORS as error:
            self._drop_sftp(error)
            if not self._is_up():
                raise DeviceUnreachableError(f"{self.name}: the connection broke: {error}") from error
            why = getattr(error, "strerror", None) or str(error)
            why = "No such file or directory" if why == "No such file" else why
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: {why}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _upload(self, data: bytes, path: str, digest: str) -> None:
        files, folder = self._files(), posixpath.dirname(path)
        self._make_folders(folder)
        part = f"{folder}/.{digest[:24]}.part"
        done = 0
        with contextlib.suppress(OSError):
            done = files.stat(part).st_size or 0
        done = done if done <= len(data) else 0
        with files.open(part, "r+b" if done else "wb") as file:
            file.set_pipelined(True)
            file.seek(done)
            for start in range(done, len(data), _CHUNK_BYTES):
                file.write(data[start : start + _CHUNK_BYTES])
        if (files.stat(part).st_size or 0) != len(data):
            raise OSError(0, "the file arrived incomplete")
        if done and self._sha256(part) not in (digest, None):
            files.remove(part)
            raise OSError(0, "the file arrived damaged")
        files.posix_rename(part, path)

    def _make_folders(self, folder: str) -> None:
        if folder in self._folders:
            return
        parent = posixpath.dirname(folder)
        if len(folder) > len(self.work_dir):
            self._make_folders(parent)
            with contextlib.suppress(OSError):  # it is there: if it is not, opening the file says so
                self._files().mkdir(folder, 0o700)
        self._folders.add(folder)

    def _sha256(self, path: str) -> str | None:
        """Digest of a file there; None where there is no such file, or no sha256sum."""
        first = self._script('sha256sum -- "$1" 2> /dev/null; true', path).split()
        return first[0] if first and len(first[0]) == 64 else None

    def _free_text(self, path: str) -> str:
        try:
            lines = self._script('df -Pk -- "$1" | tail -n 1; true', posixpath.dirname(path)).split()
        except DeviceError:
            return "is the disk full?"
        known = len(lines) > 3 and re.fullmatch("[0-9]{1,15}", lines[3])
        return f"{int(lines[3]) / 1024:.0f} MiB are free there" if known else "no space?"

    def _files(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            try:
                self._sftp = open_sftp(self._transport())
            except PARAMIKO_ERRORS as error:
                if not self._is_up():
                    raise
                raise DeviceStorageError(
                    f"{self.name}: its sftp server does not answer as one ({error_text(error)}); "
                    "is it installed, and does a login script (~/.bashrc) print something?"
                ) from error
        return self._sftp

    def _bounded(self, n_bytes: int, what: str) -> contextlib.AbstractContextManager[None]:
        return bounded(self._transport(), transfer_s(n_bytes), what)

    def _drop_sftp(self, error: Exception) -> None:
        """Close the session after an error, as what is under way in it is unknown; a silent server is told as such."""
        files, self._sftp = self._sftp, None
        if files is not None:
            with contextlib.suppress(*PARAMIKO_ERRORS):
                files.close()
        if isinstance(error, TimeoutError) and self._is_up():
            raise DeviceTimeoutError(f"{self.name}: its sftp server said nothing for {QUIET_S:.0f} s") from error

    # ---- state -----------------------------------------------------------------------------------------------------

    def facts(self) -> DeviceFacts:
        """Say what the machine is; see `Device.facts`."""
        return parse_facts(self._script(FACTS_SCRIPT), self.name)

    def conditions(self) -> Conditions:
        """Say what state the machine is in; see `Device.conditions`."""
        return parse_conditions(self._script(CONDITIONS_SCRIPT))

    def _script(self, script: str, *arguments: str) -> str:
        completed = self.run(["sh", "-s", "--", *arguments], timeout_s=_START_S, input=script.encode())
        return completed.stdout.decode("utf-8", "replace")

    def _make_work_dir(self, parent_dir: str | None) -> str:
        arguments = (parent_dir,) if parent_dir is not None else ()
        completed = self.run(["sh", "-s", "--", *arguments], timeout_s=_START_S, input=MAKE_WORK_DIR.encode())
        lines = completed.stdout.decode("utf-8", "replace").splitlines()
        if completed.rc != 0 or not lines:
            why = completed.stderr.decode("utf-8", "replace").strip() or f"exit code {completed.rc}"
            raise DeviceStorageError(f"{self.name}: cannot make a work directory: {why}")
        if not _WORK_DIR.fullmatch(lines[-1]):  # it is removed at the end, so it must be one that we made
            raise DeviceStorageError(f"{self.name}: answers {lines[-1][:200]!r} when asked for a new work directory")
        return lines[-1]

    def _hold_work_dir(self) -> None:
        """Start the process whose end tells later sessions that this one is dead."""
        self.start(["sh", "-c", HOLD_WORK_DIR]).read_line(_START_S)

    # ---- connection ------------------------------------------------------------------------------------------------

    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport() if self._client is not None else None
        if transport is None:
            raise EOFError("no connection")
        return transport

    def _is_up(self) -> bool:
        transport = self._client.get_transport() if self._client is not None else None
        return transport is not None and transport.is_active()

    def _session(self) -> paramiko.Channel:
        for attempt in (1, 2):
            self._connected()
            assert self._client is not None
            transport = self._client.get_transport()
            try:
                if transport is not None:
                    return transport.open_session(timeout=_START_S)
            except PARAMIKO_ERRORS as error:
                if self._is_up() or attempt == 2:
                    raise DeviceUnreachableError(f"{self.name}: cannot open a channel: {error}") from error
        raise DeviceUnreachableError(f"{self.name}: the connection broke twice")

    def _connected(self) -> None:
        """Connect again if the connection broke.

        Raises:
            DeviceUnreachableError: all tries failed, or the device was closed.
        """
        if self._is_closed:
            raise DeviceUnreachableError(f"{self.name} is closed")
        if self._is_up():
            return
        self._drop()
        for i, pause in enumerate(self._backoff_s, start=1):
            self._sleep(pause)
            try:
                self._client = connect(self.host)
                break
            except (HostKeyError, NotWelcomeError):
                raise
            except DeviceUnreachableError as error:
                if i == len(self._backoff_s):
                    waited = sum(self._backoff_s)
                    raise DeviceUnreachableError(f"{error} (tried {i} times in {waited:.0f} s)") from error
        self.n_reconnects += 1
        command = f'mkdir -p -m 700 -- "$1"; {kill_script(sorted(self._stale), self._token)}'
        work_dir, self.work_dir = self.work_dir, "/"
        try:
            self.run(["sh", "-c", command, "sh", work_dir], timeout_s=_START_S)
        finally:
            self.work_dir = work_dir
        self._stale.clear()
        self._hold_work_dir()

    def _drop(self) -> None:
        client, self._client, self._sftp = self._client, None, None
        self._earlier.update(self._present)
        self._present.clear()
        self._folders.clear()
        for channel in self._channels:
            if channel.group is not None and not channel.is_over:
                self._stale.add(channel.group)
            channel.hang_up()
        self._channels = []
        if client is not None:
            with contextlib.suppress(*PARAMIKO_ERRORS):
                client.close()

    def close(self) -> None:
        """Kill what was started here, remove the work directory and disconnect; over a broken connection, try once."""
        if self._is_closed:
            return
        self._backoff_s = (0.0,)
        for channel in self._channels:
            channel.kill()
        with contextlib.suppress(DeviceError, *PARAMIKO_ERRORS):
            if self.work_dir != "/":
                script = "rm -f .session" if self._keep else 'cd / && rm -rf -- "$1"'
                self.run(["sh", "-c", script, "sh", self.work_dir], timeout_s=_START_S)
        self._is_closed = True
        self._drop()


def open_target(target: Target) -> SshDevice:
    """Open the machine that a target names."""
    host = resolve(target.address)
    return SshDevice(host, name=target.name, parent_dir=target.work_dir, python=target.python, keep=target.keep)
