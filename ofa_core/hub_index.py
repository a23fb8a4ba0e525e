"""The index of the hub: published files with their names, addresses, digests and facts.

The packaged index, `data/hub.json`, lists what the authors of Once-for-All and ProxylessNAS publish; it is made by
`tools/make_hub_index.py`. `$OFA_HUB_INDEX` names another file of the same form, such as that of a mirror. Each file has
its git blob id: SHA-1 over `blob SIZE`, a zero byte and the content. A file that was downloaded by other means is
recognised by its content, whatever its name is.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ofa_core.download import git_blob_sha1
from ofa_core.errors import FormatError, OfaError
from ofa_core.schema import NonNegative, Positive, PositiveCount, structured

__all__ = ["KINDS", "Index", "IndexedFile", "Item", "item_with", "read_index", "read_index_file"]

SCHEMA = 1
INDEX_VARIABLE = "OFA_HUB_INDEX"
KINDS = {
    "supernet": "a supernet",
    "net": "a specialised net",
    "table": "a latency table",
    "accuracy": "an accuracy predictor",
}


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """A published file.

    Attributes:
        name: name of the local file.
        path: address, relative to that of the index.
        git_blob_sha1: git blob id of the content, 40 hexadecimal digits.
        bytes: size; None if it is unknown.
    """

    name: str
    path: str
    git_blob_sha1: str
    bytes: PositiveCount | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """A published thing of one or more files, with what its authors say about it.

    Attributes:
        name: name after `hub:`.
        kind: key of `KINDS`.
        files: its files.
        device: device that it was measured on or made for.
        latency_ms: latency of a net on that device, per batch.
        batch_size: images per batch of that latency.
        mmacs: multiply-accumulates of a net that was made for a limit of them, in millions.
        top1: ImageNet top-1 of a net, in percent.
        finetune_epochs: epochs of fine-tuning after the supernet.
        space: search space.
        preprocessing: preprocessing of the images, as in `--preprocessing`.
        resolution_px: input size of a net whose files do not hold it.
    """

    name: str
    kind: str
    files: tuple[IndexedFile, ...]
    device: str | None = None
    latency_ms: Positive | None = None
    batch_size: PositiveCount | None = None
    mmacs: Positive | None = None
    top1: NonNegative | None = None
    finetune_epochs: PositiveCount | None = None
    space: str | None = None
    preprocessing: str | None = None
    resolution_px: PositiveCount | None = None


@dataclass(frozen=True, kw_only=True)
class Index:
    """The content of an index file.

    Attributes:
        address: address that the paths of the files are relative to.
        items: the published things.
        schema: version of the form.
    """

    address: str
    items: tuple[Item, ...]
    schema: int = SCHEMA

    def find(self, name: str) -> Item:
        """Return the item of this name.

        Raises:
            OfaError: if there is none; names the nearest ones.
        """
        known = {item.name: item for item in self.items}
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f", such as {', '.join(near)}" if near else ""
        raise OfaError(f"hub:{name[:100]} is not in the index; `ofa-train hub list` lists the names{hint}")


def read_index() -> Index:
    """Return the packaged index, or the one that `$OFA_HUB_INDEX` names.

    Raises:
        FormatError: for a file that is not an index.
    """
    given = os.environ.get(INDEX_VARIABLE)
    return _cached(Path(given) if given else Path(__file__).parent / "data" / "hub.json")


@cache
def _cached(path: Path) -> Index:
    return read_index_file(path)


def read_index_file(path: Path) -> Index:
    """Read an index.

    Raises:
        FormatError: for a file that is not an index.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not an index of the hub: {str(error)[:200]}") from error
    index = structured(values, Index, str(path))
    if index.schema != SCHEMA:
        raise FormatError(f"{path}: schema {index.schema}; this version reads {SCHEMA}")
    names = [item.name for item in index.items]
    for item in index.items:
        _check(item, str(path))
        if names.count(item.name) > 1:
            raise FormatError(f"{path}: {item.name} occurs twice")
    return index


def _check(item: Item, where: str) -> None:
    """Check what the types do not: kind, digests, and names that stay inside the folder of the cache."""
    if item.kind not in KINDS:
        raise FormatError(f"{where}: {item.name}: kind is {item.kind[:40]!r}; one of {', '.join(KINDS)} is expected")
    if not item.files:
        raise FormatError(f"{where}: {item.name} has no files")
    for name in (item.name, *(file.name for file in item.files)):
        if not re.fullmatch(r"[\w@+-][\w.@+-]{0,199}", name, re.ASCII):
            raise FormatError(f"{where}: {ascii(name)[:80]} is not a name of letters, digits and . _ - + @")
    for file in item.files:
        if not re.fullmatch(r"[0-9a-f]{40}", file.git_blob_sha1):
            raise FormatError(
                f"{where}: git_blob_sha1 of {file.path[:100]} is {file.git_blob_sha1[:50]!r}; 40 hexadecimal digits "
                "are expected"
            )
        if not file.path.isprintable() or PurePosixPath(file.path).is_absolute() or ".." in Path(file.path).parts:
            raise FormatError(f"{where}: path {file.path[:100]!r} leaves the address of the index")


def item_with(path: Path) -> Item | None:
    """Return the item that has a file with the content of this one; None if there is none or it cannot be read."""
    try:
        blob = git_blob_sha1(path)
    except OSError:
        return None
    return next((item for item in read_index().items if any(f.git_blob_sha1 == blob for f in item.files)), None)
