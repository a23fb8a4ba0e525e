"""Sources of labelled images: folders, CIFAR-10, an npz of encoded files, scikit-learn's digits, any torch dataset."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ofa_core.errors import FormatError, OfaError
from ofa_core.npz import read_npz

__all__ = [
    "ArraySource",
    "DatasetSource",
    "FolderSource",
    "NpzSource",
    "Source",
    "UnreadableImageError",
    "open_sources",
]

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no other decoder is tried, whatever the name
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MIN_NPZ_BYTES, MAX_NPZ_RATIO = 2**26, 8  # encoded images hardly shrink in a zip file
KINDS = ("imagefolder", "cifar10", "npz", "digits")


class UnreadableImageError(OfaError):
    """An image that cannot be decoded."""


class Source(Protocol):
    """Labelled images by index."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) class of each image."""
        ...

    def load(self, index: int) -> Image.Image:
        """Return the image in RGB.

        Raises:
            UnreadableImageError: when it cannot be decoded.
        """
        ...

    def name(self, index: int) -> str:
        """Return the name of the image in messages."""
        ...

    def key(self, index: int) -> str:
        """Return text that identifies the image within the source, even after the source was moved."""
        ...


def _decode(stream: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        with Image.open(stream, formats=FORMATS) as image:
            return image.convert("RGB")
    except Exception as error:  # decoders raise anything
        raise UnreadableImageError(f"{name}: {str(error) or type(error).__name__}") from error


class FolderSource:
    """Image files in one folder per class, as ImageNet is laid out.

    Args:
        root: folder of the class folders.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise OfaError(f"{root}: no such folder")
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        self._root = root
        files = [(p, label) for label, folder in enumerate(folders) for p in sorted(folder.rglob("*"))]
        self._files = [(p, label) for p, label in files if p.suffix.lower() in SUFFIXES]
        if not self._files:
            raise OfaError(f"{root}: no images in class folders (one folder per class, {', '.join(sorted(SUFFIXES))})")
        self.classes = tuple(folder.name for folder in folders)
        self.labels = np.array([label for _, label in self._files], dtype=np.int64)

    def load(self, index: int) -> Image.Image:
        """See `Source`."""
        return _decode(self._files[index][0], self.name(index))

    def name(self, index: int) -> str:
        """Return the path."""
        return str(self._files[index][0])

    def key(self, index: int) -> str:
        """Return the path below the folder."""
        return self._files[index][0].relative_to(self._root).as_posix()


class NpzSource:
    """Encoded image files in one npz: `data` bytes, `offsets` (n + 1), `labels`, `classes`, optionally `names`.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size if path.exists() else 0
        arrays = read_npz(path, str(path), MIN_NPZ_BYTES + MAX_NPZ_RATIO * size)
        missing = [name for name in ("data", "offsets", "labels", "classes") if name not in arrays]
        if missing:
            raise FormatError(f"{path}: no array {', '.join(missing)}; data, offsets, labels, classes are expected")
        data, offsets, labels, classes = (arrays[name] for name in ("data", "offsets", "labels", "classes"))
        names, index = arrays.get("names", np.arange(labels.size)), arrays.get("imagenet1k_index")
        if data.dtype != np.uint8 or not {offsets.dtype.kind, labels.dtype.kind} <= set("iu"):
            raise FormatError(f"{path}: data must be bytes, offsets and labels whole numbers")
        if any(array.ndim != 1 for array in (data, offsets, labels, classes, names)):
            raise FormatError(f"{path}: all arrays must have one dimension")
        n, ends = len(labels), offsets.astype(np.int64)
        if len(ends) != n + 1 or len(names) != n or (np.diff(ends, prepend=0) < 0).any():
            raise FormatError(f"{path}: {len(ends)} offsets and {len(names)} names of {n} images")
        if ends[-1] > data.nbytes:
            raise FormatError(f"{path}: images to byte {ends[-1]}, and {data.nbytes} bytes of data")
        if index is not None and (index.shape != classes.shape or index.dtype.kind not in "iu" or (index < 0).any()):
            raise FormatError(f"{path}: imagenet1k_index must be {len(classes)} whole numbers >= 0, one for each class")
        self._data, self._offsets, self._names = data, ends, names
        self.labels, self.classes = labels.astype(np.int64), tuple(map(str, classes))
        self.imagenet1k_index = index
        self._path = path

    def load(self, index: int) -> Image.Image:
        """See `Source`."""
        start, stop = self._offsets[index : index + 2]
        return _decode(io.BytesIO(self._data[start:stop].tobytes()), self.name(index))

    def name(self, index: int) -> str:
        """Return the file and the image's name in it."""
        return f"{self._path.name}:{self._names[index]}"

    def key(self, index: int) -> str:
        """Return the image's name and number of bytes."""
        return f"{self._names[index]} {self._offsets[index + 1] - self._offsets[index]}"


@dataclass(frozen=True)
class ArraySource:
    """Decoded images in memory.

    Attributes:
        images: (n, height, width, 3) bytes.
        labels: (n,).
        classes: names.
        title: start of the images' names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    title: str

    def load(self, index: int) -> Image.Image:
        """See `Source`."""
        return Image.fromarray(self.images[index])

    def name(self, index: int) -> str:
        """Return title and index."""
        return f"{self.title}[{index}]"

    def key(self, index: int) -> str:
        """Return a checksum of the pixels."""
        return f"{zlib.crc32(self.images[index].tobytes()):08x}"


class DatasetSource:
    """Any torch dataset of (PIL image or (h, w, 3) bytes, label).

    Args:
        dataset: with `__len__` and `__getitem__`.
        classes: names of the classes.
        labels: (n,) if known; None reads every item once.
    """

    def __init__(self, dataset: Any, classes: Sequence[str], labels: Sequence[int] | None = None) -> None:
        self._dataset = dataset
        self.classes = tuple(classes)
        found = [int(dataset[i][1]) for i in range(len(dataset))] if labels is None else labels
        self.labels = np.asarray(found, dtype=np.int64)

    def load(self, index: int) -> Image.Image:
        """See `Source`."""
        image = self._dataset[index][0]
        return image.convert("RGB") if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))

    def name(self, index: int) -> str:
        """The index."""
        return f"{type(self._dataset).__name__}[{index}]"

    def key(self, index: int) -> str:
        """The index."""
        return str(index)


def digits_sources() -> tuple[ArraySource, ArraySource]:
    """Return scikit-learn's digits (8 x 8 greys) as 32 x 32 colour images, every fifth for validation."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = np.asarray(data.images * (255 / 16), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(g).resize((32, 32), Image.Resampling.BILINEAR)) for g in grey]
    images = np.repeat(np.stack(large)[..., None], 3, axis=3)
    labels, classes = data.target.astype(np.int64), tuple(map(str, range(10)))
    held = np.arange(len(labels)) % 5 == 4
    return (
        ArraySource(images[~held], labels[~held], classes, "digits/train"),
        ArraySource(images[held], labels[held], classes, "digits/val"),
    )


def _cifar10_binary(folder: Path, files: Sequence[str]) -> ArraySource:
    """Read the binary version: records of one label byte and 3 x 32 x 32 bytes."""
    rows = []
    for file in files:
        raw = np.fromfile(folder / file, dtype=np.uint8)
        if raw.size == 0 or raw.size % 3073:
            raise FormatError(f"{folder / file}: {raw.size} bytes; CIFAR-10 records have 3073 bytes each")
        rows.append(raw.reshape(-1, 3073))
    table = np.concatenate(rows)
    images = np.ascontiguousarray(table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    meta = folder / "batches.meta.txt"
    names = meta.read_text().split() if meta.exists() else [str(i) for i in range(10)]
    return ArraySource(images, table[:, 0].astype(np.int64), tuple(names), folder.name)


def _cifar10(path: Path) -> tuple[Source, Source]:
    if (path / "data_batch_1.bin").exists():
        batches = sorted(p.name for p in path.glob("data_batch_*.bin"))
        return _cifar10_binary(path, batches), _cifar10_binary(path, ["test_batch.bin"])
    if (path / "cifar10_train.npz").exists():
        return NpzSource(path / "cifar10_train.npz"), NpzSource(path / "cifar10_test.npz")
    if (path / "train").is_dir():
        return _folders(path)
    raise OfaError(f"{path}: no CIFAR-10; data_batch_*.bin, cifar10_train.npz, or train/ and test/ are expected")


def _folders(path: Path) -> tuple[Source, Source]:
    held = next((path / n for n in ("val", "validation", "test") if (path / n).is_dir()), None)
    if not (path / "train").is_dir() or held is None:
        raise OfaError(f"{path}: train/ and val/ (or test/) are expected, each with one folder per class")
    return FolderSource(path / "train"), FolderSource(held)


def open_sources(spec: str) -> tuple[Source, Source]:
    """Open the training and validation images of a data set.

    Args:
        spec: `digits`, `imagefolder:PATH` (train/ and val/), `cifar10:PATH` (binary, folders or npz),
            or `npz:TRAIN,VAL`.

    Raises:
        OfaError: if the kind is unknown, files are missing, a class has no images, or no image can be read.
        FormatError: if a file has another format.
    """
    kind, _, where = spec.partition(":")
    if kind == "digits" and not where:
        return digits_sources()
    if kind not in KINDS or not where:
        raise OfaError(f"data {spec!r}: digits, imagefolder:PATH, cifar10:PATH or npz:TRAIN,VAL is expected")
    if kind == "npz":
        train, _, val = where.partition(",")
        if not val:
            raise OfaError(f"data {spec!r}: two files are expected, npz:TRAIN,VAL")
        sources: tuple[Source, Source] = NpzSource(Path(train)), NpzSource(Path(val))
    else:
        sources = (_folders if kind == "imagefolder" else _cifar10)(Path(where))
    if sources[0].classes != sources[1].classes:
        odd = set(sources[0].classes) ^ set(sources[1].classes)
        raise OfaError(f"data {spec!r}: training and validation have different classes: {', '.join(sorted(odd)[:5])}")
    for part, source in zip(("training", "validation"), sources, strict=True):
        _check_labels(source, f"data {spec!r}: {part}")
        _check_readable(source, f"data {spec!r}: {part}")
    return sources


def _check_readable(source: Source, where: str) -> None:
    """Check that at least one image can be decoded."""
    reason = "there are none"
    for index in range(len(source.labels)):
        try:
            source.load(index)
        except UnreadableImageError as error:
            reason = reason if index else str(error)
        else:
            return
    raise OfaError(f"{where} has {len(source.labels)} images, and none can be read ({reason})")


def _check_labels(source: Source, where: str) -> None:
    """Check that each label is a class, and that each class has an image."""
    n_classes = len(source.classes)
    if len(source.labels) and not (source.labels.min() >= 0 and source.labels.max() < n_classes):
        raise FormatError(f"{where}: labels {source.labels.min()} to {source.labels.max()} of {n_classes} classes")
    if isinstance(source, ArraySource):
        return  # a part of a known data set may lack classes
    counts = np.bincount(source.labels, minlength=n_classes)
    empty = [name for name, count in zip(source.classes, counts, strict=True) if not count]
    if empty:
        raise OfaError(
            f"{where} has no image of {len(empty)} of {n_classes} classes: {', '.join(empty[:5])}; "
            "add images, or remove the class from both parts"
        )
