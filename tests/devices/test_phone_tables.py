"""Whole tables of phones: real adb, real adbd, the C agent for x86-64 and aarch64, unplugged and throttled."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from devices.adb import AdbDevice
from devices.errors import DeviceUnreachableError
from devices.remote_options import PAUSES_S, RemoteOptions
from ofa_core.blocks import BlockSpec
from ofa_core.measured_networks import networks_path, read_networks
from ofa_core.spaces import tiny
from ofa_core.table import LatencyTable
from profiler.agent_runner import AgentRunner
from profiler.campaign import ProfileSpec, journal_path, profile
from profiler.journal import read_journal
from profiler.native.build import agent_for, build_agent
from profiler.native.program import NativeProgram
from profiler.native.runtimes import runtime_for
from profiler.native.system import System, this_system
from profiler.plan import PROBE
from profiler.runner import Visit
from profiler.settings import Progress, Settings

pytestmark = pytest.mark.android
pytest.importorskip("ai_edge_litert", reason="the C agent's runtime is in ai-edge-litert")

MAIN = "import sys; from profiler.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_agent(tmp_path_factory.mktemp("agent") / "ofa-agent")


def profile_command(folder: Path, agent: Path, *targets: str) -> list[str]:
    named = [word for target in targets for word in ("--target", target)]
    return [
        *command(*named, "--space", "tiny", "--resolutions", "24", "--budget-s", "2"),
        *("--processes", "3", *native_options(agent)),
    ]


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", MAIN, *words]


def native_options(agent: Path) -> list[str]:
    return ["--agent-binary", str(agent), "--litert-library", str(runtime_for(this_system()).path)]


def test_a_table_by_the_model_s_name(phones, tmp_path: Path, agent: Path) -> None:
    done = subprocess.run(
        profile_command(tmp_path, agent, "adb:pixel2"), capture_output=True, text=True, timeout=150, cwd=tmp_path
    )
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout == "luts/adb-pixel2-tflite.csv\n"
    table = LatencyTable.read(tmp_path / done.stdout.strip())
    assert table.context.device == "adb:pixel2"
    assert table.context.backend == "tflite"
    assert re.fullmatch(r"libLiteRt\.so [0-9a-f]{12} \(C API\)", table.context.backend_version)
    assert table.context.cpus == "1"  # the big one
    assert table.resolutions(tiny()) == (24,)
    with AdbDevice(phones.serial(1)) as device:
        assert device.run(["ls", "-A"], timeout_s=20).stdout.split() == [b".owner"]  # nothing was left there


def test_a_search_and_a_verification_measure_on_the_phone(phones, tmp_path: Path, agent: Path) -> None:
    out = tmp_path / "phone.csv"
    with phone(phones, agent) as (_, runner):
        table = profile(replace(spec(), device="adb:Pixel 2", n_reference=6), runner, out).table
    middle = float(table.sum_ms(tiny(), [tiny().largest(24)])[0])
    search = ["--lut", str(out), "--space", "tiny", "-a", "proxy:macs", "--json", "--no-report", "--budget-s", "2"]
    search += ["--max-latency-ms", str(middle), "--measure", "adb:Pixel 2", *native_options(agent)]
    found = subprocess.run(
        [sys.executable, "-m", "ofa_core.search.cli", *search],
        capture_output=True, text=True, timeout=200, cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["measured"]["high_ms"] <= middle
    n_before = len(read_networks(networks_path(out)))
    done = subprocess.run(
        [*command("verify", "--lut", str(out), "--nets", "2", "--budget-s", "2", "--json"), *native_options(agent)],
        capture_output=True, text=True, timeout=100, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_networks(networks_path(out))) == n_before + 2
    assert "was measured on" not in found.stderr + done.stderr


def test_several_phones_at_once_and_one_is_full(phones, tmp_path: Path, agent: Path) -> None:
    """The Note8's 3 MB hold no runtime: it fails with its reason, and the Pixel 2 gets its table."""
    done = subprocess.run(
        profile_command(tmp_path, agent, "adb:*"), capture_output=True, text=True, timeout=150, cwd=tmp_path
    )
    assert done.returncode == 1
    assert re.search(r"adb:127\.0\.0\.1:7003: failed: .*No space left on device: .* MiB free", done.stderr)
    assert "Traceback" not in done.stderr
    tables = sorted(path.name for path in (tmp_path / "luts").glob("*tflite.csv"))
    assert tables == ["adb-127.0.0.1-7001-tflite.csv"]
    assert done.stdout == f"luts/{tables[0]}\n"


def spec(**settings: object) -> ProfileSpec:
    return ProfileSpec(
        tiny(), (24,), "phone", "tflite", settings=Settings(n_processes=3, budget_s=1, **settings), n_reference=2
    )  # type: ignore[arg-type]


@contextlib.contextmanager
def phone(phones, agent: Path, pauses_s: tuple[float, ...] = PAUSES_S) -> Iterator[tuple[AdbDevice, AgentRunner]]:
    program = NativeProgram(agent, runtime_for(this_system()).path)
    with AdbDevice(phones.serial(1), RemoteOptions(pauses_s=pauses_s)) as device:
        yield device, AgentRunner(device, "tflite", program=program)


def test_a_phone_unplugged_and_plugged_in_again_continues(phones, tmp_path: Path, agent: Path) -> None:
    out = tmp_path / "t.csv"
    seen: dict[str, bytes] = {}

    def unplug(progress: Progress) -> None:
        if progress.phase == "measure" and progress.done == 20 and not seen:
            seen["before"] = journal_path(out).read_bytes()
            phones.plug(1, unplug=True)
            threading.Timer(0.4, phones.plug, (1,)).start()

    with phone(phones, agent, pauses_s=(0, 0.2, 0.4, 0.8, 1.6)) as (_, runner):
        result = profile(spec(), runner, out, progress=unplug)
    state = read_journal(journal_path(out))
    assert seen
    assert journal_path(out).read_bytes().startswith(seen["before"])
    assert not state.failures  # nobody is blamed
    assert state.pilot is not None
    assert result.measured.n_visits == (len(result.table) + 2) * 3 * state.pilot["n_rounds"]


def test_a_phone_unplugged_for_good_is_resumed_later(phones, tmp_path: Path, agent: Path) -> None:
    out = tmp_path / "t.csv"

    def unplug(progress: Progress) -> None:
        if progress.phase == "measure" and progress.done == 7:
            phones.plug(1, unplug=True)

    try:
        with phone(phones, agent, pauses_s=(0,)) as (_, runner), pytest.raises(DeviceUnreachableError):
            profile(spec(), runner, out, progress=unplug)
    finally:
        phones.plug(1)
    kept = read_journal(journal_path(out))
    assert len(kept.visits) == 7  # all that was measured: at most the visit at hand is lost
    phones.wait(1)
    with phone(phones, agent, pauses_s=(0, 0.5, 1)) as (_, runner):
        profile(spec(), runner, out)
    state = read_journal(journal_path(out))
    assert state.redone or state.visits.items() >= kept.visits.items()


def test_a_throttling_phone_is_waited_for(phones, tmp_path: Path, agent: Path) -> None:
    hot = "IsStatusOverride: false\nThermal Status: 3\nCurrent temperatures from HAL:\n"
    cool = (phones.folder / "phone1" / "thermalservice").read_text()
    phones.set(1, "thermalservice", hot)
    with (tmp_path / "log").open("w+") as log:
        command = profile_command(tmp_path, agent, "adb:pixel2")
        tool = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
        try:
            deadline = time.monotonic() + 60
            while "waiting for it to cool" not in (tmp_path / "log").read_text():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            journal = tmp_path / "luts" / "adb-pixel2-tflite.journal.jsonl"
            assert '{"p":' not in journal.read_text()  # nothing is measured meanwhile
            phones.set(1, "thermalservice", cool)
            assert tool.wait(120) in (0, 3), (tmp_path / "log").read_text()
        finally:
            tool.kill()
            tool.wait()
    assert "throttled by heat (status 3)" in (tmp_path / "log").read_text()
    assert (tmp_path / "luts" / "adb-pixel2-tflite.csv").exists()


def test_tuning_is_undone_after_ctrl_c(phones, tmp_path: Path, agent: Path) -> None:
    governors = sorted((phones.folder / "phone1" / "cpu").glob("cpu*/cpufreq/scaling_governor"))
    log, journal = tmp_path / "log", tmp_path / "luts" / "adb-pixel2-tflite.journal.jsonl"
    with log.open("w") as file:
        command = [*profile_command(tmp_path, agent, "adb:pixel2"), "--tune"]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit that it is ignored
        tool = subprocess.Popen(command, stdout=file, stderr=file, cwd=tmp_path)
        signal.signal(signal.SIGINT, before)
        try:
            deadline = time.monotonic() + 90
            while not (journal.exists() and b'{"p":' in journal.read_bytes()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert [path.read_text().strip() for path in governors] == ["performance", "performance"]
            tool.send_signal(signal.SIGINT)
            assert tool.wait(60) == 130, log.read_text()
        finally:
            tool.kill()
            tool.wait()
    assert "governor of 2 cores set to performance" in log.read_text()
    assert [path.read_text().strip() for path in governors] == ["schedutil", "schedutil"]


def test_devices_lists_the_phones(phones, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "devices"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0
    [line] = [line for line in done.stdout.splitlines() if line.startswith("adb:127.0.0.1:7001")]
    assert "Fake Pixel 2" in line
    assert "1 cores at 2450 MHz + 1 cores at 1900 MHz" in line
    assert "Android 8.1.0" in line
    assert "battery 87 %" in done.stdout


# ---- aarch64 -------------------------------------------------------------------------------------------------------

BLOCKS = (
    PROBE,
    BlockSpec("mbconv", 14, 7, 16, 64, 24, 3, 2, "h_swish", se=True, shortcut=False),
    BlockSpec("mbconv", 8, 8, 16, 48, 16, 3, 1, "relu", se=False, shortcut=True),
)


@pytest.fixture(scope="module")
def arm_agent() -> Path:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("there is no qemu-aarch64-static; tools/install_test_devices.sh installs it")
    return agent_for(System("linux", "arm64"))


def test_the_aarch64_agent_on_a_phone_under_qemu(arm_phone, arm_agent: Path, tmp_path: Path) -> None:
    """Real ARM kernels, emulated: the protocol works and the numbers agree; the timings mean nothing."""
    from ofa_core.export.tflite import block_tflite

    phones, library = arm_phone
    with AdbDevice(phones.serial(1)) as device:
        with closing(AgentRunner(device, "tflite", program=NativeProgram(arm_agent, library), timeout_s=120)) as runner:
            hello = runner.open()
            assert hello.machine == "aarch64"
            handles = []
            for number, block in enumerate(BLOCKS):
                path = tmp_path / f"{number}.tflite"
                path.write_bytes(block_tflite(block))
                handles.append(runner.load(path, threads=1, cpus=None))
            for result in runner.run([Visit(handle, 0, 2) for handle in handles]):
                assert (result.wall_ns > 0).all()
        half = NativeProgram(arm_agent, library, backend="tflite-fp16")
        with closing(AgentRunner(device, "tflite-fp16", program=half, timeout_s=120)) as runner:
            runner.open()
            handle = runner.load(tmp_path / "1.tflite", threads=1, cpus=None)
            assert runner.settings[handle]["dtype"] == "float16"
            assert (runner.run([Visit(handle, 0, 2)])[0].wall_ns > 0).all()
        numbers = {}
        for name, there, backend in (("arm", device, "tflite"), ("half", device, "tflite-fp16"), ("here", None, "")):
            numbers[name] = _check(there, tmp_path / "1.tflite", arm_agent, library, tmp_path, backend)
    assert numbers["arm"][0] == numbers["half"][0] == numbers["here"][0]
    largest = max(map(abs, numbers["here"][1]))
    assert numbers["arm"][1] == pytest.approx(numbers["here"][1], rel=1e-4, abs=1e-4 * largest)
    assert numbers["half"][1] != pytest.approx(numbers["here"][1], rel=1e-4, abs=1e-4 * largest)
    assert numbers["half"][1] == pytest.approx(numbers["here"][1], abs=5e-3 * largest)


def _check(
    device: AdbDevice | None, model: Path, agent: Path, library: Path, folder: Path, backend: str
) -> list[list[float]]:
    """Input and output of a model, by the agent on the phone or by one of this machine."""
    if device is None:
        here = build_agent(folder / "here")
        command = [here, "--lib", runtime_for(this_system()).path, "--check", model]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        command = [*NativeProgram(agent, library, backend=backend)(device), "--check", "checked.tflite"]
        device.push(model, "checked.tflite")
        text = device.run(command, timeout_s=60).stdout.decode()
    return [[float(word) for word in line.split()] for line in text.splitlines()]


def test_a_table_of_three_blocks_by_the_aarch64_agent(arm_phone, arm_agent: Path, tmp_path: Path) -> None:
    phones, library = arm_phone
    settings = Settings(n_processes=3, budget_s=1, min_visit_ms=1, min_repeats=9, max_repeats=9)
    # Small ones: what takes long under an emulator on a busy machine is never left alone by the scheduler.
    small = sorted(tiny().all_blocks((24,)), key=lambda block: block.macs)[:3]
    three = ProfileSpec(tiny(), (24,), "arm", "tflite", settings=settings, n_reference=0, order=lambda _: small)
    with AdbDevice(phones.serial(1)) as device:
        runner = AgentRunner(device, "tflite", program=NativeProgram(arm_agent, library), timeout_s=120)
        result = profile(three, runner, tmp_path / "t.csv")
    assert [key[1] for key in LatencyTable.read(tmp_path / "t.csv").entries] == small
    assert result.table.n_failed == 0
    assert not result.failures
    header = json.loads(journal_path(tmp_path / "t.csv").read_text().splitlines()[0])
    assert header["context"]["backend_version"] == "ai-edge-litert 2.3.0 (C API)"
