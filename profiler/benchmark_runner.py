"""Run models with the official `benchmark_model`, which the user supplies: one process per visit.

The program prints a summary instead of single runs. So each run of a visit gets the typical time (the median if a
result file is written, else the mean), and the first run its own. CPU time and context switches are unknown and set
to zero. A table takes several times as long as with an agent.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from devices.device import Completed, Device
from devices.errors import DeviceProcessError, DeviceStorageError, DeviceTimeoutError
from devices.session_folder import SessionFolder
from profiler.backends import BENCHMARK_MODEL
from profiler.benchmark_output import BenchmarkOutputError, BenchmarkSummary, parse_output, parse_result_file
from profiler.runner import AgentCrashedError, AgentTimeoutError, Hello, JobError, Result, Runner, RunnerError, Visit

__all__ = ["BenchmarkRunner"]

_PROGRAM = "native/benchmark_model"
_HELP_S = 30.0


class BenchmarkRunner(Runner):
    """Runs models with `benchmark_model` on any device.

    Args:
        device: an open device; the caller closes it.
        binary: the program, built for the device.
        timeout_s: longest wait for one visit.
        extra: further flags, such as `--use_xnnpack=false`.
    """

    def __init__(self, device: Device, binary: Path, timeout_s: float = 120.0, extra: Sequence[str] = ()) -> None:
        self.device = device
        self._binary = binary
        self._timeout_s = timeout_s
        self._extra = tuple(extra)
        self._models: dict[int, tuple[str, str, int, tuple[int, ...]]] = {}  # path on the device, name, threads, cpus
        self._n_handles = 0
        self._n_visits = 0
        self._writes_result = True  # False after the first failure

    def payload(self) -> str:
        """Return the program's name and size; see `Runner.payload`."""
        n_bytes = self._binary.stat().st_size if self._binary.exists() else 0
        return f"{self._binary.name}, {n_bytes / 2**20:.1f} MiB"

    def open(self) -> Hello:
        """Put the program on the device and check that it starts; see `Runner.open`.

        Raises:
            RunnerError: the program does not start there, or is not benchmark_model.
            DeviceError: the connection fails, or the file cannot be pushed.
        """
        self.close()
        try:
            digest = hashlib.sha256(self._binary.read_bytes()).hexdigest()[:12]
        except OSError as error:
            raise DeviceStorageError(f"cannot read {self._binary}: {error.strerror or error}") from error
        self.device.push(self._binary, _PROGRAM)
        self.device.run(["sh", "-c", 'test -x "$1" || chmod 700 "$1"', "sh", _PROGRAM], timeout_s=_HELP_S)
        try:
            done = self.device.run([f"./{_PROGRAM}", "--help"], timeout_s=_HELP_S)
        except DeviceProcessError as error:
            raise RunnerError(f"{self._binary} does not start on {self.device.name}: {error}") from error
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        if "--graph" not in text and "graph" not in text:
            first = (text.strip().splitlines() or [f"exit code {done.rc}"])[0]
            raise RunnerError(f"{self._binary} is not benchmark_model for {self.device.name}: {first[:120]}")
        kind = "LiteRT" if "--use_npu" in text or "require_full_delegation" in text else "TFLite"
        facts = self.device.facts()
        return Hello(
            backend=BENCHMARK_MODEL,
            versions={BENCHMARK_MODEL: f"{kind} benchmark_model {digest}"},
            python="none",
            machine=facts.arch or "unknown",
            system="Linux",
            n_cores=facts.n_cores,
            cpus=None,
            clocks={"wall": "benchmark_model", "switches_one_thread": None},
        )

    def load(self, model: Path, *, threads: int, cpus: tuple[int, ...] | None) -> int:
        """Put a model on the device; see `Runner.load`. The first visit shows if the model runs."""
        try:
            digest = hashlib.blake2b(model.read_bytes(), digest_size=12).hexdigest()
        except OSError as error:
            raise DeviceStorageError(f"cannot read the model {model}: {error.strerror or error}") from error
        remote = f"models/{digest}{model.suffix}"
        self.device.push(model, remote)
        self._n_handles += 1
        self._models[self._n_handles] = (remote, model.name, threads, cpus or ())
        return self._n_handles

    def run(self, visits: Sequence[Visit]) -> list[Result]:
        """Make the visits, one process each; see `Runner.run`."""
        results: list[Result] = []
        for visit in visits:
            results.append(self._visit(visit, results))
        return results

    def unload(self, handle: int) -> None:
        """Forget a model; see `Runner.unload`."""
        self._known(handle, [])
        del self._models[handle]

    def close(self) -> None:
        """Forget all models; no process is running."""
        self._models.clear()

    def _visit(self, visit: Visit, results: Sequence[Result]) -> Result:
        remote, name, threads, cpus = self._known(visit.handle, results)
        command = [
            f"./{_PROGRAM}", f"--graph={remote}", f"--num_threads={threads}", f"--num_runs={visit.repeats}",
            f"--warmup_runs={max(visit.warmup, 1)}", "--warmup_min_secs=0", "--min_secs=0", *self._extra,
        ]  # fmt: skip
        self._n_visits += 1
        result_file = f"native/result-{self._n_visits}.pb"  # a new name for each visit
        if self._writes_result:
            command.append(f"--result_file_path={result_file}")
        if cpus:
            command = ["taskset", f"{sum(1 << cpu for cpu in cpus):x}", *command]
        context: dict[str, Any] = {"handle": visit.handle, "model": name, "completed": results}
        try:
            done = self.device.run(command, timeout_s=self._timeout_s)
        except DeviceTimeoutError as error:
            raise AgentTimeoutError(f"benchmark_model {name}: {error}", **context) from error
        if done.rc != 0:
            text = (done.stderr + done.stdout).decode("utf-8", "replace")
            words = next((x for x in text.splitlines() if "ERROR" in x), "") or text.strip().rpartition("\n")[2]
            message = f"benchmark_model {name}: exit code {done.rc}: {words.strip()[:160]}"
            if done.rc < 0 or done.rc > 128:
                raise AgentCrashedError(message, rc=done.rc, stderr=text[-2000:], **context)
            raise JobError(message, error_type="benchmark_model", error_message=words, **context)
        try:
            summary = self._summary(done, result_file)
        except BenchmarkOutputError as error:
            raise JobError(
                f"benchmark_model {name}: {error}", error_type="output", error_message=str(error), **context
            ) from error
        return _result(summary, visit.repeats)

    def _summary(self, done: Completed, result_file: str) -> BenchmarkSummary:
        """Read the summary from the result file if the program writes one, else from its output."""
        if self._writes_result:
            with SessionFolder("result") as folder:
                local = Path(folder, "result.pb")
                try:
                    self.device.pull(result_file, local)
                    return parse_result_file(local.read_bytes())
                except (DeviceStorageError, BenchmarkOutputError):
                    self._writes_result = False
        return parse_output(done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace"))

    def _known(self, handle: int, results: Sequence[Result]) -> tuple[str, str, int, tuple[int, ...]]:
        if handle not in self._models:
            raise JobError(
                f"no model has the handle {handle}",
                handle=handle, completed=results, error_type="ValueError", error_message="unknown handle",
            )  # fmt: skip
        return self._models[handle]


def _result(summary: BenchmarkSummary, repeats: int) -> Result:
    wall = np.full(repeats, max(1, math.ceil(summary.typical_us * 1e3)), dtype=np.int64)
    if summary.first_us is not None and 0 < summary.first_us < 1e12:
        wall[0] = math.ceil(summary.first_us * 1e3)
    zeros = np.zeros(repeats, dtype=np.int64)
    return Result(wall_ns=wall, cpu_ns=zeros, switches=zeros.copy(), peak_rss_kb=summary.peak_memory_kb)
