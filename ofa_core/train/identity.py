"""Compare weights and images by content: classes by name, images by name and label, tensors by their bytes.

A class folder that is renamed, added or removed gives the same images other labels, even if the number of classes stays
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.train.sources import Source

__all__ = ["DataIdentity", "class_difference", "identity_of", "known_classes", "source_digest", "weights_digest"]

SHOWN = 5


@dataclass(frozen=True)
class DataIdentity:
    """The images of a run.

    Attributes:
        classes: names of the classes, in the order of the network's outputs.
        n_train: number of training images.
        n_val: number of validation images.
        train_digest: digest of the names and labels of the training images.
        val_digest: digest of those of the validation images.
    """

    classes: tuple[str, ...]
    n_train: int
    n_val: int
    train_digest: str
    val_digest: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {**asdict(self), "classes": list(self.classes)}

    def changes_since(self, then: Mapping[str, Any]) -> str:
        """Describe the differences from the identity in a checkpoint; empty if there are none."""
        found = []
        classes = known_classes(then)
        if classes is not None and classes != self.classes:
            found.append(f"classes: {class_difference(classes, self.classes)}")
        for what, n, digest in (
            ("training", "n_train", "train_digest"),
            ("validation", "n_val", "val_digest"),
        ):
            before, now = then.get(n), getattr(self, n)
            if before != now:
                found.append(f"{before} {what} images then, {now} now")
            elif not found and then.get(digest) != getattr(self, digest):
                found.append(f"other {what} images, or other labels, of the same number ({now})")
        return "; ".join(found)


def known_classes(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes in a checkpoint; None for files of version 0.1.0, which hold none."""
    classes = values.get("classes")
    return None if classes is None else tuple(map(str, classes))


def identity_of(train: Source, val: Source) -> DataIdentity:
    """Return the identity of the images of a run."""
    return DataIdentity(
        train.classes, len(train.labels), len(val.labels), source_digest(train), source_digest(val)
    )  # fmt: skip


def source_digest(source: Source, indices: NDArray[np.int64] | None = None) -> str:
    """Return a digest of the names and labels of a source's images, in order, without reading the images.

    Args:
        source: the images.
        indices: images to include; None includes all.
    """
    digest = hashlib.sha256()
    labels = source.labels.tolist()
    for index in range(len(labels)) if indices is None else indices.tolist():
        digest.update(f"{source.key(index)}\0{source.classes[labels[index]]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def weights_digest(net: nn.Module, preprocessing: Preprocessing) -> str:
    """Return a digest of a network's tensors, by name, and of its preprocessing."""
    digest = hashlib.sha256(repr(preprocessing.to_dict()).encode())
    for name, tensor in net.state_dict().items():
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def class_difference(then: Sequence[str], now: Sequence[str]) -> str:
    """Describe how two lists of class names differ: in names, in number, or in order only."""
    gone, added = [c for c in then if c not in set(now)], [c for c in now if c not in set(then)]
    parts = [f"{what} {_some(names)}" for what, names in (("without", gone), ("with", added)) if names]
    if not parts:
        return "the same names in another order"
    return f"{len(then)} then, {len(now)} now, {' and '.join(parts)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
