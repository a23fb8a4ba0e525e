"""Networks measured on a device: the file `<stem>.networks.csv` beside a latency table (docs/formats.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

from ofa_core.arch import Arch
from ofa_core.arch_json import ARCH_COLUMNS, arch_fields, arch_of_row
from ofa_core.atomic import write_text
from ofa_core.calibration import MIN_NETWORKS, Calibration, fit_calibration
from ofa_core.context import CONTEXT_COLUMNS, MAX_TEXT, later_columns, parse_context
from ofa_core.csv_fields import parse_int, parse_ms, read_csv_rows, safe_cells
from ofa_core.errors import ContextMismatchError, FormatError, MissingBlockError, OfaError
from ofa_core.space import Space
from ofa_core.space_record import space_columns, space_of
from ofa_core.table import Context, LatencyTable
from ofa_core.table_csv import TABLE_SCHEMA

__all__ = [
    "NETWORK_COLUMNS",
    "Network",
    "calibration_of",
    "networks_path",
    "read_networks",
    "spaces_of",
    "sum_by",
    "write_networks",
]

_ROLES = ("reference", "verify")
_NUMBERS = ("sum_ms", "latency_ms", "median_ms", "p90_ms", "iqr_ms")
NETWORK_COLUMNS = (
    "schema", *CONTEXT_COLUMNS, *ARCH_COLUMNS, "role", "n_blocks", *_NUMBERS, "n_samples", "n_processes"
)  # fmt: skip
_ENERGY = ("energy_mj", "gross_mj", "idle_mj")
_ENERGY_COLUMNS = (*_ENERGY, "energy_source")
_SPACE_COLUMNS = ("space_digest", "space_definition")


@dataclass(frozen=True, slots=True)
class Network:
    """A measured network.

    Attributes:
        space: its space.
        arch: the network.
        role: `reference` (used for calibration) or `verify` (used for evaluation only, never for fitting).
        n_blocks: number of layers, stem, pooling and classifier included.
        sum_ms: sum of its blocks in the table; None if the table lacks a block.
        latency_ms: measured latency, by the table's statistic.
        median_ms: median of the samples.
        p90_ms: 90th percentile.
        iqr_ms: interquartile range.
        n_samples: timed inferences.
        n_processes: processes that the samples come from.
        energy_mj: millijoules per batch above idle; None if not measured.
        gross_mj: total energy of the same time.
        idle_mj: energy of an idle device in the same time.
        energy_source: power meter, `rapl`, `battery`, `nvml` or `nvml-power`; empty without a measurement.
    """

    space: Space
    arch: Arch
    role: str
    n_blocks: int
    sum_ms: float | None
    latency_ms: float
    median_ms: float | None = None
    p90_ms: float | None = None
    iqr_ms: float | None = None
    n_samples: int = 0
    n_processes: int = 0
    energy_mj: float | None = None
    gross_mj: float | None = None
    idle_mj: float | None = None
    energy_source: str = ""

    @property
    def mparams(self) -> float:
        """Number of parameters in millions."""
        return sum(block.params for block in self.space.blocks(self.arch)) / 1e6


def calibration_of(
    networks: Sequence[Network], table: LatencyTable | None, terms: Sequence[str] | None = None
) -> Calibration | None:
    """Calibrate a table with the `reference` networks among these.

    Args:
        networks: networks measured in the table's context. One that was measured in several sessions counts once, with
            the geometric mean, so that the leave-one-out error stays honest.
        table: source of the sums. Without it, or for a network that it cannot sum, the recorded sum is used.
        terms: see `fit_calibration`.

    Returns:
        The calibration; None for too few networks.
    """
    repeats: dict[tuple[Space, Arch], list[Network]] = {}
    for net in networks:
        if net.role == "reference":
            repeats.setdefault((net.space, net.arch), []).append(net)
    known = []
    for nets in repeats.values():
        net = nets[-1]
        total = net.sum_ms if table is None else sum_by(table, net)
        if total is not None:
            known.append((total, net.n_blocks, net.mparams, geometric_mean(net.latency_ms for net in nets)))
    if len(known) < MIN_NETWORKS:
        return None
    sums, layers, mparams, truth = zip(*known, strict=True)
    return fit_calibration(sums, layers, mparams, truth, terms)


def spaces_of(table: LatencyTable, networks: Sequence[Network] = ()) -> tuple[Space, ...]:
    """Return the spaces that a table covers; only that of its networks, if all of them are of one space."""
    named = tuple(dict.fromkeys(net.space for net in networks))
    covered = tuple(dict.fromkeys((*table.spaces(), *(space for space in named if table.resolutions(space)))))
    if len(named) == 1 and (not covered or named[0] in covered):
        return named
    return covered


def sum_by(table: LatencyTable, net: Network) -> float | None:
    """Return the table's sum for a network in milliseconds, or the recorded sum if the table lacks a block."""
    try:
        return float(table.sum_ms(net.space, [net.arch])[0])
    except MissingBlockError:
        return net.sum_ms


def networks_path(table: Path) -> Path:
    """Return the path of the measured networks of a table: `<stem>.networks.csv` in the same folder."""
    return table.with_name(f"{table.stem}.networks.csv")


def write_networks(path: Path, context: Context, networks: Sequence[Network]) -> None:
    """Write the file, whole or not at all; with columns of energy if any energy was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    energy = _ENERGY_COLUMNS if any(net.energy_source for net in networks) else ()
    writer.writerow((*NETWORK_COLUMNS, *energy, *_SPACE_COLUMNS, *later_columns(context)))
    for net in networks:
        space = space_columns(net.space)
        writer.writerow(
            [
                TABLE_SCHEMA,
                *safe_cells(getattr(context, name) for name in CONTEXT_COLUMNS),
                *arch_fields(net.arch, net.space).values(),
                net.role,
                net.n_blocks,
                *(_text(getattr(net, name)) for name in _NUMBERS),
                net.n_samples,
                net.n_processes,
                *(_text(getattr(net, name)) for name in _ENERGY if energy),
                *safe_cells([net.energy_source] if energy else []),
                *(space[name] for name in _SPACE_COLUMNS),
                *safe_cells(getattr(context, name) for name in later_columns(context)),
            ]
        )
    write_text(path, out.getvalue())


def read_networks(path: Path, context: Context | None = None) -> list[Network]:
    """Read a file of measured networks.

    Args:
        path: a `.networks.csv`.
        context: context of its table (default: any, if all rows agree).

    Raises:
        FormatError: for a damaged file, with line and value.
        ContextMismatchError: if a row was measured in another context.
    """
    networks = []
    for line, row in read_csv_rows(path, NETWORK_COLUMNS):
        where = f"{path}, line {line}"
        if row["schema"] != str(TABLE_SCHEMA):
            raise FormatError(f"{where}: schema {row['schema'][:40]!r}; this version reads schema {TABLE_SCHEMA}")
        here = parse_context(row, where)
        context = here if context is None else context
        if here != context:
            raise ContextMismatchError(f"{where}: another context: {'; '.join(context.differences(here))[:300]}")
        if row["role"] not in _ROLES:
            raise FormatError(f"{where}: role is {row['role'][:40]!r}; one of {', '.join(_ROLES)}")
        numbers = {name: parse_ms(row.get(name, ""), name, where) for name in (*_NUMBERS, *_ENERGY)}
        source = row.get("energy_source", "")
        if len(source) > MAX_TEXT or not source.isprintable():
            raise FormatError(f"{where}: energy_source is {source[:40]!r}; at most {MAX_TEXT} printable characters")
        sum_ms, latency_ms = numbers["sum_ms"], numbers["latency_ms"]
        if sum_ms == 0 or not latency_ms:
            raise FormatError(f"{where}: latency_ms must be a number > 0, and sum_ms one or empty")
        try:
            space = space_of(row)
        except OfaError as error:
            raise FormatError(f"{where}: {error}") from error
        arch = arch_of_row(row, space, where)
        counts = [parse_int(row[name], name, where) for name in ("n_blocks", "n_samples", "n_processes")]
        networks.append(
            Network(
                space=space,
                arch=arch,
                role=row["role"],
                n_blocks=counts[0],
                sum_ms=sum_ms,
                latency_ms=latency_ms,
                median_ms=numbers["median_ms"],
                p90_ms=numbers["p90_ms"],
                iqr_ms=numbers["iqr_ms"],
                n_samples=counts[1],
                n_processes=counts[2],
                **{name: numbers[name] for name in _ENERGY},
                energy_source=source,
            )
        )
    return networks


def _text(value: float | None) -> str:
    return "" if value is None else repr(float(value))
