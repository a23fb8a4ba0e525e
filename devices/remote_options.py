"""Options of a device behind a connection, and the loop that connects again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from devices.errors import AccessDeniedError, DeviceUnreachableError, HostKeyError
from devices.target import Target

__all__ = ["PAUSES_S", "RemoteOptions", "options_of", "reconnect"]

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Pauses before each attempt to connect again: two minutes, enough for a restart."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Options of a device behind a connection.

    Attributes:
        name: device name in messages and tables; by default its address.
        parent_dir: folder on the device in which the work directory is made; by default its folder for temporary files.
        python: interpreter on the device; `python3` by default.
        keep: True to leave the work directory on the device at `close`.
        pauses_s: pauses before each attempt to connect again, in seconds.
        sleep: waits for some seconds.
    """

    name: str = ""
    parent_dir: str | None = None
    python: str | None = None
    keep: bool = False
    pauses_s: tuple[float, ...] = PAUSES_S
    sleep: Callable[[float], None] = time.sleep


def options_of(target: Target) -> RemoteOptions:
    """Return the options that a target sets."""
    return RemoteOptions(target.name, target.work_dir, target.python, target.keep)


def reconnect(connect: Callable[[], None], options: RemoteOptions) -> None:
    """Call `connect` after each pause until it returns.

    Raises:
        HostKeyError, AccessDeniedError: raised by `connect`; another attempt would not help.
        DeviceUnreachableError: all attempts failed; the message is that of the last one.
    """
    for number, pause_s in enumerate(options.pauses_s, start=1):
        options.sleep(pause_s)
        try:
            connect()
        except (HostKeyError, AccessDeniedError):
            raise
        except DeviceUnreachableError as error:
            if number == len(options.pauses_s):
                waited_s = sum(options.pauses_s)
                raise DeviceUnreachableError(f"{error} (tried {number} times in {waited_s:.0f} s)") from error
        else:
            return
