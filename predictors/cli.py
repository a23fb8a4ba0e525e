"""`ofa-predict`: the latency of an architecture on the devices that there are tables of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_core.cli_app import ResolutionOption, new_app, run_app, to_file, to_folder
from ofa_core.cli_options import ColumnOption, SpaceOption
from ofa_core.genomes import Genomes, decode
from predictors.console import ROW_TITLES, row_texts, show_rows

if TYPE_CHECKING:
    from ofa_core.arch_lists import ArchList
    from ofa_core.genomes import Genomes
    from ofa_core.measured_columns import ValueColumn
    from ofa_core.measured_files import MeasuredFile
    from ofa_core.space import Space
    from predictors.answers import TableAnswer
    from predictors.estimator import Estimator, Floats

__all__ = ["app", "main"]

app = new_app(
    "Predict the latency of an architecture from latency tables.\n\n"
    "Without any table, multiply-accumulates and parameters still come."
)

LutOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--lut",
        help="A latency table (CSV or published YAML), a .predictor, or a CSV of measured networks; may repeat. "
        "Default: ./luts/*.csv",
    ),
]


@app.callback()
def predict(
    arch: Annotated[
        Path,
        typer.Argument(
            help="The architecture: JSON with ks, e, d, r, or a published net.config with its run.config. Or many: a "
            "JSON list, JSON lines, a search's archive, or a CSV file; - is standard input.",
            show_default=False,
        ),
    ],
    lut: LutOption = None,
    space: SpaceOption = None,
    resolution: ResolutionOption = None,
    column: ColumnOption = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="Also show what each layer takes.")] = False,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that a table lacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each architecture.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one row for each architecture and table.")] = False,
) -> None:
    """Predict one architecture, or many."""
    from ofa_core.errors import OfaError
    from ofa_core.formats.arch_files import read_archs
    from ofa_core.space_files import space_from
    from predictors import console
    from predictors.answers import answer_by, answers_of
    from predictors.loading import default_luts

    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv", param_hint="--csv")
    paths = lut or default_luts()
    named = None if space is None else space_from(space)
    nets = read_archs(arch, named, lambda: _covered_space(paths, named=bool(lut)), resolution)
    if blocks and (nets.is_list or as_csv):
        raise typer.BadParameter("the layers of one architecture are shown, not in CSV", param_hint="--blocks")
    tables: list[TableAnswer] = []
    for path in paths:
        try:
            tables.append(answer_by(path, nets.space, nets.genomes, fill=fill, column=column))
        except OfaError as error:
            if lut:
                raise
            typer.echo(f"ofa-predict: {path} left out: {error}", err=True)
    for table in tables:
        typer.echo(f"{table.lut}: {table.note}", err=True)
    if not tables:
        typer.echo(
            "ofa-predict: no latency: there is no table for it. Measure one with ofa-profile, or name one with --lut.",
            err=True,
        )
    answers = answers_of(nets.space, nets.genomes, tables)
    if as_csv:
        console.write_csv(answers)
    elif nets.is_list:
        console.write_json_lines(answers) if as_json else console.show_list(answers)
    else:
        answer = next(answers.records())
        if blocks:
            for row, table in zip(answer["predictions"], tables, strict=True):
                row["blocks"] = _blocks(table, nets)
        typer.echo(json.dumps(answer)) if as_json else console.show_answer(answer, blocks=blocks)


def _covered_space(paths: list[Path], *, named: bool) -> Space:
    """The only space that the tables cover; a usage error where there is none or more."""
    from ofa_core.errors import OfaError
    from ofa_core.spaces import SPACE_NAMES
    from predictors.loading import LatencyFile

    covered: dict[Space, None] = {}
    for path in paths:
        try:
            covered.update(dict.fromkeys(LatencyFile.read(path).spaces()))
        except OfaError:
            if named:  # one that was found in ./luts is left out, with a message later
                raise
    if len(covered) == 1:
        return next(iter(covered))
    names = ", ".join(space.name for space in covered) or ", ".join(SPACE_NAMES)
    which = f"the tables cover {names}" if covered else f"known spaces are {names}"
    raise typer.BadParameter(f"the architecture names no space; {which}", param_hint="--space")


def _blocks(answer: TableAnswer, nets: ArchList) -> list[dict[str, Any]]:
    if answer.table is None:
        typer.echo(f"{answer.lut}: predicts whole networks only; per-layer latencies are not available", err=True)
        return []

    (arch,) = decode(nets.space, nets.genomes)
    rows = []
    for block, entry in answer.table.layers(arch):
        rows.append(
            {
                "block": block.label(),
                "mmacs": block.macs / 1e6,
                "latency_ms": entry.latency_ms,
                "filled": entry.status == "filled",
            }
        )
    return rows


MeasuredArgument = Annotated[
    Path,
    typer.Argument(
        help="Measured networks: CSV with space, ks, e, d, r and a column of numbers; or a latency table, for the "
        "networks beside it.",
        show_default=False,
    ),
]
SourceOption = Annotated[
    list[Path] | None,
    typer.Option("--source", help="Another device: its table, .predictor, or measured networks; may repeat."),
]
TableOption = Annotated[Path | None, typer.Option("--lut", help="The device's own latency table, as a start.")]


@app.command()
def fit(
    measured: MeasuredArgument,
    out: Annotated[
        Path,
        to_file("--out", help="Where the .predictor goes; it serves wherever --lut does."),
    ],
    source: SourceOption = None,
    lut: TableOption = None,
    space: SpaceOption = None,
    column: ColumnOption = None,
) -> None:
    """Fit a predictor to measured networks, with a table and other devices as a start."""
    from ofa_core.formats.yaml_tables import read_table
    from ofa_core.measured_columns import TOP1
    from predictors.accuracy import AccuracyPredictor
    from predictors.loading import load_latency
    from predictors.network import NetworkPredictor
    from predictors.persistence import save_predictor

    file, lut = _networks_of(measured, lut)
    values = _value_column(file, column)
    where = _measured_space(file, space)
    rows = file.select(where, values)
    predictor: Estimator
    if values.quantity == TOP1:
        if source or lut:
            raise typer.BadParameter("sources and tables are for latency, not for top1", param_hint="--source")
        predictor = AccuracyPredictor(where).fit(rows.genomes, rows.values)
    else:
        sources = [load_latency(path, where, fill=True) for path in source or []]
        context = file.context()
        name = file.path.stem if context is None else context.device
        table = None if lut is None else read_table(lut)
        predictor = NetworkPredictor(where, table=table, device=name, context=context)
        predictor.fit(rows.genomes, rows.values, sources=sources)
    save_predictor(out, predictor)
    n_verify = rows.roles.count("verify")
    if n_verify:
        typer.echo(f"{file.path}: {n_verify} verify networks are learnt from, and are no test of {out}", err=True)
    typer.echo(f"{out}: {predictor.note}")


def _networks_of(path: Path, lut: Path | None) -> tuple[MeasuredFile, Path | None]:
    """A file of measured networks, and the table that goes with it: where a table was named, those beside it."""
    from ofa_core.errors import PredictorError
    from ofa_core.measured_files import MeasuredFile
    from ofa_core.measured_networks import networks_path

    file = MeasuredFile.find(path)
    if file is not None:
        return file, lut
    if lut is not None and lut != path:
        raise typer.BadParameter(f"{path} is a table itself", param_hint="--lut")
    beside = networks_path(path)
    if path.is_dir() or not beside.is_file():
        raise PredictorError(
            f"{path} lists no networks and has no {beside.name} beside it; name a CSV with space, ks, e, d, r and a "
            "column of numbers, or one with a column of dictionaries"
        )
    return MeasuredFile.read(beside), path


@app.command()
def batch(
    batch_size: Annotated[int, typer.Argument(min=1, help="Images per inference.", show_default=False)],
    tables: Annotated[
        list[Path], typer.Argument(help="The device's tables at two or more other batch sizes.", show_default=False)
    ],
    out: Annotated[Path, to_file("--out", help="Where the table goes.")],
) -> None:
    """Estimate a device's table at a batch size that was not measured, from its tables at others."""
    from ofa_core.formats.yaml_tables import read_table
    from predictors.batch_size import table_at_batch

    table, error = table_at_batch([read_table(path) for path in tables], batch_size)
    table.write(out)
    known = "their error is not known: a third batch size would tell"
    if error is not None:
        known = f"of batch sizes left out, the error was {100 * error:.1f} %"
    typer.echo(f"{out}: {len(table)} blocks estimated at batch size {batch_size}; {known}")
    typer.echo(
        f"to calibrate: ofa-profile --nets 12 --batch-size {batch_size} --out NETS.csv on the device, then "
        f"ofa-predict fit NETS.csv --lut {out} --out NAME.predictor",
        err=True,
    )


@app.command()
def evaluate(
    measured: Annotated[
        list[Path],
        typer.Argument(help="Measured networks, one CSV (or table with networks) per device.", show_default=False),
    ],
    source: SourceOption = None,
    lut: TableOption = None,
    predictor: Annotated[
        Path | None, typer.Option("--predictor", help="Judge this fitted predictor alone, on networks it has not seen.")
    ] = None,
    space: SpaceOption = None,
    column: ColumnOption = None,
    sizes: Annotated[str, typer.Option("--sizes", help="Networks to learn from.")] = "10,30,100",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Draws of the networks to learn from.")] = 5,
    random: Annotated[bool, typer.Option("--random", help="Draw them at random, not D-optimally.")] = False,
    plots: Annotated[
        Path | None,
        to_folder("--plots", help="Folder for PNG plots (needs matplotlib)."),
    ] = None,
    html: Annotated[
        Path | None,
        to_file("--html", help="Table and plots as one HTML file (needs plotly)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge predictors on measured networks: device x N, beside MACs alone, the table, and the device's own noise."""
    import numpy as np

    from ofa_core.extras import needed_for
    from ofa_core.html_page import plotly_script
    from predictors.evaluation import EvaluationRow, learning_curves, priors_of
    from predictors.loading import load_latency
    from predictors.metrics import metrics_of
    from predictors.network import NetworkPredictor
    from predictors.plots import Judged, draw_png, judge, write_page

    numbers = [word.strip() for word in sizes.split(",")]
    if not all(word.isdigit() for word in numbers):
        raise typer.BadParameter(
            f"{sizes!r}; numbers with commas are expected, such as 10,30,100", param_hint="--sizes"
        )
    if html is not None:
        plotly_script()  # fails now rather than in the end
    if plots is not None:
        with needed_for("--plots"):
            import matplotlib as _  # noqa: F401, ICN001
    rows: list[EvaluationRow] = []
    judged: list[Judged] = []
    for named in measured:
        file, own_lut = _networks_of(named, lut)
        of_values = _value_column(file, column)
        where = _measured_space(file, space)
        networks = file.select(where, of_values)
        genomes, values = networks.genomes, networks.values
        device = file.path.stem.removesuffix(".networks")
        if predictor is not None:
            model = load_latency(predictor, where)
            genomes, values = _unseen(model, predictor, file.path, genomes, values)
            y, low, high = model.predict(genomes, return_interval=True)
            rows.append(EvaluationRow(device, predictor.stem, 0, metrics_of(values, y, (low, high))))
        else:
            sources = [load_latency(other, where, fill=True) for other in source or []]
            table = None if own_lut is None else load_latency(own_lut, where, fill=True)
            rows += learning_curves(
                device,
                where,
                genomes,
                values,
                sizes=[int(word) for word in numbers],
                table=table,
                sources=sources,
                seeds=seeds,
                d_optimal=not random,
            )
            learnt = np.unique(genomes, axis=0, return_inverse=True)[1].reshape(-1) % 2 == 0  # for the pictures
            model = NetworkPredictor(where, device=device)
            model.fit(genomes[learnt], values[learnt], sources=priors_of(table, sources, where))
            genomes, values = genomes[~learnt], values[~learnt]
        if plots is not None or html is not None:
            judged.append(judge(device, model, where, genomes, values))
    records = [row.record() for row in rows]
    if plots is not None:
        for one in judged:
            draw_png(plots / f"{one.device}.png", one)
    if html is not None:
        write_page(html, ROW_TITLES, row_texts(records), judged)
    if as_json:
        typer.echo(json.dumps(records))
    else:
        show_rows(records)


def _unseen(model: Estimator, predictor: Path, path: Path, genomes: Genomes, values: Floats) -> tuple[Genomes, Floats]:
    """The networks of a file that a predictor has not learnt from."""
    from ofa_core.errors import PredictorError

    seen = model.has_seen(genomes)
    if seen.all():
        raise PredictorError(f"{predictor} has learnt from all networks of {path}: none is left to judge it by")
    if seen.any():
        learnt = f"{predictor} has learnt from {seen.sum()} of the {len(seen)} networks of {path}"
        typer.echo(f"{learnt}, and is judged by the others", err=True)
    return genomes[~seen], values[~seen]


def _measured_space(file: MeasuredFile, name: str | None) -> Space:
    """`--space`, else the only space of a file of measured networks."""
    from ofa_core.space_files import space_from

    if name is not None:
        return space_from(name)
    if not file.spaces():
        raise typer.BadParameter(f"{file.path} names no space; name one", param_hint="--space")
    return file.only_space()


def _value_column(file: MeasuredFile, wanted: str | None) -> ValueColumn:
    """The column to predict; reports how a column of another tool is read."""
    column = file.column(wanted)
    if column.name != column.quantity:
        typer.echo(f"{file.path}: {column.reading}", err=True)
    return column


def main() -> int:
    """Run `ofa-predict`; the exit code is 0, 1 for a known error, or 2 for wrong usage."""
    return run_app(app, prog="ofa-predict")


if __name__ == "__main__":
    sys.exit(main())
