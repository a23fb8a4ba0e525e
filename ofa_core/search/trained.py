"""A supernet that lends its weights to the sub-net that a search exports."""

from __future__ import annotations

from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.errors import OfaError, SpaceError
from ofa_core.export.layers import BlockWeights
from ofa_core.export.trained_weights import trained_weights
from ofa_core.nn.supernet import Supernet
from ofa_core.space import Space
from ofa_core.train.commands import net_for, open_checkpoint
from ofa_core.train.distributed import ALONE

__all__ = ["Trained"]


class Trained:
    """A supernet's weights, opened before the search so that what is wrong with them is known before it.

    Args:
        weights: a checkpoint of ours, or a published one.
        data: images that set batch norm statistics, as `ofa-train --data` names them.
        preprocessing: as `ofa-train --preprocessing`, for published weights.
        space: of the search.

    Raises:
        OfaError: if it is no supernet, or the images or the preprocessing are not to be had.
        SpaceError: for a supernet of another space; another number of classes is none.
    """

    def __init__(self, weights: Path, data: str, preprocessing: str | None, space: Space) -> None:
        try:
            opened = open_checkpoint(
                weights, data, ALONE, space=space, preprocessing=preprocessing, workers=0, check_labels=False
            )
        except SpaceError as error:
            raise SpaceError(f"{error}; to search in its space, give --space {weights}") from error
        self.checkpoint, self.evaluator = opened.checkpoint, opened.evaluator
        if not isinstance(self.checkpoint.net, Supernet):
            mine = self.checkpoint.space.name
            raise OfaError(f"{weights} holds one sub-net of {mine}; a supernet of {space.name} is expected")

    def weights_of(self, arch: Arch) -> list[BlockWeights]:
        """Return the weights of each block of a sub-net whose batch norm is calibrated."""
        return trained_weights(net_for(self.checkpoint, arch, self.evaluator)[0])
