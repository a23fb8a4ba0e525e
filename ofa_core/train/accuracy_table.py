"""Accuracies of many random sub-nets in one CSV: what accuracy predictors learn from.

The paper's table has 16,000 sub-nets measured on 10,000 held-out training images. Rows are appended one by one, so a
table goes on where it was interrupted; several ranks or machines each take a share.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.atomic import append_whole, naming, write_text
from ofa_core.errors import FormatError
from ofa_core.genomes import sample_arch
from ofa_core.space import Space
from ofa_core.space_record import require_space, space_columns, space_of

__all__ = ["COLUMNS", "merge", "planned_archs", "read_rows", "shard_path", "write_table"]

_OLD_COLUMNS = ("space", "ks", "e", "d", "r", "top1", "n_images", "schema")  # of version 0.1.0
COLUMNS = (*_OLD_COLUMNS, "space_digest", "space_definition")
SCHEMA = 1


def planned_archs(space: Space, n: int, seed: int) -> list[Arch]:
    """The first n different random sub-nets of a seed; a larger n only adds to them.

    Image sizes are drawn with the rest. A space of fewer architectures gives fewer.
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
    """Where one of several processes writes: beside the table, or the table itself where it is alone."""
    return path if world == 1 else path.with_name(f"{path.stem}.{rank}-of-{world}{path.suffix}")


def row_of(space: Space, arch: Arch, top1: float, n_images: int) -> dict[str, str]:
    """A row: the public form of the architecture (unused slots hold the smallest choice), top-1 in percent."""
    data = arch_to_dict(arch, space)
    return {
        **space_columns(space),
        "ks": json.dumps(data["ks"]),
        "e": json.dumps(data["e"]),
        "d": json.dumps(data["d"]),
        "r": str(arch.resolution_px),
        "top1": f"{top1:.4f}",
        "n_images": str(n_images),
        "schema": str(SCHEMA),
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Complete rows of a table; a torn last line, as an interrupted run leaves, is dropped.

    Raises:
        FormatError: for another file.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.DictReader(io.StringIO(whole)))
    if whole and tuple(next(csv.reader([whole.splitlines()[0]]))) not in (COLUMNS, _OLD_COLUMNS):
        raise FormatError(f"{path}: not an accuracy table; its first line is {','.join(COLUMNS)}")
    return rows


def write_table(
    path: Path,
    space: Space,
    archs: list[Arch],
    top1_of: Callable[[Arch], tuple[float, int]],
    *,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[int, int]]:
    """Measure this process's share of `archs`, skipping those already in its file.

    Sub-nets of one image size are measured one after another, so that images are decoded once per size.

    Args:
        path: the table; several processes write `shard_path`s beside it.
        space: their space.
        archs: all sub-nets, the same on every process.
        top1_of: measures one: top-1 in percent, number of images.
        rank: this process.
        world: number of processes.

    Yields:
        (done, wanted) after each row.

    Raises:
        SpaceError: for a file that holds sub-nets of another space.
    """
    own = sorted(archs[rank::world], key=lambda arch: arch.resolution_px)
    target = shard_path(path, rank, world)
    rows = read_rows(target)
    for row in rows[:1]:
        require_space(space_of(row), space, target)
    known = {_key(row) for row in rows}
    write_text(target, _csv(rows))  # without a torn last line
    with target.open("ab", buffering=0) as stream:
        for done, arch in enumerate(own, 1):
            row = row_of(space, arch, 0.0, 0)
            if _key(row) not in known:
                top1, n_images = top1_of(arch)
                line = _csv([row_of(space, arch, top1, n_images)]).splitlines(keepends=True)[1]
                with naming(target):
                    append_whole(stream, line.encode())
            yield done, len(own)


def merge(path: Path, world: int) -> int:
    """Join the files of all processes into the table; returns its number of rows."""
    rows = [row for rank in range(world) for row in read_rows(shard_path(path, rank, world))]
    if world > 1:
        write_text(path, _csv(rows))
    return len(rows)


def _csv(rows: list[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("space", "ks", "e", "d", "r"))
