"""Batches of one image size each, the same on every rank and after every restart.

Which images form a batch, their size and their augmentation are functions of (seed, stream, epoch, batch, index) alone,
so a resumed run sees what an uninterrupted one would have seen, with any number of workers. An image that cannot be
decoded is left out of its batch and named.
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

# (image index, image size, epoch): what a worker needs to make one input.
Item = tuple[int, int, int]


@dataclass(frozen=True)
class Batch:
    """One step's images.

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
    """Images that could not be decoded, by name; counted once each."""

    names: dict[str, str] = field(default_factory=dict)

    def add(self, reasons: Sequence[str]) -> list[str]:
        """Remember reasons (`name: why`); returns the new ones."""
        fresh = [reason for reason in reasons if reason.split(": ")[0] not in self.names]
        self.names.update((reason.split(": ")[0], reason) for reason in fresh)
        return fresh

    def summary(self) -> str:
        """Their number and the first three, in words."""
        names = list(self.names.values())
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"{len(names)} images cannot be decoded ({'; '.join(names[:3])}{more})"


def rng_for(*key: int) -> np.random.Generator:
    """A private generator for a tuple of non-negative integers."""
    return np.random.default_rng(np.random.SeedSequence(key))


def batch_px(resolutions: Sequence[int], seed: int, epoch: int, batch: int) -> int:
    """The image size of a batch: uniform among `resolutions`, equal on all ranks."""
    return int(rng_for(seed, 1, epoch, batch).choice(np.asarray(resolutions)))


def split_held_out(n: int, n_held_out: int, seed: int = 2147483647) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split training images into those to train on and those held out for accuracy tables (published seed).

    Returns:
        Two sorted index arrays; the second has `n_held_out` entries, at most half of all.
    """
    order = np.random.default_rng(seed).permutation(n)
    n_held_out = min(n_held_out, n // 2)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


class _Inputs(Dataset[tuple[NDArray[np.uint8], int, str]]):
    """Item -> (pixels, label, reason): reason is why there are no pixels, or empty."""

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
        indices: which of them.
        batch_size: images per batch of one rank.
        resolutions: image sizes to draw from.
        preprocessing: normalisation, and resizing where there is no augmentation.
        augmentation: None prepares images as for evaluation, in order.
        seed: of order, sizes and augmentation.
        workers: processes that decode.
        rank: this process's share is every `world`-th image of the epoch's order.
        world: number of processes.
        unreadable: where undecodable images are noted.
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
        """Batches of an epoch, on every rank: training drops the incomplete last one, evaluation keeps it."""
        per_step = self.batch_size * self.world
        if self.augmentation is None:
            return -(-len(self.indices) // per_step)
        return max(1, len(self.indices) // per_step)

    def plan(self, epoch: int) -> list[list[Item]]:
        """The items of each batch of this rank in an epoch."""
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
        """The batches of an epoch from batch `start` on; one without any readable image is empty."""
        plan = self.plan(epoch)
        loader = DataLoader(
            _Inputs(self.source, self.seed, self.augmentation, self.preprocessing),
            batch_sampler=plan[start:],
            collate_fn=partial(_collate, self.preprocessing),
            num_workers=self.workers,
            generator=torch.Generator(),  # or it would draw from the global one
        )
        for index, (images, labels, reasons) in enumerate(loader, start):
            self.unreadable.add(reasons)
            px = plan[index][0][1] if plan[index] else self.resolutions[0]
            yield Batch(images, labels, index, px)
