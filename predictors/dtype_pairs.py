"""Compare a device's float table with its int8 table: how much faster int8 is, and whether both rank networks alike.

A float table cannot rank int8 networks: kernels gain unequally from int8. The rank correlation over random sub-nets of
one input size says how far a search with the wrong table would go astray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import isnan
from pathlib import Path

import numpy as np

from ofa_core.calibration import spearman
from ofa_core.context import Context
from ofa_core.errors import MissingBlockError
from ofa_core.genomes import Genomes, sample_genomes
from ofa_core.space import Space
from predictors.answers import TableAnswer

__all__ = ["N_RANKED", "DtypePair", "dtype_pairs"]

N_RANKED = 200
_MAY_DIFFER = ("dtype", "graph_form", "isa", "statistic", "clock", "backend_version")


@dataclass(frozen=True, slots=True)
class DtypePair:
    """A float table and an int8 table of one device and runtime.

    Attributes:
        device: name of the device.
        runtime: runtime and graph form of the int8 table, such as `onnxruntime-int8 (integer)`.
        ratio: latency of a network in float divided by its latency in int8: the mean over the networks.
        rank: rank correlation of the two tables' latencies of random sub-nets, mean over the input sizes; NaN if a
            table lacks blocks.
        resolutions: the input sizes.
    """

    device: str
    runtime: str
    ratio: float
    rank: float
    resolutions: tuple[int, ...]

    def text(self) -> str:
        """Return one sentence."""
        sizes = ", ".join(map(str, self.resolutions))
        rank = "unknown (blocks are missing)" if isnan(self.rank) else f"{self.rank:.3f}"
        return (
            f"{self.device}, {self.runtime}: {self.ratio:.2f} times as fast as float; rank correlation of the two "
            f"tables over {N_RANKED} random sub-nets at {sizes} px: {rank}"
        )


def dtype_pairs(
    space: Space,
    genomes: Genomes,
    tables: Sequence[TableAnswer],
    predict: Callable[[Path, Genomes], TableAnswer],
) -> Iterator[DtypePair]:
    """Yield each pair of a float32 and an int8 table whose contexts agree otherwise.

    Args:
        space: space of the networks.
        genomes: (n, 1 + n_slots) networks that were predicted.
        tables: the answers of all tables.
        predict: predicts other networks with a file.
    """
    for first, second in product(tables, repeat=2):
        context = second.context
        if context is None or not _is_pair(first.context, context):
            continue
        sizes = tuple(np.unique(genomes[:, 0]).tolist())
        try:
            rank = float(np.mean([_rank(space, px, first, second, predict) for px in sizes]))
        except MissingBlockError:  # the tables do not have all blocks
            rank = float("nan")
        ratio = float(np.mean(first.latency_ms / second.latency_ms))
        yield DtypePair(first.device, f"{context.runtime} ({context.graph_form})", ratio, rank, sizes)


def _rank(
    space: Space, px: int, first: TableAnswer, second: TableAnswer, predict: Callable[[Path, Genomes], TableAnswer]
) -> float:
    """Return the rank correlation of two tables over random networks of one input size."""
    nets = sample_genomes(space, N_RANKED, np.random.default_rng(px), [px])
    return spearman(*(predict(Path(table.lut), nets).latency_ms for table in (first, second)))


def _is_pair(first: Context | None, second: Context) -> bool:
    if first is None or (first.dtype, second.dtype) != ("float32", "int8"):
        return False
    return all(difference.split(" ")[0] in _MAY_DIFFER for difference in first.differences(second))
