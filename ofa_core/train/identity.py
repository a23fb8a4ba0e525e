"""What a run was trained on, told apart by content: names of classes in order, images by name and label.

A folder that is renamed, added or removed gives other labels to the same images, and a number of classes that happens
to be equal does not show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ofa_core.train.sources import Source

__all__ = ["DataIdentity", "class_difference", "identity_of", "known_classes", "source_digest"]

SHOWN = 5


@dataclass(frozen=True)
class DataIdentity:
    """The images of a run.

    Attributes:
        classes: their names, in the order of the network's outputs.
        n_train: number of training images.
        n_val: number of validation images.
        train_digest: of the names and labels of the training images.
        val_digest: of those of the validation images.
    """

    classes: tuple[str, ...]
    n_train: int
    n_val: int
    train_digest: str
    val_digest: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**asdict(self), "classes": list(self.classes)}

    def changes_since(self, then: Mapping[str, Any]) -> str:
        """What differs from the identity that a checkpoint holds, in words; empty if nothing does."""
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
    """The names of classes that a checkpoint holds; None where it holds none, as files of version 0.1.0."""
    classes = values.get("classes")
    return None if classes is None else tuple(map(str, classes))


def identity_of(train: Source, val: Source) -> DataIdentity:
    """The identity of the images of a run."""
    return DataIdentity(
        train.classes, len(train.labels), len(val.labels), source_digest(train), source_digest(val)
    )  # fmt: skip


def source_digest(source: Source) -> str:
    """A digest of the images of a source by name and label, in their order; it does not read them."""
    digest = hashlib.sha256()
    for index, label in enumerate(source.labels.tolist()):
        digest.update(f"{source.key(index)}\0{source.classes[label]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def class_difference(then: Sequence[str], now: Sequence[str]) -> str:
    """Say how two lists of class names differ: by name, by number, or by order alone."""
    gone, added = [c for c in then if c not in set(now)], [c for c in now if c not in set(then)]
    parts = [f"{what} {_some(names)}" for what, names in (("without", gone), ("with", added)) if names]
    if not parts:
        return "the same names in another order"
    return f"{len(then)} then, {len(now)} now, {' and '.join(parts)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
