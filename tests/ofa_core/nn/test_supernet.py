from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import ArchError  # noqa: E402
from ofa_core.genomes import sample_arch  # noqa: E402
from ofa_core.nn.kernels import FORMS, KernelPlan  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.nn.supernet import Supernet, active_layers, extract  # noqa: E402
from ofa_core.spaces import get_space, tiny  # noqa: E402


def images(n: int, px: int, seed: int = 0):
    return torch.randn((n, 3, px, px), generator=torch.Generator().manual_seed(seed))


def count(net) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("name", "n_params"), [("mbv3-w1.0", 7_678_880), ("mbv3-w1.2", 10_715_752)])
def test_published_parameter_counts(name, n_params):
    with torch.device("meta"):
        net = Supernet(get_space(name))
    assert count(net) == n_params


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), px=st.sampled_from([24, 32, 44]))
def test_a_subnet_equals_its_extraction(seed, px):
    spaces = [tiny(), get_space("mbv3-w0.35").with_classes(11), get_space("proxyless-w0.35").with_classes(7)]
    space = spaces[seed % 3]
    arch = sample_arch(space, np.random.default_rng(seed), (px,))
    net = Supernet(space, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point() and ("matrices" in name or "bn" in name or "running" in name):
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
    net.eval()
    x = images(2, px)
    with torch.no_grad():
        torch.testing.assert_close(extract(net, arch)(x), net(x, arch), atol=1e-5, rtol=1e-5)


def test_extraction_is_independent_and_takes_the_mode(space, make_net):
    net = make_net(space)
    arch = space.smallest(32)
    sub = extract(net, arch)
    assert sub.training
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        for tensor in sub.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not extract(net.eval(), arch).training


def test_extraction_gives_plain_modules_of_the_counted_size(space, make_net):
    arch = sample_arch(space, np.random.default_rng(3), (32,))
    sub = extract(make_net(space), arch)
    assert count(sub) == space.params(arch)
    kinds = {type(m) for m in sub.modules() if not list(m.children()) and list(m.parameters())}
    assert kinds == {torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear}
    second = extract(make_net(space), arch)
    assert second.layers[1].depthwise._forward_hooks is not sub.layers[1].depthwise._forward_hooks


def test_a_fresh_subnet_has_the_same_names_and_shapes_as_an_extracted_one(space, make_net):
    arch = sample_arch(space, np.random.default_rng(5), (32,))
    fresh, extracted = build_subnet(space, arch, seed=1), extract(make_net(space), arch)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {
        k: v.shape for k, v in extracted.state_dict().items()
    }
    x = images(2, 32)
    assert fresh(x).shape == (2, space.n_classes)


def test_batch_statistics_give_the_same_output_in_training_mode(space, make_net):
    net = make_net(space, dropout=0.0)
    arch = sample_arch(space, np.random.default_rng(7), (32,))
    sub = extract(net, arch)
    x = images(4, 32)
    torch.testing.assert_close(sub(x), net(x, arch), atol=1e-4, rtol=1e-4)


def test_depth_keeps_the_first_blocks():
    space = get_space("mbv3-w1.0")
    arch = space.uniform(3, 3, 2, 128)
    assert active_layers(space, arch) == [0, 1, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 24, 25]
    assert len(active_layers(get_space("proxyless-w1.3"), get_space("proxyless-w1.3").largest())) == 2 + 21 + 3


def test_two_subnets_run_at_the_same_time(make_net):
    space = tiny()
    net = make_net(space).eval()
    archs = [sample_arch(space, np.random.default_rng(s), (24,)) for s in range(16)]
    x = images(2, 24)
    with torch.no_grad():
        alone = [net(x, a) for a in archs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda a: _no_grad(net, x, a), archs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def _no_grad(net, x, arch):
    with torch.no_grad():
        return net(x, arch)


def test_unused_parameters_get_no_gradient(make_net):
    space = tiny()
    net = make_net(space)
    net(images(2, 24), space.smallest(24)).sum().backward()
    second_block_of_stage_1 = net.layers[3]
    assert all(p.grad is None for p in second_block_of_stage_1.parameters())
    assert net.layers[0].conv.weight.grad is not None


@pytest.mark.parametrize("form", FORMS)
def test_the_kernel_plan_changes_no_gradient_beyond_rounding(make_net, form):
    space = tiny()
    arch = space.largest(24)
    plan = KernelPlan({(k, s, px): form for k in (3, 5) for s in (1, 2) for px in (3, 6, 12)})
    grads = []
    for chosen in (KernelPlan(), plan):
        net = make_net(space, plan=chosen, dropout=0.0)
        net(images(4, 24), arch).square().mean().backward()
        grads.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-5, rtol=1e-4)


def test_images_must_have_the_size_of_the_architecture(make_net):
    space = tiny()
    with pytest.raises(ArchError, match=r"images of 28x28 px for an architecture at 24 px"):
        make_net(space)(images(1, 28), space.smallest(24))


def test_a_foreign_architecture_is_refused(make_net):
    with pytest.raises(ArchError, match="tiny has 2 stages"):
        make_net(tiny())(images(1, 32), get_space("mbv3-w1.0").smallest(32))


def test_the_seed_decides_the_weights():
    a, b, c = (Supernet(tiny(), seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["layers.0.conv.weight"], c["layers.0.conv.weight"])
