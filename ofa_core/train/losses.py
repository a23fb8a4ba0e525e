"""Training losses: cross entropy with label smoothing, and distillation from a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["soft_cross_entropy", "step_loss"]


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the cross entropy of (n, classes) logits with the teacher's probabilities, without temperature."""
    return -(functional.softmax(teacher_logits, 1) * functional.log_softmax(logits, 1)).sum(1).mean()


def step_loss(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, *, kd_ratio: float, label_smoothing: float
) -> Tensor:
    """Return hard + kd_ratio * soft loss (paper, section 3, "progressive shrinking").

    Args:
        logits: (n, classes).
        labels: (n,).
        teacher_logits: (n, classes); None leaves out the soft loss.
        kd_ratio: weight of the soft loss.
        label_smoothing: of the hard loss.

    Returns:
        A scalar.
    """
    loss = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if teacher_logits is not None and kd_ratio > 0:
        loss = loss + kd_ratio * soft_cross_entropy(logits, teacher_logits)
    return loss
