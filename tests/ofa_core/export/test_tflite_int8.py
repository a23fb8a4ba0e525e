from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
from onnx_ranges import observed_ranges
from onnx_runs import image, nmse

from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.onnx import block_model as float_model
from ofa_core.export.onnx_int8 import arch_model as onnx_net
from ofa_core.export.onnx_int8 import block_model as onnx_block
from ofa_core.export.quantisation import INTEGER_FORMS
from ofa_core.export.tflite_file import METADATA_NAME
from ofa_core.export.tflite_int8 import arch_tflite, block_tflite
from ofa_core.export.weights import random_net_weights, random_weights
from ofa_core.genomes import sample_arch
from ofa_core.spaces import SPACE_NAMES, get_space

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

MAX_NMSE = 0.005


def interpreter(data: bytes) -> litert.Interpreter:
    made = litert.Interpreter(model_content=data, num_threads=1)
    made.allocate_tensors()
    return made


def is_one_delegate(made: litert.Interpreter) -> bool:
    """True if one delegate has the model's input and output."""
    delegates = [op for op in made._get_ops_details() if op["op_name"] == "DELEGATE"]
    (source,), (sink,) = made.get_input_details(), made.get_output_details()
    return (
        len(delegates) == 1 and source["index"] in delegates[0]["inputs"] and sink["index"] in delegates[0]["outputs"]
    )


def run_integers(made: litert.Interpreter, q: np.ndarray) -> np.ndarray:
    (source,), (sink,) = made.get_input_details(), made.get_output_details()
    made.set_tensor(source["index"], np.ascontiguousarray(q.transpose(0, 2, 3, 1)))
    made.invoke()
    y = made.get_tensor(sink["index"])
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


def run(data: bytes, x: np.ndarray, *, whole: bool = True) -> np.ndarray:
    """Feed real numbers through the input's scale, and get real numbers; NCHW."""
    made = interpreter(data)
    assert is_one_delegate(made) or not whole
    scale, zero = made.get_input_details()[0]["quantization"]
    y = run_integers(made, np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8))
    scale, zero = made.get_output_details()[0]["quantization"]
    return (y.astype(np.float32) - zero) * scale


def run_float(block: BlockSpec, weights, x: np.ndarray) -> np.ndarray:
    data = float_model(block, weights=weights).SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(["output"], {"input": x})[0]


def run_onnx_integers(model, q: np.ndarray) -> np.ndarray:
    """Run the ONNX form operator by operator, without fusion, on the same integers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y = session.run(["output"], {"input": (q.astype(np.int16) + 128).astype(np.uint8)})[0]
    return y.astype(np.int16) - 128


@pytest.mark.parametrize("act", ["relu", "relu6", "h_swish"])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_mbconv_is_one_delegate_near_the_float_block_and_equals_its_onnx_form(block_grid, stride, act):
    for i, block in enumerate(block for k in (3, 5, 7) for block in block_grid(k, stride, act)[k % 3 :: 3]):
        weights, x = random_weights(block), image(block, seed=i)
        (ranges,) = observed_ranges([block], [weights], [x])
        data = block_tflite(block, weights=weights, ranges=ranges)
        assert nmse(run(data, x), run_float(block, weights, x)) <= MAX_NMSE, block.label()
        q = np.random.default_rng(i).integers(-128, 128, x.shape).astype(np.int8)
        want = run_onnx_integers(onnx_block(block, weights=weights, ranges=ranges), q)
        assert np.abs(run_integers(interpreter(data), q) - want).max() <= 2, block.label()  # in steps


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_other_op_is_one_delegate_near_the_float_block(head_blocks, batch_size):
    for i, block in enumerate(head_blocks):
        weights, x = random_weights(block), image(block, batch_size, seed=i)
        (ranges,) = observed_ranges([block], [weights], [x])
        data = block_tflite(block, batch_size=batch_size, weights=weights, ranges=ranges)
        want = np.concatenate([run_float(block, weights, one[np.newaxis]) for one in x])
        assert nmse(run(data, x), want) <= MAX_NMSE, block.label()


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_a_net_is_one_delegate_and_equals_its_onnx_form(name):
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(3), resolutions=[36])
    blocks = space.blocks(arch)
    weights, x = random_net_weights(blocks), image(blocks[0])
    ranges = observed_ranges(blocks, weights, [x])
    made = interpreter(arch_tflite(space, arch, weights=weights, ranges=ranges))
    assert is_one_delegate(made)
    q = np.random.default_rng(0).integers(-128, 128, x.shape).astype(np.int8)
    got, want = run_integers(made, q), run_onnx_integers(onnx_net(space, arch, weights=weights, ranges=ranges), q)
    assert nmse(got.astype(float), want.astype(float)) <= MAX_NMSE


@pytest.mark.parametrize("name", ["mbv3-w1.0", "mbv3-w1.2", "proxyless-w1.3"])
def test_every_block_of_a_space_is_one_delegate(name):
    for block in get_space(name).all_blocks((64,)):
        assert is_one_delegate(interpreter(block_tflite(block))), block.label()


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6])
def test_dead_channels_are_ignored(block_grid, size):
    block = next(block for block in block_grid(3, 1, "h_swish") if block.se and block.shortcut and block.expands)
    weights, x = random_weights(block), image(block)
    for layer in weights.layers[:2]:
        layer.weight[::3] = size
        layer.bias[::3] = np.linspace(-2, 2, len(layer.bias[::3]))
    (ranges,) = observed_ranges([block], [weights], [x])
    want = run_float(block, weights, x)
    assert nmse(run(block_tflite(block, weights=weights, ranges=ranges), x), want) <= 0.001


def test_h_swish_as_one_operator_falls_out_of_the_delegate(block_grid):
    block = next(block for block in block_grid(3, 1, "h_swish") if block.se and block.expands)
    weights, x = random_weights(block), image(block)
    (ranges,) = observed_ranges([block], [weights], [x])
    data = block_tflite(block, graph_form="fused", weights=weights, ranges=ranges)
    assert not is_one_delegate(interpreter(data))
    assert nmse(run(data, x, whole=False), run_float(block, weights, x)) <= MAX_NMSE


@pytest.mark.parametrize("form", INTEGER_FORMS)
def test_the_metadata_describe_the_file(block_grid, form):
    block = block_grid(5, 2, "h_swish")[-1]
    data = block_tflite(block, graph_form=form)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    entry = next(entry for entry in model.metadata if entry.name.decode() == METADATA_NAME)
    text = json.loads(bytes(model.buffers[entry.buffer].data))
    assert text["graph_form"] == form
    assert text["dtype"] == "int8"
    assert text["ranges"].startswith("fixed ranges")
    detail = interpreter(data).get_input_details()[0]
    assert detail["dtype"] is np.int8
    assert (float(text["input_scale"]), int(text["input_zero_point"])) == pytest.approx(detail["quantization"])
    assert block_tflite(block, graph_form=form) == data


def test_impossible_requests_are_refused(block_grid):
    block = block_grid(3, 1, "relu")[0]
    with pytest.raises(OfaError, match="batch size 0"):
        block_tflite(block, batch_size=0)
    with pytest.raises(OfaError, match="unknown form"):
        block_tflite(block, graph_form="literal")  # type: ignore[arg-type]
