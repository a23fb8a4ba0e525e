from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_runs import image, relative_error, run_onnx

from ofa_core.blocks import ACTS, BlockSpec
from ofa_core.errors import ArchError, OfaError
from ofa_core.export.layers import BlockWeights, LayerWeights, layers
from ofa_core.export.onnx import GRAPH_FORMS, arch_model, block_model, write_onnx
from ofa_core.export.weights import random_net_weights, random_weights
from ofa_core.genomes import sample_arch
from ofa_core.spaces import SPACE_NAMES, get_space

TOLERANCE = 1e-5


def onnx_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one image, from the shapes in the file alone."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            total += int(np.prod(weights[node.input[1]])) * int(np.prod(shapes[node.output[0]][2:]))
    return total


# ---- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("act", ["relu", "relu6", "h_swish"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_every_mbconv_computes_what_torch_does(oracle, block_grid, k, stride, act):
    for i, block in enumerate(block_grid(k, stride, act)):
        module, (weights,) = oracle.build([block], seed=i)
        x = image(block, seed=i)
        want = oracle.run(module, x)
        for form in GRAPH_FORMS:
            got = run_onnx(block_model(block, graph_form=form, weights=weights), x)
            assert relative_error(got, want) <= TOLERANCE, (block.label(), form)


@pytest.mark.torch
@pytest.mark.parametrize("form", GRAPH_FORMS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_other_op_computes_what_torch_does(oracle, head_blocks, batch_size, form):
    for i, block in enumerate(head_blocks):
        module, (weights,) = oracle.build([block], seed=i)
        x = image(block, batch_size, seed=i)
        got = run_onnx(block_model(block, batch_size=batch_size, graph_form=form, weights=weights), x)
        assert relative_error(got, oracle.run(module, x)) <= TOLERANCE, block.label()


@pytest.mark.torch
@pytest.mark.parametrize("form", GRAPH_FORMS)
@pytest.mark.parametrize("name", SPACE_NAMES)
def test_whole_nets_compute_what_torch_does(oracle, name, form):
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(5), resolutions=[32])
    blocks = space.blocks(arch)
    module, weights = oracle.build(blocks)
    x = image(blocks[0], batch_size=2)
    got = run_onnx(arch_model(space, arch, batch_size=2, graph_form=form, weights=weights), x)
    assert got.shape == (2, space.n_classes)
    assert relative_error(got, oracle.run(module, x)) <= TOLERANCE


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_blocks_run_one_after_another_are_the_net(name):
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(2), resolutions=[32])
    blocks = space.blocks(arch)
    weights = random_net_weights(blocks)
    y = x = image(blocks[0])
    for block, tensors in zip(blocks, weights, strict=True):
        y = run_onnx(block_model(block, weights=tensors), y)
        assert 0.1 < np.abs(y).max() < 100, f"values leave their ordinary size at {block.label()}"
    assert relative_error(run_onnx(arch_model(space, arch), x), y) <= TOLERANCE


# ---- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", GRAPH_FORMS)
@pytest.mark.parametrize("name", SPACE_NAMES)
def test_nets_are_valid_and_count_their_macs(name, form):
    space = get_space(name)
    for arch in (space.smallest(), space.largest()):
        model = arch_model(space, arch, graph_form=form)
        onnx.checker.check_model(model, full_check=True)
        assert onnx_macs(model) == space.macs(arch)


def test_block_macs_and_shapes(block_grid, head_blocks):
    for block in [*head_blocks, *block_grid(5, 2, "h_swish")]:
        model = block_model(block, batch_size=2)
        onnx.checker.check_model(model, full_check=True)
        assert onnx_macs(model) == block.macs
        (value,) = model.graph.output
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        assert list(run_onnx(model, image(block, 2)).shape) == shape
        assert shape[:2] == [2, block.out_c]


def test_names_and_versions_match_the_docs(head_blocks):
    model = block_model(head_blocks[0])
    assert [v.name for v in model.graph.input] == ["input"]
    assert [v.name for v in model.graph.output] == ["output"]
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)


def test_fused_and_literal_forms_use_their_operators(block_grid):
    block = next(b for b in block_grid(3, 1, "h_swish") if b.se and b.expands)
    ops = {form: [n.op_type for n in block_model(block, graph_form=form).graph.node] for form in GRAPH_FORMS}
    assert ops["fused"] == [
        *("Conv", "HardSwish", "Conv", "HardSwish"),
        *("GlobalAveragePool", "Conv", "Relu", "Conv", "HardSigmoid", "Mul"),
        *("Conv", "Add"),
    ]
    assert not {"HardSwish", "HardSigmoid", "GlobalAveragePool"} & set(ops["literal"])
    assert {"ReduceMean", "Clip", "Div"} <= set(ops["literal"])


def test_same_block_same_bytes_and_other_seed_other_bytes(tmp_path, block_grid):
    block = block_grid(3, 1, "relu")[0]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_onnx(block_model(block, seed=seed), tmp_path / f"{name}.onnx")
    a, b, c = ((tmp_path / f"{name}.onnx").read_bytes() for name in "abc")
    assert a == b != c
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "c.onnx"]


def test_metadata_describes_the_file(head_blocks):
    space = get_space("tiny")
    arch = space.smallest()
    net = {p.key: p.value for p in arch_model(space, arch, graph_form="literal").metadata_props}
    assert net["schema"] == "1"
    assert net["space"] == "tiny"
    assert json.loads(net["arch"])["r"] == [24]
    assert net["graph_form"] == "literal"
    assert net["weights"] == "random weights: measures latency, predicts nothing"

    block = head_blocks[0]
    own = {p.key: p.value for p in block_model(block, weights=random_weights(block)).metadata_props}
    assert own["block"] == block.label()
    assert BlockSpec(**json.loads(own["block_spec"])) == block
    assert "random" not in own["weights"]


# ---- random weights ------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    in_c=st.integers(1, 40),
    ratio=st.integers(1, 6),
    k=st.sampled_from([3, 5, 7]),
    act=st.sampled_from(ACTS),
    se=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_random_weights_fit_and_are_ordinary_numbers(seed, in_c, ratio, k, act, se):
    block = BlockSpec("mbconv", 8, 8, in_c, in_c * ratio, in_c, k, 1, act, se, True)
    weights = random_weights(block, seed)
    assert [w.weight.shape for w in weights.layers] == [layer.weight_shape for layer in layers(block)]
    for tensors in weights.layers:
        for array in (tensors.weight, tensors.bias):
            assert array.dtype == np.float32
            assert np.abs(array).min() > 1e-4
            assert np.abs(array).max() < 10


def test_parameters_are_counted_like_blocks_count_them(block_grid, head_blocks):
    """Folding removes one of the two numbers per batch-norm channel; feature_mix gains a bias of zeros or noise."""
    for block in [*block_grid(7, 1, "relu"), *head_blocks]:
        n = sum(w.weight.size for w in random_weights(block).layers)
        biases = sum(layer.out_c for layer in layers(block))
        bn_channels = sum(
            layer.out_c for layer in layers(block) if layer.role in ("expand", "depthwise", "project")
        ) + (block.out_c if block.op in ("first_conv", "final_expand") else 0)
        extra = block.out_c if block.op == "feature_mix" else 0
        assert n + biases + bn_channels - extra == block.params


def test_equal_blocks_of_a_net_have_different_weights():
    space = get_space("mbv3-w1.0")
    blocks = space.blocks(space.smallest())
    twice = [b for b in blocks if blocks.count(b) > 1] or [blocks[3]]
    first, second = random_net_weights([twice[0], twice[0]])
    assert not np.array_equal(first.layers[0].weight, second.layers[0].weight)
    assert np.array_equal(first.layers[0].weight, random_weights(twice[0]).layers[0].weight)


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_errors_name_the_allowed_values(block_grid):
    block = block_grid(3, 1, "relu")[0]
    with pytest.raises(OfaError, match="batch size 0"):
        block_model(block, batch_size=0)
    with pytest.raises(OfaError, match="unknown graph form 'fast'; one of fused, literal"):
        block_model(block, graph_form="fast")  # type: ignore[arg-type]
    with pytest.raises(OfaError, match="has out_px 5, but its kernel and stride give 9 px"):
        block_model(replace(block, out_px=5))
    space = get_space("tiny")
    with pytest.raises(ArchError):
        arch_model(space, get_space("mbv3-w1.0").smallest())
    with pytest.raises(OfaError, match="weights of 1 blocks for a net of"):
        arch_model(space, space.smallest(), weights=[BlockWeights(())])


def test_misfit_weights_name_the_layer(block_grid):
    block = block_grid(3, 1, "relu")[0]
    good = random_weights(block)
    with pytest.raises(OfaError, match="has 2 weighted layers, got tensors of 1"):
        block_model(block, weights=BlockWeights(good.layers[:1]))
    bad = LayerWeights(good.layers[0].weight.astype(np.float64), good.layers[0].bias)
    with pytest.raises(OfaError, match=r"depthwise weight of block 0 .* float32 \[8, 1, 3, 3\] .* not float64"):
        block_model(block, weights=BlockWeights((bad, good.layers[1])))
    nan = LayerWeights(good.layers[0].weight, np.full(8, np.nan, dtype=np.float32))
    with pytest.raises(OfaError, match=r"depthwise bias of block 0 .* not finite"):
        block_model(block, weights=BlockWeights((nan, good.layers[1])))
