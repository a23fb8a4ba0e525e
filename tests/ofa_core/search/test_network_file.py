"""The winner in int8: written in the form of the table's runtime, measured, and said in the answer."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.search.answer import FLOAT_NOTE, INT8_NOTE
from ofa_core.search.cli import main
from ofa_core.space import Space
from ofa_core.table import Context, Entry, LatencyTable

LIMIT = ("--max-latency-ms", 0.05, "--no-report")
FP32 = Context(device="made-up", backend="onnxruntime", backend_version="1.0", statistic="median")
INT8 = replace(FP32, backend="tflite", dtype="int8", graph_form="integer")


@pytest.fixture
def lut(tmp_path: Path, small: Space, stand_ins: Any) -> Any:
    def write(context: Context) -> Path:
        path = tmp_path / f"{context.dtype}.csv"
        entries = {(None, b): Entry(stand_ins.block_ms(b)) for b in small.all_blocks()}
        LatencyTable(context, entries).write(path)
        return path

    return write


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ofa-search", *map(str, argv)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def metadata_of(path: Path) -> dict[str, str]:
    import onnx

    return {p.key: p.value for p in onnx.load(path).metadata_props}


@pytest.mark.parametrize(
    ("context", "words", "file", "dtype"),
    [
        (FP32, (), "subnet.onnx", "float32"),
        (FP32, ("--dtype", "int8"), "subnet.onnx", "int8"),
        (replace(FP32, dtype="float16"), ("--dtype", "int8"), "subnet.onnx", "int8"),
        (replace(INT8, backend="onnxruntime"), (), "subnet.onnx", "int8"),
        (INT8, (), "subnet.tflite", "int8"),
        (INT8, ("--dtype", "fp32"), "subnet.onnx", "float32"),
    ],
)
def test_the_dtype_is_that_of_the_table_or_of_the_option(lut, tmp_path, call, context, words, file, dtype):
    out = tmp_path / "out"
    code, text, err = call("--lut", lut(context), *LIMIT, "-a", "proxy:macs", "-o", out, *words)
    assert code == 0, err
    assert {p.name for p in out.iterdir()} & {"subnet.onnx", "subnet.tflite"} == {file}
    assert "random weights" in err
    assert (INT8_NOTE in text) == (dtype == "int8")
    other = f"{file} is {dtype}; its latency was predicted for {context.dtype}"
    assert (other in " ".join(err.split())) == (dtype != context.dtype)
    if file == "subnet.onnx":
        found = metadata_of(out / file)
        assert found.get("dtype", "float32") == dtype
        assert ("fixed ranges" in found.get("ranges", "")) == (dtype == "int8")


def test_a_file_of_an_earlier_search_is_removed(lut, tmp_path, call):
    words = (*LIMIT, "-a", "proxy:macs", "-o", tmp_path / "out")
    assert call("--lut", lut(INT8), *words)[0] == 0
    assert call("--lut", lut(FP32), *words)[0] == 0
    assert not (tmp_path / "out" / "subnet.tflite").exists()


@pytest.fixture
def accuracy(tmp_path: Path, small: Space) -> Any:
    """Write accuracies that grow with MACs, in a dtype; None leaves the column out."""
    from ofa_core.arch_json import arch_to_dict
    from ofa_core.genomes import decode, sample_genomes

    archs = decode(small, sample_genomes(small, 60, np.random.default_rng(1)))

    def write(*dtypes: str | None) -> Path:
        path = tmp_path / "accuracy.csv"
        head = "arch;top1" if dtypes == (None,) else "arch;top1;dtype"
        rows = [f'"{arch_to_dict(a, small)}";{50 + small.macs(a) / 1e7}' for a in archs]
        if dtypes != (None,):
            rows = [f"{row};{dtypes[i % len(dtypes)]}" for i, row in enumerate(rows)]
        path.write_text("\n".join([head, *rows]))
        return path

    return write


@pytest.mark.parametrize(("dtype", "predicted"), [(None, False), ("float32", False), ("int8", True)])
def test_the_loss_by_int8_is_predicted_by_a_table_in_int8_only(lut, tmp_path, call, accuracy, dtype, predicted):
    out = tmp_path / "out"
    code, text, err = call("--lut", lut(INT8), *LIMIT, "-a", accuracy(dtype), "-o", out)
    assert code == 0, err
    assert (INT8_NOTE in text) != predicted
    assert ("sub-nets in int8" in text) == predicted
    record = json.loads((out / "search.json").read_text())
    assert (INT8_NOTE in record["accuracy"]["note"]) != predicted
    assert record["int8"] is None


@pytest.mark.parametrize(("dtype", "differs"), [(None, False), ("int8", True)])
def test_accuracies_in_int8_are_not_those_of_a_float_network(lut, tmp_path, call, accuracy, dtype, differs):
    code, text, err = call("--lut", lut(FP32), *LIMIT, "-a", accuracy(dtype), "-o", tmp_path / "out", "--no-report")
    assert code == 0, err
    assert (FLOAT_NOTE in text) == differs


@pytest.mark.parametrize("dtypes", [("int8", "float32"), ("float16",), ("INT8",)])
def test_accuracies_of_unclear_dtype_are_refused(lut, tmp_path, call, accuracy, dtypes):
    code, _, err = call("--lut", lut(INT8), *LIMIT, "-a", accuracy(*dtypes), "-o", tmp_path / "out")
    assert code == 1
    assert "either float32 or int8 is expected, in all rows" in err


@pytest.mark.torch
@pytest.mark.parametrize("context", [INT8, FP32])
def test_a_winner_with_weights_is_quantised_and_measured(lut, tmp_path, small, call, context):
    pytest.importorskip("torch", reason="needs torch")
    from ofa_core.formats.checkpoint import write_checkpoint
    from ofa_core.formats.preprocessing import Preprocessing
    from ofa_core.nn.supernet import Supernet

    weights, out = tmp_path / "net.pt", tmp_path / "out"
    write_checkpoint(weights, Supernet(small, seed=1).eval(), small, Preprocessing((0.5,) * 3, (0.5,) * 3, "direct"))
    words = ("--weights", weights, "--data", "digits", "--dtype", "int8", "--range-images", 20, "--ranges", "mse")
    code, text, err = call("--lut", lut(context), *LIMIT, "-a", "proxy:macs", "-o", out, *words)
    assert code == 0, err
    assert "random weights" not in err
    found = json.loads((out / "search.json").read_text())["int8"]
    assert found["n_images"] == 359
    assert found["ranges"] == "mse ranges of 20 images"
    assert 50 < found["agreement"] <= 100
    assert f"{found['int8_top1']:.2f} % in int8 on 359 validation images" in text
    if context is FP32:
        assert metadata_of(out / "subnet.onnx")["ranges"] == "mse ranges of 20 images"
    else:
        assert b"mse ranges of 20 images" in (out / "subnet.tflite").read_bytes()
