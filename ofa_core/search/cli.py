"""`ofa-search`: the composition root of search. It alone knows predictors, devices and the profiler."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_core.cli_app import new_app, parse_pixels, run_app, to_file, to_folder
from ofa_core.cli_options import ColumnOption, SpaceOption
from ofa_core.errors import OfaError
from profiler.options import MOST_S, AgentOption, BenchmarkOption, LibraryOption, PythonOption

if TYPE_CHECKING:
    from ofa_core.search.problem import AccuracyPredictor, Constraint
    from ofa_core.search.run import SearchResult
    from ofa_core.search.task import Task
    from ofa_core.search.trained import Trained
    from ofa_core.space import Space
    from predictors.lut import LatencyEstimator

__all__ = ["app", "main"]

app = new_app(
    "Find the most accurate sub-net that keeps a latency limit on a device.\n\n"
    "With --measure the answer was also measured on the device, twice, and held the limit."
)


@app.callback()
def search(
    lut: Annotated[
        Path,
        typer.Option(
            "--lut",
            help="Latency table (CSV, or published YAML), a .predictor, or a CSV of measured networks.",
            show_default=False,
        ),
    ],
    max_latency_ms: Annotated[
        float, typer.Option("--max-latency-ms", help="The limit, in milliseconds per batch.", show_default=False)
    ],
    space: SpaceOption = None,
    resolutions: Annotated[
        str | None,
        typer.Option("--resolutions", "-r", help="Such as 160,192,224 or 128-224:16.  [default: all that are known]"),
    ] = None,
    accuracy: Annotated[
        str | None,
        typer.Option(
            "--accuracy",
            "-a",
            help="A .pth, .npz or .csv file, or proxy:macs.  [default: the built-in model of mbv3-w1.0]",
        ),
    ] = None,
    column: ColumnOption = None,
    max_mmacs: Annotated[float | None, typer.Option("--max-mmacs", help="Also limit MACs, in millions.")] = None,
    max_params_m: Annotated[
        float | None, typer.Option("--max-params-m", help="Also limit parameters, in millions.")
    ] = None,
    max_energy_mj: Annotated[
        float | None,
        typer.Option("--max-energy-mj", help="Also limit energy above idle, in millijoules per batch."),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Keep the limit with this probability (above 0.5), by the prediction's own error.  "
            "[default: the prediction itself keeps it]"
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option("--measure", "-m", help="Close the loop on this device: local, ssh:USER@HOST, adb:SERIAL."),
    ] = None,
    python: PythonOption = None,
    benchmark_binary: BenchmarkOption = None,
    agent_binary: AgentOption = None,
    litert_library: LibraryOption = None,
    budget_s: Annotated[
        float | None,
        typer.Option(min=1, max=MOST_S, help="Seconds of each measuring session.  [default: 3 per network]"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set aside what an interrupted --measure kept, instead of resuming it.")
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", help="Supernet of ofa-train, or a published one: its weights for subnet.onnx."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Images that set the batch norm statistics, for --weights; as in ofa-train."),
    ] = None,
    preprocessing: Annotated[
        str | None, typer.Option("--preprocessing", help="As in ofa-train, for published --weights.")
    ] = None,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that the table lacks.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal answers.")] = 0,
    out: Annotated[Path, to_folder("--out", "-o", help="Folder for the answer, network and report.")] = Path("search"),
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Leave out the report, and the searches that fill its front.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search."""
    from ofa_core.lock import only_one
    from ofa_core.search.console import answer_lines, say
    from ofa_core.search.results import summary, write_results
    from ofa_core.search.steps import limits_of, make_searcher, try_report, warn_of_idle_limits, with_front
    from predictors.loading import load_accuracy
    from profiler.launch import Launch

    if column is not None and not (accuracy or "").lower().endswith(".csv"):
        raise typer.BadParameter("goes with a CSV file for --accuracy", param_hint="--column")
    if weights is None and (data or preprocessing):
        raise typer.BadParameter("goes with --weights", param_hint="--data" if data else "--preprocessing")
    task = _task(lut, space, lambda found: load_accuracy(accuracy, found, column), resolutions, fill)
    trained = None
    if weights is not None:
        from ofa_core.search.trained import Trained

        if data is None:
            raise typer.BadParameter("images are needed to set batch norm statistics with", param_hint="--data")
        trained = Trained(weights, data, preprocessing, task.space)
    constraints = limits_of(task.space, task.pixels, max_mmacs, max_params_m) + _energy_limit(task, max_energy_mj)
    warn_of_idle_limits(task.space, task.pixels, task.latency, max_latency_ms, constraints)
    run = make_searcher(task.space, task.accuracy, task.pixels, constraints, confidence, seed)
    loop = None
    if measure is not None:
        from ofa_core.search.measuring import Measuring, forget, loop_on_device

        options = Launch(python, benchmark_binary, agent_binary, litert_library)
        how = Measuring(measure, options, seed, budget_s, fresh)
        asked: dict[str, Any] = {"accuracy": accuracy, "pixels": task.pixels, "confidence": confidence, "fill": fill}
        asked["limits"] = {c.name: c.limit for c in constraints}
        loop = loop_on_device(task, lut, max_latency_ms, run, how, asked)
        result = loop.result
    else:
        result = run(task.latency, max_latency_ms, ())
    if not no_report:
        result = with_front(result, task.latency if loop is None else loop.latency, task.accuracy)
    facts = {
        "confidence": confidence,
        "limits": {c.name: c.limit for c in constraints},
        "left_out_px": list(task.left_out),
        "latency": {**_latency_facts(task.latency, lut), "correction": None if loop is None else loop.latency.factor},
        "accuracy": _accuracy_facts(task.accuracy, accuracy),
        "target": measure,
        "energy_mj": _energy_mj(task, result),
        "weights": None if weights is None else str(weights),
    }
    table = task.latency.lut
    block_ms = None if table is None else table.block_ms(result.best.arch)
    with only_one(out / "search.json"):
        write_results(out, result, facts, block_ms=block_ms, loop=loop)
        if table is None:
            say(f"{lut} knows whole networks only: no blocks.csv, and no layer by layer in the report")
        _copy_networks(task.latency, lut, out)
        _export(task, result, out, trained)
        if not no_report:
            try_report(out)
    record = {**summary(result, loop), **facts}
    if as_json:
        typer.echo(json.dumps({**record, "out": str(out)}))
    else:
        typer.echo("\n".join(answer_lines(record, str(result.best.arch))))
        typer.echo(f"files      {out}/{{{','.join(sorted(p.name for p in out.iterdir() if p.is_file()))}}}")
    if loop is not None:
        forget(lut)
    if loop is not None and not loop.converged:
        say("the rounds ran out: more accurate networks may hold the limit too")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that ofa-search wrote.", show_default=False)],
    out: Annotated[Path | None, to_file("--out", "-o", help="[default: FOLDER/report.html]")] = None,
) -> None:
    """Draw a search's report: one HTML file that needs nothing else."""
    from ofa_core.search.report import write_report

    path = out or folder / "report.html"
    write_report(folder, path)
    typer.echo(str(path))


def _task(
    lut: Path, space: str | None, accuracy_of: Callable[[Space], Any], resolutions: str | None, fill: bool
) -> Task:
    from ofa_core.search.console import say
    from ofa_core.search.run import check_resolutions, choose_resolutions
    from ofa_core.search.task import Task
    from ofa_core.space_files import space_from
    from predictors.estimator import as_space
    from predictors.loading import load_latency

    pixels = None if resolutions is None else parse_pixels(resolutions)
    latency = load_latency(lut, None if space is None else space_from(space), fill=fill)
    found = as_space(latency.space)
    if not latency.resolutions:
        raise OfaError(f"{lut} covers {found.name} completely at no resolution; --fill estimates what is missing")
    model = accuracy_of(found)
    if not latency.calibrated:
        say(f"{lut} has no whole networks beside it: latencies are plain sums, and their error is unknown")
    left_out: dict[int, str] = {}
    if pixels is None:
        pixels, left_out = choose_resolutions(found, latency, model)
    check_resolutions(pixels, latency, model)
    if left_out:
        say(f"left out {', '.join(map(str, left_out))} px: {next(iter(left_out.values()))}")
    return Task(found, latency, model, pixels, left_out)


def _energy_limit(task: Task, max_energy_mj: float | None) -> list[Constraint]:
    from ofa_core.search.problem import Constraint

    if max_energy_mj is None:
        return []
    if task.latency.lut is None:
        raise OfaError(f"--max-energy-mj needs a table beside which energy was measured; {task.latency.label} has none")
    return [Constraint("energy_mj", task.latency.lut.energy_mj, max_energy_mj)]


def _energy_mj(task: Task, result: SearchResult) -> float | None:
    table = task.latency.lut
    return None if table is None or table.energy_ is None else float(table.energy_mj([result.best.arch])[0])


def _latency_facts(latency: LatencyEstimator, lut: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from predictors.lut import LutPredictor

    calibration = latency.calibration_ if isinstance(latency, LutPredictor) else None
    return {
        "lut": str(lut),
        "label": latency.label,
        "note": latency.note,
        "calibrated": latency.calibrated,
        "n_filled": latency.n_filled,
        "context": None if latency.context is None else asdict(latency.context),
        "calibration": None
        if calibration is None
        else {**asdict(calibration), "margin_90": calibration.margin(0.9), "loo_errors": list(calibration.loo_errors)},
    }


def _accuracy_facts(accuracy: AccuracyPredictor, spec: str | None) -> dict[str, Any]:
    label = accuracy.label
    return {
        "source": spec or "built in",
        "label": label,
        "note": accuracy.note,
        "percent": not label.startswith("proxy"),
    }


def _copy_networks(latency: LatencyEstimator, lut: Path, out: Path) -> None:
    """The networks beside the table, each with the table's sum, estimated blocks included."""
    from ofa_core.measured_networks import networks_path, read_networks, write_networks
    from predictors.lut import LutPredictor

    copy = out / "networks.csv"
    copy.unlink(missing_ok=True)
    if isinstance(latency, LutPredictor) and lut.is_file() and networks_path(lut).is_file():
        networks = read_networks(networks_path(lut), latency.context)
        write_networks(copy, latency.context, latency.with_sums(networks))


def _export(task: Task, result: SearchResult, out: Path, trained: Trained | None) -> None:
    from ofa_core.export.onnx import GRAPH_FORMS, arch_model, write_onnx
    from ofa_core.search.console import say

    context = task.latency.context
    form = next((f for f in GRAPH_FORMS if context and f == context.graph_form), GRAPH_FORMS[0])
    batch_size = context.batch_size if context else 1
    arch = result.best.arch
    space = task.space if trained is None else trained.checkpoint.space
    weights = None if trained is None else trained.weights_of(arch)
    model = arch_model(space, arch, batch_size=batch_size, graph_form=form, weights=weights)
    write_onnx(model, out / "subnet.onnx")
    if trained is None:
        say(f"{out / 'subnet.onnx'} has random weights: it has the network's latency and none of its accuracy")
    elif space != task.space:
        say(
            f"{out / 'subnet.onnx'} has {space.n_classes} classes; its latency was predicted for {task.space.n_classes}"
        )


def _known_errors() -> tuple[type[Exception], ...]:
    from devices.errors import DeviceError

    return (OfaError, DeviceError)


def main() -> int:
    """Entry point of the console script."""
    return run_app(app, prog="ofa-search", errors=_known_errors)


if __name__ == "__main__":
    sys.exit(main())
