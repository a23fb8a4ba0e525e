"""Turn a decoded photo into an input of the network: resize, augment and normalise it, with PIL and numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import OfaError
from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.train.limits import check_limits

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGENET", "Augmentation", "augment", "normalise", "resize_for_evaluation"]

IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "crop")


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; the defaults are the published ones for ImageNet.

    Attributes:
        scale: smallest and largest area of the crop, as a fraction of the image.
        ratio: smallest and largest ratio of the crop's width to its height.
        flip: mirror half of the images.
        brightness: b of a factor drawn from 1 - b to 1 + b ("tf" colour distortion: 32 / 255).
        saturation: the same for saturation (0.5).
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    brightness: float = 32 / 255
    saturation: float = 0.5

    def __post_init__(self) -> None:
        limits = {"scale": (1e-6, 1), "ratio": (1e-3, 1e3), "brightness": (0, 1), "saturation": (0, 1)}
        check_limits(self, limits, "augmentation.")
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise OfaError(f"augmentation.{name} is [{low:g}, {high:g}]; the smaller number comes first")


def augment(image: Image.Image, px: int, how: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random crop, scaled to px x px, mirrored and coloured at random.

    Args:
        image: RGB.
        px: side of the result.
        how: the ranges.
        rng: source of randomness.

    Returns:
        (px, px, 3).
    """
    from PIL import Image, ImageEnhance

    box = _random_box(image.width, image.height, how, rng)
    image = image.resize((px, px), Image.Resampling.BILINEAR, box)
    if how.flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if how.brightness:
        image = ImageEnhance.Brightness(image).enhance(1 + rng.uniform(-how.brightness, how.brightness))
    if how.saturation:
        image = ImageEnhance.Color(image).enhance(1 + rng.uniform(-how.saturation, how.saturation))
    return np.asarray(image)


def _random_box(
    width: int, height: int, how: Augmentation, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Return the box of a random crop; after ten boxes outside the image, the largest central one."""
    for _ in range(10):
        area = width * height * rng.uniform(*how.scale)
        ratio = math.exp(rng.uniform(math.log(how.ratio[0]), math.log(how.ratio[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return float(left), float(top), float(left + w), float(top + h)
    w = min(width, round(height * how.ratio[1]))
    h = min(height, round(width / how.ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return float(left), float(top), float(left + w), float(top + h)


def resize_for_evaluation(image: Image.Image, px: int, how: Preprocessing) -> NDArray[np.uint8]:
    """Resize an image for evaluation.

    Args:
        image: RGB.
        px: side of the result.
        how: `direct` resizing, or `crop`: shorter side to ceil(px / 0.875), then the central crop.

    Returns:
        (px, px, 3).
    """
    from PIL import Image

    if how.resize == "direct":
        return np.asarray(image.resize((px, px), Image.Resampling.BILINEAR))
    shorter = math.ceil(px / 0.875)
    factor = shorter / min(image.size)
    width, height = max(shorter, round(image.width * factor)), max(shorter, round(image.height * factor))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - px) // 2, (height - px) // 2
    return np.asarray(image.crop((left, top, left + px, top + px)))


def normalise(images: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.float32]:
    """Normalise (n, px, px, 3) bytes by the mean and deviation of each colour to (n, 3, px, px) floats."""
    mean, std = np.array(how.mean, dtype=np.float32), np.array(how.std, dtype=np.float32)
    out = images.astype(np.float32)
    np.divide(out, std * np.float32(255), out=out)
    np.subtract(out, mean / std, out=out)
    return out.transpose(0, 3, 1, 2)
