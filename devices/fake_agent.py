"""The agent of the fake device: it answers the agent's protocol (`docs/formats.md`) in memory, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from devices.errors import DeviceUnreachableError
from devices.facts import parse_facts
from devices.fake_state import FakeRun, FakeState, FakeTiming

__all__ = ["FakeAgent"]

_OVERHEAD_S = 1e-4  # virtual time of one request
_LOAD_S = 2e-3


class FakeAgent:
    """The agent's side of the protocol, without a runtime.

    Args:
        state: of the device.
        end: ends the process with an exit code.
        backend: name to report.
    """

    def __init__(self, state: FakeState, end: Callable[[int], None], backend: str) -> None:
        self._state = state
        self._end = end
        self._backend = backend
        self._process = state.n_processes
        self._models: dict[int, tuple[bytes, int]] = {}
        self._visits: dict[bytes, int] = {}
        self._n_loaded = 0
        self._hangs = False

    def answer(self, line: str) -> list[str]:
        """Return the reply to a request, or no line if the process ended or hangs."""
        request = json.loads(line)
        self._state.requests.append(request)
        self._state.advance(_OVERHEAD_S)
        if self._hangs:
            return []
        model = self._content(request)
        try:
            kind = self._state.due_fault(request["op"], model)
        except DeviceUnreachableError:
            return []
        if kind == "crash":
            self._end(-9)
            return []
        if kind == "hang":
            self._hangs = True
            return []
        if kind == "garbage":
            return ["garbage, not JSON"]
        try:
            if kind == "error":
                raise RuntimeError("a fault of the fake device")  # noqa: TRY301
            body: dict[str, Any] = {"ok": True, **self._do(request, model)}
        except (KeyError, RuntimeError, ValueError) as error:
            body = {"ok": False, "error": {"type": type(error).__name__, "message": str(error)}}
        return [json.dumps({"id": request["id"], **body})]

    def _content(self, request: dict[str, Any]) -> bytes | None:
        if request["op"] == "load":
            return self._state.files.get(request["model"])
        return self._models.get(request.get("handle", 0), (None, 0))[0]

    def _do(self, request: dict[str, Any], model: bytes | None) -> dict[str, Any]:
        op = request["op"]
        if op == "hello":
            return self._hello()
        if op == "quit":
            self._end(0)
            return {}
        if model is None:
            raise ValueError(f"no such model: {request.get('model', request.get('handle'))}")
        if op == "load":
            self._n_loaded += 1
            self._models[self._n_loaded] = (model, request["threads"])
            self._state.advance(_LOAD_S)
            return {"handle": self._n_loaded, "load_ns": round(_LOAD_S * 1e9), "settings": {"fake": True}}
        if op == "unload":
            del self._models[request["handle"]]
            return {}
        return self._run(model, request)

    def _hello(self) -> dict[str, Any]:
        cpus = list(range(parse_facts(self._state.facts_text, "").n_cores or 1))
        return {
            "protocol": 1,
            "backend": self._backend,
            "versions": {self._backend: "0"},
            "python": "3.8.0",
            "machine": "aarch64",
            "system": "Linux",
            "n_cores": len(cpus),
            "cpus": cpus,
            "clocks": {
                "wall": "fake",
                "cpu_one_thread": "fake",
                "cpu_many_threads": "fake",
                "switches_one_thread": "thread",
                "switches_many_threads": "process",
            },
            "pid": 1000 + self._process,
        }

    def _run(self, model: bytes, request: dict[str, Any]) -> dict[str, Any]:
        visit = self._visits.get(model, 0)
        self._visits[model] = visit + 1
        threads = self._models[request["handle"]][1]
        timings = []
        for repeat in range(request["repeats"]):
            timing = self._state.latency(FakeRun(model, self._process, visit, repeat, threads))
            timings.append(timing if isinstance(timing, FakeTiming) else FakeTiming(timing, timing))
        n_runs = len(timings) + request["warmup"]
        self._state.advance(sum(t.wall_ms * t.inner for t in timings) / 1e3 * n_runs / max(1, len(timings)), model)
        return {
            "inner": timings[0].inner if timings else 1,
            "wall_ns": [round(t.wall_ms * 1e6) for t in timings],
            "cpu_ns": [round(t.cpu_ms * 1e6) for t in timings],
            "switches": [t.n_switches for t in timings],
            "n_involuntary_switches": sum(t.n_switches for t in timings),
            "peak_rss_kb": None,
        }
