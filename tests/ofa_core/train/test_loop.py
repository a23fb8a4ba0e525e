from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.nn.supernet import Supernet, extract  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402
from ofa_core.train.batches import Batch, Loader  # noqa: E402
from ofa_core.train.images import Augmentation  # noqa: E402
from ofa_core.train.loop import (  # noqa: E402
    PhaseRun,
    archs_of_step,
    learning_rate,
    make_optimizer,
    n_steps,
    train_phase,
    train_step,
)
from ofa_core.train.phases import Phase, restricted  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")
PHASE = Phase("x", 2, 0.1, batch_size=8, dropout=0.0)


@pytest.fixture
def space():
    return tiny().with_classes(4)


@pytest.fixture
def loader(few_images):
    return Loader(few_images, np.arange(40), 8, (24, 32), HALF, Augmentation(flip=False), seed=3)


def batch(n=8, px=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn((n, 3, px, px), generator=generator), torch.arange(n) % 4, 0, px)


def test_rates_follow_warm_up_and_cosine():
    phase = Phase("x", 10, 0.1, warmup_epochs=2)
    rates = [learning_rate(phase, s, 20, 120, 4) for s in range(120)]
    assert rates[0] == 0.1  # of one process
    assert rates[10] == pytest.approx(0.25)
    assert rates[20] == pytest.approx(0.4)  # times the processes
    assert rates[70] == pytest.approx(0.2)
    assert rates[119] == pytest.approx(0.2 * (1 + math.cos(math.pi * 0.99)))
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_weight_decay_spares_batch_norm_and_biases(space):
    net = Supernet(space)
    decayed, spared = make_optimizer(net, PHASE).param_groups
    names = {id(p): n for n, p in net.named_parameters()}
    assert all("bn." in names[id(p)] or names[id(p)].endswith("bias") for p in spared["params"])
    assert {p.ndim for p in decayed["params"]} <= {2, 4}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (3e-5, 0.0)


def test_gradients_of_the_subnets_of_a_step_are_summed(space):
    archs = [space.largest(24), space.smallest(24)]
    grads = []
    for chosen in ([archs[0]], [archs[1]], archs):
        net = Supernet(space, dropout=0.0, seed=1)
        train_step(net, batch(), chosen, PHASE)
        grads.append({n: p.grad for n, p in net.named_parameters()})
    for name, total in grads[2].items():
        parts = [g[name] for g in grads[:2] if g[name] is not None]
        if total is not None:
            torch.testing.assert_close(total, sum(parts), atol=1e-5, rtol=1e-4)


def test_the_teacher_is_not_trained_and_its_mode_is_an_option(space):
    net = Supernet(space, dropout=0.0, seed=1)
    teacher = extract(net, space.largest()).requires_grad_(False)
    before = {k: v.clone() for k, v in teacher.named_parameters()}
    statistics = teacher.layers[0].bn.running_mean.clone()
    losses = []
    for mode in ("eval", "train"):
        phase = replace(PHASE, kd_ratio=1.0, teacher_mode=mode)
        losses.append(train_step(net, batch(), [space.smallest(24)], phase, teacher)[0])
        assert torch.equal(teacher.layers[0].bn.running_mean, statistics) is (mode == "eval")
    assert losses[0] != losses[1]
    assert all(torch.equal(before[k], v) for k, v in teacher.named_parameters())


def test_subnets_of_a_step_are_private_to_it(space):
    phase = Phase("x", 1, 0.1, subnets_per_step=3)
    first = archs_of_step(space, phase, 24, 0, 1, 5)
    np.random.seed(1)  # noqa: NPY002 (the point: global generators do not matter)
    torch.manual_seed(1)
    assert archs_of_step(space, phase, 24, 0, 1, 5) == first
    assert archs_of_step(space, phase, 24, 0, 1, 6) != first
    assert {a.resolution_px for a in first} == {24}


def test_a_sandwich_has_both_ends(space):
    phase = Phase("x", 1, 0.1, subnets_per_step=4, sampling="sandwich", kd_ratio=1.0)
    archs = archs_of_step(space, phase, 32, 0, 0, 0)
    assert (archs[0], archs[-1], len(archs)) == (space.largest(32), space.smallest(32), 4)
    net = Supernet(space, dropout=0.0)
    loss, _ = train_step(net, batch(px=32), archs, phase)
    hard, _ = train_step(net, batch(px=32), archs, replace(phase, kd_ratio=0.0))
    assert loss > hard


@pytest.mark.parametrize(("unused", "moves"), [("decay", True), ("skip", False)])
def test_unused_parameters_move_or_stay(space, loader, unused, moves):
    """Train the largest net, then a step of the smallest one: what happens to the rest is the option."""
    net = Supernet(space, dropout=0.0)
    phase = replace(PHASE, epochs=1, unused=unused, kernels=(5,), expands=(6,), n_depths=1)
    optimizer = make_optimizer(net, phase)
    list(train_phase(PhaseRun(net, optimizer, loader, phase)))
    outside, inside = net.layers[3].project.weight, net.layers[2].project.weight
    before = outside.detach().clone(), inside.detach().clone()
    optimizer.zero_grad(set_to_none=unused == "skip")
    train_step(net, batch(), [space.smallest(24)], phase)
    optimizer.step()
    assert torch.equal(outside, before[0]) is not moves
    assert not torch.equal(inside, before[1])


def test_a_phase_learns(space, loader):
    net = Supernet(space, dropout=0.0)
    phase = replace(PHASE, epochs=12, subnets_per_step=2)
    steps = list(train_phase(PhaseRun(net, make_optimizer(net, phase), loader, phase)))
    assert len(steps) == n_steps(phase, loader)[1] == 60
    assert np.mean([s.loss for s in steps[-10:]]) < 0.8 * np.mean([s.loss for s in steps[:10]])


@pytest.mark.parametrize("stop_at", [3, 5, 8])
def test_a_phase_that_stops_and_goes_on_is_the_same_phase(space, loader, stop_at):
    phase = replace(PHASE, epochs=2, subnets_per_step=2, dropout=0.3)

    def make():
        net = Supernet(space, dropout=0.3, seed=2)
        return PhaseRun(net, make_optimizer(net, phase), loader, phase, seed=7)

    whole, first, second = make(), make(), make()
    steps = list(train_phase(whole))
    begun = list(islice(train_phase(first), stop_at))
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    torch.manual_seed(99)
    rest = list(train_phase(second, stop_at))
    assert begun + rest == steps
    tensors = [run.model.state_dict().values() for run in (whole, second)]
    assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


def test_accumulated_gradients_are_one_update_of_their_mean(space, loader):
    phase = replace(PHASE, accumulate=2, epochs=1, unused="skip")
    net = Supernet(space, dropout=0.0, seed=2)
    before = {k: v.clone() for k, v in net.named_parameters()}
    changes = []
    for _ in islice(train_phase(PhaseRun(net, make_optimizer(net, phase), loader, phase, seed=7)), 2):
        changes.append(all(torch.equal(before[k], v) for k, v in net.named_parameters()))
    assert changes == [True, False]


def test_mixed_precision_on_the_cpu(space, loader):
    net = Supernet(space, dropout=0.0)
    steps = list(train_phase(PhaseRun(net, make_optimizer(net, PHASE), loader, PHASE, amp="bf16")))
    assert all(math.isfinite(s.loss) for s in steps)
    assert net.layers[0].conv.weight.dtype is torch.float32


def test_a_plain_network_trains_without_subnets(space, loader):
    net = extract(Supernet(space, dropout=0.0), space.largest(24))
    loader = replace(loader, resolutions=(24,))
    steps = list(train_phase(PhaseRun(net, make_optimizer(net, PHASE), loader, PHASE)))
    assert {s.px for s in steps} == {24}


def test_restricted_archs_stay_members(space):
    phase = Phase("x", 1, 0.1, kernels=(5,), expands=(6,), n_depths=1)
    (arch,) = archs_of_step(restricted(space, phase), phase, 32, 0, 0, 0)
    assert arch == space.largest(32)
