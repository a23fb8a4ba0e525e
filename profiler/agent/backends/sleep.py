"""A backend that sleeps: it tests everything around a runtime, with faults on demand.

The model file is JSON: `{"ms": 1.5}` sleeps 1.5 ms per run; `"spin": true` computes for that time instead. `"fail"`
names a fault. It occurs at load if the name starts with `load`, else at run number `"after"` (from 0; default 0):

    load        an exception at load             load_crash   abort (SIGABRT) at load
    run         an exception                     load_hang    load never returns
    crash       abort (SIGABRT)                  kill         the process kills itself (SIGKILL)
    exit        the process ends with code 3     hang         a run never returns
    garbage     text that is no reply, on the reply stream
    chatter     text on file descriptor 1, as runtimes print it; harmless, the run continues
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from profiler.agent.backends import Choice

__all__ = ["SleepBackend", "SleepModel"]

_FAULTS = ("load", "load_crash", "load_hang", "run", "crash", "kill", "exit", "hang", "garbage", "chatter")
_FOREVER_S = 3600.0


class SleepModel:
    """A model that sleeps or computes for a given time, and fails on demand."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.settings: dict[str, Any] = dict(spec)
        self._seconds = float(spec.get("ms", 0.0)) / 1e3
        self._spin = bool(spec.get("spin", False))
        self._fault = spec.get("fail")
        self._countdown = int(spec.get("after", 0))

    def run(self) -> None:
        """Sleep or compute once; raise an error, hang or end the process when the fault is due."""
        if self._fault is not None:
            self._countdown -= 1
            if self._countdown < 0:
                _fail(self._fault)
        if self._spin:
            end = time.perf_counter() + self._seconds
            while time.perf_counter() < end:
                pass
        elif self._seconds > 0:
            time.sleep(self._seconds)

    def close(self) -> None:
        """Free nothing."""


class SleepBackend:
    """A backend without a runtime."""

    def __init__(self, choice: Choice) -> None:
        """Accept any choice; there is nothing to start."""

    def versions(self) -> dict[str, str]:
        """Return a constant version."""
        return {"sleep": "1"}

    def load(self, path: str, threads: int) -> SleepModel:
        """Read the JSON file at `path`; `threads` is only reported in the settings."""
        with open(path, encoding="utf-8") as file:  # noqa: PTH123  the agent spares the import of pathlib
            spec = json.load(file)
        fault = spec.get("fail")
        if fault is not None and fault not in _FAULTS:
            raise ValueError("unknown fault {!r}, known are {}".format(fault, ", ".join(_FAULTS)))
        if fault is not None and fault.startswith("load"):
            _fail(fault)
        return SleepModel(dict(spec, threads=threads))


def _fail(fault: str) -> None:
    if fault in ("load", "run"):
        raise RuntimeError(f"this model fails at {fault}, as its file asks")
    if fault in ("crash", "load_crash"):
        os.abort()
    elif fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "exit":
        os._exit(3)
    elif fault in ("hang", "load_hang"):
        time.sleep(_FOREVER_S)
    elif fault == "garbage":
        os.write(int(os.environ["OFA_AGENT_REPLY_FD"]), b"Segmentation fault? No: just garbage\n")
    elif fault == "chatter":
        os.write(1, b"INFO: a runtime says hello on stdout\n")
