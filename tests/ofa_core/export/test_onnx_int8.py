from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_ranges import observed_ranges
from onnx_runs import image, nmse

from ofa_core.errors import OfaError
from ofa_core.export.onnx import block_model as float_model
from ofa_core.export.onnx_int8 import arch_model, block_model
from ofa_core.export.quantisation import INTEGER_FORMS, Grid
from ofa_core.export.weights import random_net_weights, random_weights
from ofa_core.genomes import sample_arch
from ofa_core.spaces import SPACE_NAMES, get_space

MAX_NMSE = 0.005
INTEGER_OPS = {
    "QLinearConv", "QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QGemm", "Flatten", "Squeeze", "Transpose"
}  # fmt: skip


def session(
    model: onnx.ModelProto, path=None, level: str = "ORT_ENABLE_ALL", *, exact_sums: bool = False
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.x64quantprecision", str(int(exact_sums)))
    if path:
        options.optimized_model_filepath = str(path)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def grid_of(model: onnx.ModelProto, name: str) -> Grid:
    props = {prop.key: prop.value for prop in model.metadata_props}
    return Grid(float(props[f"{name}_scale"]), int(props[f"{name}_zero_point"]) - 128)


def run(model: onnx.ModelProto, x: np.ndarray, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    """Feed real numbers through the input grid, and get real numbers."""
    q = (grid_of(model, "input").quantise(x).astype(np.int16) + 128).astype(np.uint8)
    y = session(model, level=level).run(["output"], {"input": q})[0]
    assert y.dtype == np.uint8
    return grid_of(model, "output").dequantise((y.astype(np.int16) - 128).astype(np.int8))


def optimised_ops(model: onnx.ModelProto, folder) -> set[str]:
    path = folder / "optimised.onnx"
    session(model, path)
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("form", INTEGER_FORMS)
@pytest.mark.parametrize("act", ["relu", "relu6", "h_swish"])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_mbconv_with_ranges_from_data_is_near_the_float_block(block_grid, stride, act, form):
    for i, block in enumerate(block for k in (3, 5, 7) for block in block_grid(k, stride, act)[k % 4 :: 4]):
        weights, x = random_weights(block), image(block, seed=i)
        (ranges,) = observed_ranges([block], [weights], [x])
        model = block_model(block, graph_form=form, weights=weights, ranges=ranges)
        want = session(float_model(block, weights=weights)).run(["output"], {"input": x})[0]
        assert nmse(run(model, x), want) <= MAX_NMSE, block.label()


def test_every_other_op_is_near_the_float_block(head_blocks):
    for i, block in enumerate(head_blocks):
        weights, x = random_weights(block), image(block, seed=i)
        (ranges,) = observed_ranges([block], [weights], [x])
        want = session(float_model(block, weights=weights)).run(["output"], {"input": x})[0]
        assert nmse(run(block_model(block, weights=weights, ranges=ranges), x), want) <= MAX_NMSE, block.label()


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_a_net_runs_as_integers_and_gives_what_its_operators_give_one_by_one(name, tmp_path):
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(3), resolutions=[36])
    blocks = space.blocks(arch)
    weights, x = random_net_weights(blocks), image(blocks[0])
    model = arch_model(space, arch, weights=weights, ranges=observed_ranges(blocks, weights, [x]))
    assert not optimised_ops(model, tmp_path) - INTEGER_OPS
    got, want = run(model, x), run(model, x, "ORT_DISABLE_ALL")
    assert nmse(got, want) <= MAX_NMSE


@pytest.mark.parametrize("name", ["mbv3-w1.0", "mbv3-w1.2", "proxyless-w1.3"])
def test_every_block_of_a_space_has_integer_operators_only(name, tmp_path):
    for block in get_space(name).all_blocks((64,)):
        ops = optimised_ops(block_model(block), tmp_path)
        assert ops, block.label()
        assert not ops - INTEGER_OPS, (block.label(), ops)


def test_the_fused_form_has_float_activations(block_grid, tmp_path):
    block = next(block for block in block_grid(3, 1, "h_swish") if block.se)
    assert {"DequantizeLinear", "HardSigmoid"} <= optimised_ops(block_model(block, graph_form="fused"), tmp_path)


def test_sums_are_exact_by_default_on_every_processor(block_grid, head_blocks):
    """On x86 without VNNI, products are added in 16 bits by default."""
    blocks = [*head_blocks, *(block for k in (3, 5, 7) for block in block_grid(k, 1, "h_swish")[k % 4 :: 4])]
    for seed, block in enumerate(blocks):
        model, rng = block_model(block), np.random.default_rng(seed)
        for q in rng.integers(0, 256, (4, 1, block.in_c, block.in_px, block.in_px)):
            extreme = np.where(q < 128, 0, 255)  # sums are largest at the ends
            for x in (q.astype(np.uint8), extreme.astype(np.uint8)):
                exact, default = (session(model, exact_sums=e).run(None, {"input": x})[0] for e in (True, False))
                np.testing.assert_array_equal(default, exact, block.label())


def test_the_file_is_valid_and_its_metadata_describe_it(block_grid):
    block = block_grid(5, 2, "h_swish")[-1]
    model = block_model(block)
    onnx.checker.check_model(model, full_check=True)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(props["block_spec"])["kernel_px"] == 5
    assert props["graph_form"] == "integer"
    assert props["dtype"] == "int8"
    assert props["ranges"].startswith("fixed ranges")
    assert props["weights"].startswith("random weights")
    (ranges,) = observed_ranges([block], [random_weights(block)], [image(block)])
    given = block_model(block, ranges=ranges, weights=random_weights(block))
    assert {prop.key: prop.value for prop in given.metadata_props}["ranges"] == "given ranges"
    assert block_model(block).SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_impossible_requests_are_refused(block_grid):
    block = block_grid(3, 1, "relu")[0]
    with pytest.raises(OfaError, match="batch size 0"):
        block_model(block, batch_size=0)
    with pytest.raises(OfaError, match="tensors of"):
        block_model(block, weights=random_weights(block_grid(3, 1, "relu")[-1]))
