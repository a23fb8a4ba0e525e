from __future__ import annotations

import ast
import copy
import importlib.util
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.errors import ArchError, FormatError
from ofa_core.formats.config_layers import DEFAULTS, REQUIRED
from ofa_core.formats.net_config import (
    find_space,
    net_config_of,
    parse_net_config,
    read_net_config,
    write_net_config,
)
from ofa_core.formats.yaml_tables import read_table, write_ofa_yaml
from ofa_core.genomes import decode, sample_arch, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, proxyless, tiny
from ofa_core.table import Context, Entry, LatencyTable

spaces = st.sampled_from([get_space(name) for name in SPACE_NAMES])


def new_names(record: dict[str, Any]) -> dict[str, Any]:
    """The same configuration as the authors' present code writes it."""
    record = copy.deepcopy(record)
    for block in record["blocks"]:
        block["name"] = "ResidualBlock"
        block["conv"] = {**block.pop("mobile_inverted_conv"), "name": "MBConvLayer", "groups": None}
    return record


# ---- round trips -----------------------------------------------------------------------------------------------------


@given(spaces, st.integers(0, 10**6), st.booleans())
def test_every_member_survives_its_net_config(space: Space, seed: int, renamed: bool) -> None:
    arch = sample_arch(space, np.random.default_rng(seed))
    record = json.loads(json.dumps(net_config_of(space, arch)))
    config = parse_net_config(new_names(record) if renamed else record, arch.resolution_px)
    assert config.blocks == space.blocks(arch)
    assert config.block_indices == tuple(range(1 + arch.n_blocks))
    assert (config.macs, config.params) == (space.macs(arch), space.params(arch))
    assert config.arch(space) == arch
    assert find_space(config) == space


@given(st.integers(0, 10**6), st.integers(2, 2000))
def test_the_number_of_classes_is_the_networks_own(seed: int, n_classes: int) -> None:
    space = tiny().with_classes(n_classes)
    arch = sample_arch(space, np.random.default_rng(seed))
    config = parse_net_config(net_config_of(space, arch), arch.resolution_px)
    assert config.n_classes == n_classes
    assert config.arch(tiny()) == arch
    assert find_space(config) == space


def test_a_written_folder_reads_back(tmp_path: Path) -> None:
    space = mobilenet_v3(1.2)
    arch = space.smallest(220)
    write_net_config(tmp_path / "note10", space, arch)
    assert json.loads((tmp_path / "note10" / "run.config").read_text()) == {"image_size": 220}
    for path in (tmp_path / "note10", tmp_path / "note10" / "net.config"):
        config = read_net_config(path)
        assert (config.resolution_px, config.arch(space)) == (220, arch)
    (tmp_path / "note10" / "run.config").rename(tmp_path / "elsewhere.config")
    bare = read_net_config(tmp_path / "note10")
    assert bare.resolution_px is None
    assert bare.blocks == space.blocks(arch.at(224))
    assert bare.at(220).blocks == space.blocks(arch)
    assert read_net_config(tmp_path / "note10", tmp_path / "elsewhere.config").arch(space) == arch
    with pytest.raises(ArchError, match=r"the net\.config has no image size"):
        bare.arch(space)


def test_the_field_names_are_the_authors() -> None:
    record = net_config_of(mobilenet_v3(1.0), mobilenet_v3(1.0).largest(224))
    assert list(record) == [
        "name", "bn", "first_conv", "blocks", "final_expand_layer", "feature_mix_layer", "classifier"
    ]  # fmt: skip
    assert record["name"] == "MobileNetV3"
    assert record["bn"] == {"momentum": 0.1, "eps": 1e-05}
    assert record["first_conv"] == {
        "name": "ConvLayer", "kernel_size": 3, "stride": 2, "dilation": 1, "groups": 1, "bias": False,
        "has_shuffle": False, "in_channels": 3, "out_channels": 16, "use_bn": True, "act_func": "h_swish",
        "dropout_rate": 0, "ops_order": "weight_bn_act",
    }  # fmt: skip
    assert record["blocks"][0] == {
        "name": "MobileInvertedResidualBlock",
        "mobile_inverted_conv": {
            "name": "MBInvertedConvLayer", "in_channels": 16, "out_channels": 16, "kernel_size": 3, "stride": 1,
            "expand_ratio": 1, "mid_channels": 16, "act_func": "relu", "use_se": False,
        },
        "shortcut": {
            "name": "IdentityLayer", "in_channels": [16], "out_channels": [16], "use_bn": False, "act_func": None,
            "dropout_rate": 0, "ops_order": "weight_bn_act",
        },
    }  # fmt: skip
    assert record["blocks"][1]["shortcut"] is None
    assert record["blocks"][1]["mobile_inverted_conv"]["mid_channels"] == 96
    assert record["feature_mix_layer"]["use_bn"] is False
    assert record["classifier"]["name"] == "LinearLayer"


def test_proxyless_has_batch_norm_in_its_feature_mix_layer_and_no_other_head() -> None:
    record = net_config_of(proxyless(1.3), proxyless(1.3).smallest(160))
    assert list(record) == ["name", "bn", "first_conv", "blocks", "feature_mix_layer", "classifier"]
    assert record["name"] == "ProxylessNASNets"
    assert record["bn"]["eps"] == 1e-3
    assert record["feature_mix_layer"]["use_bn"] is True


# ---- absent, null and given are three cases --------------------------------------------------------------------------


@pytest.fixture
def authors_layers() -> ast.Module:
    found = importlib.util.find_spec("ofa")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package ofa is not installed (pip install --no-deps ofa)")
    return ast.parse((Path(next(iter(found.submodule_search_locations))) / "utils/layers.py").read_text())


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_the_defaults_are_those_of_the_authors_constructors(authors_layers: ast.Module, kind: str) -> None:
    (layer,) = (node for node in authors_layers.body if isinstance(node, ast.ClassDef) and node.name == kind)
    (init,) = (node for node in layer.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [a.arg for a in init.args.args][1:]
    values = [ast.literal_eval(node) for node in init.args.defaults]
    n_required = len(names) - len(values)
    assert REQUIRED[kind] == tuple(names[:n_required])
    assert DEFAULTS[kind] == dict(zip(names[n_required:], values, strict=True))
    assert init.args.kwarg is None
    assert not init.args.kwonlyargs


OLD_FIELDS = ("name", "in_channels", "out_channels", "kernel_size", "stride", "expand_ratio")


@pytest.mark.parametrize("renamed", [False, True])
def test_an_older_file_leaves_out_what_its_layers_have_by_default(renamed: bool) -> None:
    space = proxyless(1.3)
    arch = sample_arch(space, np.random.default_rng(3))
    record = net_config_of(space, arch)
    for block in record["blocks"]:
        inner = block["mobile_inverted_conv"]
        block["mobile_inverted_conv"] = {name: inner[name] for name in OLD_FIELDS}
    for name in ("first_conv", "feature_mix_layer"):
        for field in ("stride",) * (name != "first_conv") + ("dilation", "groups", "bias", "has_shuffle", "ops_order"):
            del record[name][field]
    for field in ("bias", "use_bn", "act_func", "dropout_rate", "ops_order"):
        del record["classifier"][field]
    del record["bn"]
    config = parse_net_config(new_names(record) if renamed else record, arch.resolution_px)
    assert config.blocks == space.blocks(arch)
    assert (config.bn_momentum, config.bn_eps) == (0.1, 1e-3)


@pytest.mark.reference
def test_a_published_file_is_the_same_without_its_defaults(reference_data: Path) -> None:
    record = json.loads((reference_data / "proxyless-w0.3-r176_imagenet.json").read_text())
    whole = parse_net_config(record)
    for block in record["blocks"]:
        inner = block["mobile_inverted_conv"]
        block["mobile_inverted_conv"] = {name: inner[name] for name in OLD_FIELDS if name in inner}
    assert parse_net_config(record) == whole


def with_field(record: dict[str, Any], where: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with one field changed; `...` takes it out."""
    record = copy.deepcopy(record)
    at: Any = record
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = value
    if value is ...:
        del at[where[-1]]
    return record


INNER = ("blocks", 2, "mobile_inverted_conv")
refused = re.compile


@pytest.mark.parametrize(
    ("where", "index", "attribute", "absent", "null", "value", "given"),
    [
        ((*INNER, "act_func"), 3, "act", "relu6", "none", "h_swish", "h_swish"),
        ((*INNER, "use_se"), 3, "se", False, refused("use_se is None; true or false"), True, True),
        ((*INNER, "kernel_size"), 3, "kernel_px", 3, refused("kernel_size is None; a whole number"), 7, 7),
        ((*INNER, "stride"), 3, "stride", 1, refused("stride is None; a whole number"), 1, 1),
        ((*INNER, "mid_channels"), 3, "mid_c", 16 * 6, 16 * 6, 40, 40),
        ((*INNER, "groups"), 3, "mid_c", 96, 96, 4, refused("groups is 4; a depth-wise")),
        (("blocks", 2, "shortcut"), 3, "shortcut", refused("has no shortcut"), False, {"name": "ZeroLayer"}, False),
        (INNER, 3, "in_c", refused("has no mobile_inverted_conv"), 16, 3, refused("is 3; a layer")),
        (("first_conv", "act_func"), 0, "act", "relu", "none", "relu6", "relu6"),
        (("first_conv", "stride"), 0, "stride", 1, refused("stride is None"), 4, 4),
        (("first_conv", "kernel_size"), 0, "kernel_px", 3, refused("kernel_size is None"), 3, 3),
        (("first_conv", "use_bn"), 0, "out_c", 8, refused("is None; True"), False, refused("is False; True is")),
        (("first_conv", "groups"), 0, "out_c", 8, refused("groups is None; 1 is expected"), 1, 8),
        (("final_expand_layer",), -4, "op", refused("has no final_expand"), refused("is None; a"), 3, refused("3")),
        (("final_expand_layer", "kernel_size"), -4, "op", refused("kernel 3"), refused("is None"), 1, "final_expand"),
        (
            ("feature_mix_layer", "use_bn"), -2, "op",
            refused("absent, and its default is True; False"), refused("is None; False"), False, "feature_mix",
        ),
        (("feature_mix_layer", "act_func"), -2, "act", "relu", "none", "h_swish", "h_swish"),
        (("classifier", "bias"), -1, "out_c", 10, refused("bias is None; True"), True, 10),
        (("classifier", "in_features"), -1, "in_c", refused("has no in_features"), refused("is None"), 128, 128),
    ],
)  # fmt: skip
def test_absent_null_and_given_are_three_cases(
    where: tuple[Any, ...], index: int, attribute: str, absent: Any, null: Any, value: Any, given: Any
) -> None:
    space = tiny()
    record = net_config_of(space, space.largest(32))
    record["blocks"][2]["mobile_inverted_conv"] |= {"use_se": True, "act_func": "h_swish"}
    for changed, expected in ((..., absent), (None, null), (value, given)):
        file = with_field(record, where, changed)
        if isinstance(expected, re.Pattern):
            with pytest.raises(FormatError, match=expected):
                parse_net_config(file, 32)
        else:
            assert getattr(parse_net_config(file, 32).blocks[index], attribute) == expected


def test_an_absent_ratio_is_six_and_null_is_refused_unless_mid_channels_are_given() -> None:
    record = net_config_of(tiny(), tiny().largest(32))
    inner = record["blocks"][1]["mobile_inverted_conv"]
    inner |= {"mid_channels": None, "expand_ratio": 3}
    assert parse_net_config(record, 32).blocks[2].mid_c == 24
    del inner["expand_ratio"]
    assert parse_net_config(record, 32).blocks[2].mid_c == 48
    inner["expand_ratio"] = None
    with pytest.raises(FormatError, match="expand_ratio is None; a number from 1"):
        parse_net_config(record, 32)
    inner["mid_channels"] = 40
    assert parse_net_config(record, 32).blocks[2].mid_c == 40


def test_channels_by_ratio_are_rounded_and_not_made_divisible() -> None:
    record = net_config_of(tiny(), tiny().smallest(32))
    record["first_conv"]["out_channels"] = 12
    base, first = (block["mobile_inverted_conv"] for block in record["blocks"][:2])
    base |= {"in_channels": 12, "out_channels": 12, "mid_channels": None}
    record["blocks"][0]["shortcut"] = None
    first |= {"in_channels": 12, "mid_channels": None, "expand_ratio": 3}
    assert [block.mid_c for block in parse_net_config(record, 32).blocks[1:3]] == [12, 36]
    first["expand_ratio"] = 2.4
    assert parse_net_config(record, 32).blocks[2].mid_c == 29


@pytest.mark.parametrize("value", [..., None])
def test_the_absence_of_a_feature_mix_layer_must_be_explicit(value: Any) -> None:
    record = net_config_of(proxyless(1.3), proxyless(1.3).smallest(160))
    record["classifier"]["in_features"] = record["feature_mix_layer"]["in_channels"]
    changed = with_field(record, ("feature_mix_layer",), value)
    if value is None:
        assert [block.op for block in parse_net_config(changed, 160).blocks[-2:]] == ["avg_pool", "classifier"]
        return
    with pytest.raises(FormatError, match="has no feature_mix_layer"):
        parse_net_config(changed, 160)


# ---- the input size --------------------------------------------------------------------------------------------------


def test_several_input_sizes_are_refused_and_one_can_be_chosen(tmp_path: Path) -> None:
    space = tiny()
    write_net_config(tmp_path, space, space.largest(32))
    run = tmp_path / "run.config"
    for image_size, message in (
        ([24, 28, 32], r"3 input sizes .*\(image_size 24, 28, 32\); choose one with --resolution PX"),
        ("32", "image_size holds '32'; whole numbers"),
        (30, "resolution 30 px is not allowed; choose a multiple of 4"),
    ):
        run.write_text(json.dumps({"image_size": image_size}))
        with pytest.raises(FormatError, match=message):
            read_net_config(tmp_path)
        assert read_net_config(tmp_path, resolution_px=28).arch(space) == space.largest(28)
    for name in ("image_size", "img_size", "resolution", "r"):
        run.write_text(json.dumps({name: [28]}))
        assert read_net_config(tmp_path).resolution_px == 28
    record = json.loads((tmp_path / "net.config").read_text())
    (tmp_path / "net.config").write_text(json.dumps({**record, "resolution": 32}))
    with pytest.raises(FormatError, match=r"2 input sizes .*\(resolution 32; r 28\)"):
        read_net_config(tmp_path)
    run.write_text("{}")
    assert read_net_config(tmp_path).resolution_px == 32


# ---- networks outside every space ------------------------------------------------------------------------------------


@pytest.mark.reference
def test_the_published_proxyless_net(reference_data: Path) -> None:
    config = read_net_config(reference_data / "proxyless-w0.3-r176_imagenet.json")
    assert (config.family, config.resolution_px, config.n_classes, config.bn_eps) == (
        "ProxylessNASNets",
        176,
        1000,
        1e-3,
    )
    # Blocks 3 and 4 are ZeroLayers beside a shortcut: they do nothing, but they count in the weights' names.
    assert config.block_indices == (0, 1, 2, *range(5, 22))
    assert len(config.blocks) == 24
    assert [b.out_px for b in config.blocks if b.stride == 2] == [88, 44, 22, 11, 6]
    # 3,148,666 bytes of checkpoint hold these numbers as float32, besides the statistics of batch normalisation.
    assert 0.6e6 < config.params < 3148666 / 4
    assert find_space(config) is None
    with pytest.raises(ArchError, match=r"no member of proxyless-w1\.3: it has 19 blocks"):
        config.arch(proxyless(1.3))


def test_mid_channels_wins_over_the_ratio() -> None:
    record = net_config_of(tiny(), tiny().largest(32))
    inner = record["blocks"][1]["mobile_inverted_conv"]
    assert (inner["expand_ratio"], inner["mid_channels"]) == (6, 48)
    inner["mid_channels"] = 24
    config = parse_net_config(record, 32)
    assert config.blocks[2].mid_c == 24
    assert config.arch(tiny()).expands[0] == 3
    inner["mid_channels"] = None
    assert parse_net_config(record, 32).blocks[2].mid_c == 48


def test_a_zero_layer_beside_a_shortcut_is_left_out() -> None:
    record = net_config_of(tiny(), tiny().largest(32))
    record["blocks"].insert(
        2, {"name": "ResidualBlock", "conv": {"name": "ZeroLayer"}, "shortcut": {"name": "IdentityLayer"}}
    )
    config = parse_net_config(record, 32)
    assert config.blocks == tiny().blocks(tiny().largest(32))
    assert config.block_indices == (0, 1, 3, 4, 5)
    record["blocks"][2]["shortcut"] = None
    with pytest.raises(FormatError, match=r"blocks\[2\] has neither"):
        parse_net_config(record, 32)


def test_the_first_layer_that_does_not_fit_is_named() -> None:
    space = mobilenet_v3(1.2)
    config = parse_net_config(net_config_of(space, space.largest(224)), 224)
    with pytest.raises(ArchError, match=r"no member of mbv3-w1\.0: it has 20 blocks, and first_conv 224x224 3->24"):
        config.arch(mobilenet_v3(1.0))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("name",), "DenseNet", "name is 'DenseNet'; MobileNetV3 or ProxylessNASNets"),
        (("name",), None, "name is None; MobileNetV3 or ProxylessNASNets"),
        (("name",), "ResNets", "name is 'ResNets': ResNets are not supported yet"),
        (("name",), "OFAResNets", "name is 'OFAResNets': ResNets are not supported yet"),
        (("name",), "OFAMobileNetV3", "a supernet, not one network; give the architecture of a sub-net"),
        (("name",), "OFAProxylessNASNets", "a supernet, not one network; give the architecture of a sub-net"),
        (("blocks",), [], "blocks is a list; a list of 1 to 1000"),
        (("blocks", 1), 3, r"blocks\[1\] is 3; MobileInvertedResidualBlock or ResidualBlock"),
        (("blocks", 1, "mobile_inverted_conv", "name"), "Conv", r"blocks\[1\] holds 'Conv'; MBInvertedConvLayer"),
        (("blocks", 1, "mobile_inverted_conv", "kernel_size"), 4, "kernel_size is 4; an odd number"),
        (("blocks", 1, "mobile_inverted_conv", "in_channels"), 16, "whose outputs are its inputs"),
        (("blocks", 1, "mobile_inverted_conv", "in_channels"), True, "in_channels is True; a whole number"),
        (("blocks", 1, "mobile_inverted_conv", "mid_channels"), 4, "mid_c >= in_c"),
        (("blocks", 1, "mobile_inverted_conv", "act_func"), "gelu", "act_func is 'gelu'; relu"),
        (("blocks", 1, "mobile_inverted_conv", "use_se"), 1, "use_se is 1; true or false"),
        (("blocks", 1, "mobile_inverted_conv", "groups"), 1, "groups is 1; a depth-wise block has null"),
        (("blocks", 1, "shortcut"), {"name": "IdentityLayer"}, "a shortcut needs equal channels"),
        (("blocks", 1, "shortcut"), {"name": "ConvLayer"}, "null or an IdentityLayer"),
        (("first_conv", "kernel_size"), 5, "first_conv has kernel 5"),
        (("first_conv", "groups"), 3, "first_conv.groups is 3; 1 is expected"),
        (("classifier",), None, "classifier is None; a layer"),
        (("classifier", "in_features"), 10**30, "a number of more than 20 digits; a whole number"),
        (("bn",), [0.1], "bn is a list"),
        (("bn", "eps"), float("nan"), "bn.eps is nan"),
        (("bn",), None, "bn is None; momentum and eps"),
        (("bn",), {"eps": 1e-5}, "bn is a dict; momentum and eps"),
        (("bn", "ws_eps"), 1e-5, "bn.ws_eps is 1e-05; only batch normalisation"),
        (("bn", "gn_channel_per_group"), 8, "bn.gn_channel_per_group is 8; only batch normalisation"),
        (("first_conv", "name"), None, "first_conv holds None; ConvLayer is expected"),
        (("first_conv", "bias"), True, "first_conv.bias is True; False is expected"),
        (("first_conv", "use_se"), True, "first_conv.use_se is True; False is expected"),
        (("first_conv", "padding"), 3, "first_conv has a field 'padding', which no ConvLayer has"),
        (("classifier", "name"), "MultiHeadLinearLayer", "classifier holds 'MultiHeadLinearLayer'; LinearLayer"),
        (("classifier", "bias"), False, "classifier.bias is False; True is expected"),
        (("classifier", "act_func"), "relu", "classifier.act_func is 'relu'; None is expected"),
        (("classifier", "use_bn"), True, "classifier.use_bn is True; False is expected"),
        (("blocks", 2, "shortcut", "use_bn"), True, r"blocks\[2\].shortcut.use_bn is True; False is expected"),
        (("blocks", 2, "shortcut", "act_func"), "relu", r"blocks\[2\].shortcut.act_func is 'relu'; None"),
        (("blocks", 0, "mobile_inverted_conv", "expand_ratio"), 3, "such a block is not supported"),
        (("blocks", 1, "mobile_inverted_conv", "expand_ratio"), 1, "mid_channels is 48 at expand_ratio 1; 8 is"),
        (("resolution",), 222, "resolution 222 px is not allowed; choose a multiple of 4"),
    ],
)
def test_what_is_wrong_is_named(where: tuple[Any, ...], value: Any, message: str) -> None:
    record = net_config_of(tiny(), tiny().largest(32))
    at: Any = record
    for step in where[:-1]:
        at = at[step]
    at[where[-1]] = value
    with pytest.raises(Exception, match=message) as caught:
        parse_net_config(record)
    assert type(caught.value).__module__ == "ofa_core.errors"


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, text, message in (
        ("list", "[1]", "holds a list"),
        ("text", "hello", "neither JSON nor a dictionary"),
        ("deep", "[" * 100_000, "neither JSON nor a dictionary"),
        ("digits", "1" * 5000, "neither JSON nor a dictionary"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError, match=message):
            read_net_config(tmp_path / name)
    with pytest.raises(FormatError, match="No such file"):
        read_net_config(tmp_path / "nothing")


# ---- the authors' latency readers take our tables and our net.configs ------------------------------------------------


@pytest.mark.parametrize("space", [mobilenet_v3(1.0), mobilenet_v3(1.2), proxyless(1.3)], ids=lambda s: s.name)
def test_the_authors_tables_sum_our_files_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Space) -> None:
    found = importlib.util.find_spec("ofa")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package ofa is not installed (pip install --no-deps ofa)")
    # Their module hangs below packages that import torchvision and gdown: it is loaded from its file.
    stub = types.ModuleType("ofa.utils")
    for name in ("download_url", "make_divisible", "MyNetwork"):
        setattr(stub, name, None)
    monkeypatch.setitem(sys.modules, "ofa", types.ModuleType("ofa"))
    monkeypatch.setitem(sys.modules, "ofa.utils", stub)
    file = Path(next(iter(found.submodule_search_locations))) / "nas/efficiency_predictor/latency_lookup_table.py"
    spec = importlib.util.spec_from_file_location("authors_latency_lookup_table", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__dict__["yaml"] = types.SimpleNamespace(load=yaml.safe_load)

    rng = np.random.default_rng(0)
    blocks = space.all_blocks([176])
    table = LatencyTable(Context(), {(None, b): Entry(float(rng.lognormal()), n_samples=9) for b in blocks})
    (path,) = write_ofa_yaml(table, tmp_path, space, [176])
    reader = (module.MBv3LatencyTable if space.feature_c else module.ProxylessNASLatencyTable)(url=str(path))
    for arch in decode(space, sample_genomes(space, 20, rng, [176])):
        ours = float(table.sum_ms(space, [arch])[0])
        assert reader.predict_network_latency_given_config(net_config_of(space, arch), 176) == pytest.approx(ours)
        assert float(read_table(path).sum_ms(space, [arch])[0]) == pytest.approx(ours)
