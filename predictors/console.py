"""Output of `ofa-predict`: tables, JSON lines and CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from predictors.answers import Answers

__all__ = ["ROW_TITLES", "row_texts", "show_answer", "show_list", "show_rows", "write_csv", "write_json_lines"]

MAX_DRAWN = 200  # networks in a drawn table
ROW_TITLES = ("device", "model", "N", "Spearman", "Kendall", "MAPE %", "RMSPE %", "in 5 %", "in 10 %", "coverage %")


def row_texts(records: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of an evaluation (`EvaluationRow.record`) as text, with one field per title of `ROW_TITLES`."""
    names = ("spearman", "kendall", "mape", "rmspe", "within_5", "within_10", "coverage")
    rows = []
    for record in records:
        numbers = [record[name] for name in names]
        text = ["-" if v is None else f"{v:.3f}" if i < 2 else f"{v:.1f}" for i, v in enumerate(numbers)]
        rows.append((record["device"], record["model"], str(record["n_train"] or "-"), *text))
    return rows


def show_rows(records: list[dict[str, Any]]) -> None:
    """Print an evaluation."""
    from rich.table import Table

    from ofa_core.terminal import console as plain_console

    _table(plain_console(), Table, ROW_TITLES, row_texts(records))


def show_answer(answer: dict[str, Any], *, blocks: bool) -> None:
    """Print an answer (`Answers.records`); with `blocks`, also the layers of each table."""
    from rich.table import Table

    from ofa_core.terminal import console as plain_console

    console = plain_console()
    head = f"{answer['space']}  {answer['mmacs']:.1f} M MACs  {answer['params_m']:.2f} M parameters"
    energy = any(row["energy_mj"] is not None for row in answer["predictions"])
    columns = ("device", "latency ms", "90 % interval", *(["energy mJ"] if energy else []), "file", "estimated blocks")
    rows = [
        (
            *_latency_texts(row),
            *([_energy_text(row)] if energy else []),
            _file_text(row),
            str(row["n_filled"]),
        )
        for row in answer["predictions"]
    ]
    typer.echo(head)
    _table(console, Table, columns, rows)
    if blocks:
        for row in answer["predictions"]:
            if not row["blocks"]:
                continue
            typer.echo(f"\n{row['lut']}: layers, before calibration")
            parts = [
                (b["block"], f"{b['mmacs']:.3f}", f"{b['latency_ms']:.4f}{' (estimate)' if b['filled'] else ''}")
                for b in row["blocks"]
            ]
            _table(console, Table, ("block", "M MACs", "latency ms"), parts)


def show_list(answers: Answers) -> None:
    """Print a line per network and table; draw a table for a short list on a terminal."""
    from rich.table import Table

    from ofa_core.terminal import console as plain_console

    energy = any(table.has_energy for table in answers.tables)
    counts = ("net", "px", "depths", "M MACs", "M parameters")
    latency = ("device", "latency ms", "90 % interval", *(["energy mJ"] if energy else []), "file")
    titles = (*counts, *(latency if answers.tables else ()))
    if len(answers.genomes) <= MAX_DRAWN:
        _table(plain_console(), Table, titles, list(_list_rows(answers, energy=energy)))
        return
    sys.stdout.write("\t".join(titles) + "\n")
    sys.stdout.writelines("\t".join(row) + "\n" for row in _list_rows(answers, energy=energy))


def _list_rows(answers: Answers, *, energy: bool) -> Iterator[tuple[str, ...]]:
    from ofa_core.genomes import depths_of

    depths = depths_of(answers.space, answers.genomes)
    for i, px in enumerate(answers.genomes[:, 0].tolist()):
        counts = (f"{answers.mmacs[i]:.1f}", f"{answers.params_m[i]:.2f}")
        network = (str(i + 1), str(px), "-".join(map(str, depths[i].tolist())), *counts)
        for table in answers.tables:
            row = {**table.record(i), "dtype": table.dtype}
            yield (*network, *_latency_texts(row), *([_energy_text(row)] if energy else []), _file_text(row))
        if not answers.tables:
            yield network


def write_json_lines(answers: Answers) -> None:
    """Print a JSON object per network."""
    sys.stdout.writelines(json.dumps(record) + "\n" for record in answers.records())


def write_csv(answers: Answers) -> None:
    """Print a CSV row per network and table."""
    from ofa_core.csv_fields import safe_cells
    from predictors.answers import CSV_COLUMNS

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(map(safe_cells, answers.rows()))


def _latency_texts(row: dict[str, Any]) -> tuple[str, str, str]:
    interval = "unknown" if row["low_ms"] is None else f"{row['low_ms']:.3f} to {row['high_ms']:.3f}"
    dtype = row.get("dtype")
    device = row["device"] if dtype in (None, "float32") else f"{row['device']}, {dtype}"
    return device, f"{row['latency_ms']:.3f}", interval


def _file_text(row: dict[str, Any]) -> str:
    return f"{row['lut']}{'' if row['calibrated'] else ' (sum, not calibrated)'}"


def _energy_text(row: dict[str, Any]) -> str:
    if row["energy_mj"] is None:
        return "unknown"
    return f"{row['energy_mj']:.3g} ({row['energy_low_mj']:.3g} to {row['energy_high_mj']:.3g})"


def _table(console: Any, table: Any, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Draw a table on a terminal; print tab-separated lines elsewhere."""
    if not rows:
        return
    if not console.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(row))
        return
    drawn = table(*columns)
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)
