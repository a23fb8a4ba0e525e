"""`ofa-search`: the command line. It reads the options, loads predictors and devices, and hands them to the search."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ofa_core.cli_app import new_app, parse_pixels, run_app, to_file, to_folder, with_value
from ofa_core.cli_options import ColumnOption, SpaceOption, accuracy_file, supernet_file, table_option
from ofa_core.errors import OfaError
from ofa_core.search.device_words import (
    LutWord,
    check_column,
    check_options,
    limits_of,
    lut_word,
    paired_limits,
    targets_of,
)
from ofa_core.search.options import (
    FRONT_POINTS,
    BesideOption,
    BestOption,
    FixOption,
    MemoryOption,
    MinTop1Option,
    ObjectiveOption,
    ParetoOption,
    ProveOption,
    check_goal,
    default_objective,
)
from ofa_core.train.options import RangeImages, RangeMethod
from profiler.options import MOST_S, AgentOption, BenchmarkOption, LibraryOption, PythonOption, RuntimeOption

if TYPE_CHECKING:
    from ofa_core.search.fleet_loops import MeasuredFleet
    from ofa_core.search.measuring import Measuring
    from ofa_core.search.problem import Problem
    from ofa_core.search.result_schema import SearchRecord
    from ofa_core.search.run import SearchResult
    from ofa_core.search.steps import LatencySource

__all__ = ["app", "main"]

_log = logging.getLogger(__name__)

app = new_app(
    "Find the most accurate sub-net within a latency limit on a device.\n\n"
    "With --measure, the winner is measured on the device twice and must meet the limit both times."
)


@app.callback()
def search(
    lut: Annotated[
        list[LutWord],
        typer.Option(
            "--lut",
            parser=lut_word,
            metavar="FILE[=LIMIT]",
            help="Latency table (CSV or published YAML), .predictor file, CSV of measured networks, or hub:NAME. "
            "Several times, each with its limit in ms, for several devices.",
            show_default=False,
        ),
    ],
    max_latency_ms: Annotated[
        float | None,
        typer.Option("--max-latency-ms", help="Latency limit in milliseconds per batch.", show_default=False),
    ] = None,
    pareto: ParetoOption = None,
    beside: BesideOption = None,
    per_device: Annotated[
        bool,
        typer.Option("--per-device", help="Find the best network of each --lut, not one within all limits."),
    ] = False,
    algorithm: Annotated[
        str, typer.Option("--algorithm", help="anneal; or for comparison evolution (as published) or random.")
    ] = "anneal",
    space: SpaceOption = None,
    resolutions: Annotated[
        str | None,
        typer.Option(
            "--resolutions",
            "-r",
            help="Input sizes, such as 160,192,224 or 128-224:16.  [default: all that both predictors support]",
        ),
    ] = None,
    accuracy: Annotated[
        str | None,
        typer.Option(
            "--accuracy",
            "-a",
            parser=accuracy_file,
            metavar="MODEL",
            help="Accuracy model: a .pth, .npz or .csv file, proxy:macs, or hub:acc_predictor.  [default: built-in "
            "model for mbv3-w1.0]",
        ),
    ] = None,
    column: ColumnOption = None,
    max_mmacs: Annotated[float | None, typer.Option("--max-mmacs", help="Limit MACs, in millions.")] = None,
    max_params_m: Annotated[float | None, typer.Option("--max-params-m", help="Limit parameters, in millions.")] = None,
    min_top1: MinTop1Option = None,
    objective: ObjectiveOption = None,
    max_memory_mb: MemoryOption = None,
    fix: FixOption = None,
    best: BestOption = None,
    prove: ProveOption = None,
    max_energy_mj: Annotated[
        float | None,
        typer.Option("--max-energy-mj", help="Limit energy above idle, in millijoules per batch."),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Meet the limit with this probability (above 0.5), given the error of the prediction.  "
            "[default: limit the predicted latency]"
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "-m",
            metavar="[FILE=]TARGET",
            help="Measure candidates on this device: local, ssh:USER@HOST, adb:SERIAL. With several --lut, once for "
            "each, as FILE=TARGET.",
        ),
    ] = None,
    python: PythonOption = None,
    benchmark_binary: BenchmarkOption = None,
    agent_binary: AgentOption = None,
    litert_library: LibraryOption = None,
    runtime: RuntimeOption = None,
    budget_s: Annotated[
        float | None,
        typer.Option(min=1, max=MOST_S, help="Seconds for each measuring session.  [default: 3 per network]"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start a new --measure instead of resuming an interrupted one.")
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            "-w",
            parser=supernet_file,
            metavar="WEIGHTS",
            help="Supernet checkpoint, or hub:NAME, whose weights go into the written network.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Images: digits, imagefolder:PATH, cifar10:PATH or npz:TRAIN,VAL. Needed with --weights, to calibrate "
            "batch norm.",
        ),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            "--preprocessing",
            help="Set the preprocessing of published weights, whose file does not contain it: imagenet, half or "
            "half-crop.",
        ),
    ] = None,
    dtype: Annotated[
        Literal["fp32", "int8"] | None,
        typer.Option("--dtype", help="Type of the written network.  [default: int8 for an int8 table, else fp32]"),
    ] = None,
    ranges: RangeMethod = "minmax",
    range_images: RangeImages = 256,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that the table lacks.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; equal seeds give equal answers.")] = 0,
    out: Annotated[Path, to_folder("--out", "-o", help="Folder for the results.")] = Path("search"),
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no report, and do not search for its Pareto front.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the most accurate sub-net within a latency limit."""
    from ofa_core.search.answer import Answer, accuracy_record, write_answer
    from ofa_core.search.device_results import device_record, latency_record
    from ofa_core.search.fleet import common_resolutions, with_members
    from ofa_core.search.inputs import check_out, load_beside, load_latency_of, load_others, load_trained
    from ofa_core.search.limits import Limits, check_equal_elements, limits_shown, make_problem, warn_of_idle_limits
    from ofa_core.search.network_file import network_file
    from ofa_core.search.proving import finished
    from ofa_core.search.result_folder import Sources, record_of
    from ofa_core.search.steps import with_front
    from predictors.loading import load_accuracy

    limits_ms, targets = limits_of(lut, max_latency_ms), targets_of(measure or (), lut)
    check_options(limits_ms, pareto, per_device, bool(targets), algorithm)
    check_out(out, [*(word.path for word in lut), *(beside or ()), accuracy, weights])
    named: dict[str, Any] = {"latency_ms": limits_ms[0], "confidence": confidence, "top1": min_top1}
    named |= {"mmacs": max_mmacs, "params_m": max_params_m, "energy_mj": max_energy_mj, "memory_mb": max_memory_mb}
    limits = Limits(**named, fixed=tuple(fix or ()), objective=objective or default_objective(min_top1))
    check_goal(limits, best, prove, {"--pareto": pareto, "--measure": measure, "--per-device": per_device or None})
    check_column(column, accuracy)
    pixels = None if resolutions is None else parse_pixels(resolutions)
    latency, found = load_latency_of(lut[0].path, space, fill)
    others, shown = load_others(lut, limits_ms, found, fill), load_beside(beside, [w.name for w in lut], found, fill)
    latencies = [latency, *(member.latency for member in others)]
    check_equal_elements([source.context for source in latencies], limits)
    model = load_accuracy(accuracy, found, column)
    pixels = common_resolutions(found, latencies, model) if others and pixels is None else pixels
    problem, left_out_px = make_problem(found, latency, model, pixels, limits)
    problem = with_members(problem, others)
    trained = load_trained(weights, data, preprocessing, found)
    warn_of_idle_limits(problem, limits)
    each, fleet, loop = [word.name for word in lut] if per_device else [], None, None
    if not targets:
        result = _predicted(problem, pareto, each, seed, algorithm)
    else:
        launched: dict[str, Any] = {"python": python, "benchmark_binary": benchmark_binary, "runtime": runtime}
        launched |= {"agent_binary": agent_binary, "litert_library": litert_library}
        hows = _hows(lut, targets, launched, {"seed": seed, "budget_s": budget_s, "fresh": fresh, "fill": fill})
        asked = {"accuracy": accuracy, "confidence": confidence} | limits.masks()
        fleet = _on_devices(problem, latencies, hows, asked, each)
        result, loop, latency, others = fleet.result, fleet.loops[0], fleet.latencies[0], fleet.members(others)
    result, proof = finished(result, problem, prove, best)
    result = result if no_report or pareto else with_front(result)
    network = network_file(result, latency.context, trained, dtype, (ranges, range_images))
    sources = Sources(
        latency=latency_record(latency, lut[0].path, None if loop is None else loop.factor),
        accuracy=accuracy_record(model, accuracy, int8=network.int8),
        left_out_px=left_out_px,
        target=targets.get(lut[0].name),
        weights=None if weights is None else str(weights),
        devices=[device_record(member) for member in [*others, *shown]],
        goal=problem.objective.name,
        limits=limits_shown(problem, limits),
        fixed=limits.fixed,
        proof=proof,
        int8=network.record,
    )
    record = record_of(result, sources, loop)
    write_answer(out, Answer(result, record, latency, lut[0].path, network, loop, [*others, *shown]), not no_report)
    _finish(fleet)  # first, so that no journal is among the files that are listed
    _print(record, str(result.best.arch), out, as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder that ofa-search wrote.", show_default=False)],
    beside: BesideOption = None,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that a file of --beside lacks.")] = False,
    out: Annotated[Path | None, to_file("--out", "-o", help="[default: FOLDER/report.html]")] = None,
) -> None:
    """Write the report of a search: one HTML file that needs no other file."""
    from ofa_core.search.device_results import with_devices
    from ofa_core.search.inputs import load_beside
    from ofa_core.search.report import write_page
    from ofa_core.search.saved import read_folder

    path, data = out or folder / "report.html", read_folder(folder)
    write_page(with_devices(data, load_beside(beside, data.device_names, data.space, fill)), path)
    typer.echo(str(path))


@app.command()
def compare(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders that ofa-search wrote, one per device.", show_default=False)
    ] = None,
    lut: Annotated[
        list[Path] | None,
        table_option("--lut", help="Latency table to search with --max-latency-ms; may be repeated, one per device."),
    ] = None,
    max_latency_ms: Annotated[
        list[float] | None,
        typer.Option("--max-latency-ms", help="Latency limit of each --lut, in their order, or one for all."),
    ] = None,
    space: SpaceOption = None,
    accuracy: Annotated[
        str | None,
        typer.Option("--accuracy", "-a", parser=accuracy_file, metavar="MODEL", help="Accuracy model for --lut."),
    ] = None,
    authors: Annotated[
        list[str] | None,
        typer.Option(
            "--authors",
            metavar="DEVICE",
            help="Add the authors' nets for this device of the hub; may be repeated.  [default: for the compared "
            "devices that the hub has nets for]",
        ),
    ] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Estimate the blocks of a table that covers no resolution.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the searches.")] = 0,
    out_csv: Annotated[Path | None, to_file("--csv", help="Also write the comparison as CSV.")] = None,
    out_html: Annotated[Path | None, to_file("--html", help="Also write the comparison as an HTML page.")] = None,
) -> None:
    """Compare the best networks of several devices on each of these devices, and the authors' nets beside them."""
    from ofa_core.atomic import write_text
    from ofa_core.search import comparing
    from ofa_core.search.comparison import Comparison, csv_text, table_rows
    from ofa_core.search.comparison_page import write_page
    from ofa_core.search.console import table_lines
    from ofa_core.space_files import space_from

    limits = paired_limits(lut or [], max_latency_ms or [])
    if len(folders or []) + len(limits) < 2:
        raise typer.BadParameter("give at least two devices: search folders, or tables with --lut")
    where = None if space is None else space_from(space)
    found = [comparing.from_folder(folder) for folder in folders or []]
    for path, limit_ms in limits:
        found.append(comparing.from_table(path, comparing.Wanted(limit_ms, where, accuracy, seed, fill)))
    found = comparing.entrants(found)
    nets = [one.net for one in found] + comparing.nets_of_authors(found, authors or [])
    comparison = Comparison.of([one.device for one in found], nets)
    typer.echo("\n".join(table_lines(*table_rows(comparison))))
    if out_csv is not None:
        write_text(out_csv, csv_text(comparison))
    if out_html is not None:
        write_page(out_html, comparison)


def _predicted(problem: Problem, pareto: int | None, each: list[str], seed: int, algorithm: str) -> SearchResult:
    """Search without measurements: one network, a front, or the network of each device."""
    from ofa_core.search.steps import make_search
    from ofa_core.search.steps_of_many import make_each, make_front

    if pareto is not None:
        return make_front(problem, pareto, seed, algorithm)
    return make_each(problem, each, seed, algorithm) if each else make_search(seed, algorithm)(problem, ())


def _hows(
    luts: list[LutWord], targets: dict[str, str], launched: dict[str, Any], how: dict[str, Any]
) -> list[Measuring]:
    """Return how to measure on each device; `launched` are the fields of `Launch`."""
    from ofa_core.search.measuring import Measuring
    from profiler.launch import Launch

    return [Measuring(word.path, targets[word.name], Launch(**launched), **how) for word in luts]


def _on_devices(
    problem: Problem, latencies: list[LatencySource], hows: list[Measuring], asked: dict[str, Any], each: list[str]
) -> MeasuredFleet:
    """Close the loop on the devices; `asked` are options that identify the search."""
    from ofa_core.search.fleet_loops import measure_fleet

    limits = {c.name: c.limit for c in problem.constraints[1:]}
    asked |= {"pixels": problem.resolutions, "fill": hows[0].fill, "limits": limits}
    if each:
        asked["per_device"] = each
    return measure_fleet(problem, latencies, hows, asked, each)


def _print(record: SearchRecord, network: str, out: Path, as_json: bool) -> None:
    """Print the answer on stdout."""
    from ofa_core.search.console import answer_lines
    from ofa_core.search.result_folder import shown_record

    if as_json:
        typer.echo(json.dumps({**shown_record(record), "out": str(out)}))
        return
    typer.echo("\n".join(answer_lines(record, network)))
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in out.iterdir())
    typer.echo(f"files      {out}/{{{','.join(names)}}}")


def _finish(measured: MeasuredFleet | None) -> None:
    """Remove the journals of loops whose answer is written."""
    if measured is None:
        return
    measured.forget()
    if not all(loop.converged for loop in measured.loops):
        _log.warning("stopped after the maximum number of rounds; a better network may exist")


def _known_errors() -> tuple[type[Exception], ...]:
    from devices.errors import DeviceError

    return (OfaError, DeviceError)


def main() -> int:
    """Run the console script and return its exit code."""
    words = with_value(sys.argv[1:], "--pareto", str(FRONT_POINTS))
    return run_app(app, with_value(words, "--prove", "0"), prog="ofa-search", errors=_known_errors)


if __name__ == "__main__":
    sys.exit(main())
