"""`ofa-profile`: build the latency table of a device."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devices.errors import DeviceError
from ofa_core.cli_app import EXIT_KNOWN_ERROR, EXIT_UNSTABLE, ResolutionOption, new_app, run_app, to_file
from ofa_core.cli_options import SPACE_HELP, SpaceOption
from ofa_core.errors import OfaError
from profiler.device_commands import devices, setup
from profiler.file_commands import compare, convert
from profiler.file_commands import space as print_space
from profiler.options import (
    MOST_NETWORKS,
    MOST_S,
    AgentOption,
    BackendOption,
    BenchmarkOption,
    DelegateOption,
    DtypeOption,
    FreshOption,
    KeepOption,
    LibraryOption,
    LutOption,
    PythonOption,
    SeedOption,
    TargetOption,
    check_choice,
    check_cpus,
    check_name,
    parse_resolutions,
    part_of_blocks,
    verify_archs,
)

if TYPE_CHECKING:
    from rich.console import Console

    from devices.target import Target
    from ofa_core.arch import Arch
    from ofa_core.blocks import BlockSpec
    from ofa_core.space import Space
    from profiler.campaign import ProfileSpec
    from profiler.launch import Launch

__all__ = ["app", "main"]

app = new_app(
    "Build the latency table of a device: benchmark the building blocks of a space, and whole networks along with "
    "them, and write a CSV file. An interrupted run resumes by itself."
)

VERIFY_PROCESSES = 6
S_PER_NETWORK = 6.0
MIN_NETWORKS_S = 40.0
MANY_NETWORKS = 1000  # choosing them takes seconds, which a line on stderr explains
UNSTABLE_SHARE = 0.05  # of the blocks: more unstable ones than that, and the exit code is 3
UNSTABLE_MEDIAN = 0.05  # median half width of the intervals


@app.callback()
def profile(
    target: TargetOption = ["local"],  # noqa: B006 (typer copies it)
    space: Annotated[str, typer.Option("--space", "-s", help=SPACE_HELP)] = "mbv3-w1.0",
    resolutions: Annotated[
        str | None, typer.Option("--resolutions", "-r", help="Input sizes, such as 160,192,224 or 128-224:16.")
    ] = None,
    backend: BackendOption = None,
    dtype: DtypeOption = None,
    delegate: DelegateOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one inference. [default: 1]")] = None,
    cpus: Annotated[
        str | None, typer.Option(help="Cores to pin to: 0, 4-7, big, little or all. [default: big on phones]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per inference. [default: 1; 64 on NVIDIA GPUs]")
    ] = None,
    graph_form: Annotated[str, typer.Option(help="fused (HardSwish as one operator) or literal.")] = "fused",
    plan: Annotated[
        str,
        typer.Option(
            help="Blocks to measure: all, or active: a part from which the others are estimated best, by --fill."
        ),
    ] = "all",
    share: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Part of the blocks, for --plan active. [default: 0.25]")
    ] = None,
    nets: Annotated[
        int | None,
        typer.Option(
            min=5, max=MOST_NETWORKS, help="Measure this many whole sub-nets and no blocks, for ofa-predict fit."
        ),
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="Which sub-nets, for --nets: d-optimal or random. [default: d-optimal]")
    ] = None,
    budget_s: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=MOST_S,
            help="Seconds for the whole session. [default: 60 + 70 per resolution, less for fewer blocks; "
            "6 per sub-net with --nets, at least 40]",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=3, help="Fresh processes to measure in.")] = 5,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        to_file("--out", "-o", help="[default: luts/DEVICE-BACKEND.csv, or ...-nets.csv for --nets]"),
    ] = None,
    fresh: FreshOption = False,
    python: PythonOption = None,
    benchmark_binary: BenchmarkOption = None,
    agent_binary: AgentOption = None,
    litert_library: LibraryOption = None,
    keep: KeepOption = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Full clocks while measuring, where we may set them; undone afterwards.")
    ] = False,
    energy: Annotated[
        bool, typer.Option("--energy", help="Also measure the energy of whole networks; it takes a quarter of an hour.")
    ] = False,
) -> None:
    """Measure the building blocks of a space on a device and write the table."""
    from ofa_core.space_files import space_from
    from profiler.backends import info
    from profiler.campaign import ProfileSpec
    from profiler.console import progress_rows
    from profiler.fleet import measure_all, stoppable
    from profiler.launch import Launch, backend_for, expand_targets
    from profiler.settings import Settings

    the_space = space_from(space)
    pixels = parse_resolutions(resolutions, the_space)
    check_choice(graph_form, ("fused", "literal"), "--graph-form")
    check_choice(plan, ("all", "active"), "--plan")
    check_cpus(cpus)
    if energy and benchmark_binary is not None:
        raise typer.BadParameter("benchmark_model ends after each visit: energy needs an agent", param_hint="--energy")
    part = part_of_blocks(plan, share, nets)
    networks = _networks(the_space, pixels, nets, select, seed)
    if budget_s is None:
        # With a table, about half of the time goes to the blocks, half to the whole networks.
        default_s = 60.0 + 35.0 * (1 + part) * len(pixels)
        budget_s = default_s if nets is None else max(MIN_NETWORKS_S, S_PER_NETWORK * nets)
    options = Launch(python, benchmark_binary, agent_binary, litert_library, keep)
    targets = {the_target.name or str(the_target): the_target for the_target in expand_targets(target)}
    for name in targets:
        check_name(name)
    if out is not None and len(targets) > 1:
        raise typer.BadParameter("one file cannot hold the tables of several targets", param_hint="--out")
    err = _stderr()
    with progress_rows(err) as row:

        def measure(name: str, stop: threading.Event) -> int:
            the_target = targets[name]
            settings = Settings(
                n_processes=processes,
                budget_s=budget_s,
                threads=threads or the_target.threads or 1,
                seed=seed,
            )
            choice = backend_for(the_target, options, backend, dtype, delegate)
            spec = ProfileSpec(
                space=the_space,
                resolutions=pixels,
                device=name,
                backend=choice.backend,
                dtype=choice.dtype,
                delegate=choice.delegate,
                batch_size=batch_size or info(choice).default_batch,
                graph_form=graph_form,
                settings=settings,
                order=None if plan == "all" else partial(_most_telling, part),
                networks=networks,
            )
            return _profile_one(spec, the_target, out, fresh, options, cpus, tune, energy, stoppable(row(name), stop))

        if len(targets) == 1:
            worst = measure(next(iter(targets)), threading.Event())
        else:
            codes = measure_all(
                list(targets), measure,
                is_here=lambda name: targets[name].runs_here,
                errors=(OfaError, DeviceError), complain=lambda name, error: _say(err, f"{name}: failed: {error}"),
            )  # fmt: skip
            worst = max(codes.values(), key=lambda code: (code == EXIT_KNOWN_ERROR, code))
    if worst:
        raise typer.Exit(worst)


def _networks(
    space: Space, pixels: Sequence[int], nets: int | None, select: str | None, seed: int
) -> tuple[Arch, ...] | None:
    """The sub-nets of `--nets`; the same ones for all devices, so that one device can teach about another."""
    import numpy as np

    from predictors.network_design import select_d_optimal
    from profiler.plan import reference_archs

    check_choice(select or "random", ("d-optimal", "random"), "--select")
    if nets is None:
        if select is not None:
            raise typer.BadParameter("sub-nets are selected for --nets", param_hint="--select")
        return None
    if nets >= MANY_NETWORKS:
        _say(_stderr(), f"choosing {nets} sub-nets")
    rng = np.random.default_rng([seed, 3])
    if select == "random":
        return tuple(reference_archs(space, pixels, nets, rng))
    archs = tuple(select_d_optimal(space, nets, rng, pixels))
    if len(archs) < nets:
        raise OfaError(f"{space.name} has no {nets} different sub-nets at these resolutions, but {len(archs)}")
    return archs


def _most_telling(share: float, blocks: Sequence[BlockSpec]) -> list[BlockSpec]:
    """The first part of the blocks in the order of `predictors.block_order`."""
    from predictors.block_latency import MIN_BLOCKS
    from predictors.block_order import active_order

    return active_order(blocks)[: max(MIN_BLOCKS, math.ceil(share * len(blocks)))]


def _profile_one(
    spec: ProfileSpec,
    target: Target,
    out: Path | None,
    fresh: bool,
    options: Launch,
    cpus: str | None,
    tune: bool,
    energy: bool,
    progress: Any,
) -> int:
    from dataclasses import replace

    from ofa_core.atomic import check_file
    from ofa_core.jsonlines import set_aside
    from ofa_core.lock import only_one
    from ofa_core.measured_networks import networks_path
    from profiler import console
    from profiler.campaign import journal_path
    from profiler.campaign import profile as run_profile
    from profiler.cpu_clusters import choose_cpus
    from profiler.energy_session import EnergyOptions
    from profiler.launch import launch
    from profiler.tuning import tuned

    name = f"{spec.device}-{spec.choice.label}{'-nets' if spec.networks else ''}"
    path = out or Path("luts", f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.csv")
    for file in (path, networks_path(path), journal_path(path)):
        check_file(file)
    err = _stderr()
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_one(path))
        if fresh:
            set_aside(journal_path(path))
        device, runner = launch(target, spec.choice, options)
        stack.enter_context(device)
        changed = stack.enter_context(tuned(device)) if tune else ""
        for line in [*console.conditions_lines(device.conditions()), *filter(None, [changed])]:
            _say(err, f"{spec.device}: {line}")
        pinned = choose_cpus(cpus, target.cpus, device.facts(), is_phone=device.kind == "phone")
        spec = replace(spec, settings=replace(spec.settings, cpus=pinned))
        started = time.monotonic()
        meter = EnergyOptions(options.python or target.python) if energy else None
        result = run_profile(spec, runner, path, energy=meter, progress=progress)
    took_s = time.monotonic() - started
    if spec.order is None:
        lines = console.show_profile(result, took_s)
    else:
        from predictors.lut import filled_table

        n_filled = sum(result.table.find(block) is None for block in spec.space.all_blocks(spec.resolutions))
        lines = console.show_profile(result, took_s, filled_table(result.table, spec.space), n_filled)
    n_lost = len(spec.networks) - len(result.networks) if spec.networks else 0
    if n_lost:
        lines.append(f"{n_lost} more could not be measured: quieten the machine, or give it a larger --budget-s")
    if spec.networks:
        lines.append(f"ofa-predict fit {path} --out NAME.predictor learns from them; with --source, from others too")
    for line in lines:
        _say(err, line)
    sys.stdout.write(f"{path}\n")
    return EXIT_UNSTABLE if n_lost else _stability(result)


def _stability(result: Any) -> int:
    widths = sorted(e.half_width for e in result.measured.estimates.values())
    unstable = sum(e.status == "unstable" for e in result.table.entries.values())
    if unstable > UNSTABLE_SHARE * len(result.table) or widths[len(widths) // 2] > UNSTABLE_MEDIAN:
        advice = result.measured.crowding or "quieten the machine, or give it a larger --budget-s"
        _say(_stderr(), f"unstable: {advice}")
        return EXIT_UNSTABLE
    return 0


@app.command()
def verify(
    lut: LutOption,
    nets: Annotated[
        int | None, typer.Option(min=1, max=MOST_NETWORKS, help="Measure this many random sub-nets.")
    ] = None,
    arch: Annotated[
        list[Path] | None,
        typer.Option(
            help="Measure the architectures of this file: one, a list, CSV, or - for standard input. Repeatable."
        ),
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="Measure a candidates.json, and refit the table's calibration with it.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="[default: the table's device]")] = None,
    space: SpaceOption = None,
    resolutions: Annotated[str | None, typer.Option("--resolutions", "-r", help="Of the random sub-nets.")] = None,
    resolution: ResolutionOption = None,
    budget_s: Annotated[
        float | None, typer.Option(min=1, max=MOST_S, help="[default: 6 per network, at least 40]")
    ] = None,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate blocks that the table lacks.")] = False,
    seed: SeedOption = 1,
    fresh: FreshOption = False,
    python: PythonOption = None,
    benchmark_binary: BenchmarkOption = None,
    agent_binary: AgentOption = None,
    litert_library: LibraryOption = None,
    keep: KeepOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure whole sub-nets in new processes and compare them with the table."""
    from ofa_core.jsonlines import set_aside
    from ofa_core.lock import only_one
    from ofa_core.table import LatencyTable
    from predictors.lut import filled_table
    from profiler import console
    from profiler.backends import choice_of
    from profiler.launch import Launch, launch, target_of
    from profiler.remeasure import remeasure_path
    from profiler.settings import Settings
    from profiler.verify import N_STATE, VerifySpec
    from profiler.verify import verify as run_verify

    if (nets is not None) + bool(arch) + (candidates is not None) != 1:
        raise typer.BadParameter("one of --nets, --arch and --candidates is needed")
    if resolution is not None and not arch:
        raise typer.BadParameter("it is the input size of --arch", param_hint="--resolution")
    table = LatencyTable.read(lut)
    if nets is not None and nets >= MANY_NETWORKS:
        _say(_stderr(), f"choosing {nets} sub-nets")
    the_space, archs = verify_archs(lut, table, space, nets, arch, candidates, resolutions, fill, seed, resolution)
    err = _stderr()
    the_target = target_of(table.context.device, target, partial(_say, err))
    budget_s = budget_s if budget_s is not None else max(MIN_NETWORKS_S, S_PER_NETWORK * (len(archs) + N_STATE))
    settings = Settings(budget_s=budget_s, seed=seed, n_processes=VERIFY_PROCESSES)
    options = Launch(python, benchmark_binary, agent_binary, litert_library, keep)
    with only_one(lut):
        if fresh:
            set_aside(remeasure_path(lut, "verify"))
        device, runner = launch(the_target, choice_of(table.context), options)
        with device:
            for line in console.conditions_lines(device.conditions()):
                _say(err, f"{table.context.device}: {line}")
            started = time.monotonic()
            with console.progress_bar(err, "verify") as progress:
                role = "reference" if candidates is not None else "verify"
                supply = filled_table if fill else None
                spec = VerifySpec(the_space, archs, settings, role, supply)
                result = run_verify(lut, spec, runner, progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(console.verification_record(result)) + "\n")
    else:
        sys.stdout.write("\n".join(console.show_verification(result, time.monotonic() - started)) + "\n")


for command in (compare, devices, setup, convert):
    app.command()(command)
app.command("space")(print_space)


def _stderr() -> Console:
    from ofa_core.terminal import console

    return console(stderr=True)


def _say(err: Console, line: str) -> None:
    err.print(line, soft_wrap=True)


def main() -> int:
    """Entry point of the console script."""
    return run_app(app, prog="ofa-profile", errors=(OfaError, DeviceError))
