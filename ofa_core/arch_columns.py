"""Architectures in CSV files: which columns hold them, and how they are written.

Ours have `space, ks, e, d, r`, lists in JSON. Files of other tools are read too: lists of Python or with blanks,
`image_size` for `r`, or the whole dictionary in one column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ofa_core.arch import Arch
from ofa_core.arch_json import RESOLUTION_FIELDS, arch_from_dict, arch_to_dict
from ofa_core.errors import FormatError, OfaError
from ofa_core.literals import parse_value
from ofa_core.space import Space
from ofa_core.space_record import SPACE_FIELDS

__all__ = ["ARCH_COLUMNS", "ArchColumns", "arch_fields", "arch_of_row"]

ARCH_COLUMNS = ("space", "ks", "e", "d", "r")
_ALONE = (*RESOLUTION_FIELDS, "w", "wid")  # may have a column of their own beside lists or a dictionary


def arch_fields(arch: Arch, space: Space) -> dict[str, str]:
    """An architecture as the fields of `ARCH_COLUMNS`."""
    record = arch_to_dict(arch, space)
    lists = {name: "[" + ",".join(map(str, record[name])) + "]" for name in ("ks", "e", "d")}
    return {"space": space.name, **lists, "r": str(arch.resolution_px)}


@dataclass(frozen=True, slots=True)
class ArchColumns:
    """The columns of a file that hold its architectures.

    Attributes:
        lists: columns with one part of the dictionary each; empty where one column holds it all.
        whole: the column with the whole dictionary; empty where there is none.
    """

    lists: tuple[str, ...] = ()
    whole: str = ""

    @classmethod
    def of(cls, header: Sequence[str], first: Mapping[str, str], name: str) -> ArchColumns:
        """Find the columns by their names, or by the fields of the first row.

        Raises:
            FormatError: if there are none, or two columns hold dictionaries with `e` and `d`.
        """
        found = cls.find(header, first)
        if found is None:
            raise FormatError(
                f"{name}: no architectures: columns ks, e, d and r are expected, or one with dictionaries of them; "
                f"the file has {', '.join(header[:40])[:200]!r}"
            )
        return found

    @classmethod
    def find(cls, header: Sequence[str], first: Mapping[str, str]) -> ArchColumns | None:
        """As `of`, but None for a file of something else."""
        if {"ks", "e", "d"} <= set(header):
            return cls(lists=("ks", "e", "d", *(name for name in header if name in _ALONE)))
        whole = [name for name in header if _holds_arch(first.get(name, ""))]
        if len(whole) > 1:
            raise FormatError(f"several columns hold architectures: {', '.join(map(repr, whole))[:200]}; leave one")
        return cls(whole=whole[0]) if whole else None

    def record(self, row: Mapping[str, str], where: str) -> dict[str, Any]:
        """The dictionary of a row, with its `space` if the file names one; to be given to `arch_from_dict`.

        Raises:
            FormatError: for fields that are no lists or numbers.
        """
        if self.whole:
            record = parse_value(row[self.whole], f"{where}: {self.whole}")
            if not isinstance(record, dict):
                raise FormatError(f"{where}: {self.whole} is {row[self.whole][:40]!r}; a dictionary is expected")
            beside = {name: parse_value(row[name], f"{where}: {name}") for name in _ALONE if row.get(name)}
        else:
            record = {name: _parse_list(row[name], f"{where}: {name}") for name in self.lists if row[name]}
            beside = {}
        beside |= {name: row[name] for name in SPACE_FIELDS if row.get(name)}
        for name in beside.keys() & record.keys():
            if record[name] is not None and _one(record[name]) != _one(beside[name]):
                values = f"{str(beside[name])[:40]!r} in its column and {str(record[name])[:40]!r} in {self.whole}"
                raise FormatError(f"{where}: {name} is {values}; one value is expected")
        return {**record, **beside}


_OURS = ArchColumns(lists=("ks", "e", "d", "r"))


def arch_of_row(row: Mapping[str, str], space: Space, where: str) -> Arch:
    """The architecture of a row that this project wrote: the inverse of `arch_fields`.

    Raises:
        FormatError: for fields that are no member of the space, with the place of the row.
    """
    try:
        return arch_from_dict(_OURS.record(row, where), space)
    except FormatError:
        raise  # it names the place
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error


def _holds_arch(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        value = parse_value(text, "")
    except FormatError:
        return False
    return isinstance(value, dict) and (isinstance(value.get("arch"), dict) or {"e", "d"} <= set(value))


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _parse_list(text: str, where: str) -> Any:
    words = text.split()
    if len(words) > 1 and all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        return [int(word) for word in words]
    return parse_value(text, where)
