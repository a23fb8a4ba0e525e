from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.formats.checkpoint import Checkpoint, checkpoint_dict, checkpoint_from_dict  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.new_classifier import with_new_classifier  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
CLASSES = ("cat", "dog", "fox")


def features(net, x):
    """Return what the classifier gets."""
    for layer in list(net.layers)[:-1]:
        x = layer(x)
    return x


def test_a_sub_net_keeps_all_but_its_classifier():
    arch = tiny().smallest()
    net = build_subnet(tiny(), arch, seed=5).eval()
    x = torch.randn((2, 3, arch.resolution_px, arch.resolution_px), generator=torch.Generator().manual_seed(0))
    before = features(net, x)
    new = with_new_classifier(Checkpoint(net, tiny(), arch, HALF, tuple("0123456789")), CLASSES)
    assert (new.space.n_classes, new.classes, new.arch) == (3, CLASSES, arch)
    assert new.net(x).shape == (2, 3)
    torch.testing.assert_close(features(new.net, x), before)
    read = checkpoint_from_dict(checkpoint_dict(new.net, new.space, HALF, arch, CLASSES), "file")
    torch.testing.assert_close(read.net(x), new.net(x))


def test_sub_nets_of_a_supernet_get_it_too():
    arch = tiny().largest()
    new = with_new_classifier(Checkpoint(Supernet(tiny(), seed=5).eval(), tiny(), None, HALF), CLASSES, seed=1)
    x = torch.zeros((1, 3, arch.resolution_px, arch.resolution_px))
    assert new.net.space == new.space == tiny().with_classes(3)
    assert extract(new.net, arch)(x).shape == new.net(x, arch).shape == (1, 3)


def test_equal_seeds_give_equal_classifiers():
    def weight(seed: int):
        old = Checkpoint(build_subnet(tiny(), tiny().smallest()), tiny(), tiny().smallest(), HALF)
        return with_new_classifier(old, CLASSES, seed).net.layers[-1].linear.weight

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))
