"""Run and kill programs behind a remote POSIX shell (ssh, adb); the only place that quotes.

A command line becomes one string that any login shell passes on unchanged. The first line of output is a marker with
the session's token and the number of the process group. sshd and adbd both give each command a session of its own, so
killing that group ends the program and all its children. Output of login scripts before the marker is skipped, up to
`MAX_PREFACE_BYTES`.

The number in the marker comes from the device and is not trusted: it must be above 1, and `kill_script` kills a group
only if one of its processes has the token in its environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

__all__ = [
    "HOLD_WORK_DIR",
    "MAKE_WORK_DIR",
    "MAX_PREFACE_BYTES",
    "MISSING",
    "command_line",
    "kill_script",
    "new_token",
    "split_end_mark",
    "started_group",
]

MISSING = -1
"""Result of `started_group` for a program that does not exist."""

MAX_PREFACE_BYTES = 1 << 20
"""Maximum output of login scripts, before the marker."""

MAX_GROUP = 2**31 - 1

_MARK = "@ofa-latency@"
_VARIABLE = "OFA_LATENCY_TOKEN"

# $1 is the work directory, $2 the token, the rest the program. The shell stays, so that a signal becomes the exit code
# 128 + number.
_WRAPPER = f"""cd -- "$1" || exit 125
token=$2
shift 2
command -v -- "$1" > /dev/null 2>&1 || {{ echo "{_MARK} $token missing"; exit 127; }}
echo "{_MARK} $token $$"
"$@"
rc=$?
%s
exit $rc"""
_END_MARK = f'echo "{_MARK} end" >&2'

# Field 5 of /proc/PID/stat is the process group; the name in field 2 may hold spaces and parentheses.
_KILL = """for stat in /proc/[0-9]*/stat; do
  read -r line < "$stat" || continue
  set -- ${line##*) }
  case " %s " in *" $3 "*) ;; *) continue ;; esac
  tr '\\000' '\\n' < "${stat%%stat}environ" | grep -q '^%s=%s$' && [ "$3" -gt 1 ] && kill -KILL "-$3"
done 2> /dev/null; true"""


# $1: the parent folder, if any. Folders whose session's process has ended are removed first. Folders of other users,
# and kept ones (without the file .session), stay. The new folder's name is the last line, after any output of login
# scripts.
MAKE_WORK_DIR = f"""umask 077; cd -- "${{1:-${{TMPDIR:-/tmp}}}}" || exit
for d in ofa-latency-??????; do
  [ -d "$d" ] && [ ! -h "$d" ] && [ -O "$d" ] && [ -r /proc/self/environ ] || continue
  pid= token=
  read -r pid token < "$d/.session"
  case "$pid:$token" in *[!0-9a-f:]* | :* | *:) continue ;; esac
  tr '\\000' '\\n' < "/proc/$pid/environ" | grep -qx "{_VARIABLE}=$token" || rm -rf -- "./$d"
done 2> /dev/null
d=$(mktemp -d ofa-latency-XXXXXX) && cd "$d" && pwd -P"""

HOLD_WORK_DIR = f'echo "$$ ${_VARIABLE}" > .session && echo held && exec cat > /dev/null'
"""Runs as long as its session; once it has ended, `MAKE_WORK_DIR` of a later session removes the folder."""


def new_token() -> str:
    """Return an unpredictable word that marks the processes of one session."""
    import secrets

    return secrets.token_hex(8)


def command_line(argv: Sequence[str], work_dir: str, token: str, *, end_mark: bool = False) -> str:
    """Return one string that runs `argv` in `work_dir`; each word is quoted, so that no shell interprets it.

    Args:
        argv: the program and its arguments.
        work_dir: folder in which it runs.
        token: the session's token, for the marker and the environment of every process.
        end_mark: True to print a last line to stderr when the program has ended, see `split_end_mark`.

    Raises:
        ValueError: there is no program, or a word contains NUL.
    """
    if not argv or any("\0" in word for word in argv):
        raise ValueError(f"{list(argv)!r} is no command line")
    script = _WRAPPER % (_END_MARK if end_mark else ":")
    return shlex.join(
        ["exec", "env", f"{_VARIABLE}={token}", "sh", "-c", script, "ofa-latency", work_dir, token, *argv]
    )


def split_end_mark(stderr: bytes) -> tuple[bytes, bool]:
    """Return stderr without the end mark, and True if there was one; without it the program or connection was cut."""
    rest, mark, tail = stderr.rpartition(f"{_MARK} end".encode())
    return (rest, True) if mark and not tail.strip() else (stderr, False)


def started_group(line: str, token: str) -> int | None:
    """Return the process group or `MISSING` from a line of output; None if the line is not the marker.

    A line with another token, or with an impossible number, is not the marker.
    """
    found = re.fullmatch(rf"{_MARK} {token} ([0-9]{{1,10}}|missing)\r?", line)
    if not found:
        return None
    if found[1] == "missing":
        return MISSING
    return group if 1 < (group := int(found[1])) <= MAX_GROUP else None


def kill_script(groups: Sequence[int], token: str) -> str:
    """Return a script that kills each of the groups in which a process has the token in its environment.

    It thus kills neither a group whose number is invented, nor one that another program has since (after a restart).
    """
    numbers = " ".join(str(group) for group in groups if 1 < group <= MAX_GROUP)
    return _KILL % (numbers, _VARIABLE, token) if numbers else "true"
