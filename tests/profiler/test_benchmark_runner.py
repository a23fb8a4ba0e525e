"""BenchmarkRunner against programs that behave as both benchmark_model programs do, and as neither."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devices.errors import DeviceStorageError
from devices.local import LocalDevice
from profiler.backends import BENCHMARK_MODEL
from profiler.benchmark_runner import BenchmarkRunner
from profiler.runner import AgentCrashedError, AgentTimeoutError, JobError, RunnerError, Visit

# The "model" is a number of microseconds, or a fault.
PROGRAM = """#!{python}
import os, struct, sys, time
flags = dict(a[2:].partition("=")[::2] for a in sys.argv[1:])
if "help" in flags:
    print("usage: benchmark_model\\n\\t--graph=  string\\n\\t--num_threads=-1{help}")
    sys.exit(1)
text = open(flags["graph"]).read()
if text == "bad":
    print("ERROR: Failed to initialize the interpreter", file=sys.stderr)
    sys.exit(1)
if text == "crash":
    os.abort()
if text == "hang":
    time.sleep(600)
if text == "mute":
    sys.exit(0)
us, n = float(text), int(flags["num_runs"])
print(f"INFO: count=1 first={{us * 3}} curr=1 min=1 max=9 avg={{us * 3}} std=1")
print(f"INFO: count={{n}} first={{us}} curr=1 min=1 max=9 avg={{us * 1.1}} std=1 cpus={{len(os.sched_getaffinity(0))}}")
if {proto}:
    fields = ((1, us / 900), (5, us / 1e3), (9, us / 300))
    latency = b"".join(bytes([k << 3 | 5]) + struct.pack("<f", v) for k, v in fields)
    open(flags["result_file_path"], "wb").write(b"\\x12" + bytes([len(latency)]) + latency)
"""


def program(folder: Path, *, proto: bool = False, help: str = "") -> Path:  # noqa: A002
    path = folder / "benchmark_model"
    path.write_text(PROGRAM.format(python=sys.executable, proto=proto, help=help))
    path.chmod(0o755)
    return path


def model(folder: Path, text: str) -> Path:
    path = folder / f"{text}.tflite"
    path.write_text(text)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("proto", [False, True], ids=["text", "result file"])
def test_visits_have_the_typical_time(device: LocalDevice, tmp_path: Path, proto: bool) -> None:
    with closing(BenchmarkRunner(device, program(tmp_path, proto=proto))) as runner:
        hello = runner.open()
        assert hello.backend_version.startswith("TFLite benchmark_model ")
        assert not hello.counts_switches
        handles = [runner.load(model(tmp_path, us), threads=1, cpus=None) for us in ("100", "250")]
        results = runner.run([Visit(handle, 0, 4) for handle in handles])
        typical = [100_000, 250_000] if proto else [110_000, 275_000]
        for result, expected, first in zip(results, typical, (300_000, 750_000), strict=True):
            assert result.wall_ns[1:] == pytest.approx(expected, rel=1e-5)
            assert result.wall_ns[0] == pytest.approx(first, rel=0.12)
            assert not result.cpu_ns.any()
        runner.unload(handles[0])
        with pytest.raises(JobError, match="no model has the handle 1"):
            runner.run([Visit(handles[0], 0, 1)])


def test_another_tool_is_recognised_by_its_help(device: LocalDevice, tmp_path: Path) -> None:
    runner = BenchmarkRunner(device, program(tmp_path, help="\\n\\t--require_full_delegation=false"))
    assert runner.open().versions[BENCHMARK_MODEL].startswith("LiteRT benchmark_model ")


def test_cores_are_pinned_with_a_mask(device: LocalDevice, tmp_path: Path) -> None:
    with closing(BenchmarkRunner(device, program(tmp_path))) as runner:
        runner.open()
        handle = runner.load(model(tmp_path, "100"), threads=1, cpus=(0,))
        assert len(runner.run([Visit(handle, 0, 1)])) == 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("bad", JobError, "exit code 1: ERROR: Failed to initialize"),
        ("crash", AgentCrashedError, "exit code -6"),
        ("mute", JobError, "printed no latency"),
        ("hang", AgentTimeoutError, "did not end within 1 s"),
    ],
)
def test_faults(device: LocalDevice, tmp_path: Path, text: str, error: type[RunnerError], message: str) -> None:
    with closing(BenchmarkRunner(device, program(tmp_path), timeout_s=1 if text == "hang" else 60)) as runner:
        runner.open()
        good, bad = (runner.load(model(tmp_path, t), threads=1, cpus=None) for t in ("100", text))
        with pytest.raises(error, match=message) as caught:
            runner.run([Visit(good, 0, 2), Visit(bad, 0, 2)])
        assert caught.value.handle == bad
        assert len(caught.value.completed) == 1


def test_programs_that_are_something_else(device: LocalDevice, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o644)
    with pytest.raises(RunnerError, match=r"is not benchmark_model for .*: hello"):
        BenchmarkRunner(device, other).open()
    assert other.stat().st_mode & stat.S_IXUSR
    with pytest.raises(DeviceStorageError, match="absent"):
        BenchmarkRunner(device, tmp_path / "absent").open()


def test_a_table_of_three_blocks(device: LocalDevice, tmp_path: Path) -> None:
    from ofa_core.spaces import tiny
    from profiler.campaign import ProfileSpec, profile
    from profiler.settings import Settings

    path = program(tmp_path)
    path.write_text(path.read_text().replace("float(text)", 'float(len(open(flags["graph"], "rb").read())) / 100'))
    path.write_text(path.read_text().replace('open(flags["graph"]).read()', '""'))
    blocks = tiny().all_blocks((24,))[:3]
    settings = Settings(n_processes=3, budget_s=1, min_rounds=2, max_rounds=2)
    spec = ProfileSpec(tiny(), (24,), "here", BENCHMARK_MODEL, settings=settings, n_reference=0, order=lambda _: blocks)
    result = profile(spec, BenchmarkRunner(device, path), tmp_path / "t.csv")
    assert len(result.table) == 3
    assert result.table.n_failed == 0
    assert result.table.context.backend == BENCHMARK_MODEL
    assert result.table.context.clock == "wall"
    for entry in result.table.entries.values():
        assert (entry.latency_ms or 0) > 0.01
