"""Programs behind a remote POSIX shell (ssh, adb): one place that quotes, and one way to end what was started.

A command line becomes one string that any login shell passes on unchanged. The remote side answers with a marker line
first, which holds a token of ours and the number of the process group: both sshd and adbd give each command a session
of its own, so killing that group ends the program and all its children. What a chatty login script prints before the
marker is skipped, up to `MAX_PREFACE_BYTES`.

The number in the marker is what a device says, so it is never killed on its word: it must be above 1, and `kill_script`
kills a group only if one of its processes has our token in its environment.
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
"""What `started_group` says of a program that is not there."""

MAX_PREFACE_BYTES = 1 << 20
"""Most output before the marker: what login scripts print."""

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


# $1: the parent folder, if any. Folders whose session's process is gone are removed first; those of other users and
# those that were to be kept (without the file .session) stay. The new folder's name comes last, on a line of its own,
# so that a chatty login script does no harm.
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
"""Lives as long as its session: `MAKE_WORK_DIR` of a later session removes the folder when it is gone."""


def new_token() -> str:
    """Return a word that marks the processes of one session and that nobody can guess."""
    import secrets

    return secrets.token_hex(8)


def command_line(argv: Sequence[str], work_dir: str, token: str, *, end_mark: bool = False) -> str:
    """Return the one string that runs `argv` in `work_dir`; each word is quoted once, so none of them is interpreted.

    Args:
        argv: the program and its arguments.
        work_dir: where it runs.
        token: of the session; stands in the marker and in the environment of every process.
        end_mark: whether a last line of stderr shall say that the program has ended, see `split_end_mark`.

    Raises:
        ValueError: no program, or a word with a NUL, which no shell can pass on.
    """
    if not argv or any("\0" in word for word in argv):
        raise ValueError(f"{list(argv)!r} is no command line")
    script = _WRAPPER % (_END_MARK if end_mark else ":")
    return shlex.join(
        ["exec", "env", f"{_VARIABLE}={token}", "sh", "-c", script, "ofa-latency", work_dir, token, *argv]
    )


def split_end_mark(stderr: bytes) -> tuple[bytes, bool]:
    """Take the end mark off a program's stderr; without one, the program or its connection was cut off."""
    rest, mark, tail = stderr.rpartition(f"{_MARK} end".encode())
    return (rest, True) if mark and not tail.strip() else (stderr, False)


def started_group(line: str, token: str) -> int | None:
    """Read one line of output: the process group, `MISSING`, or None for a line that is not the marker.

    A marker with another token, or with a number that no group of ours can have, is not the marker.
    """
    found = re.fullmatch(rf"{_MARK} {token} ([0-9]{{1,10}}|missing)\r?", line)
    if not found:
        return None
    if found[1] == "missing":
        return MISSING
    return group if 1 < (group := int(found[1])) <= MAX_GROUP else None


def kill_script(groups: Sequence[int], token: str) -> str:
    """Return a script that kills those process groups that have a process with our token in its environment.

    Neither a number that a device made up nor one that another program got since (after a restart, say) is killed.
    """
    numbers = " ".join(str(group) for group in groups if 1 < group <= MAX_GROUP)
    return _KILL % (numbers, _VARIABLE, token) if numbers else "true"
