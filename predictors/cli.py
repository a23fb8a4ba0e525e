"""`ofa-predict`: the latency of an architecture on the devices that there are tables of."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_core.cli_app import new_app, run_app

if TYPE_CHECKING:
    from ofa_core.arch import Arch
    from ofa_core.space import Space
    from predictors.lut import LutPredictor

__all__ = ["app", "main"]

app = new_app(
    "Predict the latency of an architecture from latency tables.\n\n"
    "Without any table, multiply-accumulates and parameters still come."
)

LutOption = Annotated[
    list[Path] | None,
    typer.Option("--lut", help="A latency table (CSV, or published YAML); may be given often. Default: ./luts/*.csv"),
]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="Space of the architecture, such as mbv3-w1.0. Default: the file's.")
]


@app.callback()
def predict(
    arch: Annotated[Path, typer.Argument(help="The architecture: JSON with ks, e, d, r.", show_default=False)],
    lut: LutOption = None,
    space: SpaceOption = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="Also show what each layer takes.")] = False,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that a table lacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict one architecture."""
    from ofa_core.arch import arch_from_dict, arch_to_dict, read_arch_dict
    from ofa_core.errors import OfaError

    record = read_arch_dict(arch)
    paths = lut or _default_luts()
    where = _space_of(space, record, paths)
    parsed = arch_from_dict(record, where)
    results = []
    for path in paths:
        try:
            results.append(_one(path, where, parsed, fill=fill, blocks=blocks))
        except OfaError as error:
            if lut:
                raise
            typer.echo(f"ofa-predict: {path} left out: {error}", err=True)
    if not results:
        typer.echo(
            "ofa-predict: no latency: there is no table for it. Measure one with ofa-profile, or name one with --lut.",
            err=True,
        )
    answer: dict[str, Any] = {
        "space": where.name,
        "arch": arch_to_dict(parsed, where),
        "mmacs": where.macs(parsed) / 1e6,
        "params_m": where.params(parsed) / 1e6,
        "predictions": results,
    }
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        _show(answer, blocks=blocks)


def _default_luts() -> list[Path]:
    return sorted(path for path in Path("luts").glob("*.csv") if not path.name.endswith(".networks.csv"))


def _space_of(name: str | None, record: dict[str, Any], paths: list[Path]) -> Space:
    """`--space`, else the file's, else the only one that the tables cover, else a usage error."""
    from ofa_core.formats.yaml_tables import read_table
    from ofa_core.spaces import SPACE_NAMES, get_space

    named = name or record.get("space")
    if named is not None:
        return get_space(str(named))
    covered: dict[str, None] = {}
    for path in paths:
        covered.update(dict.fromkeys(read_table(path).spaces()))
    if len(covered) == 1:
        return get_space(next(iter(covered)))
    which = f"the tables cover {', '.join(covered)}" if covered else f"known spaces are {', '.join(SPACE_NAMES)}"
    raise typer.BadParameter(f"the architecture names no space; {which}", param_hint="--space")


def _one(path: Path, space: Space, arch: Arch, *, fill: bool, blocks: bool) -> dict[str, Any]:
    from predictors.lut import load_lut

    predictor = load_lut(path, space, fill=fill)
    y, low, high = (float(values[0]) for values in predictor.predict([arch], return_interval=True))
    result: dict[str, Any] = {
        "lut": str(path),
        "device": predictor.table.context.device,
        "latency_ms": y,
        "low_ms": None if low != low else low,
        "high_ms": None if high != high else high,
        "calibrated": predictor.calibrated,
        "n_filled": len(predictor.filled_blocks(arch)),
    }
    typer.echo(f"{path}: {predictor.note}", err=True)
    if blocks:
        result["blocks"] = _blocks(predictor, space, arch)
    return result


def _blocks(predictor: LutPredictor, space: Space, arch: Arch) -> list[dict[str, Any]]:
    rows = []
    for block in space.blocks(arch):
        entry = predictor.table.find(block, arch.resolution_px)
        assert entry is not None
        rows.append(
            {
                "block": block.label(),
                "mmacs": block.macs / 1e6,
                "latency_ms": entry.latency_ms,
                "filled": entry.status == "filled",
            }
        )
    return rows


def _show(answer: dict[str, Any], *, blocks: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    head = f"{answer['space']}  {answer['mmacs']:.1f} M MACs  {answer['params_m']:.2f} M parameters"
    columns = ("device", "latency ms", "90 % interval", "table", "estimated blocks")
    rows = [
        (
            row["device"],
            f"{row['latency_ms']:.3f}",
            "unknown" if row["low_ms"] is None else f"{row['low_ms']:.3f} to {row['high_ms']:.3f}",
            f"{row['lut']}{'' if row['calibrated'] else ' (sum, not calibrated)'}",
            str(row["n_filled"]),
        )
        for row in answer["predictions"]
    ]
    typer.echo(head)
    _table(console, Table, columns, rows)
    if blocks:
        for row in answer["predictions"]:
            typer.echo(f"\n{row['lut']}: blocks, before calibration")
            parts = [
                (b["block"], f"{b['mmacs']:.3f}", f"{b['latency_ms']:.4f}{' (estimate)' if b['filled'] else ''}")
                for b in row["blocks"]
            ]
            _table(console, Table, ("block", "M MACs", "latency ms"), parts)


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


def main() -> int:
    """Run `ofa-predict`; the exit code is 0, 1 for a known error, or 2 for wrong usage."""
    return run_app(app, prog="ofa-predict")


if __name__ == "__main__":
    sys.exit(main())
