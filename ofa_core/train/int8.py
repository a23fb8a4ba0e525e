"""Quantise a sub-net after training, and compare it with its float32 form on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ofa_core.export.network_ranges import Ranges
from ofa_core.export.trained_weights import trained_weights
from ofa_core.nn.subnet import SubNet
from ofa_core.train.distributed import sum_over_ranks
from ofa_core.train.evaluation import Accuracy, Evaluator
from ofa_core.train.integer import IntegerNet
from ofa_core.train.ranges import Method, find_ranges

__all__ = ["Comparison", "RangeSettings", "compare", "measure", "ranges_of"]


@dataclass(frozen=True)
class RangeSettings:
    """Settings by which ranges are found.

    Attributes:
        method: see `ofa_core.train.ranges`.
        n_images: number of training images.
    """

    method: Method = "minmax"
    n_images: int = 256

    @property
    def note(self) -> str:
        """Method and number in words."""
        return f"{self.method} ranges of {self.n_images} images"


@dataclass(frozen=True)
class Comparison:
    """The accuracies of a network and of its quantised form on the same images.

    Attributes:
        fp32: of the network.
        int8: of its quantised form.
        agreement: percent of the images for which both choose the same class.
        ranges: of the quantised form.
    """

    fp32: Accuracy
    int8: Accuracy
    agreement: float
    ranges: Ranges

    @property
    def text(self) -> str:
        """Agreement and ranges, one sentence."""
        return f"int8 chooses the class of fp32 for {self.agreement:.1f} % of the images ({self.ranges.note})"


def ranges_of(net: SubNet, px: int, evaluator: Evaluator, how: RangeSettings) -> Ranges:
    """Return the ranges of a calibrated sub-net on training images.

    Args:
        net: the sub-net.
        px: image size.
        evaluator: its calibration images are used.
        how: the settings.

    Raises:
        OfaError: as `find_ranges`.
    """
    device = torch.device(evaluator.process.device)
    images = [batch.to(device) for batch in evaluator.range_images(px, how.n_images)]
    return find_ranges(net.blocks, trained_weights(net), images, how.method)


def measure(
    net: SubNet, px: int, evaluator: Evaluator, how: RangeSettings | None, ranges: Ranges | None = None
) -> Accuracy | Comparison:
    """Evaluate a calibrated sub-net; in int8, compare it with its quantised form.

    Args:
        net: the sub-net.
        px: image size.
        evaluator: the images.
        how: how ranges are found; None evaluates in float32 only.
        ranges: those of a network that was fine-tuned in int8, which are used instead.
    """
    if how is None:
        return evaluator.measure(net, px)
    return compare(net, ranges or ranges_of(net, px, evaluator, how), px, evaluator)


def compare(net: SubNet, ranges: Ranges, px: int, evaluator: Evaluator) -> Comparison:
    """Evaluate a calibrated sub-net and its quantised form."""
    chosen: dict[str, list[Tensor]] = {"fp32": [], "int8": []}

    def measured(name: str, model: nn.Module) -> Accuracy:
        return evaluator.measure(model, px, lambda logits: chosen[name].append(logits.argmax(1)))

    fp32, int8 = measured("fp32", net), measured("int8", IntegerNet.of(net, ranges))
    equal = sum(int((a == b).sum()) for a, b in zip(chosen["fp32"], chosen["int8"], strict=True))
    same = sum_over_ranks(torch.tensor([float(equal)], dtype=torch.float64), evaluator.process).item()
    return Comparison(fp32, int8, 100 * same / fp32.n_images, ranges)
