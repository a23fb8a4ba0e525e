"""Several devices at once: each in a thread of its own, and none of them stops the others.

Devices that are elsewhere are measured side by side; this machine comes last and alone, because a host that serves
others is no quiet machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from profiler.settings import Progress

__all__ = ["Interrupted", "measure_all", "stoppable"]


class Interrupted(KeyboardInterrupt):
    """Raised in a worker at its next visit after the user has pressed Ctrl-C."""


def stoppable(show: Callable[[Progress], None], stop: threading.Event) -> Callable[[Progress], None]:
    """A progress callback that ends its session when `stop` is set."""

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
    errors: tuple[type[Exception], ...],
    complain: Callable[[str, Exception], None],
) -> Mapping[str, int]:
    """Measure devices, those elsewhere at the same time.

    Args:
        names: of the devices, each once.
        measure: measures one, and returns an exit code; it ends soon after the event is set.
        is_here: whether a device is this machine.
        errors: what counts as a device's own failure.
        complain: is told of it.

    Returns:
        exit code by name, 1 where a device failed.

    Raises:
        KeyboardInterrupt: the user's, when all workers have ended.
    """
    stop = threading.Event()
    codes: dict[str, int] = {}

    def attempt(name: str) -> None:
        try:
            codes[name] = measure(name, stop)
        except errors as error:
            codes[name] = 1
            complain(name, error)
        except Interrupted:
            codes[name] = 1

    elsewhere = [name for name in names if not is_here(name)]
    if len(elsewhere) > 1:
        with ThreadPoolExecutor(len(elsewhere), thread_name_prefix="device") as pool:
            futures = [pool.submit(attempt, name) for name in elsewhere]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                stop.set()
                raise
    else:
        for name in elsewhere:
            attempt(name)
    for name in names:
        if is_here(name):
            attempt(name)
    return {name: codes[name] for name in names}
