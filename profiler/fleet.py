"""Measure several devices, each in a thread of its own; a failure of one does not stop the others.

Remote devices are measured in parallel. This machine comes last and alone, because serving others disturbs it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from devices.errors import DeviceError
from ofa_core.errors import OfaError
from profiler.settings import Progress

__all__ = ["Interrupted", "measure_all", "stoppable"]

_LOG = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Ends the session of a thread at its next visit after Ctrl-C."""


def stoppable(show: Callable[[Progress], None], stop: threading.Event) -> Callable[[Progress], None]:
    """Return a progress callback that ends its session once `stop` is set."""

    def call(progress: Progress) -> None:
        if stop.is_set():
            raise Interrupted
        show(progress)

    return call


def measure_all(
    names: Sequence[str],
    measure: Callable[[str, threading.Event], int],
    *,
    is_here: Callable[[str], bool],
) -> Mapping[str, int]:
    """Measure several devices, remote ones in parallel.

    Args:
        names: names of the devices, each once.
        measure: measures a device and returns an exit code; it ends soon after the event is set.
        is_here: returns True if a device is this machine.

    Returns:
        The exit code by name; 1 for a device that failed with an OfaError or DeviceError, which is logged.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after all threads have ended.
    """
    stop = threading.Event()
    codes: dict[str, int] = {}

    def attempt(name: str) -> None:
        try:
            codes[name] = measure(name, stop)
        except (OfaError, DeviceError) as error:
            codes[name] = 1
            _LOG.error("%s: failed: %s", name, error)
        except Interrupted:
            codes[name] = 1

    remote = [name for name in names if not is_here(name)]
    if len(remote) > 1:
        with ThreadPoolExecutor(len(remote), thread_name_prefix="device") as pool:
            futures = [pool.submit(attempt, name) for name in remote]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                stop.set()
                raise
    else:
        for name in remote:
            attempt(name)
    for name in names:
        if is_here(name):
            attempt(name)
    return {name: codes[name] for name in names}
