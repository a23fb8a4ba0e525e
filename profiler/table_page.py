"""`ofa-profile report`: a latency table as a page, alone or beside another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.html_page import cards, chart, equal_line, heading, page, points, section, table
from ofa_core.measured_networks import Network, calibration_of, networks_path, read_networks, sum_by
from ofa_core.table import Context, Entry, Key, LatencyTable
from profiler.compare import Comparison, compare
from profiler.journal import JournalState, read_journal

__all__ = ["TableFiles", "read_files", "write_table_page"]

WIDTHS = (0.01, 0.02, 0.05, 0.10)  # of the 90 % interval, relative
MAX_CHANGES = 100
HEAD_OPS = ("avg_pool", "feature_mix", "classifier")


@dataclass(frozen=True)
class TableFiles:
    """A table and the files beside it.

    Attributes:
        name: the table's file name.
        table: the table.
        networks: whole networks measured for it; empty if there is no such file.
        journal: its journal; None if it is not there any more.
    """

    name: str
    table: LatencyTable
    networks: Sequence[Network]
    journal: JournalState | None


def read_files(path: Path) -> TableFiles:
    """Read a table and the files beside it.

    Raises:
        FormatError: one of them is damaged.
    """
    networks, journal = networks_path(path), path.with_name(f"{path.stem}.journal.jsonl")
    found = read_networks(networks) if path.is_file() and networks.is_file() else []
    state = read_journal(journal) if path.is_file() and journal.is_file() else None
    return TableFiles(path.name, read_table(path), found, state)


def write_table_page(path: Path, files: TableFiles, other: TableFiles | None = None) -> None:
    """Write the page of a table.

    Args:
        path: the HTML file; it appears whole or not at all.
        files: the table.
        other: a table to compare it with; None for none.

    Raises:
        FormatError: the table has no measured block.
        TableError: the two tables have no block in common.
    """
    measured = {key: entry for key, entry in files.table.entries.items() if entry.measured}
    if not measured:
        raise FormatError(f"{files.name} has no measured block; a latency table of ofa-profile is expected")
    context = files.table.context
    title = f"{context.device}: {len(measured)} blocks"
    data: dict[str, Any] = {"groups": list(_groups(measured, other)), "plots": {"size": _size_plot(measured)}}
    parts = [
        heading(title, _subtitle(context)),
        cards(_cards(files, measured)),
        section("Latency by size of the block", "Hover for a block. Equal work can differ in latency.", chart("size")),
        section("Blocks", "Choose a place in the network.", _CHOICE + chart("blocks")),
    ]
    intervals = [e.ci90_ms / e.latency_ms for e in measured.values() if e.ci90_ms is not None and e.latency_ms]
    if intervals:
        data["plots"]["intervals"] = _interval_rows(intervals)
        text = "Half width of each block's 90 % interval over fresh processes."
        parts.append(section("Precision", text, chart("intervals")))
    networks = _network_plot(files)
    if networks is not None:
        data["plots"]["networks"] = networks
        text = "Whole networks measured with the table, against the sum of their blocks, calibrated by these networks."
        parts.append(section("Whole networks", text, chart("networks")))
    if files.journal is not None and files.journal.visits:
        data["plots"]["speed"] = _speed_plot(files.journal)
        text = "Time of the speed probe beside each visit, relative to its median. Blocks are corrected by it."
        parts.append(section("Speed of the machine during the session", text, chart("speed")))
    if other is not None:
        found = compare(files.table, other.table)
        data["plots"]["against"] = _against_plot(measured, other)
        parts.append(section(f"Against {other.name}", _difference(found), chart("against") + _changes(found)))
    names = ("", files.name, *([other.name] if other else []))
    parts.append(section("Conditions", "", table(names, _rows(files, other))))
    write_text(path, page(title, parts, data, "table.js"))


_CHOICE = '<div class="row"><label>Place <select id="place"></select></label></div>'


def _subtitle(context: Context) -> str:
    threads = f"{context.threads} thread{'s' if context.threads != 1 else ''}"
    runtime = f"{context.runtime} {context.backend_version}".strip()
    return f"{runtime}, {context.dtype}, {threads}, batch {context.batch_size}"


def _cards(files: TableFiles, measured: dict[Key, Entry]) -> Iterator[tuple[str, str, str]]:
    failed = len(files.table) - len(measured)
    unstable = sum(entry.status == "unstable" for entry in measured.values())
    filled = sum(entry.status == "filled" for entry in measured.values())
    yield "Blocks", str(len(measured)), f"{failed} failed, {unstable} unstable, {filled} estimated"
    widths = [e.ci90_ms / e.latency_ms for e in measured.values() if e.ci90_ms is not None and e.latency_ms]
    if widths:
        yield (
            "90 % interval",
            f"\u00b1{100 * np.median(widths):.1f} %",
            f"median; worst \u00b1{100 * max(widths):.1f} %",
        )
    c = calibration_of(files.networks, files.table)
    if c is not None:
        yield "Calibration error", f"{100 * c.loo_mape:.1f} %", f"leave-one-out, {c.n_networks} networks"
        yield "Plain sum", f"{100 * c.raw_bias:+.1f} %", "off, before calibration"


# ---- blocks ----------------------------------------------------------------------------------------------------------


def _stage(block: BlockSpec) -> int | None:
    """Return a number for the colour of a block: its place by the size of its output, None outside the stages."""
    return None if block.op != "mbconv" else max(0, 5 - int(np.log2(max(block.out_px, 1)) + 0.5)) + block.out_c // 100


def _colour(block: BlockSpec) -> str:
    stage = _stage(block)
    return "var(--grey)" if stage is None else f"var(--s{stage % 7})"


def _text(key: Key, entry: Entry) -> str:
    px, block = key
    parts = [block.label() + (f" at {px} px" if px else "")]
    parts.append(f"{entry.latency_ms:.4g} ms" + (f" \u00b1 {entry.ci90_ms:.2g}" if entry.ci90_ms is not None else ""))
    parts.append(f"{block.macs / 1e6:.2f} M MACs, {block.params / 1e3:.1f} k parameters")
    if entry.n_samples:
        parts.append(f"{entry.n_samples} runs in {entry.n_processes} processes, {entry.status}")
    return "\n".join(parts)


def _size_plot(measured: dict[Key, Entry]) -> dict[str, Any]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for (px, block), entry in measured.items():
        name = f"kernel {block.kernel_px}" if block.op == "mbconv" else "other layers"
        point = {"x": block.macs / 1e6, "y": entry.latency_ms, "text": _text((px, block), entry)}
        kinds.setdefault(name, []).append(point)
    colours = ("blue", "green", "orange", "grey", "red")
    series = [
        points(name, colours[i % 5], "circle", 3.5, drawn) for i, (name, drawn) in enumerate(sorted(kinds.items()))
    ]
    return {"label": "Latency against MACs", "x": "MACs (millions)", "y": "Latency (ms per batch)", "series": series}


def _groups(measured: dict[Key, Entry], other: TableFiles | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of each place in the network: blocks of one input, output and resolution."""
    places: dict[str, list[tuple[Key, Entry]]] = {}
    for (px, block), entry in measured.items():
        at = f" at {px} px" if px else ""
        place = f"{block.in_px} px \u00d7 {block.in_c} \u2192 {block.out_px} px \u00d7 {block.out_c}{at}"
        name = "stem and head" if block.op != "mbconv" else place
        places.setdefault(name, []).append(((px, block), entry))
    for name, entries in places.items():
        rows = []
        for (px, block), entry in sorted(entries, key=lambda item: (item[0][1].mid_c, item[0][1].kernel_px)):
            wide = block.op == "mbconv"
            label = f"k{block.kernel_px} \u00b7 {block.mid_c} ch" if wide else f"{block.op} {block.in_px} px"
            row = {"label": label, "from": 0, "to": entry.latency_ms, "colour": _colour(block)}
            row |= {"value": f"{entry.latency_ms:.3g}", "text": _text((px, block), entry)}
            if entry.ci90_ms is not None and entry.latency_ms is not None:
                row |= {"low": entry.latency_ms - entry.ci90_ms, "high": entry.latency_ms + entry.ci90_ms}
            found = other.table.find(block, px) if other is not None else None
            if found is not None and found.latency_ms is not None:
                row |= {"middle": found.latency_ms, "text": f"{row['text']}\nother table: {found.latency_ms:.4g} ms"}
            rows.append(row)
        yield {"name": name, "rows": rows}


def _interval_rows(widths: Sequence[float]) -> dict[str, Any]:
    rows = []
    ends = (0.0, *WIDTHS, float("inf"))
    for low, high in pairwise(ends):
        share = 100 * float(np.mean([low <= width < high for width in widths]))
        label = f"below {100 * high:g} %" if not low else f"{100 * low:g} to {100 * high:g} %"
        label = f"{100 * low:g} % or more" if high == float("inf") else label
        rows.append({"label": label, "from": 0, "to": share, "colour": "var(--blue)", "value": f"{share:.0f} %"})
    return {"label": "Width of intervals", "x": "Share of blocks (%)", "rows": rows}


# ---- networks, speed, and another table ------------------------------------------------------------------------------


def _network_plot(files: TableFiles) -> dict[str, Any] | None:
    calibration = calibration_of(files.networks, files.table)
    groups: dict[str, list[dict[str, Any]]] = {}
    for net in files.networks:
        total = sum_by(files.table, net)
        if total is None:
            continue
        predicted = total if calibration is None else float(calibration.predict(total, net.n_blocks, net.mparams))
        text = f"predicted {predicted:.4g} ms, measured {net.latency_ms:.4g} ms\n{str(net.arch).replace(' ', chr(10))}"
        groups.setdefault(net.role, []).append({"x": predicted, "y": net.latency_ms, "text": text})
    if not groups:
        return None
    looks = {
        "reference": ("calibration networks", "grey", "ring"),
        "verify": ("verification networks", "green", "circle"),
    }
    values = [value for drawn in groups.values() for point in drawn for value in (point["x"], point["y"])]
    series = [equal_line("measured = predicted", "blue", values)]
    for role, drawn in groups.items():
        name, colour, shape = looks.get(role, (role, "orange", "diamond"))
        series.append(points(name, colour, shape, 4, drawn))
    x, y = "Predicted latency (ms per batch)", "Measured latency (ms per batch)"
    return {"label": "Whole networks", "x": x, "y": y, "square": True, "series": series}


def _speed_plot(journal: JournalState) -> dict[str, Any]:
    visits = sorted(journal.visits.values(), key=lambda visit: (visit.process, visit.chunk, visit.round))
    after = np.array([visit.after[0] for visit in visits], dtype=np.float64)
    relative = after / np.median(after)
    step = max(1, len(visits) // 400)  # so many points can be seen
    points = [[i, float(np.median(relative[i : i + step]))] for i in range(0, len(visits), step)]
    series = [{"kind": "line", "name": "", "colour": "var(--blue)", "points": points}]
    label = "Speed of the machine"
    return {"label": label, "x": "Visit", "y": "Relative probe time", "height": 240, "series": series}


def _against_plot(measured: dict[Key, Entry], other: TableFiles) -> dict[str, Any]:
    drawn, values = [], []
    for (px, block), entry in measured.items():
        found = other.table.entries.get((px, block))
        if found is None or not found.measured or entry.latency_ms is None or found.latency_ms is None:
            continue
        ratio = found.latency_ms / entry.latency_ms
        text = f"{_text((px, block), entry)}\nother table: {found.latency_ms:.4g} ms, x {ratio:.3f}"
        drawn.append({"x": entry.latency_ms, "y": found.latency_ms, "text": text})
        values += [entry.latency_ms, found.latency_ms]
    series = [equal_line("equal", "grey", values), points("blocks", "blue", "circle", 3, drawn)]
    x, y = "This table (ms per batch)", f"{other.name} (ms per batch)"
    return {"label": "Blocks of both tables", "x": x, "y": y, "square": True, "series": series}


def _difference(found: Comparison) -> str:
    """Return the common change of all blocks in words."""
    word = "beyond" if found.shifted else "within"
    changes = f"{len(found.changes)} blocks changed beyond noise" if found.changes else "no block changed beyond noise"
    together = f"All blocks together: \u00d7 {found.shift:.3f} ({word} 3 %)"
    spread = f"single blocks spread by {100 * found.spread:.1f} %"
    return f"{found.n_common} blocks in both. {together}, {changes}; {spread}."


def _changes(found: Comparison) -> str:
    if not found.changes:
        return ""
    rows = [
        (
            change.block.label() + (f" at {change.resolution_px} px" if change.resolution_px else ""),
            f"{change.old_ms:.4f}",
            f"{change.new_ms:.4f}",
            f"\u00d7 {change.ratio:.2f}",
        )
        for change in found.changes[:MAX_CHANGES]
    ]
    return table(("changed block", "this table, ms", "other table, ms", "relative to the others"), rows)


def _rows(files: TableFiles, other: TableFiles | None) -> Iterable[tuple[str, ...]]:
    names = ("device", "backend", "backend_version", "delegate", "dtype", "threads", "cpus", "batch_size", "graph_form",
             "statistic", "clock")  # fmt: skip
    for name in names:
        values = [str(getattr(one.table.context, name)) or "\u2013" for one in (files, other) if one is not None]
        yield (name.replace("_", " "), *values)
