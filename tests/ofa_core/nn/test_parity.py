"""The same weights give the same outputs as in the authors' code (`ofa` from PyPI)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.formats.published_weights import load_published, to_published  # noqa: E402
from ofa_core.genomes import sample_arch  # noqa: E402
from ofa_core.nn.sorting import sort_channels  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import get_space  # noqa: E402
from ofa_core.train.bn_calibration import calibrate  # noqa: E402

_PATH = Path(__file__).parents[3] / "benchmarks" / "published_code.py"
_SPEC = importlib.util.spec_from_file_location("published_code", _PATH)
published_code = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(published_code)


@pytest.fixture(scope="module")
def ofa():
    try:
        return published_code.import_ofa()
    except ImportError:
        pytest.skip("the authors' package `ofa` is not installed")


def perturb(net, seed: int) -> None:
    """Batch norm and matrices away from the identity, which would hide a fault."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            noise = torch.rand(tensor.shape, generator=generator) - 0.5
            if name.endswith("_matrix"):
                tensor += 0.2 * noise
            elif name.endswith("bn.bias"):
                tensor += 0.4 * noise
            elif ".bn." in name and tensor.is_floating_point():
                tensor *= 1 + 0.8 * noise


def make_pair(ofa, name: str, n_classes: int = 50):
    space = get_space(name).with_classes(n_classes)
    family, width = name.split("-w")
    kind = ofa.networks.OFAMobileNetV3 if family == "mbv3" else ofa.networks.OFAProxylessNASNets
    torch.manual_seed(0)
    theirs = kind(
        n_classes=n_classes,
        bn_param=(0.1, 1e-5 if family == "mbv3" else 1e-3),
        width_mult=float(width),
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    ).eval()
    x = torch.randn((6, 3, 96, 96), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        theirs.train()
        for _ in range(12):  # statistics that fit, so that signals neither vanish nor explode
            theirs(x)
        theirs.eval()
        perturb(theirs, 1)
        theirs.classifier.linear.weight /= theirs(x).std()  # logits of size 1: an absolute tolerance means something
    ours = Supernet(space).eval()
    load_published(ours, theirs.state_dict())
    return space, theirs, ours


def twelve(space, seed: int = 0):
    """Uniform extremes over k, e and d, then mixed ones; six at 128 px and six at 160."""
    archs = [space.uniform(k, e, d) for k, e, d in ((3, 3, 2), (7, 6, 4), (5, 4, 3), (3, 6, 4), (7, 3, 2), (5, 6, 2))]
    rng = np.random.default_rng(seed)
    archs += [sample_arch(space, rng) for _ in range(6)]
    return [arch.at((128, 160)[i % 2]) for i, arch in enumerate(archs)]


def compare(space, theirs, ours, arch):
    x = torch.randn((2, 3, arch.resolution_px, arch.resolution_px), generator=torch.Generator().manual_seed(0))
    published_code.set_active(theirs, space, arch)
    with torch.no_grad():
        expected = theirs(x)
        for got in (ours(x, arch), extract(ours, arch)(x)):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        return expected


@pytest.mark.parametrize("name", ["mbv3-w1.0", "proxyless-w1.3"])
def test_twelve_subnets_before_and_after_sorting(ofa, name):
    space, theirs, ours = make_pair(ofa, name)
    archs = twelve(space)
    before = [compare(space, theirs, ours, arch) for arch in archs]
    theirs.re_organize_middle_weights(expand_ratio_stage=0)
    sort_channels(ours)
    after = [compare(space, theirs, ours, arch) for arch in archs]
    theirs.re_organize_middle_weights(expand_ratio_stage=1)
    sort_channels(ours, kept=(4,))
    for arch in archs:
        compare(space, theirs, ours, arch)
    changed = [not torch.allclose(a, b, atol=0.1) for a, b in zip(before, after, strict=True)]
    assert any(changed)  # sorting does change smaller expand ratios: the comparison is not vacuous
    assert len({round(b.sum().item(), 3) for b in before}) == len(archs)


@pytest.mark.parametrize("name", ["proxyless-w0.25", "proxyless-w0.35", "proxyless-w1.0", "mbv3-w0.35", "mbv3-w0.5"])
def test_other_widths(ofa, name):
    """At a quarter of the width stem and first block are as wide, and only one family has a shortcut there."""
    space, theirs, ours = make_pair(ofa, name)
    for arch in (space.largest(64), sample_arch(space, np.random.default_rng(8), (96,)), space.smallest(64)):
        compare(space, theirs, ours, arch)


def test_our_checkpoint_loads_in_their_code(ofa):
    space, theirs, _ = make_pair(ofa, "mbv3-w1.0")
    fresh = Supernet(space, seed=9)
    theirs.load_state_dict(to_published(fresh, "legacy"))
    compare(space, theirs.eval(), fresh.eval(), space.uniform(5, 4, 3, 128))


def test_training_step_has_the_same_gradients(ofa):
    space, theirs, ours = make_pair(ofa, "mbv3-w1.0")
    theirs.double().train().classifier.dropout.p = 0.0
    ours.double().train().layers[-1].dropout = 0.0
    arch = sample_arch(space, np.random.default_rng(4), (64,))
    published_code.set_active(theirs, space, arch)
    x = torch.randn((8, 3, 64, 64), generator=torch.Generator().manual_seed(0)).double()
    target = torch.arange(8)
    torch.nn.functional.cross_entropy(theirs(x), target).backward()
    torch.nn.functional.cross_entropy(ours(x, arch), target).backward()
    mirror = Supernet(space).double()
    gradients = {n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in theirs.named_parameters()}
    load_published(mirror, {**theirs.state_dict(), **gradients})
    expected = dict(mirror.named_parameters())
    for name, parameter in ours.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = expected[name].abs().max().clamp_min(1e-3)
        assert ((grad - expected[name]).abs().max() / scale).item() < 1e-6, name


def test_calibration_gives_the_published_statistics(ofa):
    space, theirs, ours = make_pair(ofa, "mbv3-w1.0")
    arch = sample_arch(space, np.random.default_rng(6), (64,))
    generator = torch.Generator().manual_seed(2)
    batches = [torch.randn((n, 3, 64, 64), generator=generator) for n in (12, 12, 5)]
    published_code.set_active(theirs, space, arch)
    subnet = theirs.get_active_subnet()
    ofa.utils.set_running_statistics(subnet, [(b, None) for b in batches])
    sub = extract(ours, arch)
    assert calibrate(sub, batches) == 29
    with torch.no_grad():
        torch.testing.assert_close(sub(batches[2]), subnet.eval()(batches[2]), atol=1e-3, rtol=1e-3)
