"""`--tune`: set maximum clock speeds while measuring, and restore the old settings afterwards.

A shell process on the device restores them. It waits for one line or the end of its input, so the settings are restored
at the end, after Ctrl-C, when this program is killed, and when the connection breaks.
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
_MAX_LINES = 100  # of error messages before the last line

# $1: folder of cpu0, cpu1, ... Signals that end a session must not end this script.
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
    """Set the governor of each core to `performance` and Android's fixed performance mode, where permitted.

    Args:
        device: an open device.
        cpu_folder: folder with one sub-folder per core.

    Yields:
        One line that lists the changes.

    Raises:
        DeviceError: the connection fails, or the old settings were not confirmed as restored.
    """
    channel = device.start(["sh", "-c", _SCRIPT, "sh", cpu_folder])
    try:
        line = channel.read_line(_SECONDS)
        found = re.fullmatch(r"tuned ([0-9]{1,5}) (yes|no)\r?", line)
        if not found:
            raise DeviceError(f"{device.name}: unexpected reply {line[:80]!r} while setting clock speeds")
        yield _summary(int(found[1]), found[2] == "yes")
    finally:
        try:
            channel.write_line("undo")
            _wait_for_undone(channel)
        except DeviceError as error:
            raise DeviceError(
                f"{device.name}: connection lost before clock settings were confirmed restored ({error}); the device "
                "restores them by itself, please check"
            ) from error


def _wait_for_undone(channel: Channel) -> None:
    if not any(channel.read_line(_SECONDS) == "undone" for _ in range(_MAX_LINES)):
        raise DeviceError(f"{_MAX_LINES} other lines were printed")


def _summary(n_governors: int, has_fixed_mode: bool) -> str:
    done = [f"governor of {n_governors} cores set to performance"] if n_governors else []
    done += ["fixed performance mode on"] if has_fixed_mode else []
    return (
        f"clock settings: {', '.join(done)}; restored at the end"
        if done
        else "no clock settings changed: permission denied"
    )
