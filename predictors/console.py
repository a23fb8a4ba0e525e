"""What `ofa-predict` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

__all__ = ["ROW_TITLES", "row_texts", "show_answer", "show_rows"]

ROW_TITLES = ("device", "model", "N", "Spearman", "Kendall", "MAPE %", "RMSPE %", "in 5 %", "in 10 %", "coverage %")


def row_texts(records: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of an evaluation (`EvaluationRow.record`) as text, one field for each of `ROW_TITLES`."""
    names = ("spearman", "kendall", "mape", "rmspe", "within_5", "within_10", "coverage")
    rows = []
    for record in records:
        numbers = [record[name] for name in names]
        text = ["-" if v is None else f"{v:.3f}" if i < 2 else f"{v:.1f}" for i, v in enumerate(numbers)]
        rows.append((record["device"], record["model"], str(record["n_train"] or "-"), *text))
    return rows


def show_rows(records: list[dict[str, Any]]) -> None:
    """Print an evaluation."""
    from rich.console import Console
    from rich.table import Table

    _table(Console(highlight=False), Table, ROW_TITLES, row_texts(records))


def show_answer(answer: dict[str, Any], *, blocks: bool) -> None:
    """Print a prediction, in the form of `--json`; with `blocks`, also each table's layers."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    head = f"{answer['space']}  {answer['mmacs']:.1f} M MACs  {answer['params_m']:.2f} M parameters"
    energy = any(row["energy_mj"] is not None for row in answer["predictions"])
    columns = ("device", "latency ms", "90 % interval", *(["energy mJ"] if energy else []), "file", "estimated blocks")
    rows = [
        (
            row["device"],
            f"{row['latency_ms']:.3f}",
            "unknown" if row["low_ms"] is None else f"{row['low_ms']:.3f} to {row['high_ms']:.3f}",
            *([_energy_text(row)] if energy else []),
            f"{row['lut']}{'' if row['calibrated'] else ' (sum, not calibrated)'}",
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
            typer.echo(f"\n{row['lut']}: blocks, before calibration")
            parts = [
                (b["block"], f"{b['mmacs']:.3f}", f"{b['latency_ms']:.4f}{' (estimate)' if b['filled'] else ''}")
                for b in row["blocks"]
            ]
            _table(console, Table, ("block", "M MACs", "latency ms"), parts)


def _energy_text(row: dict[str, Any]) -> str:
    if row["energy_mj"] is None:
        return "unknown"
    return f"{row['energy_mj']:.3g} ({row['energy_low_mj']:.3g} to {row['energy_high_mj']:.3g})"


def _table(console: Any, table: Any, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A drawn table on a terminal, tab-separated lines elsewhere."""
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
