from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.train.losses import soft_cross_entropy, step_loss  # noqa: E402


def test_soft_loss_is_the_cross_entropy_of_two_distributions():
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    expected = torch.nn.functional.cross_entropy(a, torch.softmax(b, 1))
    torch.testing.assert_close(soft_cross_entropy(a, b), expected)
    labels = torch.arange(5)
    hard = torch.nn.functional.cross_entropy(a, labels, label_smoothing=0.1)
    torch.testing.assert_close(step_loss(a, labels, b, kd_ratio=2.0, label_smoothing=0.1), hard + 2 * expected)
    torch.testing.assert_close(step_loss(a, labels, None, kd_ratio=2.0, label_smoothing=0.1), hard)
