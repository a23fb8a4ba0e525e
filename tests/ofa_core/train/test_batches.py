from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch")
Image = pytest.importorskip("PIL.Image", reason="needs pillow")
pytestmark = pytest.mark.torch

from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.train.batches import Loader, Unreadable, batch_px, split_held_out  # noqa: E402
from ofa_core.train.images import Augmentation  # noqa: E402
from ofa_core.train.sources import FolderSource  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


@pytest.fixture
def loader(few_images):
    return Loader(few_images, np.arange(40), 8, (16, 24, 32), HALF, Augmentation(), seed=3)


def contents(batches):
    return [(b.index, b.px, b.images, b.labels) for b in batches]


def same(a, b) -> bool:
    return all(
        x[:2] == y[:2] and torch.equal(x[2], y[2]) and torch.equal(x[3], y[3]) for x, y in zip(a, b, strict=True)
    )


def test_an_epoch_has_every_image_once(loader):
    batches = list(loader.batches(0))
    assert [b.index for b in batches] == [0, 1, 2, 3, 4]
    assert sorted(torch.cat([b.labels for b in batches]).tolist()) == sorted(list(range(4)) * 10)
    assert all(b.images.shape == (8, 3, b.px, b.px) for b in batches)
    assert len({b.px for b in batches}) > 1


def test_epochs_differ_and_repeat(loader):
    first, second = contents(loader.batches(0)), contents(loader.batches(1))
    assert same(first, contents(loader.batches(0)))
    assert not same(first[:1], second[:1]) if first[0][1] == second[0][1] else True
    assert [x[3].tolist() for x in first] != [x[3].tolist() for x in second]


def test_a_start_in_the_middle_continues(loader):
    assert same(contents(loader.batches(2))[3:], contents(loader.batches(2, 3)))


def test_the_global_generator_is_left_alone(loader):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(loader.batches(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_workers_change_nothing(loader):
    assert same(contents(loader.batches(1)), contents(replace(loader, workers=2).batches(1)))


def test_ranks_share_an_epoch_at_equal_sizes(loader):
    ranks = [list(replace(loader, batch_size=4, rank=r, world=2).batches(0)) for r in range(2)]
    assert [b.px for b in ranks[0]] == [b.px for b in ranks[1]]
    together = [sorted([*a.labels.tolist(), *b.labels.tolist()]) for a, b in zip(*ranks, strict=True)]
    assert together == [sorted(b.labels.tolist()) for b in loader.batches(0)]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 50), batch=st.integers(1, 9), world=st.integers(1, 3))
def test_evaluation_sees_every_image_once_over_all_ranks(n, batch, world):
    base = Loader(None, np.arange(n), batch, (24,), HALF)
    seen = [i for r in range(world) for b in replace(base, rank=r, world=world).plan(0) for i, _, _ in b]
    assert sorted(seen) == list(range(n))


def test_broken_images_are_left_out_counted_and_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (20, 20)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "a/1.png").write_bytes(b"broken")
    noted = Unreadable()
    loader = Loader(FolderSource(tmp_path), np.arange(6), 3, (16,), HALF, unreadable=noted)
    sizes = [len(b.labels) for b in loader.batches()]
    assert sizes == [2, 3]
    list(loader.batches())
    assert len(noted.names) == 1
    assert "a/1.png" in next(iter(noted.names))


def test_a_batch_without_any_readable_image_is_empty(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"broken")
    (batch,) = Loader(FolderSource(tmp_path), np.arange(1), 3, (16,), HALF).batches()
    assert len(batch.labels) == 0


def test_image_sizes_depend_on_batch_and_epoch_only():
    sizes = [batch_px((128, 160, 224), 0, 1, b) for b in range(200)]
    assert set(sizes) == {128, 160, 224}
    assert sizes == [batch_px((128, 160, 224), 0, 1, b) for b in range(200)]
    assert sizes != [batch_px((128, 160, 224), 0, 2, b) for b in range(200)]


def test_held_out_images_are_not_trained_on():
    train, held = split_held_out(100, 30)
    assert len(held) == 30
    assert sorted([*train, *held]) == list(range(100))
    assert len(split_held_out(10, 10_000)[1]) == 5
    assert split_held_out(100, 30)[1].tolist() == held.tolist()
