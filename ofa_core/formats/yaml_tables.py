"""Published latency tables in and out: OFA, ProxylessNAS and nsganetv2 keys, in YAML, JSON or `key,ms` lines.

`read_table` is the one door for every table, ours included. What a published file does not say (backend, threads) is
`unknown` or the default in the table's context.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError, MissingBlockError, TableError
from ofa_core.formats.lut_keys import Dialect, block_of, format_keys, has_channels, parse_key, sniff_dialect
from ofa_core.formats.lut_text import is_key_csv, read_records
from ofa_core.space import Space
from ofa_core.table import Context, Entry, Key, LatencyTable

__all__ = ["read_table", "read_yaml_table", "write_ofa_yaml"]

IQR_PER_STD = 1.349  # interquartile range of a normal distribution, in standard deviations
_FILE_NAME = re.compile(r"(\d{1,4})_lookup_table\.(?:ya?ml|json)", re.ASCII)


def read_table(path: Path, unread_keys: list[str] | None = None) -> LatencyTable:
    """Read a latency table of any kind: our CSV, a published file, or a folder of `<R>_lookup_table.yaml`.

    The kind shows in the content, whatever the name is.

    Args:
        path: file or folder.
        unread_keys: keys that are in a published file and mean nothing here are appended to this list.

    Raises:
        FormatError: for a file that is no latency table.
        TableError: for negative, non-finite or contradicting entries.
    """
    if path.is_dir() or not _looks_like_our_csv(path):
        return read_yaml_table(path, unread_keys)
    return LatencyTable.read(path)


def _looks_like_our_csv(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.read(2000).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    return head.startswith("schema,") or (path.suffix.lower() == ".csv" and not is_key_csv(head))


def read_yaml_table(path: Path, unread_keys: list[str] | None = None) -> LatencyTable:
    """Read a published table: one file, or a folder of `<R>_lookup_table.yaml` (or `.json`).

    OFA tables measured each block again per resolution, so their entries carry the resolution of their file: its
    `Conv` key, or its name. The other dialects measure a block once; their entries carry none.

    Args:
        path: file or folder.
        unread_keys: keys that mean nothing here are appended to this list; a file of which no key is understood is
            an error.

    Returns:
        The table: `latency_ms` is the file's `mean`, `iqr_ms` 1.349 times its standard deviation, `n_samples` its
        `count`.

    Raises:
        FormatError: for a file that is none, naming the key and what is understood.
        TableError: for a negative or non-finite number, or two keys for one block.
    """
    unread = [] if unread_keys is None else unread_keys
    entries: dict[Key, Entry] = {}
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if _FILE_NAME.fullmatch(p.name))
        if not files:
            raise FormatError(f"{path}: no <R>_lookup_table.yaml in this folder, such as 224_lookup_table.yaml")
    else:
        files = [path]
    for file in files:
        for key, entry in _read_file(file, unread).items():
            if key in entries:
                raise TableError(f"{file}: {key[1].label()} at {key[0]} px is in another file of the folder too")
            entries[key] = entry
    return LatencyTable(Context(device=_device_name(path), graph_form="unknown"), entries)


def _device_name(path: Path) -> str:
    folder = path if path.is_dir() or _FILE_NAME.fullmatch(path.name) is None else path.parent
    stem = folder.resolve().name if folder.is_dir() else folder.stem
    stem = stem.rpartition("@")[2]
    stem = re.sub(r"[-_. ](?:lut|lookup|latency)\b.*|[-_](?:lut|lookup|latency)_.*", "", stem, flags=re.IGNORECASE)
    return "".join(c for c in stem if c.isprintable())[:60] or "unknown"


def _read_file(path: Path, unread: list[str]) -> dict[Key, Entry]:
    records = read_records(path)
    parsed = {text: key for text in records if (key := parse_key(text)) is not None}
    keys = list(parsed.values())
    dialect = sniff_dialect(keys)
    if dialect is None:
        first = next(iter(records))[:100]
        raise FormatError(
            f"{path}: {first!r} is not a key of a latency table; accepted are "
            "`expanded_conv-input:HxWxC-output:HxWxC-expand:E-kernel:K-stride:S-idskip:B[-se:B-hs:B]`, "
            "`MBConv-...-se:B` and the layers around them"
        )
    resolution_px = _resolution(path, dialect, [key.in_px for key in keys if key.op == "Conv"])
    channels = has_channels(keys)
    entries: dict[Key, Entry] = {}
    source: dict[Key, str] = {}
    for text, record in records.items():
        block = block_of(parsed[text], dialect, channels) if text in parsed else None
        if block is None:
            unread.append(text)
            continue
        place = (resolution_px, block)
        if place in entries:
            raise TableError(f"{path}: {source[place][:100]!r} and {text[:100]!r} name the same block")
        entries[place], source[place] = _entry(record), text
        if dialect != "ofa" and block.op == "final_expand":
            pool = BlockSpec("avg_pool", block.out_px, 1, block.out_c, 0, block.out_c, 0, 1, "none", False, False)
            entries[resolution_px, pool] = Entry(0.0)
    if not entries:
        raise FormatError(f"{path}: none of its {len(records)} keys, such as {unread[-1][:100]!r}, names a known block")
    return entries


def _resolution(path: Path, dialect: Dialect, input_px: Sequence[int]) -> int | None:
    match = _FILE_NAME.fullmatch(path.name)
    named = int(match[1]) if match else None
    held = input_px[0] if len(input_px) == 1 else None
    if named is not None and held is not None and named != held:
        raise FormatError(f"{path}: named for {named} px, but its Conv key is for {held} px")
    if dialect == "nsganetv2":
        return None
    return held if dialect == "ofa" and held is not None else named


def _entry(record: dict[str, float]) -> Entry:
    std = record["std"] if "std" in record else math.sqrt(record["var"]) if "var" in record else None
    count = record.get("count", 0.0)
    return Entry(
        latency_ms=record["mean"],
        iqr_ms=None if std is None else std * IQR_PER_STD,
        n_samples=int(count) if count < 1e15 else 0,
    )


def write_ofa_yaml(table: LatencyTable, folder: Path, space: Space, resolutions: Sequence[int]) -> list[Path]:
    """Write the authors' YAML form: one `<R>_lookup_table.yaml` per resolution with every block of `space`.

    MobileNetV3 spaces get the keys of `MBv3LatencyTable`, ProxylessNAS spaces those of `ProxylessNASLatencyTable`
    (`expand` is the ratio, `Logits` is pooling and classifier together). `mean` is the latency, `std` iqr / 1.349
    where the spread is known, `count` the number of samples.

    Args:
        table: the source.
        folder: where the files go; made if it is not there.
        space: whose blocks are written.
        resolutions: input sizes in pixels.

    Returns:
        The files, in the order of the resolutions.

    Raises:
        MissingBlockError: if the table lacks a block; nothing is written then.
        TableError: for a block that the form cannot express.
    """
    lacking = table.missing(space, resolutions)
    if lacking:
        resolution_px, block = lacking[0]
        raise MissingBlockError(
            f"the table has no latency for {block.label()} at {resolution_px} px and {len(lacking) - 1} more; "
            f"a YAML table needs every block of {space.name}"
        )
    texts = [(folder / f"{px}_lookup_table.yaml", _yaml_text(table, space, px)) for px in resolutions]
    for path, text in texts:
        write_text(path, text)
    return [path for path, _ in texts]


def _yaml_text(table: LatencyTable, space: Space, resolution_px: int) -> str:
    dialect: Dialect = "ofa" if space.feature_c else "proxyless"
    lines: dict[str, Entry] = {}
    pool: tuple[BlockSpec, Entry] | None = None
    for block in space.all_blocks([resolution_px]):
        entry = table.find(block, resolution_px)
        if entry is None:
            raise MissingBlockError(f"the table has no latency for {block.label()} at {resolution_px} px")
        if dialect == "proxyless" and block.op == "avg_pool":
            pool = block, entry
            continue
        if pool is not None and block.op == "classifier":
            size = f"{pool[0].in_px}x{pool[0].in_px}x{block.in_c}"
            lines[f"Logits-input:{size}-output:{block.out_c}"] = _together(pool[1], entry)
            continue
        key = format_keys(block, dialect)
        if key is None:
            raise TableError(f"the YAML form of {dialect} has no key for {block.label()}")
        lines[key] = entry
    return "".join(_yaml_entry(key, lines[key]) for key in sorted(lines))


def _together(a: Entry, b: Entry) -> Entry:
    """Two layers that the form measures as one; independent spreads add in squares."""
    spreads = [e.iqr_ms for e in (a, b) if e.iqr_ms is not None]
    return Entry(
        latency_ms=(a.latency_ms or 0.0) + (b.latency_ms or 0.0),
        iqr_ms=math.hypot(*spreads) if spreads else None,
        n_samples=max(a.n_samples, b.n_samples) if not (a.n_samples and b.n_samples) else min(a.n_samples, b.n_samples),
    )


def _yaml_entry(key: str, entry: Entry) -> str:
    text = f"{key}:\n  count: {entry.n_samples}\n  mean: {_yaml_float(entry.latency_ms or 0.0)}\n"
    return text if entry.iqr_ms is None else f"{text}  std: {_yaml_float(entry.iqr_ms / IQR_PER_STD)}\n"


def _yaml_float(value: float) -> str:
    text = repr(float(value))
    return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 reads 1e-05 as a string
