"""Targets to measure on again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devices.errors import UnknownTargetError
from devices.target import Target
from ofa_core.context import Context
from ofa_core.errors import OfaError
from profiler.agent_zip import PythonProgram
from profiler.backends import choose
from profiler.launch import Launch, backend_for, launch, launch_again, resumed, target_of
from profiler.native.program import NativeProgram


def test_a_table_is_measured_again_on_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert target_of("ssh:me@board", None) == Target.parse("ssh:me@board")
    assert target_of("local", "local") == Target.parse("local")
    monkeypatch.chdir(tmp_path)
    Path("devices.toml").write_text('[board]\ntarget = "ssh:me@board"\n')
    assert target_of("board", None).address == "me@board"
    assert target_of("board", "ssh:me@board").name == "board"
    assert caplog.messages == []


def test_another_device_is_remarked_upon(caplog: pytest.LogCaptureFixture) -> None:
    assert target_of("adb:pixel2", "local") == Target.parse("local")
    assert caplog.messages == ["the earlier measurements were made on 'adb:pixel2', not on local"]


def test_a_table_of_an_unreachable_device_needs_a_target() -> None:
    with pytest.raises(OfaError, match="device 'rig' is not a target; name one with --target"):
        target_of("rig", None)
    with pytest.raises(UnknownTargetError, match="known are"):
        target_of("rig", "toaster")


SECTION = """
[board]
target = "ssh:me@board"
backend = "tflite"
dtype = "fp16"
[old]
target = "ssh:me@old"
backend = "tflite-no-xnnpack"
[gpu]
target = "ssh:me@gpu"
backend = "torch"
delegate = "cuda:1"
[termux]
target = "adb:A"
python = "python3"
"""


@pytest.mark.parametrize(
    ("target", "options", "choice"),
    [
        ("local", {}, ("onnxruntime", "fp32", "cpu")),
        ("adb:B", {}, ("tflite", "fp32", "xnnpack")),
        ("adb:B", {"dtype": "fp16"}, ("tflite", "fp16", "xnnpack")),
        ("termux", {}, ("onnxruntime", "fp32", "cpu")),
        ("board", {}, ("tflite", "fp16", "xnnpack")),
        ("board", {"dtype": "fp32"}, ("tflite", "fp32", "xnnpack")),
        ("board", {"backend": "tflite"}, ("tflite", "fp32", "xnnpack")),
        ("old", {}, ("tflite", "fp32", "none")),
        ("gpu", {}, ("torch", "fp32", "cuda:1")),
        ("gpu", {"dtype": "fp16"}, ("torch", "fp16", "cuda:1")),
        ("gpu", {"backend": "onnxruntime"}, ("onnxruntime", "fp32", "cpu")),
    ],
)
def test_the_backend_of_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: dict[str, str], choice: tuple[str, str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("devices.toml").write_text(SECTION)
    assert backend_for(Target.parse(target), Launch(), **options) == choice


def test_a_benchmark_program_is_a_backend_of_its_own() -> None:
    options = Launch(benchmark_binary=Path("benchmark_model"))
    assert backend_for(Target.parse("adb:B"), options) == ("benchmark-model", "fp32", "")
    with pytest.raises(OfaError, match="backend benchmark-model has no dtype 'fp16'; it has fp32"):
        backend_for(Target.parse("adb:B"), options, dtype="fp16")
    with pytest.raises(OfaError, match="works only with --backend benchmark-model, not with tflite"):
        launch(Target.parse("adb:B"), choose("tflite"), options)
    with pytest.raises(OfaError, match="backend benchmark-model needs --benchmark-binary FILE"):
        launch(Target.parse("adb:B"), choose("benchmark-model"), Launch())


@pytest.mark.parametrize("backend", ["onnxruntime", "tflite-no-xnnpack", "torch-cuda-fp16:1", "tflite-runtime"])
def test_a_phone_without_python_runs_the_c_agent_only(backend: str) -> None:
    with pytest.raises(OfaError, match=f"backend {backend!r} needs Python on adb:B: name an interpreter with --python"):
        launch(Target.parse("adb:B"), choose(backend), Launch())


ANDROID, WITH_GLIBC, PYTHON = "LiteRT 2.2.0 (C API)", "ai-edge-litert 2.3.0 with glibc (C API)", "ai-edge-litert 2.3.0"


@pytest.mark.parametrize(
    ("version", "runtime", "c_agent"),
    [
        (WITH_GLIBC, "glibc", True),
        (f"{WITH_GLIBC}, GPU WebGPU", "glibc", True),
        (ANDROID, "official", True),
        (PYTHON, "official", False),
        ("", "official", False),
    ],
)
def test_the_runtime_of_an_earlier_session_is_taken_from_its_version(version: str, runtime: str, c_agent: bool) -> None:
    keep = Launch(keep=True, litert_library=Path("litert.aar"))
    for given in (None, runtime):
        assert resumed(replace(keep, runtime=given), version) == replace(keep, runtime=runtime, c_agent=c_agent)


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        (
            ANDROID,
            Launch(runtime="glibc"),
            r"leave out --runtime glibc: .* of 'LiteRT 2\.2\.0 .* \(--runtime official\)",
        ),
        (PYTHON, Launch(runtime="glibc"), r"leave out --runtime glibc: .* of 'ai-edge-litert 2\.3\.0' "),
        (WITH_GLIBC, Launch(runtime="official"), r"leave out --runtime official: .* \(--runtime glibc\)"),
        (ANDROID, Launch(python="python3"), r"leave out --python: .* by the agent in C"),
    ],
)
def test_an_option_that_contradicts_an_earlier_session_is_refused(version: str, options: Launch, message: str) -> None:
    with pytest.raises(OfaError, match=message):
        resumed(options, version)
    with pytest.raises(OfaError, match=message):
        launch_again(
            Target.parse("adb:B"), Context(backend="tflite", delegate="xnnpack", backend_version=version), options
        )


def test_a_phone_is_measured_again_by_the_agent_of_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if an interpreter was added to its section later; the form of the models is that of the table."""
    monkeypatch.chdir(tmp_path)
    Path("devices.toml").write_text('[pixel]\ntarget = "local"\npython = "python3"\n')
    context = Context(
        backend="tflite", delegate="xnnpack", dtype="int8", graph_form="integer", backend_version=WITH_GLIBC
    )
    device, runner = launch_again(Target.parse("pixel"), context, Launch())
    with device:
        program = runner._program
        assert isinstance(program, NativeProgram)
        assert (program.with_glibc, program.graph_form, program.backend) == (True, "integer", "tflite-int8")
        _, plain = launch_again(Target.parse("pixel"), replace(context, backend_version=PYTHON), Launch())
        assert isinstance(plain._program, PythonProgram)
        assert plain._program.graph_form == "integer"
