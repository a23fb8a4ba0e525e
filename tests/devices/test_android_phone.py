"""A phone as its owner plugs it in: Android without any library of Linux, the shipped agent, one command, no option.

The phone is a real adbd in a namespace, its programs are the shipped bytes under qemu, its runtime is the real LiteRT
of the aarch64 wheel, and a server on the loopback interface stands in for the official address.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from android_system import AARCH64, litert_for_android, make_system
from conftest import FakePhone, Phones, running_phones
from elf_files import write_elf

from devices.target import Target
from ofa_core.errors import OfaError
from ofa_core.export.tflite import block_tflite
from ofa_core.spaces import tiny
from ofa_core.table import Entry, LatencyTable
from profiler.backends import choose
from profiler.cli import main
from profiler.journal import read_journal
from profiler.launch import Launch, launch
from profiler.native.runtimes import known_runtimes
from profiler.runner import Visit

pytestmark = pytest.mark.android
PROFILE = [sys.executable, str(Path(__file__).with_name("short_session.py"))]


CUT_BYTES = 100_000


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; below /cut/ the connection is cut in the middle of each."""

    def do_GET(self) -> None:
        if not self.path.startswith("/cut/"):
            super().do_GET()
            return
        content = Path(self.directory, self.path.removeprefix("/cut/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:CUT_BYTES])

    def log_message(self, *args: object) -> None: ...


@dataclass(frozen=True)
class Release:
    """The folder of a runtime's release, on a server.

    Attributes:
        folder: what is served.
        address: of the server.
        sha256: of the runtime.
    """

    folder: Path
    address: str
    sha256: str

    def list(self, path: Path, **changes: object) -> Path:
        """Write a list of runtimes that names this release."""
        row: dict[str, object] = {
            "name": "LiteRT 2.3.0",
            "sha256": self.sha256,
            "n_bytes": (self.folder / "libLiteRt.so").stat().st_size,
            "addresses": [f"{self.address}/libLiteRt.so"],
        }
        lines = [f"{key} = {value!r}" for key, value in {**row, **changes}.items()]
        path.write_text("\n".join(["[android-arm64]", *lines, "[android-arm]", *lines]))
        return path


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("release")
    content = litert_for_android()
    (folder / "libLiteRt.so").write_bytes(content)
    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Release(folder, f"http://127.0.0.1:{listener.server_port}", hashlib.sha256(content).hexdigest())
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_system(tmp_path_factory.mktemp("android"))


@pytest.fixture(scope="module")
def pixel2(system: Path) -> Iterator[Phones]:
    """A Pixel 2, and a Note8 with little storage."""
    models = [FakePhone("Pixel 2"), FakePhone("SM-N950F", "3m")]
    with running_phones([replace(m, machine="aarch64", abi="arm64-v8a", system=system) for m in models]) as phones:
        yield phones


def run(folder: Path, runtimes: Path, *words: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    """Run `ofa-profile` as in a new home."""
    home = {"XDG_CACHE_HOME": str(folder / "cache"), "OFA_LITERT_RUNTIMES": str(runtimes), "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [*PROFILE, *words],
        capture_output=True, text=True, timeout=timeout_s, cwd=folder, env={**os.environ, **home},
    )  # fmt: skip


def files_of(phones: Phones, number: int = 1) -> list[str]:
    listing = ["adb", "-s", phones.serial(number), "shell", "-T", "find /data/local/tmp"]
    return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs `ofa-profile --target TARGET --space tiny` in a new home and returns its error."""

    def call(runtimes: Path, target: str = "adb:pixel2", *words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("OFA_LITERT_RUNTIMES", str(runtimes))
        monkeypatch.setattr(sys, "argv", ["ofa-profile", "--target", target, "--space", "tiny", *words])
        assert main() == 1
        done = capsys.readouterr()
        assert done.out == ""
        *news, line = done.err.splitlines()
        known = ("adb:", "downloading ", "advice: ", "warning: ", "it was cut")
        assert all(text.removeprefix("ofa-profile: ").startswith(known) for text in news), news
        if news:
            assert re.match(rf"ofa-profile: {target}: Fake .*; pushing the agent and LiteRT 2\.3\.0", news[0])
        assert not list(tmp_path.glob("luts/*.csv"))
        return line

    return call


def library_in(folder: Path) -> list[str]:
    return [path.name for path in (folder / "cache").rglob("*") if path.is_file()]


def test_without_network(pixel2: Phones, release: Release, tmp_path: Path, fails: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/libLiteRt.so"
    line = fails(release.list(tmp_path / "list.toml", addresses=[address]))
    assert (
        f"cannot download {address} (Connection refused): run the command again, or download the file elsewhere" in line
    )
    place = tmp_path / "cache" / "ofa-latency" / "native" / "android-arm64" / "libLiteRt.so"
    n_bytes = (release.folder / "libLiteRt.so").stat().st_size
    assert line.endswith(f"({n_bytes} bytes, SHA-256 checksum {release.sha256}) and save it as {place}")
    assert library_in(tmp_path) == []
    assert files_of(pixel2) == ["/data/local/tmp"]


def test_another_file_at_the_address(
    pixel2: Phones, release: Release, tmp_path: Path, fails: Callable[..., str]
) -> None:
    line = fails(release.list(tmp_path / "list.toml", sha256="00" * 32))
    assert f"its SHA-256 checksum is {release.sha256}, not {'00' * 32}; it is not kept" in line
    assert library_in(tmp_path) == []
    assert files_of(pixel2) == ["/data/local/tmp"]


def test_a_cut_download(pixel2: Phones, release: Release, tmp_path: Path, fails: Callable[..., str]) -> None:
    address = f"{release.address}/cut/libLiteRt.so"
    line = fails(release.list(tmp_path / "list.toml", addresses=[address]))
    assert "it was cut at 100000 of " in line
    assert "run the command again to continue" in line
    assert library_in(tmp_path) == [f".{release.sha256[:24]}.part"]
    assert files_of(pixel2) == ["/data/local/tmp"]


def test_the_accelerator_of_a_gpu_is_downloaded_too(
    pixel2: Phones, release: Release, tmp_path: Path, fails: Callable[..., str]
) -> None:
    """It is pushed with the runtime; this phone has no GPU, and the accelerator is an empty library."""
    library = write_elf(release.folder / "gpu.so", "arm64", ["libc.so"])
    row = f'file = "libLiteRtClGlAccelerator.so"\naddresses = ["{release.address}/gpu.so"]\nmax_bytes = 99999\n'
    runtimes = release.list(tmp_path / "list.toml")
    rows = runtimes.read_text()
    runtimes.write_text(f'{rows}\n[android-arm64.accelerator]\n{row}sha256 = "{"00" * 32}"\n')
    line = fails(runtimes, "adb:pixel2", "--backend", "litert-gpu")
    assert "gpu.so (its SHA-256 checksum is" in line
    assert library_in(tmp_path) == ["libLiteRt.so"]
    assert files_of(pixel2) == ["/data/local/tmp"]
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    runtimes.write_text(f'{rows}\n[android-arm64.accelerator]\n{row}sha256 = "{digest}"\n')
    line = fails(runtimes, "adb:pixel2", "--backend", "litert-gpu")
    assert "no GPU accelerator of LiteRT loads here" in line
    assert sorted(library_in(tmp_path)) == ["libLiteRt.so", "libLiteRtClGlAccelerator.so"]
    assert files_of(pixel2) == ["/data/local/tmp"]


def test_a_full_phone(pixel2: Phones, release: Release, tmp_path: Path, fails: Callable[..., str]) -> None:
    line = fails(release.list(tmp_path / "list.toml"), "adb:note8")
    assert re.search(r"No space left on device: \d\.\d MiB free in .*, 5\.7 MiB needed", line)
    assert files_of(pixel2, 2) == ["/data/local/tmp"]


def test_a_phone_of_another_instruction_set(
    pixel2: Phones, release: Release, tmp_path: Path, fails: Callable[..., str]
) -> None:
    props = (pixel2.folder / "phone1" / "props").read_text()
    pixel2.set(1, "props", props.replace("arm64-v8a", "x86_64"))
    try:
        line = fails(release.list(tmp_path / "list.toml"))
    finally:
        pixel2.set(1, "props", props)
    assert "no agent is shipped for android-x86_64 (only for android-arm, android-arm64, " in line
    assert files_of(pixel2) == ["/data/local/tmp"]


def test_an_unauthorised_phone(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    listing = "List of devices attached\\nHT7A1234 unauthorized usb:1-2 transport_id:1\\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    (tmp_path / "bin" / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    line = fails(release.list(tmp_path / "list.toml"), "adb:HT7A1234")
    assert line.endswith("cannot be used: HT7A1234 (unauthorized; allow this computer on the phone's screen)")
    assert library_in(tmp_path) == []


def test_the_runtime_for_linux_brings_its_c_library(pixel2: Phones, tmp_path: Path) -> None:
    """`--runtime glibc`: nothing of the phone's system is used."""
    target = Target.parse("adb:pixel2")
    options = Launch(litert_library=AARCH64 / "libLiteRt.so", runtime="glibc")
    device, runner = launch(target, choose("tflite"), options)
    with device:
        assert re.fullmatch(r"the agent and ai-edge-litert 2\.3\.0 with glibc, 1\d\.\d MiB", runner.payload())
        with runner.opened() as hello:
            assert hello.backend_version == "ai-edge-litert 2.3.0 with glibc (C API)"
            (tmp_path / "block.tflite").write_bytes(block_tflite(tiny().all_blocks((24,))[0]))
            handle = runner.load(tmp_path / "block.tflite", threads=1, cpus=None)
            assert (runner.run([Visit(handle, 0, 2)])[0].wall_ns > 0).all()
    assert files_of(pixel2) == ["/data/local/tmp"]
    for refused in (replace(options, runtime="musl"), Launch(runtime="glibc", benchmark_binary=tmp_path)):
        with pytest.raises(OfaError, match=r"--runtime '(musl|glibc)' is not official or glibc, or --benchmark-binary"):
            launch(target, choose("tflite" if refused.benchmark_binary is None else "benchmark-model"), refused)


@pytest.mark.slow
def test_a_table_with_glibc_is_measured_again_without_the_option(
    pixel2: Phones, release: Release, tmp_path: Path
) -> None:
    """By the same command and by `verify`; `ofa-search --measure` too refuses another one before it pushes it."""
    runtimes, table = release.list(tmp_path / "list.toml"), tmp_path / "phone.csv"
    shutil.copy(AARCH64 / "libLiteRt.so", release.folder / "linux.so")
    row = f'addresses = ["{release.address}/linux.so"]\nsha256 = "{known_runtimes()["linux-arm64"].sha256}"\n'
    size = (release.folder / "linux.so").stat().st_size
    with runtimes.open("a") as stream:
        stream.write(f'\n[linux-arm64]\nname = "ai-edge-litert 2.3.0"\nn_bytes = {size}\n{row}')
    profile = ("--target", "adb:pixel2", "--space", "tiny", "-r", "24", "-o", str(table))
    done = run(tmp_path, runtimes, *profile, "--runtime", "glibc")
    assert done.returncode in (0, 3), done.stderr
    context = LatencyTable.read(table).context
    assert context.backend_version == "ai-edge-litert 2.3.0 with glibc (C API)"
    verify = ("verify", "--lut", str(table), "--nets", "1", "-r", "24", "--space", "tiny")
    limit = ("--max-latency-ms", "1000", "-a", "proxy:macs", "--no-report", "-o", str(tmp_path / "found"))
    search = ("ofa-search", "--lut", str(table), "--space", "tiny", "--measure", "adb:pixel2", *limit)
    for command in (profile, verify, search):
        refused = run(tmp_path, runtimes, *command, "--runtime", "official")
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].endswith("with glibc (C API)' (--runtime glibc)")
        assert files_of(pixel2) == ["/data/local/tmp"]
        if command is search:
            break
        again = run(tmp_path, runtimes, *command)
        assert "pushing the agent and ai-edge-litert 2.3.0 with glibc, 10.3 MiB" in again.stderr
        too_busy = "no visit with a clean run" in again.stderr  # this machine preempts each run of the emulator
        assert again.returncode in (0, 3) or too_busy, again.stderr
        if command is profile:  # blocks fail if this machine is busy
            entries = {(None, block): Entry(1 + 1e-6 * block.macs, n_samples=9) for block in tiny().all_blocks((24,))}
            LatencyTable(context, entries).write(table)
    assert not (tmp_path / "cache" / "ofa-latency" / "native" / "android-arm64").exists()
    assert files_of(pixel2) == ["/data/local/tmp"]


@pytest.mark.slow
def test_a_phone_needs_no_option(pixel2: Phones, release: Release, tmp_path: Path) -> None:
    done = run(tmp_path, release.list(tmp_path / "list.toml"), "--target", "adb:pixel2", "--space", "tiny")
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout == "luts/adb-pixel2-tflite.csv\n"
    assert [line for line in done.stderr.splitlines() if "downloading" in line] == [done.stderr.splitlines()[1]]
    introduction = (
        "Fake Pixel 2 (msm8998), Android 8.1.0, battery 87 %, charging or full; pushing the agent and LiteRT 2.3.0"
    )
    assert f"adb:pixel2: {introduction}, 5.7 MiB; about 5 min\n" in done.stderr
    table = LatencyTable.read(tmp_path / done.stdout.strip())
    assert table.context.backend_version == "LiteRT 2.3.0 (C API)"
    assert len(table) == len(tiny().all_blocks(tiny().resolutions))
    state = read_journal(tmp_path / "luts" / "adb-pixel2-tflite.journal.jsonl")
    assert not state.failures
    assert len(state.visits) == 3 * (len(table) + 2)  # each block and two networks, in three processes
    assert table.n_failed < len(table)  # a row fails if this machine is busy and preempts each of its runs
    assert files_of(pixel2) == ["/data/local/tmp"]


@pytest.mark.slow
def test_four_phones_side_by_side(
    release: Release, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is full, one is slow, one is a 32-bit phone that gets a 64-bit runtime; their lines do not mix."""
    models = [
        FakePhone("Pixel 2", abi="arm64-v8a"),
        FakePhone("SM-N950F", "3m", abi="arm64-v8a"),
        FakePhone("Pixel 4", abi="arm64-v8a", delay_s=0.3),
        FakePhone("Moto E", abi="armeabi-v7a"),
    ]
    with running_phones([replace(model, machine="aarch64", system=system) for model in models]) as phones:
        names = [f"adb:{phones.serial(number)}" for number in range(1, 5)]
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"localfilesystem:{phones.folder}/adb.sock")
        done = run(tmp_path, release.list(tmp_path / "list.toml"), "--target", "adb:*", "-s", "tiny", "-r", "24")
        for number in range(1, 5):
            assert files_of(phones, number) == ["/data/local/tmp"]
    assert done.returncode == 1, done.stderr
    tables = [f"luts/adb-{phones.serial(number).replace(':', '-')}-tflite.csv" for number in (1, 3)]
    assert sorted(done.stdout.split()) == tables
    lines = [line.removeprefix("ofa-profile: ") for line in done.stderr.splitlines()]
    about = {name: [line for line in lines if re.match(rf"(error: |warning: )?{name}: ", line)] for name in names}
    assert sorted(line for some in about.values() for line in some) == sorted(
        line for line in lines if not line.startswith("downloading ")
    )
    assert lines.count(f"downloading {release.address}/libLiteRt.so (5.7 MiB)") == 2  # for each instruction set
    for name, model in zip(names, models, strict=True):
        assert f"{name}: Fake {model.model} (msm8998), Android 8.1.0, battery 87 %" in about[name][0]
    assert re.search("error: .*No space left on device", about[names[1]][-1])
    _, refused = about[names[3]]
    assert refused.startswith(
        f"error: {names[3]}: failed: {tmp_path}/cache/ofa-latency/native/android-arm/libLiteRt.so is"
    )
    assert refused.endswith("for Android on arm64 (64-bit); libLiteRt.so for Android on arm (32-bit) is needed")
    for name in (names[0], names[2]):
        assert any(re.search(r": \d+ blocks ", line) for line in about[name])
