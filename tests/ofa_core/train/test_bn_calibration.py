from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.bn_calibration import calibrate  # noqa: E402


@pytest.fixture
def net():
    return build_subnet(tiny(), tiny().smallest(), dropout=0.5, seed=1).eval()


def images(n, seed=0):
    return torch.randn((n, 3, 24, 24), generator=torch.Generator().manual_seed(seed))


def test_statistics_are_the_weighted_mean_of_biased_batch_statistics(net):
    batches = [images(8, 1), images(3, 2)]
    stem = net.layers[0]
    expected = []
    for statistic in (lambda y: y.mean((0, 2, 3)), lambda y: y.var((0, 2, 3), correction=0)):
        with torch.no_grad():
            values = [statistic(stem.conv(b)) for b in batches]
        expected.append((8 * values[0] + 3 * values[1]) / 11)
    assert calibrate(net, batches) == 11
    torch.testing.assert_close(stem.bn.running_mean, expected[0])
    torch.testing.assert_close(stem.bn.running_var, expected[1])


def test_only_statistics_change(net):
    weights = {k: v.clone() for k, v in net.named_parameters()}
    momenta = [m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    calibrate(net, [images(4)])
    assert all(torch.equal(weights[k], v) for k, v in net.named_parameters())
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [m.momentum for m in norms] == momenta
    assert not any(m.training for m in net.modules())
    assert not any(m._forward_pre_hooks for m in norms)


def test_it_is_deterministic_despite_dropout_and_forgets_the_past(net):
    calibrate(net, [images(4, 7)])
    calibrate(net, [images(8)])
    first = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    calibrate(net, [images(8)])
    assert all(torch.equal(first[k], net.state_dict()[k]) for k in first)


def test_one_batch_gives_the_output_of_training_mode(net):
    x = images(16)
    calibrate(net, [x])
    with torch.no_grad():
        got = net(x)
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.train()
        torch.testing.assert_close(got, net(x), atol=1e-4, rtol=1e-4)


def test_the_mode_is_restored_after_an_error(net):
    def broken():
        yield images(4)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        calibrate(net, broken())
    assert not any(m.training for m in net.modules())
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_without_images(net):
    with pytest.raises(OfaError, match="needs images"):
        calibrate(net, [])
