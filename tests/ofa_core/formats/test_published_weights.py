"""Published state dicts: names, spellings, and errors that name the keys."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError  # noqa: E402
from ofa_core.formats.published_weights import (  # noqa: E402
    load_published,
    published_names,
    read_state_dict,
    to_published,
    write_published,
)
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import get_space, tiny  # noqa: E402


def equal(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.reference
@pytest.mark.parametrize("width", ["1.0", "1.2"])
def test_names_order_and_shapes_are_the_published_ones(width, reference_data):
    layout = json.loads((reference_data / "ofa_mbv3_state_dict_layout.json").read_text())
    with torch.device("meta"):
        net = Supernet(get_space(f"mbv3-w{width}"))
    own, buffers = net.state_dict(), dict(net.named_buffers())
    ours = [[name, list(own[k].shape), "buf" if k in buffers else "param"] for k, name in published_names(net).items()]
    assert ours == layout[f"ofa_mbv3_d234_e346_k357_w{width}"]


@pytest.mark.parametrize("spelling", ["current", "legacy"])
@pytest.mark.parametrize("name", ["tiny", "mbv3-w0.35", "proxyless-w0.35"])
def test_published_round_trip(name, spelling, tmp_path):
    space = get_space(name)
    net, other = Supernet(space, seed=1), Supernet(space, seed=2)
    write_published(tmp_path / "net.pth", net, spelling)
    state = read_state_dict(tmp_path / "net.pth")
    assert any(("mobile_inverted_conv" in key) == (spelling == "legacy") for key in state if key.startswith("blocks."))
    load_published(other, state)
    assert equal(net, other)


def test_known_names():
    space = get_space("mbv3-w1.0")
    with torch.device("meta"):
        net = Supernet(space)
    names = list(published_names(net, "legacy").values())
    assert len(names) == 475
    assert "blocks.1.mobile_inverted_conv.depth_conv.conv.7to5_matrix" in names
    assert "blocks.0.mobile_inverted_conv.depth_conv.conv.weight" in names
    assert "blocks.5.mobile_inverted_conv.depth_conv.se.fc.reduce.bias" in names
    plain = build_subnet(tiny(), tiny().smallest())
    assert "blocks.1.conv.inverted_bottleneck.bn.weight" in published_names(plain).values()
    proxyless = build_subnet(get_space("proxyless-w0.35"), get_space("proxyless-w0.35").smallest())
    assert "feature_mix_layer.bn.weight" in published_names(proxyless).values()


def test_spellings_may_be_mixed():
    net, other = Supernet(tiny(), seed=1), Supernet(tiny(), seed=2)
    state = to_published(net)
    mixed = {k.replace(".bn.bn.", ".bn.") if "blocks.2" in k else k: v for k, v in state.items()}
    mixed = {k.replace("blocks.3.conv.", "blocks.3.mobile_inverted_conv."): v for k, v in mixed.items()}
    assert mixed.keys() != state.keys()
    load_published(other, mixed)
    assert equal(net, other)


def test_a_missing_key_is_named():
    state = to_published(Supernet(tiny()))
    del state["blocks.2.conv.depth_conv.conv.5to3_matrix"]
    with pytest.raises(FormatError, match=r"x\.pth: blocks\.2\.conv\.depth_conv\.conv\.5to3_matrix is missing"):
        load_published(Supernet(tiny()), state, "x.pth")


def test_a_key_too_many_is_named():
    state = to_published(Supernet(tiny()))
    state["blocks.9.conv.depth_conv.bn.bn.weight"] = torch.zeros(3)
    with pytest.raises(FormatError, match=r"blocks\.9\.conv\.depth_conv\.bn\.weight has no place"):
        load_published(Supernet(tiny()), state)


def test_a_doubled_key_is_named():
    state = to_published(Supernet(tiny()))
    state["blocks.2.conv.depth_conv.bn.weight"] = state["blocks.2.conv.depth_conv.bn.bn.weight"]
    with pytest.raises(FormatError, match="twice"):
        load_published(Supernet(tiny()), state)


def test_another_shape_is_named_and_nothing_is_overwritten():
    net = Supernet(tiny(), seed=1)
    state = to_published(Supernet(tiny(), seed=2))
    state["classifier.linear.bias"] = torch.zeros(3)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(FormatError, match=r"classifier\.linear\.bias is \(3,\), this network has \(10,\)"):
        load_published(net, state)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_the_wrong_space_is_refused():
    with pytest.raises(FormatError, match="is it a checkpoint of this network"):
        load_published(Supernet(tiny()), to_published(Supernet(get_space("proxyless-w0.35"))))
