"""Weights as other trainers write them."""

from __future__ import annotations

import argparse
import pickle
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError  # noqa: E402
from ofa_core.formats.checkpoint import read_checkpoint  # noqa: E402
from ofa_core.formats.published_weights import load_published, read_state_dict, to_published  # noqa: E402
from ofa_core.formats.state_dicts import key_of  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import mobilenet_v3, tiny  # noqa: E402


@pytest.fixture(scope="module")
def net() -> Supernet:
    return Supernet(tiny(), seed=1)


@pytest.fixture(scope="module")
def state(net):
    return to_published(net)


def equal(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def loads(net, path) -> bool:
    """Whether the weights of a file are those of `net`."""
    other = Supernet(tiny(), seed=2)
    load_published(other, read_state_dict(path), str(path))
    return equal(net, other)


# ---- wrappers and prefixes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["model", "model_state_dict", "state_dict_ema", "state_dict", "net", "ema", "model.state_dict"]
)
def test_weights_under_the_key_of_a_trainer(net, state, tmp_path, key):
    outer, _, inner = key.partition(".")
    content = {
        outer: {inner: state} if inner else state,
        "epoch": 3,
        "best_acc": torch.tensor(76.4),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "weight": torch.zeros(1)},
        "rng": {"torch": torch.get_rng_state()},
    }
    torch.save(content, tmp_path / "w.pth")
    assert loads(net, tmp_path / "w.pth")
    with pytest.raises(FormatError, match="published state dict: name its space and preprocessing"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "student."])
def test_a_prefix_of_every_name_is_taken_off(net, state, tmp_path, prefix):
    torch.save({"model": {f"{prefix}{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pth")
    assert loads(net, tmp_path / "w.pth")


def test_a_prefix_of_some_names_is_not_mended(net, state, tmp_path):
    mixed = {f"module.{name}" if i % 2 == 0 else name: tensor for i, (name, tensor) in enumerate(state.items())}
    assert any(name.startswith("module.first_conv.conv") for name in mixed)
    torch.save({**mixed, "head.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"head\.weight has no place; is it a checkpoint of this network"):
        loads(net, tmp_path / "w.pth")


def test_two_networks_in_one_state_dict_are_refused(net, state, tmp_path):
    both = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in state.items()}
    torch.save(both, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"several networks, whose names begin with student\., teacher\.; one"):
        loads(net, tmp_path / "w.pth")


def test_several_sets_of_weights_are_chosen_by_their_key(net, state, tmp_path):
    ema = to_published(Supernet(tiny(), seed=3))
    path = tmp_path / "w.pth"
    torch.save({"state_dict": state, "state_dict_ema": ema}, path)
    with pytest.raises(FormatError, match=r"under state_dict, state_dict_ema; choose one as FILE#KEY, such as w\.pth#"):
        read_state_dict(path)
    assert loads(net, tmp_path / "w.pth#state_dict")
    assert not loads(net, tmp_path / "w.pth#state_dict_ema")
    with pytest.raises(FormatError, match="no weights under ema; there are state_dict, state_dict_ema"):
        read_state_dict(tmp_path / "w.pth#ema")
    torch.save({"state_dict": state, "model": state}, path)  # the same twice is no question
    assert loads(net, path)
    path.rename(tmp_path / "w#1.pth")
    assert key_of(tmp_path / "w#1.pth") == (tmp_path / "w#1.pth", None)
    assert loads(net, tmp_path / "w#1.pth")


# ---- what is missing, left over or strange ---------------------------------------------------------------------------


def test_counters_of_batches_may_be_missing(net, state, tmp_path):
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "w.pth")
    assert loads(net, tmp_path / "w.pth")
    sub = build_subnet(tiny(), tiny().smallest(), seed=1)
    plain = {name: t for name, t in to_published(sub).items() if not name.endswith("num_batches_tracked")}
    load_published(build_subnet(tiny(), tiny().smallest(), seed=2), plain)


def test_missing_and_left_over_keys_are_named_together(net, state, tmp_path):
    changed = dict(state)
    for name in ("classifier.linear.bias", "classifier.linear.weight"):
        changed[name.replace("linear", "fc")] = changed.pop(name)
    changed["evil\x1b[31m\nname.weight"] = torch.zeros(1)
    torch.save(changed, tmp_path / "w.pth")
    with pytest.raises(FormatError) as caught:
        loads(net, tmp_path / "w.pth")
    message = str(caught.value)
    assert message.isprintable()
    assert "classifier.linear.bias, classifier.linear.weight are missing, and classifier.fc.bias" in message
    assert r"'evil\x1b[31m\nname.weight' have no place; is it a checkpoint of this network?" in message


def test_an_object_that_is_not_a_tensor_is_named(state, tmp_path):
    torch.save({**state, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match="epoch holds a int among the weights; a tensor is expected"):
        read_state_dict(tmp_path / "w.pth")
    torch.save({"epoch": 3, "rng": {"torch": torch.zeros(3)}}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match="no state dict; it needs names and tensors"):
        read_state_dict(tmp_path / "w.pth")


# ---- beside the weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(76.4),
        np.float32(1),
        np.int64(3),
        np.bool_(True),
        np.str_("run"),
        argparse.Namespace(lr=np.float64(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numpy_scalars_and_options_may_stand_beside_the_weights(net, state, tmp_path, beside):
    torch.save({"state_dict": state, "best_acc": beside}, tmp_path / "w.pth")
    assert loads(net, tmp_path / "w.pth")


def test_scalars_that_numpy_1_wrote(net, state, tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"state_dict": state, "best_acc": np.float64(76.4)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"numpy._core.multiarray\n" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    assert loads(net, path)


class Touch:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("where", ["beside", "scalar", "options"])
def test_anything_else_is_refused_in_one_whole_line_and_not_run(state, tmp_path, where):
    ran = Touch(tmp_path / "ran")
    beside = {"beside": ran, "options": argparse.Namespace(x=ran), "scalar": [np.float64(1), ran]}[where]
    torch.save({"state_dict": state, "extra": beside}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"not a readable checkpoint: it contains a .*open, which can run") as caught:
        read_state_dict(tmp_path / "w.pth")
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith("torch.save(net.state_dict(), FILE)")
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_named(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"contains a torch\.nn\.modules\.linear\.Linear, which can run code"):
        read_state_dict(tmp_path / "w.pth")


def test_a_file_of_plain_pickle_is_one_printable_line(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "v.pth").write_bytes(b"\x80\x02\x1b[31m" + bytes(50))
    for name in ("w", "v"):
        with pytest.raises(FormatError, match="not a readable checkpoint: ") as caught:
            read_state_dict(tmp_path / f"{name}.pth")
        assert str(caught.value).isprintable()


# ---- supernets whose kernels are fixed -------------------------------------------------------------------------------


def test_a_supernet_of_one_kernel_is_reported(tmp_path):
    fixed = replace(tiny(), kernels=(5,))
    net = Supernet(fixed, seed=1)
    state = to_published(net)
    assert not any("_matrix" in name for name in state)
    with pytest.raises(FormatError) as caught:
        load_published(Supernet(tiny()), state, "w.pth")
    message = str(caught.value)
    assert message.startswith("w.pth: no kernel matrices: a supernet whose kernels are fixed at 5; give its space as a")
    assert message.endswith('[space], name = "tiny" and kernels = [5]')
    other = Supernet(fixed, seed=2)
    load_published(other, state)
    assert equal(net, other)


def test_a_supernet_with_different_kernels_in_each_stage_is_reported():
    space = mobilenet_v3(0.35)
    state = to_published(Supernet(space))
    fixed = {name: tensor for name, tensor in state.items() if "_matrix" not in name}
    for slot, stage in enumerate(space.slot_stages):
        name = f"blocks.{slot + 1}.conv.depth_conv.conv.conv.weight"
        k = (3, 3, 5, 3, 5)[stage]
        fixed[name] = fixed[name][:, :, :k, :k]
    with pytest.raises(FormatError) as caught:
        load_published(Supernet(space), fixed)
    assert "fixed kernels (3 in stage 1, 3 in stage 2, 5 in stage 3, 3 in stage 4, 5 in stage 5)" in str(caught.value)
    assert "kernels that differ between the stages are not supported yet" in str(caught.value)


def test_a_supernet_that_lacks_some_matrices_is_damaged(state):
    some = {name: t for name, t in state.items() if "blocks.2" not in name or "_matrix" not in name}
    with pytest.raises(FormatError, match=r"5to3_matrix is missing; is it a checkpoint"):
        load_published(Supernet(tiny()), some)


def test_a_single_network_is_not_taken_for_a_supernet_of_fixed_kernels():
    smallest = to_published(build_subnet(tiny(), tiny().smallest()))
    with pytest.raises(FormatError, match=r"5to3_matrix, .* and \d+ more are missing, and .* have no place; is it"):
        load_published(Supernet(tiny()), smallest)
    largest = to_published(build_subnet(tiny(), tiny().largest()))
    with pytest.raises(FormatError, match="no kernel matrices: a supernet whose kernels are fixed at 5"):
        load_published(Supernet(tiny()), largest)
