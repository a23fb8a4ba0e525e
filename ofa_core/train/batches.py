"""Make batches of one image size each, with the same sizes on every rank and the same batches after a restart.

The images of a batch, their size and their augmentation depend on (seed, stream, epoch, batch, index) only. So a
resumed run gets the same batches as an uninterrupted one, with any number of workers. An image that cannot be decoded
is left out of its batch and recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.train.images import Augmentation, augment, normalise, resize_for_evaluation
from ofa_core.train.sources import Source, UnreadableImageError

__all__ = ["Batch", "Loader", "Unreadable", "batch_px", "rng_for", "split_held_out"]

# (image index, image size, epoch), from which a worker makes one input.
Item = tuple[int, int, int]


@dataclass(frozen=True)
class Batch:
    """The images of one step.

    Attributes:
        images: (n, 3, px, px) float32, normalised.
        labels: (n,) int64.
        index: number of the batch in its epoch.
        px: image size.
    """

    images: Tensor
    labels: Tensor
    index: int
    px: int


@dataclass
class Unreadable:
    """Images that could not be decoded, each once, as name -> `name: reason`."""

    names: dict[str, str] = field(default_factory=dict)

    def add(self, reasons: Sequence[str]) -> list[str]:
        """Record reasons (`name: reason`), and return the new ones."""
        fresh = [reason for reason in reasons if reason.split(": ")[0] not in self.names]
        self.names.update((reason.split(": ")[0], reason) for reason in fresh)
        return fresh

    def summary(self) -> str:
        """Describe their number and the first three."""
        names = list(self.names.values())
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return (
            f"{len(names)} {'image' if len(names) == 1 else 'images'} cannot be decoded ({'; '.join(names[:3])}{more})"
        )


def rng_for(*key: int) -> np.random.Generator:
    """Return a new random generator, seeded by non-negative integers."""
    return np.random.default_rng(np.random.SeedSequence(key))


def batch_px(resolutions: Sequence[int], seed: int, epoch: int, batch: int) -> int:
    """Return the image size of a batch: uniform among `resolutions`, equal on all ranks."""
    return int(rng_for(seed, 1, epoch, batch).choice(np.asarray(resolutions)))


def split_held_out(n: int, n_held_out: int, seed: int = 2147483647) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split training images into those to train on and those to hold out for accuracy tables (published seed).

    Returns:
        Two sorted index arrays; the second has `n_held_out` entries, at most half of all.
    """
    order = np.random.default_rng(seed).permutation(n)
    n_held_out = min(n_held_out, n // 2)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


class _Inputs(Dataset[tuple[NDArray[np.uint8], int, str]]):
    """Map an item to (pixels, label, reason); the reason is empty if there are pixels."""

    def __init__(
        self, source: Source, seed: int, augmentation: Augmentation | None, preprocessing: Preprocessing
    ) -> None:
        self.source, self.seed, self.augmentation, self.preprocessing = source, seed, augmentation, preprocessing

    def __getitem__(self, item: Item) -> tuple[NDArray[np.uint8], int, str]:
        index, px, epoch = item
        try:
            image = self.source.load(index)
        except UnreadableImageError as error:
            return np.empty((0, 0, 3), np.uint8), -1, str(error)
        if self.augmentation is None:
            pixels = resize_for_evaluation(image, px, self.preprocessing)
        else:
            pixels = augment(image, px, self.augmentation, rng_for(self.seed, 2, epoch, index))
        return pixels, int(self.source.labels[index]), ""


def _collate(
    preprocessing: Preprocessing, rows: list[tuple[NDArray[np.uint8], int, str]]
) -> tuple[Tensor, Tensor, list[str]]:
    good = [(pixels, label) for pixels, label, reason in rows if not reason]
    reasons = [reason for *_, reason in rows if reason]
    if not good:
        return torch.empty(0, 3, 1, 1), torch.empty(0, dtype=torch.int64), reasons
    images = torch.from_numpy(normalise(np.stack([pixels for pixels, _ in good]), preprocessing))
    return images, torch.tensor([label for _, label in good]), reasons


@dataclass
class Loader:
    """Batches of a part of a source.

    Attributes:
        source: the images.
        indices: images of the source to use.
        batch_size: images per batch of one rank.
        resolutions: image sizes to sample from.
        preprocessing: normalisation, and resizing if there is no augmentation.
        augmentation: None prepares images as for evaluation, in order.
        seed: of order, sizes and augmentation.
        workers: number of processes that decode images; 0 decodes in this one.
        rank: number of this process, which takes every `world`-th image of an epoch.
        world: number of processes.
        unreadable: collects the images that cannot be decoded.
    """

    source: Source
    indices: NDArray[np.int64]
    batch_size: int
    resolutions: tuple[int, ...]
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    seed: int = 0
    workers: int = 0
    rank: int = 0
    world: int = 1
    unreadable: Unreadable = field(default_factory=Unreadable)

    @property
    def n_batches(self) -> int:
        """Number of batches of an epoch per rank; training drops the incomplete last one, evaluation keeps it."""
        per_step = self.batch_size * self.world
        if self.augmentation is None:
            return -(-len(self.indices) // per_step)
        return max(1, len(self.indices) // per_step)

    def plan(self, epoch: int) -> list[list[Item]]:
        """Return the items of each batch of this rank in an epoch."""
        order = self.indices
        if self.augmentation is not None:
            order = rng_for(self.seed, 0, epoch).permutation(order)
        batches = []
        for b in range(self.n_batches):
            px = batch_px(self.resolutions, self.seed, epoch, b)
            whole = order[b * self.batch_size * self.world : (b + 1) * self.batch_size * self.world]
            batches.append([(int(i), px, epoch) for i in whole[self.rank :: self.world]])
        return batches

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `start` on; a batch without readable images is empty."""
        plan = self.plan(epoch)
        loader = DataLoader(
            _Inputs(self.source, self.seed, self.augmentation, self.preprocessing),
            batch_sampler=plan[start:],
            collate_fn=partial(_collate, self.preprocessing),
            num_workers=self.workers,
            generator=torch.Generator(),  # the default draws from the global generator
        )
        for index, (images, labels, reasons) in enumerate(loader, start):
            self.unreadable.add(reasons)
            px = plan[index][0][1] if plan[index] else self.resolutions[0]
            yield Batch(images, labels, index, px)
