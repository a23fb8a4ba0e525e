"""Images as inputs: augmented, resized and normalised, without torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Image = pytest.importorskip("PIL.Image", reason="needs pillow")

from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.formats.preprocessing import Preprocessing  # noqa: E402
from ofa_core.train.images import Augmentation, augment, normalise, resize_for_evaluation  # noqa: E402

HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "direct")


def test_normalisation():
    pixels = np.full((2, 4, 4, 3), 255, np.uint8)
    np.testing.assert_allclose(normalise(pixels, HALF), 1, atol=1e-6)
    np.testing.assert_allclose(normalise(pixels * 0, HALF), -1, atol=1e-6)
    assert normalise(pixels, HALF).shape == (2, 3, 4, 4)
    how = Preprocessing((0.1, 0.2, 0.3), (0.5, 1.0, 2.0), "crop")
    np.testing.assert_allclose(normalise(pixels, how)[0, :, 0, 0], [1.8, 0.8, 0.35], atol=1e-6)


def test_evaluation_crop_takes_the_centre():
    image = Image.new("RGB", (400, 200))
    image.paste((255, 0, 0), (150, 50, 250, 150))
    crop = resize_for_evaluation(image, 112, replace(HALF, resize="crop"))
    assert crop.shape == (112, 112, 3)
    assert crop[56, 56, 0] == 255
    assert resize_for_evaluation(image, 100, HALF).shape == (100, 100, 3)


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), seed=st.integers(0, 99))
def test_augmentation_takes_any_image(width, height, seed):
    image = Image.new("RGB", (width, height), (50, 100, 150))
    pixels = augment(image, 24, Augmentation(), np.random.default_rng(seed))
    assert pixels.shape == (24, 24, 3)
    assert pixels.dtype == np.uint8


def test_no_augmentation_of_colour_or_side_when_switched_off():
    image = Image.new("RGB", (64, 64), (50, 100, 150))
    how = Augmentation(scale=(1, 1), ratio=(1, 1), flip=False, brightness=0, saturation=0)
    assert (augment(image, 64, how, np.random.default_rng(0)) == np.asarray(image)).all()


def test_half_of_the_images_are_mirrored_and_colours_change() -> None:
    left_white = np.zeros((32, 32, 3), np.uint8)
    left_white[:, :16] = 255
    image = Image.fromarray(left_white)
    rng = np.random.default_rng(0)
    whole = Augmentation(scale=(1, 1), ratio=(1, 1), brightness=0, saturation=0)
    mirrored = [augment(image, 32, whole, rng)[0, 0, 0] == 0 for _ in range(100)]
    assert 30 < sum(mirrored) < 70
    bright = replace(whole, flip=False, brightness=0.5)
    levels = {int(augment(image, 32, bright, rng)[0, 0, 0]) for _ in range(30)}
    assert len(levels) > 5
    assert min(levels) >= 127


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", (0.5, 0.2), r"^augmentation.scale is \[0.5, 0.2\]; the smaller number comes first$"),
        ("scale", (0.0, 1.0), r"^augmentation.scale is 0.0, 1e-06 to 1 is expected$"),
        ("brightness", float("nan"), r"^augmentation.brightness is nan, 0 to 1 is expected$"),
    ],
)
def test_ranges_that_make_no_sense(name: str, value: object, message: str) -> None:
    with pytest.raises(OfaError, match=message):
        Augmentation(**{name: value})
