"""`--tune`: full clocks while measuring, and everything as it was afterwards, whatever happens.

What undoes the changes is a shell process on the device itself, which waits for one line or for the end of its input.
So they are undone at the end, after Ctrl-C, when this program is killed, and when the connection breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from devices.device import Channel, Device
from devices.errors import DeviceError

__all__ = ["CPU_FOLDER", "tuned"]

CPU_FOLDER = "/sys/devices/system/cpu"
_SECONDS = 30.0
_MAX_LINES = 100  # of complaints before the last one

# $1: the folder of cpu0, cpu1, ... The signals that end a session must not end this.
_SCRIPT = r"""
trap '' HUP INT TERM PIPE
old= n=0 fixed=no
for f in "$1"/cpu[0-9]*/cpufreq/scaling_governor; do
  [ -w "$f" ] || continue
  was=$(cat "$f")
  if echo performance > "$f" && [ "$(cat "$f")" = performance ]; then
    old="$old $f=$was"
    n=$((n + 1))
  fi
done 2> /dev/null
if [ "$(getprop ro.build.version.sdk 2> /dev/null)" -ge 30 ] 2> /dev/null &&
  cmd power set-fixed-performance-mode-enabled true > /dev/null 2>&1
then fixed=yes; fi
echo "tuned $n $fixed"
read -r line
for pair in $old; do echo "${pair##*=}" > "${pair%%=*}"; done
[ $fixed = no ] || cmd power set-fixed-performance-mode-enabled false > /dev/null 2>&1
echo undone
"""


@contextmanager
def tuned(device: Device, cpu_folder: str = CPU_FOLDER) -> Iterator[str]:
    """Set each core's governor to `performance`, and Android's fixed performance mode, as far as we are allowed to.

    Args:
        device: open.
        cpu_folder: where its cores are described.

    Yields:
        What was changed, in one line.

    Raises:
        DeviceError: the device's own; also when it cannot be seen that the changes were undone.
    """
    channel = device.start(["sh", "-c", _SCRIPT, "sh", cpu_folder])
    try:
        line = channel.read_line(_SECONDS)
        found = re.fullmatch(r"tuned ([0-9]{1,5}) (yes|no)\r?", line)
        if not found:
            raise DeviceError(f"{device.name}: tuning said {line[:80]!r}")
        yield _summary(int(found[1]), found[2] == "yes")
    finally:
        try:
            channel.write_line("undo")
            _wait_for_undone(channel)
        except DeviceError as error:
            raise DeviceError(
                f"{device.name}: the connection broke before it said that its clocks are as they were ({error}); it "
                "undoes that by itself, but do look"
            ) from error


def _wait_for_undone(channel: Channel) -> None:
    if not any(channel.read_line(_SECONDS) == "undone" for _ in range(_MAX_LINES)):
        raise DeviceError(f"it printed {_MAX_LINES} other lines")


def _summary(n_governors: int, has_fixed_mode: bool) -> str:
    done = [f"governor of {n_governors} cores set to performance"] if n_governors else []
    done += ["fixed performance mode on"] if has_fixed_mode else []
    return f"tuned: {', '.join(done)}; undone at the end" if done else "tuned: nothing; we may not change its clocks"
