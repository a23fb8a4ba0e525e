"""Targets to measure on again."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.errors import UnknownTargetError
from devices.target import Target
from ofa_core.errors import OfaError
from profiler.backends import choose
from profiler.launch import Launch, backend_for, launch, target_of


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
