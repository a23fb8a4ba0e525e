from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch")
Image = pytest.importorskip("PIL.Image", reason="needs pillow")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError, OfaError  # noqa: E402
from ofa_core.train.sources import DatasetSource, UnreadableImageError, open_sources  # noqa: E402


def write_folders(root, classes=("cat", "dog"), per_class=3):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                Image.fromarray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)).save(folder / f"{label}{i}.png")


def test_image_folders(tmp_path):
    write_folders(tmp_path)
    train, val = open_sources(f"imagefolder:{tmp_path}")
    assert train.classes == val.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.load(4).size == (30, 20)
    assert train.name(4).endswith("train/dog/11.png")


def test_a_broken_image_is_named(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "train/cat/00.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"cat/00\.png"):
        open_sources(f"imagefolder:{tmp_path}")[0].load(0)


def test_a_truncated_image_is_named(tmp_path):
    write_folders(tmp_path)
    path = tmp_path / "train/cat/00.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableImageError, match=r"cat/00\.png"):
        open_sources(f"imagefolder:{tmp_path}")[0].load(0)


def test_greys_and_transparency_become_colours(tmp_path):
    write_folders(tmp_path)
    Image.new("LA", (8, 8), (100, 128)).save(tmp_path / "train/cat/00.png")
    assert open_sources(f"imagefolder:{tmp_path}")[0].load(0).mode == "RGB"


def test_cifar10_binary(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (4, 3, 32, 32)).astype(np.uint8)
    for name, labels in (("data_batch_1.bin", [3, 1, 2, 0]), ("test_batch.bin", [9, 9, 9, 9])):
        records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels.reshape(4, -1)], 1)
        records.tofile(tmp_path / name)
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    train, val = open_sources(f"cifar10:{tmp_path}")
    assert train.labels.tolist() == [3, 1, 2, 0]
    assert val.labels.tolist() == [9] * 4
    assert train.classes == tuple("abcdefghij")
    np.testing.assert_array_equal(np.asarray(train.load(2)), pixels[2].transpose(1, 2, 0))


def test_cifar10_binary_of_another_size_is_refused(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3074))
    with pytest.raises(FormatError, match="3074 bytes; CIFAR-10 records have 3073 bytes each"):
        open_sources(f"cifar10:{tmp_path}")


def test_npz_of_files(tmp_path):
    encoded = []
    for value in (10, 200):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    arrays = {
        "data": np.frombuffer(b"".join(encoded), np.uint8),
        "offsets": np.cumsum([0, *map(len, encoded)]),
        "labels": np.array([1, 0]),
        "classes": np.array(["a", "b"]),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    train, _ = open_sources(f"npz:{tmp_path / 'x.npz'},{tmp_path / 'x.npz'}")
    assert train.load(1).getpixel((0, 0)) == (200, 0, 0)
    assert train.name(1) == "x.npz:1"
    np.savez(tmp_path / "y.npz", **{k: v for k, v in arrays.items() if k != "offsets"})
    with pytest.raises(FormatError, match=r"y\.npz: no array offsets; data, offsets, labels, classes are expected"):
        open_sources(f"npz:{tmp_path / 'y.npz'},{tmp_path / 'y.npz'}")


@pytest.mark.reference
def test_an_npz_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", data=np.zeros(2**27, np.uint8))
    with pytest.raises(FormatError, match=r"bomb\.npz: unpacks to more than"):
        open_sources(f"npz:{tmp_path / 'bomb.npz'},{tmp_path / 'bomb.npz'}")


def test_the_stored_cifar10(reference_data):
    train, test = open_sources(f"cifar10:{reference_data}")
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.load(49_999).size == (32, 32)


def test_digits():
    train, val = open_sources("digits")
    assert len(train.labels) + len(val.labels) == 1797
    assert train.load(0).size == (32, 32)
    assert len(np.unique(val.labels)) == 10


def test_any_dataset():
    items = [(Image.new("L", (4, 4), 9), 1), (np.full((4, 4, 3), 7, np.uint8), 0)]
    source = DatasetSource(items, ("a", "b"))
    assert source.labels.tolist() == [1, 0]
    assert source.load(0).mode == "RGB"
    assert source.load(1).getpixel((0, 0)) == (7, 7, 7)
    assert source.name(1) == "list[1]"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "data 'digit': digits, imagefolder:PATH"),
        ("imagefolder:", "digits, imagefolder:PATH"),
        ("npz:one", "two files are expected, npz:TRAIN,VAL"),
        ("imagefolder:/nowhere", "train/ and val/ \\(or test/\\) are expected"),
        ("cifar10:/nowhere", "no CIFAR-10; data_batch"),
    ],
)
def test_specifications_that_are_none(spec, message):
    with pytest.raises(OfaError, match=message):
        open_sources(spec)


def test_different_classes_are_refused(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "val/dog").rename(tmp_path / "val/wolf")
    with pytest.raises(OfaError, match="different classes: dog, wolf"):
        open_sources(f"imagefolder:{tmp_path}")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    with pytest.raises(OfaError, match="no images in class folders"):
        open_sources(f"imagefolder:{tmp_path}")
