from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from onnx_runs import image, relative_error, run_onnx

from ofa_core.errors import OfaError
from ofa_core.export.layers import BlockWeights
from ofa_core.export.onnx import arch_model, block_model
from ofa_core.export.tflite import METADATA_NAME, arch_tflite, block_tflite
from ofa_core.export.weights import random_net_weights, random_weights
from ofa_core.genomes import sample_arch
from ofa_core.spaces import SPACE_NAMES, get_space

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

TOLERANCE = 1e-4
TORCH_TOLERANCE = 1e-5


def interpreter(data: bytes) -> litert.Interpreter:
    made = litert.Interpreter(model_content=data, num_threads=1)
    made.allocate_tensors()
    return made


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    """Feed an NCHW array, get an NCHW array (or logits), and see to it that one delegate node took everything."""
    made = interpreter(data)
    assert [op["op_name"] for op in made._get_ops_details()].count("DELEGATE") == 1
    (source,), (sink,) = made.get_input_details(), made.get_output_details()
    made.set_tensor(source["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    made.invoke()
    y = made.get_tensor(sink["index"])
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


def parsed(data: bytes):
    return schema.Model.GetRootAs(data)


# ---- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["relu", "relu6", "h_swish"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_every_mbconv_is_one_delegate_node_and_equals_its_onnx_form(block_grid, k, stride, act):
    for i, block in enumerate(block_grid(k, stride, act)):
        x = image(block, seed=i)
        got = run(block_tflite(block), x)
        assert relative_error(got, run_onnx(block_model(block), x)) <= TOLERANCE, block.label()


@pytest.mark.torch
@pytest.mark.parametrize("act", ["relu", "relu6", "h_swish"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_every_mbconv_computes_what_torch_does(oracle, block_grid, k, stride, act):
    for i, block in enumerate(block_grid(k, stride, act)):
        module, (weights,) = oracle.build([block], seed=i)
        x = image(block, seed=i)
        got = run(block_tflite(block, weights=weights), x)
        assert relative_error(got, oracle.run(module, x)) <= TORCH_TOLERANCE, block.label()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_other_op_is_one_delegate_node_and_equals_its_onnx_form(head_blocks, batch_size):
    for block in head_blocks:
        x = image(block, batch_size)
        got = run(block_tflite(block, batch_size=batch_size), x)
        assert relative_error(got, run_onnx(block_model(block, batch_size=batch_size), x)) <= TOLERANCE, block.label()


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_whole_nets_are_one_delegate_node_and_equal_their_onnx_form(name):
    space = get_space(name)
    for arch in (space.smallest(32), sample_arch(space, np.random.default_rng(3), resolutions=[36])):
        x = image(space.blocks(arch)[0])
        got = run(arch_tflite(space, arch), x)
        assert got.shape == (1, space.n_classes)
        assert relative_error(got, run_onnx(arch_model(space, arch), x)) <= TOLERANCE


@pytest.mark.torch
@pytest.mark.parametrize("name", SPACE_NAMES)
def test_whole_nets_compute_what_torch_does(oracle, name):
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(5), resolutions=[32])
    blocks = space.blocks(arch)
    module, weights = oracle.build(blocks)
    x = image(blocks[0], batch_size=2)
    got = run(arch_tflite(space, arch, batch_size=2, weights=weights), x)
    assert relative_error(got, oracle.run(module, x)) <= TORCH_TOLERANCE


def test_blocks_run_one_after_another_are_the_net():
    space = get_space("mbv3-w1.0")
    arch = sample_arch(space, np.random.default_rng(2), resolutions=[32])
    blocks = space.blocks(arch)
    y = x = image(blocks[0])
    for block, tensors in zip(blocks, random_net_weights(blocks), strict=True):
        y = run(block_tflite(block, weights=tensors), y)
    assert relative_error(run(arch_tflite(space, arch), x), y) <= TORCH_TOLERANCE


# ---- the files -----------------------------------------------------------------------------------------------------


def test_the_signature_runs_by_name(block_grid):
    block = block_grid(3, 1, "relu")[0]
    data = block_tflite(block)
    runner = interpreter(data).get_signature_runner("serving_default")
    x = image(block)
    y = runner(input=np.ascontiguousarray(x.transpose(0, 2, 3, 1)))["output"]
    assert np.array_equal(y.transpose(0, 3, 1, 2), run(data, x))


def test_operators_are_those_of_the_converter(block_grid):
    block = next(b for b in block_grid(5, 2, "h_swish") if b.se and b.expands)
    ops = [op["op_name"] for op in interpreter(block_tflite(block))._get_ops_details()]
    assert [op for op in ops if op != "DELEGATE"] == [
        *("CONV_2D", "HARD_SWISH", "PAD", "DEPTHWISE_CONV_2D", "HARD_SWISH"),
        *("MEAN", "CONV_2D", "CONV_2D", "MUL", "MUL"),
        "CONV_2D",
    ]


def test_old_runtimes_support_every_operator_version():
    space = get_space("mbv3-w1.0")
    model = parsed(arch_tflite(space, space.smallest(32)))
    assert {model.OperatorCodes(i).Version() for i in range(model.OperatorCodesLength())} == {1}


def test_small_constants_are_shared_and_buffers_aligned():
    space = get_space("mbv3-w1.0")
    data = arch_tflite(space, space.largest(32))
    start = np.frombuffer(data, dtype=np.uint8).__array_interface__["data"][0]
    model = parsed(data)
    contents = []
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            array = buffer.DataAsNumpy()
            assert (array.__array_interface__["data"][0] - start) % 16 == 0
            contents.append(array.tobytes())
    small = [c for c in contents if len(c) <= 32]
    assert len(small) == len(set(small))
    assert len(contents) == len(set(contents)), "two blocks of a net share their weights"


def test_same_block_same_bytes_and_other_seed_other_bytes(block_grid):
    block = block_grid(3, 1, "relu")[0]
    assert block_tflite(block) == block_tflite(block) != block_tflite(block, seed=1)


def test_metadata_describes_the_file():
    space = get_space("tiny")
    model = parsed(arch_tflite(space, space.smallest()))
    entry = model.Metadata(0)
    assert entry.Name() == METADATA_NAME.encode()
    told = json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    assert told["schema"] == "1"
    assert told["space"] == "tiny"
    assert told["graph_form"] == "fused"
    assert told["weights"] == "random weights: measures latency, predicts nothing"


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_errors_name_the_allowed_values(block_grid):
    block = block_grid(3, 1, "relu")[0]
    with pytest.raises(OfaError, match="batch size 0"):
        block_tflite(block, batch_size=0)
    with pytest.raises(OfaError, match="has out_px 5, but its kernel and stride give 9 px"):
        block_tflite(replace(block, out_px=5))
    with pytest.raises(OfaError, match="has 2 weighted layers, got tensors of 1"):
        block_tflite(block, weights=BlockWeights(random_weights(block).layers[:1]))


@pytest.mark.parametrize("missing", ["ai_edge_litert.schema_py_generated", "flatbuffers"])
def test_without_the_extra_one_line_names_it(monkeypatch, block_grid, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(OfaError, match=r"pip install 'ofa-latency\[tflite\]'"):
        block_tflite(block_grid(3, 1, "relu")[0])
