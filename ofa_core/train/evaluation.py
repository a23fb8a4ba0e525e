"""Measure the accuracy of sub-nets: extract each, calibrate its batch norm, and run it on images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet, extract
from ofa_core.space import Space
from ofa_core.train.batches import Batch, Loader, Unreadable, rng_for
from ofa_core.train.bn_calibration import calibrate
from ofa_core.train.distributed import ALONE, Process, sum_over_ranks
from ofa_core.train.images import Augmentation
from ofa_core.train.sources import Source

__all__ = ["Accuracy", "Evaluator", "chance_top1", "evaluate", "is_chance", "standard_archs"]

CALIBRATION_SEED = 937162211  # published (SUB_SEED)
RANGE_BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """The result of an evaluation.

    Attributes:
        top1: percent.
        top5: percent; 100 with up to 5 classes.
        loss: mean cross entropy.
        n_images: number of evaluated images, without those that cannot be decoded.
    """

    top1: float
    top5: float
    loss: float
    n_images: int


@torch.no_grad()
def evaluate(
    net: nn.Module,
    batches: Iterable[Batch],
    process: Process = ALONE,
    class_index: NDArray[np.int64] | None = None,
    unreadable: Unreadable | None = None,
    on_logits: Callable[[Tensor], object] = lambda _: None,
) -> Accuracy:
    """Return the accuracy of a plain network on batches, over all processes.

    Args:
        net: evaluated in evaluation mode; its mode is restored.
        batches: this process's share.
        process: this process among all.
        class_index: (classes of the data,) output of the network for each class; None if they are the same.
        unreadable: images that were left out, named in the error.
        on_logits: called with the (n, outputs) of each batch.

    Raises:
        OfaError: if no image could be read.
    """
    was_training = net.training
    net.eval()
    device = torch.device(process.device)
    targets = None if class_index is None else torch.as_tensor(class_index)
    total = torch.zeros(4, dtype=torch.float64)
    for batch in batches:
        if not len(batch.labels):
            continue
        labels = batch.labels if targets is None else targets[batch.labels]
        labels = labels.to(device)
        logits = net(batch.images.to(device)).float()
        on_logits(logits)
        total += _sums(logits, labels)
    net.train(was_training)
    hits, hits5, loss, n = sum_over_ranks(total, process).tolist()
    if not n:
        raise OfaError(
            f"accuracy cannot be measured: no image could be read{'' if unreadable is None else _because(unreadable)}"
        )
    return Accuracy(100 * hits / n, 100 * hits5 / n, loss / n, int(n))


def chance_top1(labels: NDArray[np.integer]) -> float:
    """Return the top-1 (percent) of always predicting the most frequent class."""
    return 100.0 * float(np.bincount(labels).max()) / len(labels) if len(labels) else 0.0


def is_chance(accuracy: Accuracy, chance: float) -> bool:
    """Return True if an accuracy is below chance plus two standard errors."""
    error = np.sqrt(chance * (100.0 - chance) / max(accuracy.n_images, 1))
    return accuracy.n_images > 0 and accuracy.top1 <= chance + 2.0 * float(error)


def _because(unreadable: Unreadable) -> str:
    return f"; {unreadable.summary()}" if unreadable.names else ""


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    best = logits.topk(min(5, logits.shape[1]), 1).indices == labels[:, None]
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    counts = [best[:, 0].sum(), best.any(1).sum(), loss, torch.tensor(len(labels))]
    return torch.stack([c.double().cpu() for c in counts])


def standard_archs(space: Space, resolutions: Sequence[int] | None = None) -> dict[str, Arch]:
    """Return the sub-nets that the public code validates: extremes of depth, expand ratio, kernel and image size."""
    sizes = (space.resolutions[0], space.resolutions[-1]) if resolutions is None else resolutions
    depths = sorted({space.stages[0].depths[0], space.stages[0].max_depth})
    return {
        f"R{px}-D{d}-E{e}-K{k}": space.uniform(k, e, d, px)
        for px in dict.fromkeys(sizes)
        for d in depths
        for e in dict.fromkeys((space.expands[0], space.expands[-1]))
        for k in dict.fromkeys((space.kernels[0], space.kernels[-1]))
    }


@dataclass
class Evaluator:
    """Evaluation of sub-nets on one set of images, after calibration on another.

    Attributes:
        images: source of the images to evaluate on.
        indices: images of `images` to use.
        calibration: source of the calibration images.
        calibration_indices: images of `calibration` to choose from.
        preprocessing: of the network.
        augmentation: of calibration images, as in training (published); None uses them as they are.
        n_calibration: number of calibration images (published: 2000).
        batch_size: of evaluation (published: 100 to 200).
        workers: number of processes that decode images.
        process: this process among all.
        unreadable: collects the images that cannot be decoded.
        class_index: output of the network for each class of the images; None if they are the same.
    """

    images: Source
    indices: NDArray[np.int64]
    calibration: Source
    calibration_indices: NDArray[np.int64]
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    n_calibration: int = 2000
    batch_size: int = 200
    workers: int = 0
    process: Process = ALONE
    unreadable: Unreadable = field(default_factory=Unreadable)
    class_index: NDArray[np.int64] | None = None
    _kept_batches: dict[tuple[str, int], list[Batch]] = field(default_factory=dict, init=False, repr=False)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the evaluated images."""
        return self.images.labels[self.indices]

    def accuracy(self, net: Supernet | SubNet, arch: Arch) -> Accuracy:
        """Return the accuracy of a supernet's sub-net, calibrated first, or of a network as it is."""
        return self.measure(self.calibrated(net, arch) if isinstance(net, Supernet) else net, arch.resolution_px)

    def measure(self, net: nn.Module, px: int, on_logits: Callable[[Tensor], object] = lambda _: None) -> Accuracy:
        """Return the accuracy of a network as it is, at an image size; see `evaluate`."""
        return evaluate(net, self.batches(px), self.process, self.class_index, self.unreadable, on_logits)

    def calibrated(self, net: Supernet | SubNet, arch: Arch) -> SubNet:
        """Return a calibrated copy of a supernet's sub-net, or calibrate the given sub-net in place."""
        sub = extract(net, arch) if isinstance(net, Supernet) else net
        device = torch.device(self.process.device)
        batches = [b for b in self._calibration_batches(arch.resolution_px) if len(b.labels) > 1]
        if not batches and self.process.world == 1:
            raise OfaError(f"batch norm calibration needs images, and got none{_because(self.unreadable)}")
        calibrate(sub, (b.images.to(device) for b in batches), all_ranks=self.process.world > 1)
        return sub.eval()

    def batches(self, px: int) -> list[Batch]:
        """Return this process's evaluation batches at an image size, cached while the size stays the same."""
        return self._kept(("images", px), self._loader(self.images, self.indices, px, None))

    def range_images(self, px: int, n: int) -> list[Tensor]:
        """Return n training images prepared as for evaluation, in batches; the same ones in every process."""
        chosen = rng_for(CALIBRATION_SEED, 1).permutation(self.calibration_indices)[:n]
        loader = self._loader(self.calibration, chosen, px, None)
        return [b.images for b in replace(loader, batch_size=RANGE_BATCH, rank=0, world=1).batches() if len(b.labels)]

    def _calibration_batches(self, px: int) -> list[Batch]:
        n = min(self.n_calibration, len(self.calibration_indices))
        chosen = rng_for(CALIBRATION_SEED).permutation(self.calibration_indices)[:n]
        batch_size = min(self.batch_size, max(2, n // self.process.world))
        loader = replace(
            self._loader(self.calibration, chosen, px, self.augmentation), batch_size=batch_size, seed=CALIBRATION_SEED
        )
        return self._kept(("calibration", px), loader)

    def _kept(self, key: tuple[str, int], loader: Loader) -> list[Batch]:
        cache = self._kept_batches
        if key not in cache:
            for old in [k for k in cache if k[0] == key[0]]:
                del cache[old]
            cache[key] = list(loader.batches())
        return cache[key]

    def _loader(self, source: Source, indices: NDArray[np.int64], px: int, how: Augmentation | None) -> Loader:
        return Loader(
            source,
            indices,
            self.batch_size,
            (px,),
            self.preprocessing,
            how,
            workers=self.workers,
            rank=self.process.rank,
            world=self.process.world,
            unreadable=self.unreadable,
        )
