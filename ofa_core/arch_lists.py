"""Read many architectures at once: a JSON list, JSON lines, a search's archive, or a CSV file.

Padded lists, the form of nearly all files, are encoded in groups; all other forms are read one by one with
`arch_from_dict`. Only genomes are kept: 42 bytes for a network of `mbv3`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.arch_json import ARCH_SCHEMA, RESOLUTION_FIELDS, ArchColumns, arch_from_dict
from ofa_core.csv_fields import csv_rows, read_text
from ofa_core.errors import FormatError, OfaError
from ofa_core.genomes import Genomes, encode, encode_padded
from ofa_core.literals import parse_value
from ofa_core.space import Space, is_resolution
from ofa_core.space_record import SPACE_FIELDS, space_of_record

__all__ = ["ArchList", "Record", "encode_records", "named_space", "read_arch_list", "read_records"]

CHUNK = 4096
MAX_VALUE = 999  # largest value in lists that are encoded in groups
MAX_DOCUMENT_BYTES = 64_000_000
_PLAIN_FIELDS = {"schema", "wid", "ks", "e", "d", *RESOLUTION_FIELDS, *SPACE_FIELDS}

Record = tuple[str, Mapping[str, Any]]  # place for errors, and content


@dataclass(frozen=True, slots=True)
class ArchList:
    """Architectures of one space.

    Attributes:
        space: the space of the architectures.
        genomes: (n, 1 + n_slots), n >= 1.
        is_list: False for a file that holds a single architecture.
    """

    space: Space
    genomes: Genomes
    is_list: bool


def read_arch_list(
    path: Path,
    choose: Callable[[Space | None], Space],
    *,
    named: bool = False,
    resolution_px: int | None = None,
    text: str | None = None,
) -> ArchList:
    """Read the architectures of a file.

    Args:
        path: the file; `-` is standard input.
        choose: returns the space to use, from the one that the file names (None if it names none).
        named: True if the user named the space; an architecture of another one is an error.
        resolution_px: input size that replaces those of the file.
        text: content of the file, if it has been read.

    Raises:
        FormatError: for a file without architectures, with two spaces, or with a non-member of its space.
    """
    is_list, records = read_records(read_text(path) if text is None else text, _name(path))
    first = next(records, None)
    if first is None:
        raise FormatError(f"{_name(path)}: no architectures")
    said = _said(first)
    space = choose(said)
    records = chain([first], records)
    if not named:
        records = _of_one_space(records, said)
    return ArchList(space, encode_records(records, space, resolution_px=resolution_px), is_list)


def read_records(text: str, name: str) -> tuple[bool, Iterator[Record]]:
    """Return the dictionaries of a text with architectures.

    Args:
        text: content of the file.
        name: name of the file, for errors.

    Returns:
        True for a list in any form, False for a single dictionary; and an iterator over places and dictionaries.

    Raises:
        FormatError: for any other text. The iterator raises it for an item that is not a dictionary.
    """
    start = text.lstrip()[:1]
    if not start:
        raise FormatError(f"{name}: empty; architectures are expected")
    if start not in "[{":
        return True, _csv_records(text, name)
    lines = (line for line in enumerate(text.splitlines(), 1) if line[1].strip())
    head = list(islice(lines, 2))
    if len(head) > 1 and _is_whole(head[0][1]):
        return True, _records(_parsed_lines(chain(head, lines), name))
    if len(text) > MAX_DOCUMENT_BYTES:
        raise FormatError(f"{name}: a list of {len(text) >> 20} MiB; write one architecture a line (JSON lines)")
    value = parse_value(text, name)
    items = value.get("archive", value) if isinstance(value, Mapping) else value
    if isinstance(items, list):
        return True, _records((f"{name}, item {i}", item) for i, item in enumerate(items, 1))
    return False, _records([(name, items)])


def named_space(record: Mapping[str, Any]) -> Space | None:
    """Return the space of a dictionary as `space_of_record`; cached, because the items of a list share few spaces."""
    fields = [record.get(name) for name in SPACE_FIELDS]
    if _is_plain(record) and all(text is None or isinstance(text, str) for text in fields):
        return _space_of_fields(*fields)
    return space_of_record(record)


def encode_records(records: Iterable[Record], space: Space, *, resolution_px: int | None = None) -> Genomes:
    """Encode the dictionaries of architectures, in any dialect.

    Args:
        records: places and dictionaries.
        space: the space of the architectures.
        resolution_px: input size that replaces their own.

    Returns:
        (n, 1 + n_slots) genomes.

    Raises:
        FormatError: for an architecture that is not a member of the space, with its place.
    """
    parts = [np.zeros((0, 1 + space.n_slots), dtype=np.int16)]
    remaining = iter(records)
    while chunk := list(islice(remaining, CHUNK)):
        parts.append(_encode_chunk(chunk, space, resolution_px))
    return np.concatenate(parts)


def _encode_chunk(chunk: list[Record], space: Space, resolution_px: int | None) -> Genomes:
    out = np.zeros((len(chunk), 1 + space.n_slots), dtype=np.int16)
    done = np.zeros(len(chunk), dtype=bool)
    found = [(i, record, px) for i, (_, record) in enumerate(chunk) if (px := _padded_px(record, space, resolution_px))]
    if found:
        rows, records, pixels = zip(*found, strict=True)
        kernels, expands, depths = (np.array([record[name] for record in records]) for name in ("ks", "e", "d"))
        out[list(rows)], done[list(rows)] = encode_padded(space, kernels, expands, depths, np.array(pixels))
    for i in np.flatnonzero(~done).tolist():
        where, record = chunk[i]
        try:
            out[i] = encode(space, [arch_from_dict(record, space, resolution_px=resolution_px)])[0]
        except OfaError as error:
            raise FormatError(f"{where}: {error}") from error
    return out


def _padded_px(record: Mapping[str, Any], space: Space, resolution_px: int | None) -> int | None:
    """Return the input size of a dictionary with padded lists of whole numbers only; None for other forms."""
    if not _is_plain(record):
        return None
    if record.get("space", space.name) != space.name or (record.get("space_digest") and named_space(record) != space):
        return None
    for name, n in (("ks", space.n_slots), ("e", space.n_slots), ("d", len(space.stages))):
        values = record.get(name)
        if type(values) is not list or len(values) != n or set(map(type, values)) != {int}:
            return None
        if max(map(abs, values)) > MAX_VALUE:
            return None
    if resolution_px is not None:
        return resolution_px if is_resolution(resolution_px) else None
    sizes = [record[name] for name in RESOLUTION_FIELDS if record.get(name) is not None]
    px = sizes[0][0] if len(sizes) == 1 and type(sizes[0]) is list and len(sizes[0]) == 1 else sizes and sizes[0]
    return px if len(sizes) == 1 and type(px) is int and is_resolution(px) else None


def _records(items: Iterable[tuple[str, Any]]) -> Iterator[Record]:
    for where, item in items:
        record = item[0] if isinstance(item, list | tuple) and item else item  # [architecture, top1, ...] of an archive
        if not isinstance(record, Mapping):
            expected = "an architecture with ks, e, d and r is expected, or [architecture, ...]"
            raise FormatError(f"{where}: a {type(item).__name__}; {expected}")
        schema = record.get("schema", ARCH_SCHEMA)
        if schema != ARCH_SCHEMA:
            raise FormatError(f"{where}: schema {str(schema)[:40]}; this version reads schema {ARCH_SCHEMA}")
        yield where, record


def _parsed_lines(lines: Iterable[tuple[int, str]], name: str) -> Iterator[tuple[str, Any]]:
    for number, line in lines:
        where = f"{name}, line {number}"
        yield where, parse_value(line, where)


def _csv_records(text: str, name: str) -> Iterator[Record]:
    header, rows = csv_rows(text, name)
    columns: ArchColumns | None = None
    for line, fields in rows:
        row, where = dict(zip(header, fields, strict=True)), f"{name}, line {line}"
        if columns is None:
            columns = ArchColumns.of(header, row, name)
        yield where, columns.record(row, where)


def _of_one_space(records: Iterable[Record], wanted: Space | None) -> Iterator[Record]:
    for record in records:
        said = _said(record)
        if said is not wanted and said != wanted:
            here, there = (f"of {space.name}" if space else "of no named space" for space in (said, wanted))
            raise FormatError(f"{record[0]}: an architecture {here}; the first one is {there}; name one with --space")
        yield record


def _said(record: Record) -> Space | None:
    where, data = record
    try:
        return named_space(data)
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error


def _is_plain(record: Mapping[str, Any]) -> bool:
    """Return True for a dictionary with only lists, an input size and the fields of its space."""
    return record.keys() <= _PLAIN_FIELDS and record.get("wid") is None


@lru_cache(maxsize=64)
def _space_of_fields(*fields: str | None) -> Space | None:
    return space_of_record({name: text for name, text in zip(SPACE_FIELDS, fields, strict=True) if text is not None})


def _is_whole(line: str) -> bool:
    try:
        return isinstance(parse_value(line, ""), dict | list)
    except FormatError:
        return False


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)
