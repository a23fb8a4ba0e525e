"""`ofa-predict`: predict the latency of architectures, fit predictors and evaluate them."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_core.cli_app import ResolutionOption, new_app, run_app, to_file, to_folder
from ofa_core.cli_options import ColumnOption, SpaceOption, arch_file, table_argument, table_option
from predictors.console import ROW_TITLES, row_texts, show_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ofa_core.arch_lists import ArchList
    from ofa_core.genomes import Genomes
    from ofa_core.measured_columns import ValueColumn
    from ofa_core.measured_files import MeasuredFile
    from ofa_core.space import Space
    from predictors.answers import TableAnswer
    from predictors.estimator import Estimator
    from predictors.evaluation import MeasuredDevice
    from predictors.loading import LatencyFile

__all__ = ["app", "main"]

logger = logging.getLogger(__name__)

app = new_app(
    "Predict the latency of an architecture from latency tables.\n\nWithout a table, print MACs and parameters only."
)

LutOption = Annotated[
    list[Path] | None,
    table_option(
        "--lut",
        help="Latency table (CSV or published YAML), .predictor, CSV of measured networks, or hub:NAME; may be "
        "repeated. Default: ./luts/*.csv",
    ),
]


@app.callback()
def predict(
    arch: Annotated[
        Path,
        typer.Argument(
            parser=arch_file,
            metavar="ARCH",
            help="One architecture: JSON with ks, e, d, r, a published net.config with its run.config, or hub:NAME. Or "
            "several: a JSON list, JSON lines, a search archive, or a CSV file. Use - for standard input.",
            show_default=False,
        ),
    ],
    lut: LutOption = None,
    space: SpaceOption = None,
    resolution: ResolutionOption = None,
    column: ColumnOption = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="Also print the latency of each layer.")] = False,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that the table lacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line per architecture.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one row per architecture and table.")] = False,
) -> None:
    """Predict one architecture or several."""
    from functools import cache, partial

    from ofa_core.errors import OfaError
    from ofa_core.formats.arch_files import read_archs
    from ofa_core.space_files import space_from
    from predictors import console
    from predictors.answers import answers_of
    from predictors.loading import LatencyFile, default_luts

    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv", param_hint="--csv")
    paths = lut or default_luts()
    named = None if space is None else space_from(space)
    read = cache(LatencyFile.read)  # once for its spaces and its predictions
    nets = read_archs(arch, named, lambda: _covered_space(paths, read, strict=bool(lut)), resolution)
    if blocks and (nets.is_list or as_csv):
        raise typer.BadParameter("works with one architecture only, and not with --csv", param_hint="--blocks")
    predict = partial(_answer, read, nets.space, fill, column)
    tables: list[TableAnswer] = []
    for path in paths:
        try:
            tables.append(predict(path, nets.genomes))
        except OfaError as error:
            if lut:
                raise
            logger.warning("%s left out: %s", path, error)
    _log_tables(nets, tables, predict)
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


def _answer(
    read: Callable[[Path], LatencyFile], space: Space, fill: bool, column: str | None, path: Path, genomes: Genomes
) -> TableAnswer:
    """Predict networks with a file; raises as `predictors.answers.answer_by` does."""
    from predictors.answers import answer_by

    return answer_by(read(path), space, genomes, fill=fill, column=column)


def _log_tables(nets: ArchList, tables: Sequence[TableAnswer], predict: Callable[[Path, Genomes], TableAnswer]) -> None:
    """Log the method and error of each table, and how a float table and an int8 table of one runtime differ."""
    from predictors.dtype_pairs import dtype_pairs

    for table in tables:
        logger.info("%s: %s", table.lut, table.note)
    if not tables:
        logger.warning("no latency table found; measure one with ofa-profile, or name one with --lut")
    for pair in dtype_pairs(nets.space, nets.genomes, tables, predict):
        logger.info("%s", pair.text())


def _covered_space(paths: list[Path], read: Callable[[Path], LatencyFile], *, strict: bool) -> Space:
    """Return the only space of the tables; damaged ones are skipped unless `strict`."""
    from ofa_core.errors import OfaError
    from ofa_core.spaces import SPACE_NAMES

    covered: dict[Space, None] = {}
    for path in paths:
        try:
            covered.update(dict.fromkeys(read(path).spaces()))
        except OfaError:
            if strict:
                raise
    if len(covered) == 1:
        return next(iter(covered))
    names = ", ".join(space.name for space in covered) or ", ".join(SPACE_NAMES)
    which = f"the tables cover {names}" if covered else f"known spaces are {names}"
    raise typer.BadParameter(
        f"the architecture does not contain a space; give one with --space: {which}", param_hint="--space"
    )


def _blocks(answer: TableAnswer, nets: ArchList) -> list[dict[str, Any]]:
    if answer.table is None:
        logger.warning("%s predicts whole networks only; per-layer latencies are not available", answer.lut)
        return []
    from ofa_core.genomes import decode

    (arch,) = decode(nets.space, nets.genomes)
    return [
        {
            "block": block.label(),
            "mmacs": block.macs / 1e6,
            "latency_ms": entry.latency_ms,
            "filled": entry.status == "filled",
        }
        for block, entry in answer.table.layers(arch)
    ]


MeasuredArgument = Annotated[
    Path,
    table_argument(
        help="Measured networks: CSV with space, ks, e, d, r and a column of numbers; or a latency table with networks "
        "beside it."
    ),
]
SourceOption = Annotated[
    list[Path] | None,
    table_option("--source", help="Table, .predictor or measured networks of another device; may be repeated."),
]
TableOption = Annotated[Path | None, table_option("--lut", help="Latency table of the same device, as a prior.")]


@app.command()
def fit(
    measured: MeasuredArgument,
    out: Annotated[
        Path,
        to_file("--out", help="The .predictor to write, for use with --lut."),
    ],
    source: SourceOption = None,
    lut: TableOption = None,
    space: SpaceOption = None,
    column: ColumnOption = None,
) -> None:
    """Fit a predictor to measured networks, with a table and other devices as priors."""
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
            raise typer.BadParameter("--source and --lut are for latency, not for top1", param_hint="--source")
        predictor = AccuracyPredictor(where, dtype=file.accuracy_dtype()).fit(rows.genomes, rows.values)
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
        logger.warning(
            "%s: %d verify networks were used for fitting; do not evaluate %s on them", file.path, n_verify, out
        )
    typer.echo(f"{out}: {predictor.note}")


def _networks_of(path: Path, lut: Path | None) -> tuple[MeasuredFile, Path | None]:
    """Return a file of measured networks and its table; for a table, return the networks beside it."""
    from ofa_core.errors import PredictorError
    from ofa_core.measured_files import MeasuredFile
    from ofa_core.measured_networks import networks_path

    file = MeasuredFile.find(path)
    if file is not None:
        return file, lut
    if lut is not None and lut != path:
        raise typer.BadParameter(f"{path} is a table already; give one or the other", param_hint="--lut")
    beside = networks_path(path)
    if path.is_dir() or not beside.is_file():
        raise PredictorError(
            f"{path} lists no networks and has no {beside.name} beside it; give a CSV with space, ks, e, d, r and a "
            "column of numbers, or with a column of dictionaries"
        )
    return MeasuredFile.read(beside), path


@app.command()
def batch(
    batch_size: Annotated[int, typer.Argument(min=1, help="Images per inference.", show_default=False)],
    tables: Annotated[
        list[Path],
        table_argument(help="Tables of the device at two or more other batch sizes."),
    ],
    out: Annotated[Path, to_file("--out", help="The table to write.")],
) -> None:
    """Estimate the table of a device at a new batch size, from its tables at two or more measured batch sizes."""
    from ofa_core.formats.yaml_tables import read_table
    from predictors.batch_size import table_at_batch

    table, error = table_at_batch([read_table(path) for path in tables], batch_size)
    table.write(out)
    known = "error unknown (it needs three batch sizes)"
    if error is not None:
        known = f"leave-one-out error {100 * error:.1f} %"
    typer.echo(f"{out}: {len(table)} blocks estimated at batch size {batch_size}; {known}")
    logger.info(
        "to calibrate: run ofa-profile --nets 12 --batch-size %d --out NETS.csv on the device, then "
        "ofa-predict fit NETS.csv --lut %s --out NAME.predictor",
        batch_size, out,
    )  # fmt: skip


@app.command()
def evaluate(
    measured: Annotated[
        list[Path],
        table_argument(help="Measured networks: a CSV, or a table with networks, per device."),
    ],
    source: SourceOption = None,
    lut: TableOption = None,
    predictor: Annotated[
        Path | None,
        table_option("--predictor", help="Evaluate this predictor only, on networks it was not fitted to."),
    ] = None,
    space: SpaceOption = None,
    column: ColumnOption = None,
    sizes: Annotated[str, typer.Option("--sizes", help="Numbers of networks to fit to.")] = "10,30,100",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of training sets of each size.")] = 5,
    random: Annotated[bool, typer.Option("--random", help="Select random training sets, not D-optimal ones.")] = False,
    plots: Annotated[
        Path | None,
        to_folder("--plots", help="Folder for PNG plots (needs matplotlib)."),
    ] = None,
    html: Annotated[
        Path | None,
        to_file("--html", help="HTML file for the table and plots."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate predictors on measured networks.

    Print the errors of MACs alone and of the table, and the repeatability, for comparison.
    """
    from predictors.evaluation import evaluate_predictor, fitted_to_half, learning_curves, unseen_by
    from predictors.loading import load_latency
    from predictors.plots import draw_png, judge, write_page

    numbers = _numbers(sizes)
    _check_packages(plots)
    rows, judged = [], []
    for path in measured:
        device = _measured_device(path, lut, space, column, (source or []) if predictor is None else None)
        if predictor is None:
            rows += learning_curves(device, sizes=numbers, seeds=seeds, d_optimal=not random)
        if predictor is not None:
            model: Estimator = load_latency(predictor, device.space)
            device = unseen_by(model, device, predictor)
            rows.append(evaluate_predictor(model, device, predictor.stem))
        elif plots is not None or html is not None:
            model, device = fitted_to_half(device)
        if plots is not None or html is not None:
            judged.append(judge(device.name, model, device.space, device.genomes, device.latency_ms))
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


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words):
        raise typer.BadParameter(f"{text!r}; numbers with commas are expected, such as 10,30,100", param_hint="--sizes")
    return [int(word) for word in words]


def _check_packages(plots: Path | None) -> None:
    """Fail now, not after the evaluation, if a package for plots is missing."""
    from ofa_core.extras import needed_for

    if plots is not None:
        with needed_for("--plots"):
            import matplotlib as _  # noqa: F401, ICN001


def _measured_device(
    path: Path, lut: Path | None, space: str | None, column: str | None, sources: list[Path] | None
) -> MeasuredDevice:
    from predictors.evaluation import MeasuredDevice
    from predictors.loading import load_latency

    file, own = _networks_of(path, lut)
    values = _value_column(file, column)
    where = _measured_space(file, space)
    rows = file.select(where, values)
    return MeasuredDevice(
        name=file.path.stem.removesuffix(".networks"),
        space=where,
        genomes=rows.genomes,
        latency_ms=rows.values,
        table=None if own is None or sources is None else load_latency(own, where, fill=True),
        sources=tuple(load_latency(other, where, fill=True) for other in sources or []),
    )


def _measured_space(file: MeasuredFile, name: str | None) -> Space:
    """Return the space of `--space`, or else the only space of the file."""
    from ofa_core.space_files import space_from

    if name is not None:
        return space_from(name)
    if not file.spaces():
        raise typer.BadParameter(f"{file.path} does not contain a space; give one with --space", param_hint="--space")
    return file.only_space()


def _value_column(file: MeasuredFile, wanted: str | None) -> ValueColumn:
    """Return the column to predict; log how a column of another tool is read."""
    column = file.column(wanted)
    if column.name != column.quantity:
        logger.info("%s: %s", file.path, column.reading)
    return column


def main() -> int:
    """Run `ofa-predict`; the exit code is 0, 1 for a known error, or 2 for wrong usage."""
    return run_app(app, prog="ofa-predict")


if __name__ == "__main__":
    sys.exit(main())
