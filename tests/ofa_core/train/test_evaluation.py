"""Accuracy of networks on images."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.nn.supernet import Supernet  # noqa: E402
from ofa_core.spaces import mobilenet_v3, tiny  # noqa: E402
from ofa_core.train.batches import Batch  # noqa: E402
from ofa_core.train.evaluation import (  # noqa: E402
    Accuracy,
    Evaluator,
    chance_top1,
    evaluate,
    is_chance,
    standard_archs,
)

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


def batch(logits: list[list[float]], labels: list[int]) -> Batch:
    return Batch(torch.tensor(logits), torch.tensor(labels, dtype=torch.long), 0, 24)


def test_accuracy_over_batches_of_other_sizes() -> None:
    net = torch.nn.Identity().train()
    ranked = [[float(10 - abs(i - best)) for i in range(7)] for best in range(7)]
    batches = [batch(ranked[:3], [0, 1, 1]), batch([], []), batch([ranked[0]], [6])]
    found = evaluate(net, batches)
    assert (found.top1, found.top5, found.n_images) == (50.0, 75.0, 4)
    logits = torch.tensor([*ranked[:3], ranked[0]])
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 6])).item())
    assert net.training
    renamed = evaluate(net, [batch([ranked[3]], [0])], class_index=np.array([3]))
    assert renamed.top1 == 100.0
    with pytest.raises(OfaError, match=r"^accuracy cannot be measured: no image could be read$"):
        evaluate(net, [batch([], [])])


def test_chance_is_the_most_frequent_class() -> None:
    labels = np.array([0] * 60 + [1] * 40)
    assert chance_top1(labels) == 60.0
    assert chance_top1(labels[:0]) == 0.0
    assert is_chance(Accuracy(60.0, 100.0, 1.0, 100), 60.0)
    assert is_chance(Accuracy(69.0, 100.0, 1.0, 100), 60.0)  # two standard errors are 9.8 points
    assert not is_chance(Accuracy(70.0, 100.0, 1.0, 100), 60.0)
    assert not is_chance(Accuracy(61.0, 100.0, 1.0, 100_000), 60.0)


def test_the_standard_sub_nets_are_the_extremes() -> None:
    archs = standard_archs(mobilenet_v3())
    assert len(archs) == 16
    assert {name.split("-")[1] for name in archs} == {"D2", "D4"}
    low, high = mobilenet_v3().resolutions[0], mobilenet_v3().resolutions[-1]
    assert archs[f"R{low}-D2-E3-K3"] == mobilenet_v3().smallest()
    assert archs[f"R{high}-D4-E6-K7"] == mobilenet_v3().largest()
    assert {arch.resolution_px for arch in standard_archs(tiny(), [28]).values()} == {28}


def test_a_sub_net_is_calibrated_and_the_supernet_is_not_changed(few_images) -> None:
    space = tiny().with_classes(4)
    torch.manual_seed(0)
    net = Supernet(space).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    half = np.arange(20)
    evaluator = Evaluator(few_images, half + 20, few_images, half, HALF, n_calibration=10, batch_size=5)
    assert evaluator.labels.tolist() == few_images.labels[20:].tolist()
    found = evaluator.accuracy(net, space.smallest(24))
    assert found.n_images == 20
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    sub = evaluator.calibrated(net, space.smallest(24))
    assert evaluator.accuracy(sub, space.smallest(24)) == found  # as it is, with the same statistics
    assert evaluator.batches(24) is evaluator.batches(24)
    assert {b.px for b in evaluator.batches(28)} == {28}
