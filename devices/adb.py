"""A phone behind adb: each call runs the real adb client.

A phone that was unplugged ends the current call with `DeviceUnreachableError`; the next call waits for the phone, with
growing pauses.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TypeVar

from devices.adb_channel import AdbChannel
from devices.adb_client import adb, adb_program, find_phone, is_network_address, select
from devices.device import ClosedAtExit, Completed, DeviceKind
from devices.errors import (
    ChannelClosedError,
    DeviceError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    LineTooLongError,
)
from devices.facts import Conditions, DeviceFacts
from devices.local import LocalChannel
from devices.process import OutputTimeoutError
from devices.remote_files import RemoteFiles
from devices.remote_options import RemoteOptions, options_of, reconnect
from devices.remote_shell import (
    MAX_PREFACE_BYTES,
    MISSING,
    command_line,
    kill_script,
    new_token,
    split_end_mark,
    started_group,
)
from devices.scripts import read_conditions, read_facts, run_script
from devices.session_folder import SessionFolder
from devices.target import Target

__all__ = ["WORK_DIR", "AdbDevice", "open_target"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
PARENT = "/data/local/tmp"
FOLDER = "ofa-latency"
WORK_DIR = f"{PARENT}/{FOLDER}"
_START_S = 30.0
_PUSH_S = 300.0

# $1: the parent folder, $2: the token of this session, $3: the folder's name.
_MAKE_WORK_DIR = 'd=${1%/}/$3; mkdir -p -- "$d" && cd -- "$d" && echo "$2" > .owner && pwd'


class AdbDevice(ClosedAtExit):
    """A phone behind adb.

        with AdbDevice("HT7A1234") as device:
            print(device.facts().model)

    Args:
        serial: serial number in `adb devices`; `usb:1-2` or `transport_id:4` if several phones have the same.
        options: name, parent of the work directory (default: /data/local/tmp), interpreter, attempts to connect again.

    Raises:
        DeviceUnreachableError: there is no connection, or Android is older than 7 and reports no exit codes.
        DeviceStorageError: the work directory cannot be made.
    """

    def __init__(self, serial: str, options: RemoteOptions = RemoteOptions()) -> None:  # noqa: B008  it is frozen
        self.serial = serial
        self.name = options.name or serial
        self.kind: DeviceKind = "phone"
        self.python = options.python or "python3"
        self.runs_here = False
        self.work_dir = "/"
        self._options = options
        self._files = RemoteFiles(self, self._connected, self._upload)
        self._channels: list[AdbChannel] = []
        self._stale: set[int] = set()  # process groups that an unplugged phone may still run
        self._is_lost = False
        self._is_closed = False
        self._local = SessionFolder("adb")
        self._token = new_token()
        try:
            self._check_features()
            self._make_work_dir(options.parent_dir or PARENT)
        except DeviceError:
            self._local.close()
            raise

    # ---- programs --------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run a program to its end; see `Device.run`."""
        return _again_if_missing(lambda: self._run(argv, timeout_s, input))

    def _run(self, argv: Sequence[str], timeout_s: float, input: bytes | None) -> Completed:  # noqa: A002
        self._connected()
        try:
            done = self._adb(self._shell(argv), timeout_s=timeout_s, input=input)
        except DeviceTimeoutError as error:
            group = _split_mark(error.stdout, self._token)[0] if isinstance(error, OutputTimeoutError) else None
            if group is not None and group != MISSING:
                self._kill(group)
            raise DeviceTimeoutError(f"{argv[0]} did not end within {timeout_s:g} s") from error
        group, stdout = _split_mark(done.stdout, self._token)
        stderr, has_ended = split_end_mark(done.stderr)
        if group == MISSING:
            raise _MissingError(f"{self.name}: cannot start {argv[0]}: No such file or directory, or no access")
        if group is None and done.rc == 125:
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: {self.work_dir} is gone")
        if not has_ended:  # adb itself exits with 0 when the phone is unplugged in the middle
            if self.is_connected() and group is not None:
                return Completed(done.rc, stdout, stderr)  # the surrounding shell was killed as well
            self._lost(stderr)
        return Completed(done.rc, stdout, stderr)

    def start(self, argv: Sequence[str]) -> AdbChannel:
        """Start a long-lived process; see `Device.start`."""
        return _again_if_missing(lambda: self._start(argv))

    def _start(self, argv: Sequence[str]) -> AdbChannel:
        self._connected()
        self._channels = [channel for channel in self._channels if not channel.is_over]
        inner = LocalChannel([adb_program(), *select(self.serial), *self._shell(argv)], str(self._local.path))
        deadline = time.monotonic() + _START_S
        group, n_bytes = None, 0
        try:
            while group is None:
                line = inner.read_line(max(0.0, deadline - time.monotonic()))
                group, n_bytes = started_group(line, self._token), n_bytes + len(line) + 1
                if group is None and n_bytes > MAX_PREFACE_BYTES:
                    raise LineTooLongError(  # noqa: TRY301
                        f"{self.name}: more than {MAX_PREFACE_BYTES} bytes came before {argv[0]} started"
                    )
        except ChannelClosedError as error:
            rc, words = inner.wait(_START_S), inner.stderr_tail()
            inner.kill()
            if rc == 125:
                raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: {self.work_dir} is gone") from error
            self._lost(words.encode())
        except (DeviceTimeoutError, LineTooLongError):
            inner.kill()
            raise
        if group == MISSING:
            inner.kill()
            raise _MissingError(f"{self.name}: cannot start {argv[0]}: No such file or directory, or no access")
        channel = AdbChannel(self, inner, argv[0], group)
        self._channels.append(channel)
        return channel

    def _shell(self, argv: Sequence[str]) -> list[str]:
        return ["shell", "-T", command_line(argv, self.work_dir, self._token, end_mark=True)]

    def _adb(self, arguments: Sequence[str], *, timeout_s: float = _START_S, input: bytes | None = None) -> Completed:  # noqa: A002
        return adb([*select(self.serial), *arguments], timeout_s=timeout_s, input=input)

    def kill_group(self, group: int) -> None:
        """Kill a process group on the phone. If the phone is unplugged, kill it once the phone is back."""
        self._stale.add(group)
        if not self._is_lost:
            self._kill(group)

    def _kill(self, group: int) -> None:
        with contextlib.suppress(DeviceError):
            if self._adb(["shell", "-T", kill_script([group], self._token)]).rc == 0:
                self._stale.discard(group)

    # ---- files -----------------------------------------------------------------------------------------------------

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the phone; see `Device.push` and `RemoteFiles`."""
        self._files.push(local, remote)

    def pull(self, remote: str, local: Path) -> None:
        """Fetch a file; see `Device.pull`."""
        self._files.pull(remote, local)

    def _upload(self, local: Path, data: bytes, part: str, n_sent: int) -> None:  # noqa: ARG002
        """Send a file, always from its start; see `devices.remote_files.Upload`."""
        done = self._adb(["push", str(local.resolve()), part], timeout_s=_PUSH_S)
        if done.rc != 0:
            words = (done.stderr + done.stdout).decode("utf-8", "replace")
            if not self.is_connected():
                self._lost(words.encode())
            raise DeviceStorageError(_adb_error(words))

    # ---- state -----------------------------------------------------------------------------------------------------

    def facts(self) -> DeviceFacts:
        """Read what the phone is; see `Device.facts`."""
        return read_facts(self)

    def conditions(self) -> Conditions:
        """Read the phone's state; see `Device.conditions`."""
        return read_conditions(self)

    def _check_features(self) -> None:
        done = self._adb(["features"])
        if done.rc != 0:
            self._lost(done.stderr)
        if b"shell_v2" not in done.stdout.split():
            raise DeviceUnreachableError(f"{self.name}: its adbd reports no exit codes; Android 7 or newer is needed")

    def _make_work_dir(self, parent: str) -> None:
        """Make the work directory in `parent`, or take over an existing one."""
        done = run_script(self, _MAKE_WORK_DIR, parent, self._token, FOLDER, timeout_s=_START_S)
        lines = done.text.splitlines()
        if done.rc != 0 or not lines:
            raise DeviceStorageError(f"{self.name}: cannot make the folder {FOLDER} in {parent}: {done.reason}")
        if not lines[-1].startswith("/") or not lines[-1].endswith(f"/{FOLDER}"):  # it is removed at the end
            raise DeviceStorageError(f"{self.name}: answers {lines[-1][:200]!r} when asked for the folder {FOLDER}")
        self.work_dir = lines[-1]

    # ---- connection ------------------------------------------------------------------------------------------------

    def is_connected(self) -> bool:
        """Return True if adb can reach the phone now."""
        try:
            done = self._adb(["get-state"], timeout_s=10)
        except DeviceError:
            return False
        return done.rc == 0 and done.stdout.strip() == b"device"

    def _lost(self, stderr: bytes) -> NoReturn:
        self._is_lost = True
        for channel in self._channels:
            self._stale.add(channel.group)
        words = stderr.decode("utf-8", "replace").strip().splitlines()
        why = words[-1].removeprefix("error: ").removeprefix("adb: ") if words else "it was unplugged"
        raise DeviceUnreachableError(f"{self.name} is not connected: {why}")

    def note_lost(self) -> None:
        """Record that the phone was unplugged while a channel was used."""
        self._is_lost = True

    def _connected(self) -> None:
        """Wait for a phone that was unplugged.

        Raises:
            DeviceUnreachableError: it was not plugged in in time, or the device was closed.
        """
        if self._is_closed:
            raise DeviceUnreachableError(f"{self.name} is closed")
        if not self._is_lost:
            return
        reconnect(self._connect, self._options)
        self._is_lost = False
        stale, self._stale = sorted(self._stale), set()
        self._files.forget()
        script = f'{kill_script(stale, self._token)}; mkdir -p -- "$1"; echo "$2" > "$1/.owner"'
        work_dir, self.work_dir = self.work_dir, "/"  # which may be gone
        try:
            run_script(self, script, work_dir, self._token, timeout_s=_START_S)
        finally:
            self.work_dir = work_dir

    def _connect(self) -> None:
        if is_network_address(self.serial) and not self.is_connected():
            with contextlib.suppress(DeviceTimeoutError):
                adb(["disconnect", self.serial])  # adb itself tries again after ten seconds only
                adb(["connect", self.serial])
        if not self.is_connected():
            raise DeviceUnreachableError(f"{self.name} ({self.serial}) is not connected; plug it in and run again")

    def close(self) -> None:
        """Kill what was started, and remove the work directory unless a later session took it over."""
        if self._is_closed:
            return
        self._options = replace(self._options, pauses_s=(0.0,))
        for channel in self._channels:
            channel.kill()
        if not self._options.keep and self.work_dir != "/":
            self._remove_work_dir()
        self._is_closed = True
        self._local.close()

    def _remove_work_dir(self) -> None:
        script = '[ "$(cat .owner)" = "$2" ] || exit 0; cd / && rm -rf -- "$1"'
        try:
            done = run_script(self, script, self.work_dir, self._token, timeout_s=_START_S)
            reason = "" if done.rc == 0 else done.reason
        except DeviceProcessError:  # the folder is gone
            return
        except DeviceError as error:
            reason = str(error)
        if reason:
            _LOG.warning("%s: files stay in %s until the next session: %s", self.name, self.work_dir, reason)


class _MissingError(DeviceProcessError):
    """The shell on the phone finds no such program."""


def _again_if_missing(action: Callable[[], _T]) -> _T:
    """Call `action` again if the phone did not find the program: a phone once missed its own shell for a moment."""
    try:
        return action()
    except _MissingError as error:
        _LOG.debug("%s; trying again", error)
        return action()


def open_target(target: Target) -> AdbDevice:
    """Open the phone of a target."""
    return AdbDevice(find_phone(target.address).address, options_of(target))


def _split_mark(stdout: bytes, token: str) -> tuple[int | None, bytes]:
    """Return the process group in the marker line, and the output after it."""
    rest = stdout
    while rest:
        line, _, rest = rest.partition(b"\n")
        if (group := started_group(line.decode("utf-8", "replace"), token)) is not None:
            return group, rest
    return None, stdout


def _adb_error(words: str) -> str:
    """Return adb's error in one line."""
    lines = [line for line in words.splitlines() if "error" in line.lower()] or words.splitlines() or ["failed"]
    return re.sub(r"^adb: error: ", "", lines[-1].strip())
