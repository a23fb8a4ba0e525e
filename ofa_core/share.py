"""A latency table as one file that can be published: a zip file of the table, its networks and `share.json`.

`share.json` holds the licence, the conditions of the measurements, the versions of the programs, and the SHA-256
checksum of each member. Equal tables give equal files, byte by byte, so the checksum in a published address stays
right if the table is shared again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ofa_core.atomic import write_bytes
from ofa_core.errors import FormatError
from ofa_core.measured_networks import networks_path, read_networks
from ofa_core.schema import PositiveCount, structured
from ofa_core.table import LatencyTable
from ofa_core.text_files import ANOTHER_COPY

__all__ = ["SHARE_SUFFIX", "ShareRecord", "is_share", "read_share", "unpack_share", "write_share"]

SCHEMA = 1
SHARE_SUFFIX = ".share.zip"
RECORD = "share.json"
MAX_BYTES = 1 << 28  # of all members; a table of every resolution has a few megabytes
_DATE = (1980, 1, 1, 0, 0, 0)  # of every member, so that equal tables give equal files


@dataclass(frozen=True, kw_only=True)
class ShareRecord:
    """The content of `share.json`.

    Attributes:
        table: name of the table in the zip file.
        licence: terms under which others may use the table.
        context: device and settings of the measurements, the columns of the table's context.
        n_blocks: number of measured blocks.
        n_networks: number of measured whole networks.
        versions: version of each program, by name.
        sha256: checksum of each member, by name.
        schema: version of the form.
    """

    table: str
    licence: str
    context: dict[str, Any]
    n_blocks: PositiveCount
    n_networks: int
    versions: dict[str, str]
    sha256: dict[str, str]
    schema: int = SCHEMA


def write_share(table: Path, out: Path, licence: str, versions: Mapping[str, str]) -> ShareRecord:
    """Write a table and the networks beside it as one file.

    Args:
        table: a table that `ofa-profile` wrote.
        out: the file to write.
        licence: terms under which others may use the table, in one line.
        versions: version of each program, by name.

    Returns:
        What the file holds.

    Raises:
        OfaError: if the table or its networks cannot be read.
    """
    content = LatencyTable.read(table)
    beside = networks_path(table)
    networks = read_networks(beside, content.context) if beside.is_file() else []
    members = {path.name: path.read_bytes() for path in (table, beside) if path == table or networks}
    record = ShareRecord(
        table=table.name,
        licence=licence,
        context=asdict(content.context),
        n_blocks=sum(entry.measured for entry in content.entries.values()),
        n_networks=len(networks),
        versions=dict(versions),
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {RECORD: json.dumps(asdict(record), indent=1).encode(), **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
    write_bytes(out, buffer.getvalue())
    return record


def is_share(path: Path) -> bool:
    """Return True for a zip file that holds `share.json`."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return RECORD in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def read_share(path: Path) -> tuple[ShareRecord, dict[str, bytes]]:
    """Read a shared table: its record, and the content of each member by name.

    Raises:
        FormatError: for a damaged file, or members that differ from their checksums.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = sum(member.file_size for member in archive.infolist())
            if sizes > MAX_BYTES:
                raise FormatError(f"{path}: unpacks to {sizes} bytes; at most {MAX_BYTES} are accepted")
            names = archive.namelist()
            record = structured(json.loads(archive.read(RECORD)), ShareRecord, f"{path}: {RECORD}")
            members = {name: archive.read(name) for name in record.sha256}
    except KeyError as error:
        raise FormatError(f"{path}: {ascii(error.args[0])[:200]}") from error
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RecursionError, EOFError) as error:
        reason = ascii(str(error) or type(error).__name__)[:200]
        raise FormatError(f"{path}: not a shared table, or damaged: {reason}; {ANOTHER_COPY}") from error
    if record.schema != SCHEMA:
        raise FormatError(f"{path}: schema {record.schema}; this version reads {SCHEMA}")
    allowed = {record.table, record.table.removesuffix(".csv") + ".networks.csv"}
    is_name = Path(record.table).name == record.table and record.table.endswith(".csv")
    if record.table not in members or not members.keys() <= allowed or not is_name:
        raise FormatError(f"{path}: {RECORD} lists {ascii(list(members))[:100]}; a table and its networks are expected")
    if sorted(names) != sorted([RECORD, *members]):
        raise FormatError(f"{path}: members {ascii(names)[:100]}; only those that {RECORD} lists are expected")
    for name, data in members.items():
        if hashlib.sha256(data).hexdigest() != record.sha256[name]:
            raise FormatError(f"{path}: {ascii(name)[:100]} differs from its checksum in {RECORD}; {ANOTHER_COPY}")
    return record, members


def unpack_share(path: Path, folder: Path) -> Path:
    """Write the members of a shared table to a folder, created if needed, and return the table's path.

    Networks that were measured later for a table in the folder are kept.
    """
    record, members = read_share(path)
    table = folder / record.table
    if not table.is_file() or table.read_bytes() != members[record.table]:
        for name, data in sorted(members.items(), key=lambda member: member[0] == record.table):  # the table last
            write_bytes(folder / name, data)
    return table
