"""`ofa-profile`: build the latency table of a device."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devices.errors import DeviceError
from ofa_core.cli_app import EXIT_KNOWN_ERROR, EXIT_UNSTABLE, ResolutionOption, new_app, run_app, to_file
from ofa_core.cli_options import SPACE_HELP, SpaceOption, arch_file, space_word
from ofa_core.errors import OfaError
from profiler import device_commands, file_commands
from profiler.options import (
    MOST_NETWORKS,
    MOST_S,
    AgentOption,
    BackendOption,
    BenchmarkOption,
    DelegateOption,
    DtypeOption,
    FractionOption,
    FreshOption,
    KeepOption,
    LibraryOption,
    LutOption,
    OldFractionOption,
    PythonOption,
    RuntimeOption,
    SeedOption,
    TargetOption,
    blocks_budget_s,
    check_choice,
    check_cpus,
    check_graph_form,
    check_name,
    networks_budget_s,
    only_space,
    parse_resolutions,
    part_of_blocks,
)

if TYPE_CHECKING:
    from devices.target import Target
    from ofa_core.arch import Arch
    from ofa_core.blocks import BlockSpec
    from ofa_core.space import Space
    from profiler.campaign import ProfileSpec
    from profiler.device_run import RunOptions
    from profiler.settings import Progress

__all__ = ["app", "main"]

_LOG = logging.getLogger(__name__)

app = new_app(
    "Measure the latency of a space's building blocks on a device, with some whole networks, and write a latency "
    "table (CSV). To resume an interrupted run, give the same command again."
)

VERIFY_PROCESSES = 6
MANY_NETWORKS = 1000  # choosing so many takes seconds, so a message is printed before


@app.callback()
def profile(
    target: TargetOption = ["local"],  # noqa: B006 (typer copies it)
    space: Annotated[
        str, typer.Option("--space", "-s", parser=space_word, metavar="SPACE", help=SPACE_HELP)
    ] = "mbv3-w1.0",
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
    graph_form: Annotated[
        str | None,
        typer.Option(
            help="Form of the exported models: fused (HardSwish as one operator) or literal; int8: integer or fused. "
            "[default: fused; integer for int8]"
        ),
    ] = None,
    plan: Annotated[
        str,
        typer.Option(help="Blocks to measure: all, or active (measure a subset; estimate the rest with --fill)."),
    ] = "all",
    fraction: FractionOption = None,
    share: OldFractionOption = None,
    nets: Annotated[
        int | None,
        typer.Option(
            min=5, max=MOST_NETWORKS, help="Measure this many whole sub-nets instead of blocks, for ofa-predict fit."
        ),
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="How to choose the sub-nets of --nets: d-optimal or random. [default: d-optimal]")
    ] = None,
    budget_s: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=MOST_S,
            help="Seconds for the whole session. [default: 60 + 70 per resolution, less with --plan active; "
            "6 per sub-net with --nets, at least 40]",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=3, help="Number of fresh processes to measure in.")] = 5,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        to_file("--out", "-o", help="Table to write. [default: luts/DEVICE-BACKEND.csv, or ...-nets.csv with --nets]"),
    ] = None,
    fresh: FreshOption = False,
    python: PythonOption = None,
    benchmark_binary: BenchmarkOption = None,
    agent_binary: AgentOption = None,
    litert_library: LibraryOption = None,
    runtime: RuntimeOption = None,
    keep: KeepOption = False,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Set maximum clock speeds while measuring, if permitted; restored afterwards."),
    ] = False,
    energy: Annotated[
        bool, typer.Option("--energy", help="Also measure the energy of whole networks; takes about 15 minutes.")
    ] = False,
) -> None:
    """Measure the building blocks of a space on a device and write the table."""
    from ofa_core.space_files import space_from
    from profiler.backends import info
    from profiler.campaign import ProfileSpec
    from profiler.console import progress_rows
    from profiler.device_run import RunOptions
    from profiler.fleet import measure_all, stoppable
    from profiler.launch import Launch, backend_for, expand_targets
    from profiler.settings import Settings

    the_space = space_from(space)
    pixels = parse_resolutions(resolutions, the_space)
    check_choice(plan, ("all", "active"), "--plan")
    check_cpus(cpus)
    if energy and benchmark_binary is not None:
        raise typer.BadParameter(
            "energy cannot be measured with benchmark_model, which ends after each visit", param_hint="--energy"
        )
    part = part_of_blocks(plan, fraction, share, nets)
    networks = _networks(the_space, pixels, nets, select, seed)
    if budget_s is None:
        budget_s = blocks_budget_s(part, len(pixels)) if nets is None else networks_budget_s(nets)
    options = Launch(python, benchmark_binary, agent_binary, litert_library, keep, runtime)
    targets = {the_target.name or str(the_target): the_target for the_target in expand_targets(target)}
    for name in targets:
        check_name(name)
    if out is not None and len(targets) > 1:
        raise typer.BadParameter("leave out --out: one file cannot hold several tables", param_hint="--out")
    how = RunOptions(options, out, fresh, cpus, tune, energy)
    with _printed_at_end() as paths, progress_rows() as row:

        def measure(name: str, stop: threading.Event) -> int:
            the_target = targets[name]
            n_threads = threads or the_target.threads or 1
            settings = Settings(n_processes=processes, budget_s=budget_s, threads=n_threads, seed=seed)
            choice = backend_for(the_target, options, backend, dtype, delegate)
            check_graph_form(graph_form, choice)
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
                order=None if plan == "all" else partial(_active_blocks, part),
                networks=networks,
            )
            path, code = _profile_one(spec, the_target, how, stoppable(row(name), stop), len(targets) > 1)
            paths.append(path)
            return code

        if len(targets) == 1:
            worst = measure(next(iter(targets)), threading.Event())
        else:
            codes = measure_all(list(targets), measure, is_here=lambda name: targets[name].runs_here)
            worst = max(codes.values(), key=lambda code: (code == EXIT_KNOWN_ERROR, code))
    if worst:
        raise typer.Exit(worst)


def _networks(
    space: Space, pixels: Sequence[int], nets: int | None, select: str | None, seed: int
) -> tuple[Arch, ...] | None:
    """Return the sub-nets of `--nets`: the same for all devices, to predict one device from another."""
    import numpy as np

    from predictors.network_design import select_d_optimal
    from profiler.plan import reference_archs

    check_choice(select or "random", ("d-optimal", "random"), "--select")
    if nets is None:
        if select is not None:
            raise typer.BadParameter("--select needs --nets", param_hint="--select")
        return None
    _log_choosing(nets)
    rng = np.random.default_rng([seed, 3])
    if select == "random":
        return tuple(reference_archs(space, pixels, nets, rng))
    archs = tuple(select_d_optimal(space, nets, rng, pixels))
    if len(archs) < nets:
        raise OfaError(
            f"ask for fewer sub-nets: only {len(archs)} distinct sub-nets of {space.name} exist at these resolutions "
            f"({nets} requested)"
        )
    return archs


def _active_blocks(fraction: float, blocks: Sequence[BlockSpec]) -> list[BlockSpec]:
    """Return the first blocks of the order that `predictors.block_order` gives."""
    from predictors.block_latency import MIN_BLOCKS
    from predictors.block_order import active_order

    return active_order(blocks)[: max(MIN_BLOCKS, math.ceil(fraction * len(blocks)))]


def _profile_one(
    spec: ProfileSpec, target: Target, options: RunOptions, progress: Callable[[Progress], None], has_others: bool
) -> tuple[Path, int]:
    """Profile a target and log the summary, each line with the device if there are others; return path and code."""
    from profiler import console
    from profiler.device_run import profile_target

    started = time.monotonic()
    path, result = profile_target(spec, target, options, progress)
    took_s = time.monotonic() - started
    label = f"{spec.device}: " if has_others else ""
    filled, n_filled = None, 0
    if spec.order is not None:
        from predictors.filling import filled_table

        n_filled = sum(result.table.find(block) is None for block in spec.space.all_blocks(spec.resolutions))
        filled = filled_table(result.table, spec.space)
    n_lost = len(spec.networks) - len(result.networks) if spec.networks else 0
    for line in console.show_profile(result, took_s, filled, n_filled):
        _LOG.info("%s%s", label, line)
    if n_lost:
        _LOG.warning("%s%d sub-nets could not be measured; %s", label, n_lost, console.QUIETER)
    if spec.networks:
        _LOG.info("%snext: ofa-predict fit %s --out NAME.predictor; --source adds other devices", label, path)
    if result.is_unstable and not n_lost:
        _LOG.warning("%sunstable: %s", label, result.measured.crowding or console.QUIETER)
    return path, EXIT_UNSTABLE if n_lost or result.is_unstable else 0


@contextmanager
def _printed_at_end() -> Iterator[list[Path]]:
    """Print the paths that the body adds, after it has ended: stdout is not mixed with a progress bar."""
    paths: list[Path] = []
    try:
        yield paths
    finally:
        sys.stdout.write("".join(f"{path}\n" for path in paths))


def _log_choosing(n: int) -> None:
    if n >= MANY_NETWORKS:
        _LOG.info("choosing %d sub-nets", n)


@app.command()
def verify(
    lut: LutOption,
    nets: Annotated[
        int | None, typer.Option(min=1, max=MOST_NETWORKS, help="Measure this many random sub-nets.")
    ] = None,
    arch: Annotated[
        list[Path] | None,
        typer.Option(
            parser=arch_file,
            metavar="ARCH",
            help="Measure the architectures of this file: one, a list, CSV, or - for standard input. Repeatable.",
        ),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(help="Measure the networks of a candidates.json, and refit the table's calibration with them."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Device to measure on. [default: the table's device]")
    ] = None,
    space: SpaceOption = None,
    resolutions: Annotated[
        str | None, typer.Option("--resolutions", "-r", help="Input sizes of the random sub-nets.")
    ] = None,
    resolution: ResolutionOption = None,
    budget_s: Annotated[
        float | None,
        typer.Option(min=1, max=MOST_S, help="Seconds for the session. [default: 6 per network, at least 40]"),
    ] = None,
    fill: Annotated[bool, typer.Option("--fill", help="Estimate the blocks that the table lacks.")] = False,
    seed: SeedOption = 1,
    fresh: FreshOption = False,
    python: PythonOption = None,
    benchmark_binary: BenchmarkOption = None,
    agent_binary: AgentOption = None,
    litert_library: LibraryOption = None,
    runtime: RuntimeOption = None,
    keep: KeepOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure whole sub-nets in new processes and compare them with the table."""
    import numpy as np

    from ofa_core.space_files import space_from
    from ofa_core.table import LatencyTable
    from predictors.filling import filled_table
    from predictors.loading import load_latency
    from profiler import console
    from profiler.device_run import TableFiles, opened_for
    from profiler.launch import Launch, launch_again, target_of
    from profiler.plan import reference_archs
    from profiler.remeasure import remeasure_path
    from profiler.settings import Settings
    from profiler.subnets import covered_resolutions, listed_subnets
    from profiler.verify import N_STATE, VerifySpec, load_calibration
    from profiler.verify import verify as run_verify

    if (nets is not None) + bool(arch) + (candidates is not None) != 1:
        raise typer.BadParameter("give one of --nets, --arch and --candidates")
    if resolution is not None and not arch:
        raise typer.BadParameter("--resolution is the input size of --arch", param_hint="--resolution")
    table = LatencyTable.read(lut)
    networks = load_calibration(lut, table)[1]
    named = None if space is None else space_from(space)
    default_space = partial(only_space, table, networks)
    if nets is None:
        the_space, archs = listed_subnets([candidates] if candidates else arch or [], named, default_space, resolution)
    else:
        _log_choosing(nets)
        the_space = named or default_space()
        pixels = parse_resolutions(resolutions, the_space) if resolutions else None
        pixels = pixels or covered_resolutions(lut, table, the_space, fill=fill)
        known = [net.arch for net in networks]
        archs = reference_archs(the_space, pixels, nets, np.random.default_rng([seed, 2]), avoid=known)
    if budget_s is None:
        budget_s = networks_budget_s(len(archs) + N_STATE)
    settings = Settings(budget_s=budget_s, seed=seed, n_processes=VERIFY_PROCESSES)
    role = "reference" if candidates is not None else "verify"
    latency = load_latency(lut, the_space, fill=fill)
    whole = None if latency.lut is latency else latency.predict  # sums do not give latencies here
    spec = VerifySpec(the_space, archs, settings, role, filled_table if fill else None, predict=whole)
    options = Launch(python, benchmark_binary, agent_binary, litert_library, keep, runtime)
    the_target = target_of(table.context.device, target)
    files = TableFiles(lut, remeasure_path(lut, "verify"), fresh)
    start = partial(launch_again, the_target, table.context, options)
    with (
        opened_for(files, table.context.device, start, budget_s) as runner,
        console.progress_bar("verify") as progress,
    ):
        started = time.monotonic()
        result = run_verify(lut, spec, runner, progress=progress)
        took_s = time.monotonic() - started
    if as_json:
        sys.stdout.write(json.dumps(console.verification_record(result)) + "\n")
    else:
        sys.stdout.write("\n".join(console.show_verification(result, took_s)) + "\n")


app.registered_commands += [*file_commands.commands.registered_commands, *device_commands.commands.registered_commands]


def main() -> int:
    """Entry point of the console script."""
    return run_app(app, prog="ofa-profile", errors=(OfaError, DeviceError))
