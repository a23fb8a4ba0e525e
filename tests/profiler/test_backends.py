"""The table of backends: the agent's list agrees, old names are read, and a toy backend needs its module and a row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import profiler
from ofa_core.backend_names import DTYPES, OLD_NAMES
from ofa_core.context import Context
from ofa_core.errors import OfaError
from profiler.agent.backends import BACKENDS as OF_AGENT
from profiler.backends import BACKENDS, BENCHMARK_MODEL, Choice, choice_of, choose, info, model_format, runtime_packages
from profiler.model_files import WRITERS


def test_the_agent_lists_the_same_choices() -> None:
    rows = [row for row in BACKENDS if row.name != BENCHMARK_MODEL]
    assert set(OF_AGENT) == {(row.name, dtype, name) for row in rows for dtype in row.dtypes for name in row.delegates}
    for backend, dtype in {key[:2] for key in OF_AGENT}:
        first = next(key for key in OF_AGENT if key[:2] == (backend, dtype))
        assert choose(backend, dtype) == Choice(*first)


def test_rows_are_complete() -> None:
    for row in BACKENDS:
        assert row.model_format in WRITERS
        assert set(row.dtypes) <= set(DTYPES)
        assert {other.model_format for other in BACKENDS if other.name == row.name} == {model_format(row.name)}
    assert runtime_packages() == ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "torch")


@pytest.mark.parametrize("old", [*OLD_NAMES, BENCHMARK_MODEL, "sleep", "torch-cuda:1", "onnxruntime-cuda:0"])
def test_an_old_name_is_a_choice_with_that_label(old: str) -> None:
    choice = choose(old)
    assert choice.label == old
    assert choose(*choice) == choice
    context = Context(backend=choice.backend, dtype=DTYPES[choice.dtype], delegate=choice.delegate)
    assert choice_of(context) == choice
    assert info(choice).default_batch == (64 if "cuda" in old else 1)


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (("onnxruntime", None, None), ("onnxruntime", "fp32", "cpu")),
        (("onnxruntime", None, "cuda:1"), ("onnxruntime", "fp32", "cuda:1")),
        (("tflite", "fp16", None), ("tflite", "fp16", "xnnpack")),
        (("tflite", "int8", None), ("tflite", "int8", "xnnpack")),
        (("onnxruntime", "int8", None), ("onnxruntime", "int8", "cpu")),
        (("torch", "fp16", None), ("torch", "fp16", "cuda")),  # the CPU has no fp16
        (("tflite-no-xnnpack", "fp32", "none"), ("tflite", "fp32", "none")),
        (("sleep", None, None), ("sleep", "fp32", "")),
    ],
)
def test_defaults(given: tuple[str, str | None, str | None], choice: tuple[str, str, str]) -> None:
    assert choose(*given) == choice


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("caffe", None, None), r"unknown backend 'caffe'; one of benchmark-model, litert-gpu, onnxruntime, sleep, "),
        (("caffe:1", None, None), "unknown backend 'caffe:1'"),
        (("tflite", "int4", None), "backend tflite has no dtype 'int4'; it has fp32, fp16, int8"),
        (("tflite", "fp16", "none"), "backend tflite with delegate none has no dtype 'fp16'; it has fp32"),
        (("onnxruntime", "fp16", None), "backend onnxruntime has no dtype 'fp16'; it has fp32"),
        (("onnxruntime", None, "tpu"), "backend onnxruntime has no delegate 'tpu'; it has cpu, cuda"),
        (("sleep", None, "cpu"), "backend sleep has no delegate 'cpu'; it has no choice of delegates"),
        (("torch", None, "cuda:x"), "delegate 'cuda:x': a number names one of several NVIDIA GPUs, as in cuda:1"),
        (("torch:1", None, None), "delegate 'cpu:1': a number names one of several NVIDIA GPUs, as in cuda:1"),
        (
            ("torch-cuda-fp16", "fp32", None),
            "backend 'torch-cuda-fp16' means dtype fp16, not fp32: give --backend torch",
        ),
        (("onnxruntime-cuda", None, "cpu"), "backend 'onnxruntime-cuda' means delegate cuda, not cpu"),
    ],
)
def test_what_a_backend_lacks(given: tuple[str, str | None, str | None], message: str) -> None:
    with pytest.raises(OfaError, match=message):
        choose(*given)


TOY = '''
"""A runtime that does nothing."""


class ToyModel:
    def __init__(self, path, threads):
        self.settings = {"threads": threads}

    def run(self):
        pass

    def close(self):
        pass


class ToyBackend:
    def __init__(self, choice):
        self.name = f"{choice.dtype} {choice.delegate}"

    def versions(self):
        return {"toy": self.name}

    def load(self, path, threads):
        return ToyModel(path, threads)
'''

PROGRAM = """
import sys
from contextlib import closing
from pathlib import Path

from devices.target import Target
from ofa_core.spaces import tiny
from profiler import setup
from profiler.campaign import ProfileSpec, profile
from profiler.launch import Launch, backend_for, launch
from profiler.settings import Settings

choice = backend_for(Target.parse("local"), Launch(), "toy", "fp16", None)
assert setup.packages_for(choice, setup.HostFacts((3, 11), "x86_64")) == ("toy>=1",)
small = tiny().all_blocks((24,))[:2]
spec = ProfileSpec(
    tiny(), (24,), "here", choice.backend, dtype=choice.dtype, delegate=choice.delegate, n_reference=0,
    settings=Settings(n_processes=3, budget_s=1, min_rounds=2, max_rounds=2), order=lambda _: small,
)
device, runner = launch(Target.parse("local"), choice, Launch())
with device, closing(runner):
    context = profile(spec, runner, Path("t.csv")).table.context
print(context.backend, context.dtype, context.delegate, context.backend_version, context.runtime, sep="|")
"""


def test_a_toy_backend_is_its_module_and_a_row(tmp_path: Path) -> None:
    """The two edits of a copy of this package: the agent's module with its line there, and one row of the table."""
    root = Path(profiler.__path__[0])
    shutil.copytree(root, tmp_path / "profiler", ignore=shutil.ignore_patterns("__pycache__"))
    agent = tmp_path / "profiler" / "agent" / "backends"
    (agent / "toy.py").write_text(TOY)
    for file, line, more in (
        (
            agent / "__init__.py",
            "BACKENDS: dict[tuple[str, str, str], str] = {\n",
            '    ("toy", "fp16", "npu"): "toy:ToyBackend",\n',
        ),
        (
            tmp_path / "profiler" / "backends.py",
            "BACKENDS: tuple[BackendInfo, ...] = (\n",
            '    BackendInfo("toy", ".tflite", dtypes=("fp16",), delegates=("npu",), packages=("toy>=1",)),\n',
        ),
    ):
        text = file.read_text()
        assert text.count(line) == 1
        file.write_text(text.replace(line, line + more))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root.parent)])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "toy|float16|npu|fp16 npu|toy-fp16-npu\n"
