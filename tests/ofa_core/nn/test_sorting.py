from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.blocks import make_divisible  # noqa: E402
from ofa_core.errors import ArchError  # noqa: E402
from ofa_core.genomes import sample_arch  # noqa: E402
from ofa_core.nn.sorting import sort_channels  # noqa: E402
from ofa_core.nn.supernet import extract  # noqa: E402
from ofa_core.spaces import get_space, tiny  # noqa: E402


def images(n: int, px: int):
    return torch.randn((n, 3, px, px), generator=torch.Generator().manual_seed(0))


def test_sorting_leaves_the_largest_net_as_it_was(space, make_net):
    net = make_net(space).eval()
    x, arch = images(2, 32), space.largest(32)
    small = space.smallest(32)
    with torch.no_grad():
        before, small_before = net(x, arch), net(x, small)
        sort_channels(net)
        torch.testing.assert_close(net(x, arch), before, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(net(x, small), small_before, atol=1e-3)


def test_channels_are_in_descending_order_of_their_norm(make_net):
    net = make_net(tiny())
    sort_channels(net)
    for layer in net.layers[2:6]:
        norms = layer.project.weight.abs().sum((0, 2, 3))
        assert (norms.diff() <= 1e-6).all()
        if layer.se is not None:
            assert (layer.se.expand.weight.abs().sum((0, 2, 3)).diff() <= 1e-5).all()


def test_kept_ratios_keep_their_channels(make_net):
    space = get_space("mbv3-w0.35")
    net = make_net(space)
    layer = net.layers[3]
    bound = make_divisible(round(layer.expand.weight.shape[1] * 4))
    before = set(layer.project.weight.abs().sum((0, 2, 3))[:bound].tolist())
    sort_channels(net, kept=(4,))
    norms = layer.project.weight.abs().sum((0, 2, 3))
    assert set(norms[:bound].tolist()) == before
    assert (norms[:bound].diff() <= 0).all()
    assert (norms[bound:].diff() <= 0).all()


def test_a_kept_ratio_computes_the_same_when_its_bottleneck_is_kept_too(make_net):
    space = get_space("mbv3-w0.35")
    net = make_net(space).eval()
    arch = space.uniform(5, 4, 3, 32)
    x = images(2, 32)
    with torch.no_grad():
        before = net(x, arch)
        sort_channels(net, kept=(4,), keep_squeezed=True)
        torch.testing.assert_close(net(x, arch), before, atol=1e-5, rtol=1e-5)


def test_the_state_of_the_optimiser_follows(make_net):
    """Sorting between two steps changes nothing that the largest net computes after them."""
    space, x = tiny(), images(4, 24)
    arch = space.largest(24)
    outputs = []
    for sort in (False, True):
        net = make_net(space, dropout=0.0)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
        for step in range(3):
            if sort and step == 2:
                sort_channels(net, optimizer)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x, arch), torch.arange(4)).backward()
            optimizer.step()
        outputs.append(net(x, arch))
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-4, rtol=1e-3)


def test_without_the_optimiser_the_momentum_is_wrong(make_net):
    """The negative control of the test above."""
    space, x = tiny(), images(4, 24)
    arch = space.largest(24)
    outputs = []
    for sort in (False, True):
        net = make_net(space, dropout=0.0)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
        for step in range(3):
            if sort and step == 2:
                sort_channels(net)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x, arch), torch.arange(4)).backward()
            optimizer.step()
        outputs.append(net(x, arch))
    assert not torch.allclose(outputs[1], outputs[0], atol=1e-3, rtol=1e-2)


def test_equal_norms_keep_their_order(make_net):
    net = make_net(tiny())
    layer = net.layers[3]
    with torch.no_grad():
        layer.project.weight.fill_(1.0)
    before = layer.expand.weight.clone()
    sort_channels(net)
    assert torch.equal(layer.expand.weight, before)


def test_sorting_twice_changes_nothing(make_net):
    space = tiny()
    net = make_net(space)
    sort_channels(net)
    once = {k: v.clone() for k, v in net.state_dict().items()}
    sort_channels(net)
    assert all(torch.equal(once[k], v) for k, v in net.state_dict().items())


def test_a_ratio_that_the_space_does_not_have_cannot_be_kept(make_net):
    with pytest.raises(ArchError, match="expand ratio 5 to keep is not allowed; choose one of 3"):
        sort_channels(make_net(tiny()), kept=(5,))


def test_extraction_after_sorting_equals_the_supernet(space, make_net):
    net = make_net(space).eval()
    sort_channels(net)
    arch = sample_arch(space, np.random.default_rng(2), (32,))
    x = images(2, 32)
    with torch.no_grad():
        torch.testing.assert_close(extract(net, arch)(x), net(x, arch), atol=1e-5, rtol=1e-5)
