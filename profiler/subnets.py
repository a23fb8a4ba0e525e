"""Choose the sub-nets to measure: those of files, or random ones at the resolutions that a table covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.formats.arch_files import read_archs
from ofa_core.genomes import decode
from ofa_core.space import Space
from ofa_core.space_record import require_space
from ofa_core.table import LatencyTable

__all__ = ["covered_resolutions", "listed_subnets"]


def listed_subnets(
    paths: Sequence[Path], space: Space | None, default_space: Callable[[], Space], resolution_px: int | None = None
) -> tuple[Space, list[Arch]]:
    """Read the sub-nets of files, each once.

    Args:
        paths: files of one architecture, a list, or a table of them.
        space: their space; None reads it from the files.
        default_space: returns the space of files that name none.
        resolution_px: input size of architectures that name none.

    Returns:
        The space of all of them, and the sub-nets in order.

    Raises:
        FormatError: if a file lists no architectures, or one of them is wrong.
        SpaceError: if two files are of different spaces.
    """
    found = [read_archs(path, space, default_space, resolution_px) for path in paths]
    for path, other in zip(paths, found, strict=True):
        require_space(other.space, found[0].space, path)
    the_space = found[0].space
    return the_space, list(dict.fromkeys(decode(the_space, np.concatenate([nets.genomes for nets in found]))))


def covered_resolutions(path: Path, table: LatencyTable, space: Space, *, fill: bool) -> tuple[int, ...]:
    """Return the resolutions at which a table has all blocks of a space, or its first layer if the rest is filled.

    Raises:
        OfaError: if there is none.
    """
    pixels = table.input_sizes() if fill else table.resolutions(space)
    if not pixels:
        advice = "" if fill else "; add --fill to estimate them"
        raise OfaError(f"{path} lacks blocks of {space.name} at every resolution{advice}")
    return tuple(pixels)
