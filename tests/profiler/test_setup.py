"""Packages for a host, dry runs that change nothing, and checksums of downloaded programs."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from devices.facts import DeviceFacts
from devices.fake import FakeDevice
from devices.local import LocalDevice
from ofa_core.errors import OfaError
from profiler.backends import choose
from profiler.cli import main
from profiler.setup import HostFacts, fetch_benchmark_model, host_facts, install, packages_for, plan_host

PASCAL = HostFacts((3, 10), "x86_64", (6, 1), "NVIDIA GeForce GTX 1080 Ti")
VOLTA = HostFacts((3, 12), "x86_64", (7, 0), "Tesla V100-SXM2-16GB")
TURING = HostFacts((3, 11), "x86_64", (7, 5), "NVIDIA GeForce RTX 2080 Ti")
PI = HostFacts((3, 11), "aarch64")


@pytest.mark.parametrize(
    ("backend", "facts", "packages"),
    [
        ("onnxruntime", PI, ("onnxruntime>=1.17", "numpy")),
        ("tflite", PI, ("ai-edge-litert>=2.1", "numpy")),
        ("tflite", HostFacts((3, 9), "aarch64"), ("tflite-runtime==2.14.0", "numpy")),
        ("tflite-fp16", PI, ("ai-edge-litert>=2.1", "numpy")),
        ("tflite-no-xnnpack", PI, ("ai-edge-litert>=2.1", "numpy")),
        ("onnxruntime-cuda", TURING, ("onnxruntime-gpu>=1.17", "numpy", "nvidia-ml-py")),
        ("onnxruntime-cuda:1", PASCAL, ("onnxruntime-gpu>=1.17,<1.23", "numpy", "nvidia-ml-py")),
        ("tflite-runtime", PI, ("tflite-runtime==2.14.0", "numpy<2")),
        ("torch", PI, ("torch>=2.1", "numpy")),
        ("torch-cuda", TURING, ("torch>=2.1", "numpy", "nvidia-ml-py")),
        ("torch-cuda-fp16", TURING, ("torch>=2.1", "numpy", "nvidia-ml-py")),
        ("torch-cuda:1", TURING, ("torch>=2.1", "numpy", "nvidia-ml-py")),
        ("sleep", PI, ()),
    ],
)
def test_packages(backend: str, facts: HostFacts, packages: tuple[str, ...]) -> None:
    assert packages_for(choose(backend), facts) == packages


@pytest.mark.parametrize("facts", [PASCAL, VOLTA], ids=["1080Ti", "V100"])
def test_old_gpus_need_older_cuda_builds(facts: HostFacts) -> None:
    with pytest.raises(OfaError, match=r"compute capability .*no kernels for it; give --index-url of the cu126 builds"):
        packages_for(choose("torch-cuda"), facts)
    packages = packages_for(choose("torch-cuda"), facts, "https://example.org/cu126")
    assert packages[:3] == ("--index-url", "https://example.org/cu126", "torch>=2.1,<2.15")


@pytest.mark.parametrize(
    ("backend", "facts", "message"),
    [
        ("torch-cuda", PI, "backend torch-cuda needs an NVIDIA GPU; nvidia-smi lists none"),
        ("tflite-runtime", VOLTA, "no build for Python 3.12"),
        ("benchmark-model", PI, "backend benchmark-model is not installed by pip"),
    ],
)
def test_what_cannot_be_installed(backend: str, facts: HostFacts, message: str) -> None:
    with pytest.raises(OfaError, match=message):
        packages_for(choose(backend), facts)


def test_the_gpus_of_a_host_share_an_environment() -> None:
    plans = [plan_host(choose(backend), TURING, "python3") for backend in ("torch-cuda", "torch-cuda:1")]
    assert plans[0] == plans[1]


def test_looking_at_a_host(tmp_path: Path) -> None:
    with LocalDevice(tmp_path) as device:
        facts = host_facts(device, sys.executable)
        assert facts.python == sys.version_info[:2]
        with pytest.raises(OfaError, match="false is not a usable Python"):
            host_facts(device, "false")
    with pytest.raises(OfaError, match="name one with --python"):
        host_facts(FakeDevice(), "python3")


def test_a_dry_run_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["ofa-profile", "setup", "--target", "local", "--dry-run"])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("-m venv ~/.local/share/ofa-latency/venv-onnxruntime")
    assert lines[1].endswith("bin/python -m pip install 'onnxruntime>=1.17' numpy")
    assert not (tmp_path / ".local").exists()


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--backend", "tflite", "--delegate", "none"], 0, "/venv-tflite-no-xnnpack"),
        (["--backend", "tflite-no-xnnpack"], 0, "/venv-tflite-no-xnnpack"),
        (["--backend", "tflite", "--dtype", "int4"], 1, "backend tflite has no dtype 'int4'; it has fp32, fp16"),
        (["--backend", "torch-cuda-fp16", "--dtype", "fp32"], 1, "means dtype fp16, not fp32: give --backend torch"),
        (["--delegate", "npu"], 1, "backend onnxruntime has no delegate 'npu'; it has cpu, cuda"),
    ],
)
def test_backend_dtype_and_delegate_on_the_command_line(
    options: list[str], code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ofa-profile", "setup", "--target", "local", "--dry-run", *options])
    assert main() == code
    done = capsys.readouterr()
    assert line in (done.err if code else done.out)


@pytest.mark.slow
def test_a_private_environment_is_made_and_can_run_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler.agent_runner import AgentRunner

    monkeypatch.setenv("HOME", str(tmp_path))
    with LocalDevice(tmp_path) as device:
        facts = host_facts(device, sys.executable)
        python = install(device, plan_host(choose("sleep"), facts, sys.executable), sys.executable)
        assert python == f"{tmp_path}/.local/share/ofa-latency/venv-sleep/bin/python"
        with closing(AgentRunner(device, "sleep", python=python)) as runner:
            assert runner.open().backend_version == "1"
        bad = plan_host(choose("sleep"), facts, "false")
        with pytest.raises(OfaError, match="installation failed"):
            install(device, bad, "false")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


def test_a_program_is_fetched_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = tmp_path / "android_arm64" / "benchmark_model"
    source.parent.mkdir()
    source.write_bytes(b"\x7fELF program")
    good = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(
        OfaError,
        match=r"https://.*android_arm64/benchmark_model: no checksum is known for this file; compute .* with --sha256",
    ):
        fetch_benchmark_model("aarch64", sha256=None)
    with pytest.raises(OfaError, match=r"'abc' is not a SHA-256 checksum: 64 hexadecimal digits"):
        fetch_benchmark_model("aarch64", sha256="abc")
    with pytest.raises(OfaError, match=r"no official benchmark_model for armv7l, only for arm64, x86_64"):
        fetch_benchmark_model("armv7l", sha256=good)
    handler = partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{listener.server_port}/{{system}}_{{machine}}/benchmark_model"
        monkeypatch.setattr("profiler.setup.BENCHMARK_URL", address)
        with pytest.raises(OfaError, match=f"its SHA-256 checksum is {good}, not 0000"):
            fetch_benchmark_model("aarch64", sha256="00" * 32)
        path = fetch_benchmark_model("aarch64", sha256=good.upper())
        listener.shutdown()
        thread.join()
    assert path.read_bytes() == source.read_bytes()
    assert path.stat().st_mode & 0o111
    assert fetch_benchmark_model("aarch64", sha256=good) == path  # from the cache
    for digest in ("11" * 32, good[:12] + "0" * 52):  # what begins alike is not taken for it
        with pytest.raises(OfaError, match=r"cannot download http.*Connection refused.*save it as .*benchmark_model-"):
            fetch_benchmark_model("aarch64", sha256=digest)


@pytest.mark.parametrize("digest", [None, "ab" * 32])
def test_a_dry_run_for_a_phone_prints_the_download(
    digest: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = FakeDevice()
    device.kind = "phone"
    monkeypatch.setattr("devices.target.open_device", lambda target: device)
    which = ["--sha256", digest] if digest else ["--backend", "benchmark-model"]
    argv = ["ofa-profile", "setup", "--target", "adb:X", "--dry-run", *which]
    monkeypatch.setattr(sys, "argv", argv)
    assert main() == 0
    line = capsys.readouterr().out
    assert line.startswith("download https://" if digest else "do not download https://")
    assert (f"if its SHA-256 checksum is {digest}" if digest else ": no checksum is known for this file") in line


def test_the_runtime_of_a_phone_has_a_known_checksum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = FakeDevice()
    device.kind = "phone"
    monkeypatch.setattr(device, "facts", lambda: DeviceFacts("X", arch="aarch64", abi="arm64-v8a"))
    monkeypatch.setattr("devices.target.open_device", lambda target: device)
    monkeypatch.setattr(sys, "argv", ["ofa-profile", "setup", "--target", "adb:X", "--dry-run"])
    assert main() == 0
    line = capsys.readouterr().out
    assert line.startswith(
        "download LiteRT 2.2.0 for Android on arm64 (64-bit): https://storage.googleapis.com/litert/"
    )
    assert "5360968 bytes, SHA-256 checksum b2913eb6" in line
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--backend", "litert-gpu"])
    assert main() == 0
    assert capsys.readouterr().out.startswith(
        f"{line}download the GPU accelerator of LiteRT 2.2.0 for Android on arm64"
    )
