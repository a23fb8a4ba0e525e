"""Programs behind a remote POSIX shell (ssh, adb): one place that quotes, and one way to end what was started.

A command line becomes one string that any login shell passes on unchanged. The remote side answers with a marker line
first, which tells the number of its process group: both sshd and adbd give each command a session of its own, so
killing that group ends the program and all its children. What a chatty login script prints before it is skipped.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

__all__ = ["BACKOFF_S", "MISSING", "command_line", "kill_script", "split_end_mark", "started_group"]

BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Pauses before each look whether a device that went away is back: two minutes, which a reboot takes."""

MISSING = -1
"""What `started_group` says of a program that is not there."""

_MARK = "@ofa-latency@"

# $1 is the work directory, the rest the program. The shell stays, so that a signal becomes the exit code 128 + number.
_WRAPPER = f"""cd -- "$1" || exit 125
shift
command -v -- "$1" > /dev/null 2>&1 || {{ echo "{_MARK} missing"; exit 127; }}
echo "{_MARK} $$"
"$@"
rc=$?
%s
exit $rc"""
_END_MARK = f'echo "{_MARK} end" >&2'


def command_line(argv: Sequence[str], work_dir: str, *, end_mark: bool = False) -> str:
    """Return the one string that runs `argv` in `work_dir`; each word is quoted once, so none of them is interpreted.

    Args:
        argv: the program and its arguments.
        work_dir: where it runs.
        end_mark: whether a last line of stderr shall say that the program has ended, see `split_end_mark`.

    Raises:
        ValueError: no program, or a word with a NUL, which no shell can pass on.
    """
    if not argv or any("\0" in word for word in argv):
        raise ValueError(f"{list(argv)!r} is no command line")
    return shlex.join(["exec", "sh", "-c", _WRAPPER % (_END_MARK if end_mark else ":"), "ofa-latency", work_dir, *argv])


def split_end_mark(stderr: bytes) -> tuple[bytes, bool]:
    """Take the end mark off a program's stderr; without one, the program or its connection was cut off."""
    rest, mark, tail = stderr.rpartition(f"{_MARK} end".encode())
    return (rest, True) if mark and not tail.strip() else (stderr, False)


def started_group(line: str) -> int | None:
    """Read one line of output: the process group, `MISSING`, or None for a line that is not the marker."""
    found = re.fullmatch(rf"{_MARK} (\d+|missing)\r?", line)
    if not found:
        return None
    return MISSING if found[1] == "missing" else int(found[1])


def kill_script(groups: Sequence[int], boot_id: str = "") -> str:
    """Return a script that kills process groups, unless the machine was started anew since (`boot_id` differs)."""
    numbers = " ".join(f"-{group}" for group in groups)
    test = f'[ "$(cat /proc/sys/kernel/random/boot_id 2> /dev/null)" = {shlex.quote(boot_id)} ] && ' if boot_id else ""
    return f"{test}kill -KILL {numbers} 2> /dev/null; true" if groups else "true"
