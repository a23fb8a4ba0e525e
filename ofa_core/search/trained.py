"""Weights of a trained supernet for the sub-net that a search exports."""

from __future__ import annotations

from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.errors import OfaError, SpaceError
from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.train.commands import Request, net_for, open_checkpoint
from ofa_core.train.distributed import ALONE
from ofa_core.train.int8 import Comparison, RangeSettings, compare, ranges_of
from ofa_core.train.writing import Finished

__all__ = ["Trained"]


class Trained:
    """A trained supernet, loaded before the search so that errors in it show before the search starts.

    Args:
        weights: a checkpoint of `ofa-train`, or a published one.
        data: images for batch norm calibration, as in `ofa-train --data`.
        preprocessing: as in `ofa-train --preprocessing`, for published weights.
        space: space of the search.

    Raises:
        OfaError: if the file is not a supernet, or the images or the preprocessing cannot be loaded.
        SpaceError: for a supernet of another space; the number of classes may differ.
    """

    def __init__(self, weights: Path, data: str, preprocessing: str | None, space: Space) -> None:
        try:
            request = Request(weights, data, space, preprocessing, check_labels=False)
            opened = open_checkpoint(request, ALONE)
        except SpaceError as error:
            raise SpaceError(f"{error}; to search in its space, give --space {weights}") from error
        self.checkpoint, self.evaluator = opened.checkpoint, opened.evaluator
        if not isinstance(self.checkpoint.net, Supernet):
            mine = self.checkpoint.space.name
            raise OfaError(f"{weights} holds one sub-net of {mine}; a supernet of {space.name} is expected")

    def finished(self, arch: Arch, how: RangeSettings | None = None) -> tuple[Finished, Comparison | None]:
        """Return a sub-net whose batch norm is calibrated, ready to be written.

        Args:
            arch: the sub-net.
            how: how ranges for int8 are found; None is float32.

        Returns:
            The sub-net; in int8 also its accuracies before and after quantisation, on the validation images. They are
            None if the classes of the images are not those of the supernet.
        """
        net, px = net_for(self.checkpoint, arch, self.evaluator)[0], arch.resolution_px
        member = (self.checkpoint.space, arch)
        if how is None:
            return Finished(net, member), None
        ranges = ranges_of(net, px, self.evaluator, how)
        classes = self.evaluator.images.classes
        known = len(classes) == self.checkpoint.space.n_classes and self.checkpoint.classes in (None, classes)
        return Finished(net, member, ranges), compare(net, ranges, px, self.evaluator) if known else None
