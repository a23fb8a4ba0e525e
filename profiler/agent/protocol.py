"""The agent's side of the protocol: one JSON request per line on stdin, exactly one JSON reply per line on stdout.

`docs/formats.md` ("Agent protocol") is the contract. The agent answers requests in order; the host may send several
ahead. The reply to a request that raises is `{"ok": false, "error": {"type", "message"}}`. The agent ends at `quit` and
at the end of its input, so no agent is left running when the host dies.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

from profiler.agent.backends import Backend, Model, open_backend
from profiler.agent.timing import clocks, read_peak_rss_kb, reset_peak_rss, timed_loop

__all__ = ["PROTOCOL", "Agent", "main", "serve"]

PROTOCOL = 1
_UNKNOWN = -1


class _Loaded(NamedTuple):
    model: Model
    threads: int
    cpus: set[int] | None  # None: the cores that were allowed when the process started
    peak_rss_kb: int | None = _UNKNOWN  # of the first visit, because a reading takes 60 us; None: not readable


class Agent:
    """The state between requests: the backend and the loaded models, by handle.

    Args:
        backend: name for `open_backend`. It is imported at the first request that needs it, so that an unknown name or
            a missing runtime gives an error reply instead of a dead process.
        dtype: for `open_backend`.
        delegate: for `open_backend`.
        graph_form: for `open_backend`.
    """

    def __init__(self, backend: str, dtype: str = "fp32", delegate: str = "", graph_form: str = "") -> None:
        self._names = (backend, dtype, delegate, graph_form)
        self._backend: Backend | None = None
        self._models: dict[int, _Loaded] = {}
        self._n_loaded = 0
        self._home_cpus = _affinity()
        self._cpus = self._home_cpus

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request and return the body of its reply.

        Raises:
            ValueError: an unknown `op` or handle, or a parameter out of range. A runtime may raise other errors.
        """
        op = request.get("op")
        if op == "hello":
            return self._hello()
        if op == "load":
            return self._load(str(request["model"]), int(request.get("threads", 1)), request.get("cpus"))
        if op == "run":
            return self._run(int(request["handle"]), int(request.get("warmup", 0)), int(request["repeats"]))
        if op == "unload":
            self._take(int(request["handle"])).model.close()
            del self._models[int(request["handle"])]
            return {}
        if op == "quit":
            return {}
        raise ValueError(f"unknown op {op!r}, known are hello, load, run, unload, quit")

    def _ready(self) -> Backend:
        if self._backend is None:
            self._backend = open_backend(*self._names)
        return self._backend

    def _take(self, handle: int) -> _Loaded:
        if handle not in self._models:
            raise ValueError(f"no model has the handle {handle}")
        return self._models[handle]

    def _hello(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "backend": self._names[0],
            "versions": self._ready().versions(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "system": platform.system(),
            "n_cores": os.cpu_count(),
            "cpus": sorted(self._home_cpus) if self._home_cpus is not None else None,
            "clocks": clocks(),
            "pid": os.getpid(),
        }

    def _load(self, path: str, threads: int, cpus: list[int] | None) -> dict[str, Any]:
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        wanted = set(map(int, cpus)) if cpus else None
        backend = self._ready()
        self._settle(wanted)  # before the runtime starts its worker threads, which inherit the binding
        start = time.perf_counter_ns()
        model = backend.load(path, threads)
        load_ns = time.perf_counter_ns() - start
        self._n_loaded += 1
        self._models[self._n_loaded] = _Loaded(model, threads, wanted)
        return {"handle": self._n_loaded, "load_ns": load_ns, "settings": model.settings}

    def _run(self, handle: int, warmup: int, repeats: int) -> dict[str, Any]:
        if warmup < 0 or repeats < 1:
            raise ValueError(f"warmup >= 0 and repeats >= 1 are needed, not {warmup} and {repeats}")
        loaded = self._take(handle)
        self._settle(loaded.cpus)
        watched = loaded.peak_rss_kb == _UNKNOWN and reset_peak_rss()
        timed = getattr(loaded.model, "timed", None)
        if timed is not None:
            numbers = timed(warmup, repeats)
        else:
            numbers = timed_loop(loaded.model.run, warmup, repeats, loaded.threads)
        if loaded.peak_rss_kb == _UNKNOWN:
            loaded = loaded._replace(peak_rss_kb=read_peak_rss_kb() if watched else None)
            self._models[handle] = loaded
        return dict(numbers, peak_rss_kb=loaded.peak_rss_kb)

    def _settle(self, cpus: set[int] | None) -> None:
        """Bind this thread to `cpus`; None restores the cores that were allowed at the start."""
        target = self._home_cpus if cpus is None else cpus
        if target == self._cpus:
            return
        if target is None or not hasattr(os, "sched_setaffinity"):
            raise ValueError(f"this system cannot bind a process to the cpus {sorted(target or ())}")
        try:
            os.sched_setaffinity(0, target)
        except OSError as error:
            allowed = sorted(self._home_cpus or ())
            raise ValueError(f"cannot run on the cpus {sorted(target)}, allowed are {allowed}") from error
        self._cpus = target


def serve(agent: Agent, requests: Iterable[bytes], replies: BinaryIO) -> None:
    """Answer each line of `requests` with one line in `replies`, until `quit` or the end."""
    for line in requests:
        request_id, op = None, None
        try:
            request = _parse(line)
            request_id, op = request.get("id"), request.get("op")
            reply = dict(id=request_id, ok=True, **agent.answer(request))
        # An error of a runtime ends this request only; the other models stay loaded.
        except Exception as error:
            reply = {
                "id": request_id,
                "ok": False,
                "error": {"type": type(error).__name__, "message": str(error) or repr(error)},
            }
        replies.write(json.dumps(reply, separators=(",", ":")).encode("ascii") + b"\n")
        replies.flush()
        if op == "quit":
            return


def _parse(line: bytes) -> dict[str, Any]:
    request = json.loads(line)
    if not isinstance(request, dict):
        raise TypeError(f"a request is a JSON object, not {type(request).__name__}")
    return request


def main(argv: list[str]) -> int:
    """Run the agent on this process's stdin and stdout; the exit code is 0."""
    parser = argparse.ArgumentParser(prog="agent", description="Times models for a host, in JSON lines.")
    parser.add_argument("--backend", required=True, metavar="NAME")
    parser.add_argument("--dtype", default="fp32", metavar="NAME")
    parser.add_argument("--delegate", default="", metavar="NAME")
    parser.add_argument("--graph-form", default="", metavar="NAME")
    parser.add_argument("--meter", action="store_true", help="Print the energy of the GPU once a second, nothing else.")
    options = parser.parse_args(argv)
    if options.meter:
        from profiler.agent.backends.nvml import energy_lines

        for text in energy_lines(int(options.delegate.partition(":")[2] or 0)):
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        return 0
    replies = _take_stdout()
    faulthandler.enable()
    agent = Agent(options.backend, options.dtype, options.delegate, options.graph_form)
    serve(agent, sys.stdin.buffer, replies)
    return 0


def _take_stdout() -> BinaryIO:
    """Keep the real stdout for replies, and redirect other output to stderr."""
    sys.stdout.flush()
    reply_fd = os.dup(1)
    os.dup2(2, 1)
    os.environ["OFA_AGENT_REPLY_FD"] = str(reply_fd)  # the sleep backend's fault "garbage" writes there
    return os.fdopen(reply_fd, "wb")


def _affinity() -> set[int] | None:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
