"""ONNX Runtime on the CPU: the input that it makes, and the models that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from profiler.agent.backends import open_backend
from profiler.agent.backends.ort import OrtModel


def load(folder: Path, shape: list[Any], kind: int = TensorProto.FLOAT, threads: int = 1) -> OrtModel:
    """Load a model that copies its input."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["output"])],
        "copy",
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("output", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "m.onnx")
    return open_backend("onnxruntime").load(str(folder / "m.onnx"), threads)


def output_of(model: OrtModel) -> np.ndarray:
    model.run()
    return model._binding.copy_outputs_to_cpu()[0]


def test_each_load_of_a_model_has_the_same_ordinary_input(tmp_path: Path) -> None:
    first, second = (output_of(load(tmp_path, [1, 3, 8, 8])) for _ in range(2))
    assert (first == second).all()
    assert first.dtype == np.float32
    assert -1 <= first.min() < -0.9 < 0.9 < first.max() < 1
    assert np.abs(first[first != 0]).min() > 1e-20  # no denormal numbers, which are slow


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT16, np.float16), (TensorProto.UINT8, np.uint8)])
def test_other_types(tmp_path: Path, kind: int, dtype: type) -> None:
    out = output_of(load(tmp_path, [4, 4], kind))
    assert out.dtype == dtype
    assert len(np.unique(out)) > 4


def test_settings_describe_the_session(tmp_path: Path) -> None:
    settings = load(tmp_path, [1, 2], threads=2).settings
    assert (settings["intra_op_num_threads"], settings["inter_op_num_threads"]) == (2, 1)
    assert settings["providers"] == ["CPUExecutionProvider"]
    assert settings["inputs"] == {"input": [1, 2]}


def test_open_sizes_and_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"input 'input' has the shape \['n', 2\]; export the model with fixed sizes"):
        load(tmp_path, ["n", 2])
    with pytest.raises(ValueError, match=r"'input' has type tensor\(bool\), supported are tensor\(double\)"):
        load(tmp_path, [2], TensorProto.BOOL)
