"""This project's checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError  # noqa: E402
from ofa_core.formats.checkpoint import (  # noqa: E402
    checkpoint_dict,
    checkpoint_from_dict,
    read_checkpoint,
    write_checkpoint,
)
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.formats.published_weights import write_published  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


def equal(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_own_checkpoint_of_a_supernet(tmp_path):
    space = replace(tiny(), n_classes=7, first_stride=1)
    net = Supernet(space, seed=4)
    write_checkpoint(tmp_path / "s.pt", net, space, HALF)
    read = read_checkpoint(tmp_path / "s.pt")
    assert (read.space, read.arch, read.preprocessing) == (space, None, HALF)
    assert equal(read.net, net)
    assert not read.net.training


def test_own_checkpoint_of_a_subnet(tmp_path):
    space = tiny()
    arch = space.uniform(5, 3, 1, 28)
    sub = extract(Supernet(space, seed=4).eval(), arch)
    write_checkpoint(tmp_path / "s.pt", sub, space, HALF, arch)
    read = read_checkpoint(tmp_path / "s.pt")
    assert read.arch == arch
    x = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(read.net(x), sub(x))


def test_a_subnet_without_its_architecture_is_refused(tmp_path):
    sub = build_subnet(tiny(), tiny().smallest())
    with pytest.raises(FormatError, match="needs its architecture"):
        write_checkpoint(tmp_path / "s.pt", sub, tiny(), HALF)


def test_a_published_file_is_distinguished_from_ours(tmp_path):
    write_published(tmp_path / "p.pth", Supernet(tiny()))
    with pytest.raises(FormatError, match="published state dict: name its space and preprocessing"):
        read_checkpoint(tmp_path / "p.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.pt: not a readable checkpoint") as error:
        read_checkpoint(tmp_path / "bad.pt")
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path):
    write_checkpoint(tmp_path / "s.pt", Supernet(tiny()), tiny(), HALF)
    whole = (tmp_path / "s.pt").read_bytes()
    (tmp_path / "s.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "s.pt")


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"schema": 1, "state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(FormatError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "evil.pt")


@pytest.mark.parametrize(
    "values",
    [{}, {"mean": [0, 0], "std": [1, 1, 1], "resize": "crop"}, {"mean": [0] * 3, "std": [0] * 3, "resize": "crop"}],
)
def test_bad_preprocessing(values):
    with pytest.raises(FormatError, match="preprocessing needs"):
        Preprocessing.from_dict(values)


@pytest.mark.reference
@pytest.mark.slow
def test_a_real_imagenet_checkpoint_has_its_accuracy(reference_data):
    """2133 of 3925 photos (54.34 %), published accuracy of this file under its own preprocessing."""
    from ofa_core.formats.published_weights import read_specialised
    from ofa_core.train.batches import Loader
    from ofa_core.train.evaluation import evaluate
    from ofa_core.train.sources import NpzSource

    stem = reference_data / "proxyless-w0.3-r176_imagenet"
    net, config = read_specialised(Path(f"{stem}.json"), Path(f"{stem}.pth"))
    assert config.resolution_px == 176
    photos = NpzSource(reference_data / "imagenette224_val.npz")
    loader = Loader(photos, np.arange(len(photos.labels)), 64, (176,), HALF)
    result = evaluate(net, loader.batches(), class_index=photos.imagenet1k_index)
    assert result.n_images == 3925
    assert abs(result.top1 / 100 * 3925 - 2133) <= 2.5
    print(f"{result.top1:.2f} %")
    assert not loader.unreadable.names


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("preprocessing", 3, "preprocessing is 3; an object is expected"),
        ("preprocessing", {"mean": [0, 0], "std": [1, 1, 1], "resize": "crop"}, "mean has 2 values"),
        ("arch", [1, 2], "an object is expected"),
        ("arch", {"depths": [1], "kernels": "3", "expands": [3], "resolution_px": 24}, "a list is expected"),
        ("state_dict", None, "an object is expected"),
        ("state_dict", {"first_conv.conv.weight": [1.0]}, "first_conv.conv.weight in state_dict is not a tensor"),
    ],
)
def test_a_field_of_another_type_is_named(field, value, message):
    space = tiny()
    content = checkpoint_dict(Supernet(space), space, HALF)
    with pytest.raises(FormatError, match=message):
        checkpoint_from_dict({**content, field: value}, "x.pt")
