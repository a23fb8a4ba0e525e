"""A phone behind adb: the real adb client, one process of it per call.

Files go under a temporary name, are renamed, and are known by their content: what is there already, from an earlier
session that was told to keep it, is not sent again. A phone that was unplugged ends the call at hand with
`DeviceUnreachableError`; the next call waits for it, with pauses that grow.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from devices.adb_channel import AdbChannel
from devices.adb_client import adb, find_phone, is_network_address, select
from devices.device import ClosedAtExit, Completed, DeviceKind, checked_remote
from devices.errors import (
    ChannelClosedError,
    DeviceError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    LineTooLongError,
)
from devices.facts import CONDITIONS_SCRIPT, FACTS_SCRIPT, Conditions, DeviceFacts, parse_conditions, parse_facts
from devices.local import LocalChannel
from devices.process import OutputTimeoutError
from devices.remote_shell import (
    BACKOFF_S,
    MAX_PREFACE_BYTES,
    MISSING,
    command_line,
    kill_script,
    new_token,
    split_end_mark,
    started_group,
)
from devices.session_folder import SessionFolder
from devices.target import Target

__all__ = ["WORK_DIR", "AdbDevice", "open_target"]

PARENT = "/data/local/tmp"
FOLDER = "ofa-latency"
WORK_DIR = f"{PARENT}/{FOLDER}"
_START_S = 30.0
_PUSH_S = 300.0
_UNSET = -1


class AdbDevice(ClosedAtExit):
    """A phone behind adb.

    Args:
        serial: as adb lists it; or what chooses one of several with the same, `usb:1-2` or `transport_id:4`.
        name: what to call it.
        parent_dir: folder on the phone in which ours is made, for programs and models; ours is removed at `close`.
        python: interpreter on the phone, if there is one.
        keep: leave the folder on the phone at `close`.
        backoff_s: pauses before each look whether the phone is back.
        sleep: waits.

    Raises:
        DeviceUnreachableError: it cannot be reached, or runs an Android too old to tell exit codes.
        DeviceStorageError: the folder cannot be made.
    """

    def __init__(
        self,
        serial: str,
        *,
        name: str = "",
        parent_dir: str = PARENT,
        python: str | None = None,
        keep: bool = False,
        backoff_s: Sequence[float] = BACKOFF_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.serial = serial
        self.name = name or serial
        self.kind: DeviceKind = "phone"
        self.python = python or "python3"
        self.runs_here = False
        self.work_dir = "/"
        self._keep = keep
        self._backoff_s = tuple(backoff_s)
        self._sleep = sleep
        self._channels: list[AdbChannel] = []
        self._stale: set[int] = set()  # process groups that a lost phone may still run
        self._present: dict[str, str] = {}  # path -> sha256, of what is known to be there
        self._folders: set[str] = set()
        self._free_bytes = _UNSET
        self._is_lost = False
        self._is_closed = False
        self._local = SessionFolder("adb")
        self._token = new_token()
        try:
            self._check_features()
            self._was_there = self._make_work_dir(parent_dir)
        except DeviceError:
            self._local.close()
            raise

    # ---- programs --------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run a program to its end; see `Device.run`."""
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
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: No such file or directory, or no right")
        if group is None and done.rc == 125:
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: {self.work_dir} is gone")
        if not has_ended:  # adb itself exits with 0 when the phone is unplugged in the middle
            if self.is_connected() and group is not None:
                return Completed(done.rc, stdout, stderr)  # the shell around the program was killed with it
            self._lost(stderr)
        return Completed(done.rc, stdout, stderr)

    def start(self, argv: Sequence[str]) -> AdbChannel:
        """Start a long-lived process; see `Device.start`."""
        self._connected()
        self._channels = [channel for channel in self._channels if not channel.is_over]
        inner = LocalChannel(["adb", *select(self.serial), *self._shell(argv)], str(self._local.path))
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
            raise DeviceProcessError(f"{self.name}: cannot start {argv[0]}: No such file or directory, or no right")
        channel = AdbChannel(self, inner, argv[0], group)
        self._channels.append(channel)
        return channel

    def _shell(self, argv: Sequence[str]) -> list[str]:
        return ["shell", "-T", command_line(argv, self.work_dir, self._token, end_mark=True)]

    def _adb(self, arguments: Sequence[str], *, timeout_s: float = _START_S, input: bytes | None = None) -> Completed:  # noqa: A002
        return adb([*select(self.serial), *arguments], timeout_s=timeout_s, input=input)

    def kill_group(self, group: int) -> None:
        """Kill a process group on the phone; on one that is away, once it is back."""
        self._stale.add(group)
        if not self._is_lost:
            self._kill(group)

    def _kill(self, group: int) -> None:
        with contextlib.suppress(DeviceError):
            if self._adb(["shell", "-T", kill_script([group], self._token)]).rc == 0:
                self._stale.discard(group)

    # ---- files -----------------------------------------------------------------------------------------------------

    def push(self, local: Path, remote: str) -> None:
        """Put a file on the phone under a temporary name, then rename it; see `Device.push`."""
        path = f"{self.work_dir}/{checked_remote(remote)}"
        what = f"cannot put {local} as {remote}"
        try:
            data = local.read_bytes()
        except OSError as error:
            raise DeviceStorageError(f"{what}: {error.strerror or error}") from error
        digest = hashlib.sha256(data).hexdigest()
        self._connected()
        if self._present.get(path) == digest:
            return
        if self._was_there and path not in self._present and self._sha256(path) == digest:
            self._present[path] = digest
            return
        self._check_space(len(data), what)
        part = f"{posixpath.dirname(path)}/.{digest[:24]}.part"
        self._make_folder(posixpath.dirname(path), what)
        done = self._adb(["push", str(local.resolve()), part], timeout_s=_PUSH_S)
        if done.rc != 0:
            words = (done.stderr + done.stdout).decode("utf-8", "replace")
            if not self.is_connected():
                self._lost(words.encode())
            self._script('rm -f -- "$1"', part)
            raise DeviceStorageError(f"{what}: {_adb_error(words)}")
        self._free_bytes -= len(data)
        # A cut push leaves a part, and an adb that says nothing: only the size tells.
        moved = self._script(
            '[ "$(wc -c < "$1")" -eq "$3" ] && chmod 700 "$1" && mv -f -- "$1" "$2"', part, path, str(len(data))
        )
        if moved.rc != 0:
            self._script('rm -f -- "$1"', part)
            words = moved.stderr.decode("utf-8", "replace").strip()
            raise DeviceStorageError(f"{what}: {words or 'the file arrived incomplete'}")
        self._present[path] = digest

    def pull(self, remote: str, local: Path) -> None:
        """Fetch a file; see `Device.pull`."""
        path = f"{self.work_dir}/{checked_remote(remote)}"
        temporary = local.with_name(f".{local.name}.part")
        self._connected()
        try:
            done = self.run(["cat", path], timeout_s=_PUSH_S)  # of bounded size, other than `adb pull`
            if done.rc == 0:
                temporary.write_bytes(done.stdout)
                temporary.replace(local)
        except OSError as error:
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        if done.rc != 0:
            words = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.rc}"
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: {words}")

    def _check_space(self, n_bytes: int, what: str) -> None:
        if self._free_bytes < n_bytes:
            lines = self._script('df -Pk -- "$1" 2> /dev/null || df -k -- "$1"', self.work_dir).stdout.split(b"\n")
            fields = lines[1].split() if len(lines) > 1 else []
            known = len(fields) > 3 and re.fullmatch(rb"[0-9]{1,15}", fields[3])
            self._free_bytes = int(fields[3]) * 1024 if known else n_bytes
        if self._free_bytes < n_bytes:
            free, size = self._free_bytes / 2**20, n_bytes / 2**20
            self._free_bytes = _UNSET
            raise DeviceStorageError(
                f"{what}: No space left on device: {free:.1f} MiB free in {self.work_dir}, {size:.1f} MiB needed"
            )

    def _make_folder(self, folder: str, what: str) -> None:
        if folder not in self._folders:
            made = self._script('mkdir -p -- "$1"', folder)
            if made.rc != 0:
                raise DeviceStorageError(f"{what}: {made.stderr.decode('utf-8', 'replace').strip()}")
            self._folders.add(folder)

    def _sha256(self, path: str) -> str:
        words = self._script('sha256sum "$1" 2> /dev/null', path).stdout.split()
        return words[0].decode("ascii", "replace") if words else ""

    # ---- state -----------------------------------------------------------------------------------------------------

    def facts(self) -> DeviceFacts:
        """Say what the phone is; see `Device.facts`."""
        return parse_facts(self._script(FACTS_SCRIPT).stdout.decode("utf-8", "replace"), self.name)

    def conditions(self) -> Conditions:
        """Say what state the phone is in; see `Device.conditions`."""
        return parse_conditions(self._script(CONDITIONS_SCRIPT).stdout.decode("utf-8", "replace"))

    def _script(self, script: str, *arguments: str) -> Completed:
        return self.run(["sh", "-c", script, "sh", *arguments], timeout_s=_START_S)

    def _check_features(self) -> None:
        done = self._adb(["features"])
        if done.rc != 0:
            self._lost(done.stderr)
        if b"shell_v2" not in done.stdout.split():
            raise DeviceUnreachableError(f"{self.name}: its adbd tells no exit codes; Android 7 or newer is needed")

    def _make_work_dir(self, parent: str) -> bool:
        """Make the work directory below `parent` and take it over; True if it was there."""
        script = (
            'd=${1%/}/$3; [ -d "$d" ] && echo yes || echo no; '
            'mkdir -p -- "$d" && cd -- "$d" && echo "$2" > .owner && pwd'
        )
        done = self._script(script, parent, self._token, FOLDER)
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        if done.rc != 0 or len(lines) < 2:
            why = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.rc}"
            raise DeviceStorageError(f"{self.name}: cannot make the folder {FOLDER} in {parent}: {why}")
        if not lines[-1].startswith("/") or not lines[-1].endswith(f"/{FOLDER}"):  # it is removed at the end
            raise DeviceStorageError(f"{self.name}: answers {lines[-1][:200]!r} when asked for the folder {FOLDER}")
        self.work_dir = lines[-1]
        return lines[0] == "yes"

    # ---- connection ------------------------------------------------------------------------------------------------

    def is_connected(self) -> bool:
        """Whether adb can reach the phone now."""
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
        """Take note that the phone went away in the middle of something."""
        self._is_lost = True

    def _connected(self) -> None:
        """Wait for a phone that went away.

        Raises:
            DeviceUnreachableError: it did not come back, or the device was closed.
        """
        if self._is_closed:
            raise DeviceUnreachableError(f"{self.name} is closed")
        if not self._is_lost:
            return
        for pause in self._backoff_s:
            self._sleep(pause)
            if is_network_address(self.serial) and not self.is_connected():
                with contextlib.suppress(DeviceTimeoutError):
                    adb(["disconnect", self.serial])  # adb's own retry comes every ten seconds only
                    adb(["connect", self.serial])
            if self.is_connected():
                break
        else:
            waited = sum(self._backoff_s)
            raise DeviceUnreachableError(
                f"{self.name} ({self.serial}) did not come back within {waited:.0f} s; plug it in and run again"
            )
        self._is_lost = False
        stale, self._stale = sorted(self._stale), set()
        self._present.clear()
        self._folders.clear()
        self._was_there = True
        script = f'{kill_script(stale, self._token)}; mkdir -p -- "$1"; echo "$2" > "$1/.owner"'
        work_dir, self.work_dir = self.work_dir, "/"
        try:
            self._script(script, work_dir, self._token)
        finally:
            self.work_dir = work_dir

    def close(self) -> None:
        """Kill what was started here, and remove the folder, unless a later session has taken it over."""
        if self._is_closed:
            return
        self._backoff_s = (0.0,)
        for channel in self._channels:
            channel.kill()
        with contextlib.suppress(DeviceError):
            if not self._keep and self.work_dir != "/":
                self._script('[ "$(cat .owner)" = "$2" ] && cd / && rm -rf -- "$1"', self.work_dir, self._token)
        self._is_closed = True
        self._local.close()


def open_target(target: Target) -> AdbDevice:
    """Open the phone that a target names."""
    phone = find_phone(target.address)
    return AdbDevice(
        phone.address, name=target.name, parent_dir=target.work_dir or PARENT, python=target.python, keep=target.keep
    )


def _split_mark(stdout: bytes, token: str) -> tuple[int | None, bytes]:
    """Take the marker line off a program's output, and what comes before it."""
    rest = stdout
    while rest:
        line, _, rest = rest.partition(b"\n")
        if (group := started_group(line.decode("utf-8", "replace"), token)) is not None:
            return group, rest
    return None, stdout


def _adb_error(words: str) -> str:
    """What adb complains of, in one line."""
    lines = [line for line in words.splitlines() if "error" in line.lower()] or words.splitlines() or ["failed"]
    return re.sub(r"^adb: error: ", "", lines[-1].strip())
