"""A machine behind ssh: one connection, one channel for each program, files sent by sftp.

A lost connection ends the current call with `DeviceUnreachableError`. The next call connects again after growing pauses
and kills what the old connection left running; the files are still there. A caller that repeats the failed call thus
continues where it was.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import paramiko

from devices.device import ClosedAtExit, Completed, DeviceKind
from devices.errors import (
    DeviceError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    LineTooLongError,
)
from devices.facts import Conditions, DeviceFacts
from devices.known_hosts import PARAMIKO_ERRORS, error_text
from devices.remote_files import RemoteFiles
from devices.remote_options import RemoteOptions, options_of, reconnect
from devices.remote_shell import HOLD_WORK_DIR, MAKE_WORK_DIR, MISSING, command_line, kill_script, new_token
from devices.scripts import read_conditions, read_facts, run_script
from devices.sftp import QUIET_S, bounded, open_sftp, transfer_s
from devices.ssh_channel import SshChannel
from devices.ssh_config import Host, resolve
from devices.ssh_connect import connect
from devices.target import Target

__all__ = ["SshDevice", "open_target"]

_START_S = 30.0
_CHUNK_BYTES = 1 << 18
_WORK_DIR = re.compile(r"/([^/\0]+/){0,64}ofa-latency-[A-Za-z0-9]{6}")


class SshDevice(ClosedAtExit):
    """A machine behind ssh.

        with SshDevice(resolve("user@host")) as device:
            print(device.run(["uname", "-a"], timeout_s=10).text)

    Args:
        host: the machine.
        options: name, work directory, interpreter and attempts to connect again.

    Raises:
        HostKeyError, DeviceUnreachableError: there is no connection.
        DeviceStorageError: the work directory cannot be made.
    """

    def __init__(self, host: Host, options: RemoteOptions = RemoteOptions()) -> None:  # noqa: B008  it is frozen
        self.host = host
        self.name = options.name or host.alias
        self.kind: DeviceKind = "computer"
        self.python = options.python or "python3"
        self.runs_here = False
        self.work_dir = "/"
        self.n_reconnects = 0
        self._options = options
        self._token = new_token()
        self._client: paramiko.SSHClient | None = connect(host)
        self._sftp: paramiko.SFTPClient | None = None
        self._files = RemoteFiles(self, self._connected, self._upload)
        self._channels: list[SshChannel] = []
        self._stale: set[int] = set()  # process groups that a lost connection may have left running
        self._is_closed = False
        try:
            self.work_dir = self._make_work_dir()
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
            raise DeviceUnreachableError(f"{self.name}: the connection was lost: {error_text(error)}") from error
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
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: No such file or directory, or no access")
        channel.group = group
        return channel

    def _kill(self, group: int) -> None:
        """Kill a process group through a channel of its own. If the connection is lost, kill it after reconnecting."""
        self._stale.add(group)
        if self._is_up():
            with contextlib.suppress(DeviceError, *PARAMIKO_ERRORS):
                run_script(self, kill_script([group], self._token), timeout_s=_START_S)
                self._stale.discard(group)

    # ---- files -----------------------------------------------------------------------------------------------------

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the machine; see `Device.push` and `RemoteFiles`."""
        self._files.push(local, remote)

    def pull(self, remote: str, local: Path) -> None:
        """Fetch a file; see `Device.pull`."""
        self._files.pull(remote, local)

    def _upload(self, local: Path, data: bytes, part: str, n_sent: int) -> None:
        """Send a file by sftp; see `devices.remote_files.Upload`."""
        try:
            with (
                bounded(self._transport(), transfer_s(len(data)), f"{self.name}: putting {local.name}"),
                self._sftp_client().open(part, "r+b" if n_sent else "wb") as file,
            ):
                file.set_pipelined(True)
                file.seek(n_sent)
                for start in range(n_sent, len(data), _CHUNK_BYTES):
                    file.write(data[start : start + _CHUNK_BYTES])
        except PARAMIKO_ERRORS as error:
            self._drop_sftp()
            if not self._is_up():
                raise DeviceUnreachableError(f"{self.name}: the connection was lost: {error_text(error)}") from error
            if isinstance(error, TimeoutError):
                message = f"{self.name}: its sftp server did not answer for {QUIET_S:.0f} s"
                raise DeviceTimeoutError(message) from error
            raise DeviceStorageError(error_text(error)) from error

    def _sftp_client(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            try:
                self._sftp = open_sftp(self._transport())
            except PARAMIKO_ERRORS as error:
                if not self._is_up():
                    raise
                raise DeviceStorageError(
                    f"{self.name}: its sftp server gives no valid answer ({error_text(error)}); "
                    "is it installed, and does a login script (~/.bashrc) print something?"
                ) from error
        return self._sftp

    def _drop_sftp(self) -> None:
        """Close the sftp session after an error, because the state of its requests is unknown."""
        client, self._sftp = self._sftp, None
        if client is not None:
            with contextlib.suppress(*PARAMIKO_ERRORS):
                client.close()

    # ---- state -----------------------------------------------------------------------------------------------------

    def facts(self) -> DeviceFacts:
        """Read what the machine is; see `Device.facts`."""
        return read_facts(self)

    def conditions(self) -> Conditions:
        """Read the machine's state; see `Device.conditions`."""
        return read_conditions(self)

    def _make_work_dir(self) -> str:
        parent = self._options.parent_dir
        done = run_script(self, MAKE_WORK_DIR, *([parent] if parent is not None else []), timeout_s=_START_S)
        lines = done.text.splitlines()
        if done.rc != 0 or not lines:
            raise DeviceStorageError(f"{self.name}: cannot make a work directory: {done.reason}")
        if not _WORK_DIR.fullmatch(lines[-1]):  # it is removed at the end, so its form is checked
            raise DeviceStorageError(f"{self.name}: answers {lines[-1][:200]!r} when asked for a new work directory")
        return lines[-1]

    def _hold_work_dir(self) -> None:
        """Start the process that marks the work directory as used; it ends with this session."""
        self.start(["sh", "-c", HOLD_WORK_DIR]).read_line(_START_S)

    # ---- connection ------------------------------------------------------------------------------------------------

    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport() if self._client is not None else None
        if transport is None:
            raise EOFError("no connection")
        return transport

    def _is_up(self) -> bool:
        return (
            self._client is not None
            and (transport := self._client.get_transport()) is not None
            and (transport.is_active())
        )

    def _session(self) -> paramiko.Channel:
        for attempt in (1, 2):
            self._connected()
            try:
                return self._transport().open_session(timeout=_START_S)
            except PARAMIKO_ERRORS as error:
                if self._is_up() or attempt == 2:
                    raise DeviceUnreachableError(f"{self.name}: cannot open a channel: {error_text(error)}") from error
        raise AssertionError

    def _connected(self) -> None:
        """Connect again if the connection was lost.

        Raises:
            DeviceUnreachableError: all attempts failed, or the device was closed.
        """
        if self._is_closed:
            raise DeviceUnreachableError(f"{self.name} is closed")
        if self._is_up():
            return
        self._drop()
        reconnect(self._connect, self._options)
        self.n_reconnects += 1
        script = f'mkdir -p -m 700 -- "$1"; {kill_script(sorted(self._stale), self._token)}'
        work_dir, self.work_dir = self.work_dir, "/"  # which may be gone
        try:
            run_script(self, script, work_dir, timeout_s=_START_S)
        finally:
            self.work_dir = work_dir
        self._stale.clear()
        self._hold_work_dir()

    def _connect(self) -> None:
        self._client = connect(self.host)

    def _drop(self) -> None:
        client, self._client = self._client, None
        self._sftp = None
        self._files.forget()
        for channel in self._channels:
            if channel.group is not None and not channel.is_over:
                self._stale.add(channel.group)
            channel.hang_up()
        self._channels = []
        if client is not None:
            with contextlib.suppress(*PARAMIKO_ERRORS):
                client.close()

    def close(self) -> None:
        """Kill what was started, remove the work directory and disconnect. Over a lost connection, try once."""
        if self._is_closed:
            return
        self._options = replace(self._options, pauses_s=(0.0,))
        for channel in self._channels:
            channel.kill()
        with contextlib.suppress(DeviceError, *PARAMIKO_ERRORS):
            if self.work_dir != "/":
                script = "rm -f .session" if self._options.keep else 'cd / && rm -rf -- "$1"'
                run_script(self, script, self.work_dir, timeout_s=_START_S)
        self._is_closed = True
        self._drop()


def open_target(target: Target) -> SshDevice:
    """Open the machine of a target."""
    return SshDevice(resolve(target.address), options_of(target))
