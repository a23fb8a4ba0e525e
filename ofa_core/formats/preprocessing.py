"""Preprocessing: the conversion of images to inputs of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from ofa_core.errors import FormatError

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """The conversion of images to inputs of a network.

    A published ImageNet checkpoint loses 23 points of top-1 with another normalisation, without any error. It is
    therefore stored with the weights, and must be given where it is unknown.

    Attributes:
        mean: mean per colour, of pixels scaled to 0..1.
        std: standard deviation per colour.
        resize: `direct` scales the image to the input size; `crop` scales its shorter side to ceil(size / 0.875) and
            takes the centre, as in validation by the public code.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["direct", "crop"] = "crop"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"mean": list(self.mean), "std": list(self.std), "resize": self.resize}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Build from plain values: the inverse of `to_dict`.

        Raises:
            FormatError: for invalid values.
        """
        try:
            mean, std, resize = tuple(map(float, values["mean"])), tuple(map(float, values["std"])), values["resize"]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"preprocessing needs mean, std and resize, not {str(values)[:200]!r}") from error
        if len(mean) != 3 or len(std) != 3 or resize not in ("direct", "crop"):
            raise FormatError(
                f"preprocessing needs three means, three positive stds and direct or crop, not {str(values)[:200]!r}"
            )
        return cls((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), resize)

    def __post_init__(self) -> None:
        if not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise FormatError(
                f"preprocessing needs three means and three positive stds, not {self.mean} and {self.std}"
            )
