"""Read the numbers of a published latency table: YAML, JSON (a subset of it), or `key,ms` or `key,mean,std` lines.

YAML is read from parser events: no objects are constructed, tags, anchors and aliases have no effect, and repeated keys
are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ofa_core.csv_fields import SEPARATORS, parse_number
from ofa_core.errors import FormatError, TableError
from ofa_core.formats.lut_keys import parse_key
from ofa_core.measured_columns import unit_to_ms
from ofa_core.text_files import decoded

__all__ = ["is_key_csv", "read_records", "read_text"]

MAX_FILE_BYTES = 16_000_000


def read_text(path: Path, what: str) -> str:
    """Read a UTF-8 file of limited size.

    Raises:
        FormatError: if it cannot be read, is too large or is not text.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: {size} bytes are too many for {what}; at most {MAX_FILE_BYTES}")
        return decoded(path.read_bytes(), str(path), what)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error


def read_records(path: Path) -> dict[str, dict[str, float]]:
    """Read a file of `key: {mean, ...}`, `key: mean`, `key,mean` or `key,mean,std` entries.

    Returns:
        key -> numbers of `count`, `mean`, `std`, `var`; `mean` is always present.

    Raises:
        FormatError: for another format, with line, key or value.
        TableError: for a negative or non-finite number, or a repeated key.
    """
    text = read_text(path, "a latency table")
    pairs = _csv_pairs(text, path) if is_key_csv(text) else _yaml_pairs(text, path)
    records: dict[str, dict[str, float]] = {}
    for key, value in pairs:
        if key in records:
            raise TableError(f"{path}: the key {_short(key)} is repeated")
        record = {"mean": value} if isinstance(value, str) else value
        if "mean" not in record:
            raise FormatError(f"{path}: {_short(key)} has no mean; count, mean and std (or var) are expected")
        records[key] = {
            name: parse_number(record[name], f"{path}: {name} of {_short(key)}")
            for name in ("mean", "count", "std", "var")
            if name in record
        }
    if not records:
        raise FormatError(f"{path}: no entries; a latency table maps keys to count, mean and std")
    return records


def _short(key: str) -> str:
    return repr(key if len(key) <= 120 else f"{key[:117]}...")


def is_key_csv(text: str) -> bool:
    """Return True for text (or its beginning) of `key,ms` or `key,mean,std` lines, with or without a header."""
    return _key_separator(text) is not None


def _key_separator(text: str) -> str | None:
    lines = [line for line in text[:2000].splitlines() if line.strip()][:2]
    for mark in SEPARATORS:
        if any(mark in line and parse_key(_fields(line, mark)[0]) is not None for line in lines):
            return mark
    return None


def _fields(line: str, mark: str) -> list[str]:
    return [field.strip(' "\t') for field in line.strip().split(mark)]


def _csv_pairs(text: str, path: Path) -> Iterator[tuple[str, str | Mapping[str, str]]]:
    mark = _key_separator(text) or ","
    names: dict[str, tuple[int, float]] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        fields = _fields(line, mark)
        if names is None:
            headed = parse_key(fields[0]) is None
            names = _value_columns(fields if headed else ["key", "mean", *fields[2:]], path, headed=headed)
            n_fields = len(fields)
            if headed:
                continue
        if len(fields) != n_fields or n_fields < 2:
            raise FormatError(f"{path}, line {number}: {line[:60]!r} is not a `key,ms` or `key,mean,std` line")
        where = f"{path}, line {number}"
        values = {
            name: fields[i] if factor == 1 else repr(parse_number(fields[i], where) * factor)
            for name, (i, factor) in names.items()
        }
        yield fields[0], values


def _value_columns(header: list[str], path: Path, *, headed: bool) -> dict[str, tuple[int, float]]:
    """Return the columns of `mean`, `std`, `var` and `count`, with their factors to milliseconds."""
    if not headed and len(header) > 2:
        raise FormatError(f"{path}: {len(header)} columns without a header; key,mean,std is expected as its first line")
    found: dict[str, tuple[int, float]] = {}
    for i, title in enumerate(header[1:], 1):
        factor = unit_to_ms(title)
        kind = next((kind for kind in ("std", "var", "count") if kind in title.lower()), "mean")
        if kind == "mean" and "mean" not in title.lower() and factor is None:
            raise FormatError(
                f"{path}: column {title[:40]!r} names no unit; name it mean (milliseconds) or, for example, latency_us"
            )
        if kind in found:
            raise FormatError(f"{path}: two columns of {kind} in {', '.join(header)[:100]!r}; one is expected")
        factor = 1.0 if factor is None or kind == "count" else factor
        found[kind] = i, factor**2 if kind == "var" else factor
    if "mean" not in found:
        raise FormatError(f"{path}: no column mean in {', '.join(header)[:100]!r}")
    return found


def _yaml_pairs(text: str, path: Path) -> Iterator[tuple[str, str | Mapping[str, str]]]:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from _walk(yaml.parse(text, Loader=loader), path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "characters that YAML does not allow"
        raise FormatError(f"{path}{where}: not YAML: {str(problem)[:120]!r}") from error


def _walk(events: Iterator[Any], path: Path) -> Iterator[tuple[str, str | Mapping[str, str]]]:
    from yaml import events as kinds

    depth = 0
    names: list[str] = []  # the names of the values that are still to come: a key, then one of its fields
    inner: dict[str, str] = {}
    for event in events:
        _refuse_surprises(event, path)
        if isinstance(event, kinds.MappingStartEvent):
            depth += 1
            if depth != 1 + len(names) or depth > 2:
                raise _misplaced(event, path)
        elif isinstance(event, kinds.MappingEndEvent):
            depth -= 1
            if depth == 1:
                yield names.pop(), inner
                inner = {}
        elif isinstance(event, kinds.SequenceStartEvent):
            raise _misplaced(event, path)
        elif isinstance(event, kinds.ScalarEvent):
            if depth == 0:
                raise _misplaced(event, path)
            if len(names) < depth:
                names.append(event.value)
            elif depth == 1:
                yield names.pop(), event.value
            else:
                inner[names.pop()] = event.value


def _refuse_surprises(event: Any, path: Path) -> None:
    from yaml import events as kinds

    if isinstance(event, kinds.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise FormatError(f"{_where(event, path)}: anchors and aliases are not allowed in a latency table")
    if getattr(event, "tag", None) is not None:
        raise FormatError(f"{_where(event, path)}: the tag {event.tag[:60]!r} is not allowed in a latency table")


def _misplaced(event: Any, path: Path) -> FormatError:
    return FormatError(
        f"{_where(event, path)}: a latency table maps keys to count, mean and std; this is something else"
    )


def _where(event: Any, path: Path) -> str:
    return f"{path}, line {event.start_mark.line + 1}"
