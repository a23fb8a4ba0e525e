"""The ranges of a network's tensors with their origin: what int8 files and fine-tuned checkpoints record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError, OfaError
from ofa_core.export.quantisation import Range, check_ranges
from ofa_core.schema import PositiveCount, structured

__all__ = ["Ranges", "ranges_from_dict"]


@dataclass(frozen=True)
class Ranges:
    """The ranges of a network's tensors and their origin.

    Attributes:
        blocks: ranges of each block by the names of `ofa_core.export.quantisation.range_names`.
        method: how they were found: `minmax`, `percentile` or `mse`.
        n_images: number of images that they were found on.
    """

    blocks: tuple[dict[str, Range], ...]
    method: str
    n_images: int

    @property
    def note(self) -> str:
        """Origin in words."""
        return f"{self.method} ranges of {self.n_images} images"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        blocks = [{name: list(ends) for name, ends in block.items()} for block in self.blocks]
        return {"method": self.method, "n_images": self.n_images, "blocks": blocks}


@dataclass(frozen=True)
class _Content:
    method: str
    n_images: PositiveCount
    blocks: list[dict[str, tuple[float, float]]]


def ranges_from_dict(content: Mapping[str, Any], blocks: Sequence[BlockSpec], where: str) -> Ranges:
    """Build the ranges of a network: the inverse of `to_dict`.

    Raises:
        FormatError: for values of another type, or ranges that do not fit the network.
    """
    checked = structured(content, _Content, where)
    try:
        check_ranges(blocks, checked.blocks)
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error
    return Ranges(tuple(checked.blocks), checked.method, checked.n_images)
