"""Accuracies of many random sub-nets in one CSV file, from which accuracy predictors are fitted.

The paper's table has 16,000 sub-nets measured on 10,000 held-out training images. Rows are appended one by one, so an
interrupted table can be continued, by the same weights on the same images only. Each process measures its share into a
file of its own.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.atomic import append_whole, naming, write_text
from ofa_core.backend_names import DTYPES
from ofa_core.csv_fields import csv_rows, read_text
from ofa_core.errors import FormatError, OfaError
from ofa_core.genomes import sample_arch
from ofa_core.space import Space
from ofa_core.space_record import require_space, space_columns, space_of

__all__ = ["COLUMNS", "Origin", "check_table", "merge", "planned_archs", "read_rows", "shard_path", "write_table"]

_COLUMNS_0_1 = ("space", "ks", "e", "d", "r", "top1", "n_images", "schema")
_SPACE_COLUMNS = ("space_digest", "space_definition")
_ORIGIN_COLUMNS = ("weights_digest", "images_digest")
_DTYPE_COLUMNS = ("dtype", "ranges")
_FLOAT_COLUMNS = (*_COLUMNS_0_1, *_SPACE_COLUMNS, *_ORIGIN_COLUMNS)
COLUMNS = (*_FLOAT_COLUMNS, *_DTYPE_COLUMNS)
_HEADERS = (COLUMNS, _FLOAT_COLUMNS, (*_COLUMNS_0_1, *_SPACE_COLUMNS), _COLUMNS_0_1)
SCHEMA = 1
FLOAT = DTYPES["fp32"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Everything that the accuracies of a table depend on, besides the sub-nets.

    Attributes:
        weights: digest of the supernet's tensors and preprocessing.
        images: digest of the evaluated and the calibration images.
        dtype: type of weights and activations, as in latency tables.
        ranges: how the ranges for int8 were found; empty for float32.
    """

    weights: str
    images: str
    dtype: str = FLOAT
    ranges: str = ""


def planned_archs(space: Space, n: int, seed: int) -> list[Arch]:
    """Return the first n different random sub-nets of a seed; a larger n only adds to them.

    Image sizes are sampled too. A space of fewer architectures gives fewer.
    """
    rng = np.random.default_rng(seed)
    seen: dict[Arch, None] = {}
    misses = 0
    while len(seen) < min(n, space.size) and misses < 1000:
        arch = sample_arch(space, rng)
        misses = misses + 1 if arch in seen else 0
        seen[arch] = None
    return list(seen)


def shard_path(path: Path, rank: int, world: int) -> Path:
    """Return the file of one process: the table itself for a single process, else a file beside it."""
    return path if world == 1 else path.with_name(f"{path.stem}.{rank}-of-{world}{path.suffix}")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a table; drop a torn last line, as an interrupted run leaves it.

    Raises:
        FormatError: for any other file.
    """
    if not path.exists():
        return []
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        return []
    header, rows = csv_rows(whole, str(path))
    if tuple(header) not in _HEADERS:
        raise FormatError(f"{path}: not an accuracy table; its first line should be {','.join(COLUMNS)}")
    untold = {"dtype": FLOAT, "ranges": ""}  # of tables without these columns
    return [untold | dict(zip(header, cells, strict=True)) for _, cells in rows]


def check_table(path: Path, space: Space, origin: Origin) -> list[dict[str, str]]:
    """Read the rows of a table that is to be continued.

    Raises:
        SpaceError: for sub-nets of another space.
        OfaError: for rows measured with other weights or images, in another dtype, or with other ranges. Rows of
            version 0.1.0 have no digests; they are kept with a warning.
    """
    rows = read_rows(path)
    for row in rows[:1]:
        require_space(space_of(row), space, path)
    for row in rows:
        then, now = (row["dtype"], row["ranges"]), (origin.dtype, origin.ranges)
        if then != now:
            shown = (" with ".join(filter(None, one)) for one in (then, now))
            raise OfaError(f"{path} was measured in {' and this is '.join(shown)}; give another file as --out")
    for what, digest in (("weights", origin.weights), ("images", origin.images)):
        found = {row.get(f"{what}_digest", "") for row in rows}
        others = sorted(found - {digest, ""})
        if others:
            raise OfaError(
                f"{path} was measured with other {what} (digest {others[0][:16]}, now {digest[:16]}); "
                "give another file as --out"
            )
        if "" in found:
            _log.warning("%s has rows without a digest of their %s; make sure that they are the same", path, what)
    return rows


def write_table(
    path: Path, space: Space, archs: list[Arch], top1_of: Callable[[Arch], tuple[float, int]], origin: Origin
) -> Iterator[tuple[int, int]]:
    """Measure architectures, except those that the file already holds.

    Sub-nets of one image size are measured one after another, so that images are decoded once per size.

    Args:
        path: the file, `shard_path` for one of several processes.
        space: the space of the architectures.
        archs: the sub-nets of this process.
        top1_of: measures one: top-1 in percent, number of images.
        origin: of the weights and images that `top1_of` uses.

    Yields:
        (done, total) after each row.

    Raises:
        SpaceError: if the file holds sub-nets of another space.
        OfaError: if its rows come from other weights or images.
    """
    rows = check_table(path, space, origin)
    known = {_key(row) for row in rows}
    write_text(path, _csv(rows))  # without a torn last line
    with path.open("ab", buffering=0) as stream:
        for done, arch in enumerate(sorted(archs, key=lambda arch: arch.resolution_px), 1):
            row = _row_of(space, arch, origin)
            if _key(row) not in known:
                top1, n_images = top1_of(arch)
                row |= {"top1": f"{top1:.4f}", "n_images": str(n_images)}
                with naming(path):
                    append_whole(stream, _csv([row]).splitlines(keepends=True)[1].encode())
            yield done, len(archs)


def merge(path: Path, world: int) -> int:
    """Join the files of all processes into the table, and return its number of rows."""
    rows = [row for rank in range(world) for row in read_rows(shard_path(path, rank, world))]
    if world > 1:
        write_text(path, _csv(rows))
    return len(rows)


def _row_of(space: Space, arch: Arch, origin: Origin) -> dict[str, str]:
    """Return a row without its results; unused slots of the architecture hold the smallest choice, as published."""
    data = arch_to_dict(arch, space)
    return {
        **space_columns(space),
        "ks": json.dumps(data["ks"]),
        "e": json.dumps(data["e"]),
        "d": json.dumps(data["d"]),
        "r": str(arch.resolution_px),
        "schema": str(SCHEMA),
        "weights_digest": origin.weights,
        "images_digest": origin.images,
        "dtype": origin.dtype,
        "ranges": origin.ranges,
    }


def _csv(rows: list[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("space", "ks", "e", "d", "r"))
