"""The command line of `ofa-train`. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_core.cli_app import ResolutionOption, new_app, out_file_or_folder, run_app
from ofa_core.cli_options import SpaceOption, arch_file, supernet_file
from ofa_core.train import hub_commands
from ofa_core.train.console import events_of, print_accuracies, print_results, progress, stop_on_sigterm, warn_of_chance
from ofa_core.train.options import (
    ARCH_HELP,
    ArchFile,
    ConfigFile,
    Data,
    Device,
    Dtype,
    How,
    OutFile,
    OutFolder,
    RangeImages,
    RangeMethod,
    Resume,
    Seed,
    Weights,
    WeightsOption,
    Workers,
    range_settings,
    say_stored,
)

if TYPE_CHECKING:
    from ofa_core.space import Space
    from ofa_core.train.config import Config
    from ofa_core.train.evaluation import Accuracy

__all__ = ["app", "main"]

_log = logging.getLogger(__name__)

app = new_app(
    "Train a supernet once, then evaluate, fine-tune and export its sub-nets. Without a sub-command: train the tiny "
    "space on scikit-learn's digits through all phases, in minutes."
)


@app.callback()
def train_embedded(
    out: OutFolder = Path("runs/digits"),
    epochs: Annotated[float | None, typer.Option(help="Passes over the images in all phases.  [default: 50]")] = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Train the tiny space on scikit-learn's digits and print the accuracy of its sub-nets."""
    from dataclasses import replace

    from ofa_core.train.config import embedded

    config = embedded()
    recipe = config.recipe if epochs is None else replace(config.recipe, epochs=epochs)
    _train(replace(config, recipe=recipe, run=replace(config.run, seed=seed, device="cpu")), out, resume, None)


@app.command()
def supernet(
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Images: digits, imagefolder:PATH, cifar10:PATH or npz:TRAIN,VAL.  [default: those of --config, else "
            "digits]",
        ),
    ] = None,
    config: ConfigFile = None,
    out: OutFolder = Path("runs/supernet"),
    space: SpaceOption = None,
    recipe: Annotated[str | None, typer.Option(help="progressive, joint or sandwich.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the images in all phases.  [default: as published]")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            parser=supernet_file,
            metavar="WEIGHTS",
            help="Start from these weights instead of random ones.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Number of processes that decode images.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.")] = None,
    resume: Resume = False,
) -> None:
    """Train a supernet through all phases. Under torchrun, one process per device."""
    from dataclasses import replace

    from ofa_core.space_files import SpaceConfig, space_table
    from ofa_core.train.config import as_table, from_table, settings_of

    settings = settings_of(config, data or "digits")
    if space is not None:  # it replaces the space of --config, but not its resolutions and dropout
        kept = SpaceConfig(resolutions=settings.space.resolutions, dropout=settings.space.dropout)
        settings = replace(settings, space=kept)
    overrides: dict[str, dict[str, Any]] = {
        "space": {} if space is None else space_table(space),
        "data": {"source": data, "workers": workers},
        "recipe": {"name": recipe, "epochs": epochs},
        "run": {"device": device, "seed": seed},
    }
    for part, values in overrides.items():
        given = {k: v for k, v in values.items() if v is not None}
        if given:
            current = getattr(settings, part)
            checked = from_table(type(current), {**as_table(current), **given}, part)
            settings = replace(settings, **{part: checked})
    _train(settings, out, resume, start_from)


@app.command()
def evaluate(
    weights: Weights,
    data: Data = "digits",
    arch: Annotated[
        list[Path] | None,
        typer.Option("--arch", parser=arch_file, metavar="ARCH", help=f"{ARCH_HELP} Repeatable."),
    ] = None,
    net_config: Annotated[
        Path | None, typer.Option(help="net.config of a published specialised net.  [default: the one beside WEIGHTS]")
    ] = None,
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    ranges: RangeMethod = "minmax",
    range_images: RangeImages = 256,
) -> None:
    """Print the accuracy of a supernet's sub-nets, each calibrated first, or of a single network.

    With --dtype int8, print that of each network before and after quantisation, and how often both choose the same
    class.
    """
    from ofa_core.formats.arch_files import read_arch
    from ofa_core.nn.supernet import Supernet
    from ofa_core.train import commands
    from ofa_core.train.distributed import process_group
    from ofa_core.train.evaluation import standard_archs
    from ofa_core.train.int8 import measure
    from ofa_core.train.published import open_published

    how = range_settings(dtype, ranges, range_images)
    if weights.is_dir() and net_config is None:
        weights, net_config = weights / "init", weights
    request = commands.Request(weights, data, _space(space), preprocessing, workers)
    if net_config is not None:
        with process_group(device) as process:
            net, px, evaluator = open_published(net_config, request, process, resolution)
            result = measure(net, px, evaluator, how)
            print_results([(net_config.name, result)], evaluator.labels, process)
        return
    with commands.opened(request, device) as opened:
        checkpoint, evaluator = opened.checkpoint, opened.evaluator
        if isinstance(checkpoint.net, Supernet):
            archs = {str(p): read_arch(p, checkpoint.space, resolution) for p in arch} if arch else None
            if archs is None:
                archs = standard_archs(checkpoint.space, None if resolution is None else (resolution,))
        else:
            own = commands.net_for(checkpoint, None, evaluator)[1]
            own = own if resolution is None else own.at(resolution)
            checkpoint.space.validate(own)
            archs = {str(own): own}
        say_stored(weights, checkpoint.ranges, how)
        rows = []
        for name, member in archs.items():
            net, px = commands.subnet(checkpoint, member, evaluator), member.resolution_px
            rows.append((name, measure(net, px, evaluator, how, checkpoint.ranges)))
        print_results(rows, evaluator.labels, opened.process)


@app.command("accuracy-table")
def accuracy_table(
    weights: Weights,
    data: Data = "digits",
    out: OutFile = Path("accuracy.csv"),
    n: Annotated[
        int, typer.Option("--n", min=1, max=100_000, help="Number of random sub-nets (paper: 16,000).")
    ] = 1000,
    images: Annotated[int, typer.Option(min=1, help="Number of held-out training images (paper: 10,000).")] = 10_000,
    seed: Seed = 0,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    ranges: RangeMethod = "minmax",
    range_images: RangeImages = 256,
) -> None:
    """Measure random sub-nets for `ofa-search --accuracy`; continue a table that was interrupted."""
    from ofa_core.train import commands
    from ofa_core.train.accuracy_table import merge
    from ofa_core.train.distributed import alone, wait_for_all

    request = commands.Request(weights, data, _space(space), preprocessing, workers, held_out=images)
    with commands.opened(request, device) as opened:
        process = opened.process
        measured: list[Accuracy] = []
        with alone(out, process), progress(process.is_root) as bar:
            int8 = range_settings(dtype, ranges, range_images)
            for done, total in commands.table_rows(opened, out, n, seed, int8, measured.append):
                bar("sub-nets", done, total)
        warn_of_chance(measured, opened.data.train.labels[opened.data.held_out], process)
        wait_for_all(process)
        if process.is_root:
            sys.stdout.write(f"{merge(out, process.world)} sub-nets in {out}\n")


@app.command()
def finetune(
    arch: ArchFile,
    weights: WeightsOption,
    data: Data = "digits",
    out: OutFile = Path("subnet.pt"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images (paper: 25 and 75).")] = 25,
    lr: Annotated[float | None, typer.Option(help="Learning rate of one process.  [default: 0.0075]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images per process and step.  [default: 64]")] = None,
    config: ConfigFile = None,
    new_classifier: Annotated[
        bool, typer.Option("--new-classifier", help="Replace the classifier, for images of other classes.")
    ] = False,
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
    dtype: Dtype = "fp32",
    ranges: RangeMethod = "minmax",
    range_images: RangeImages = 256,
) -> None:
    """Train one sub-net alone, starting from the supernet's weights.

    With --dtype int8, the network computes in int8 while it is trained, and the result holds its ranges.
    """
    from dataclasses import replace

    from ofa_core.formats.arch_files import read_arch
    from ofa_core.train import commands, phases
    from ofa_core.train.config import settings_of
    from ofa_core.train.finetune import finetune_subnet
    from ofa_core.train.int8 import measure, ranges_of
    from ofa_core.train.run import TrainingRun

    settings = settings_of(config, data) if config is not None else None
    request = commands.Request(
        weights, data, _space(space), preprocessing, workers, settings, new_classifier=new_classifier
    )
    with commands.opened(request, device) as opened:
        checkpoint, evaluator, process = opened.checkpoint, opened.evaluator, opened.process
        sub, member = commands.net_for(checkpoint, read_arch(arch, checkpoint.space, resolution), evaluator)
        how, px = range_settings(dtype, ranges, range_images), member.resolution_px
        found = None if how is None else ranges_of(sub, px, evaluator, how)
        before = measure(sub, px, evaluator, how, found)
        given = {k: v for k, v in {"lr": lr, "batch_size": batch_size}.items() if v is not None}
        phase = replace(phases.finetune(epochs), **given)  # type: ignore[arg-type]
        if opened.config.run.compile:
            _log.info("compiling the network before the first step, which takes minutes on a CPU")
        with events_of(process) as events:
            run = TrainingRun(opened.config, opened.data, out, process, events)
            finetune_subnet(run, sub, checkpoint.space, member, phase, found)
        after = measure(sub, px, evaluator, how, found)
        print_results(
            [("before", before), (f"after {epochs} epoch{'s' * (epochs != 1)}", after)], evaluator.labels, process
        )


@app.command()
def calibrate(
    arch: ArchFile,
    weights: WeightsOption,
    data: Data = "digits",
    out: OutFile = Path("subnet.pt"),
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Extract a sub-net, calibrate its batch norm, and write it as a checkpoint."""
    from ofa_core.formats.arch_files import read_arch
    from ofa_core.formats.checkpoint import write_checkpoint
    from ofa_core.train import commands

    with commands.opened(commands.Request(weights, data, _space(space), preprocessing, workers), device) as opened:
        checkpoint, evaluator, process = opened.checkpoint, opened.evaluator, opened.process
        sub, member = commands.net_for(checkpoint, read_arch(arch, checkpoint.space, resolution), evaluator)
        if process.is_root:
            write_checkpoint(out, sub, checkpoint.space, checkpoint.preprocessing, member, opened.data.train.classes)
        print_accuracies([(str(member), evaluator.accuracy(sub, member))], evaluator.labels, process)


@app.command()
def export(
    weights: Weights,
    out: Annotated[
        Path, typer.Option("--out", parser=out_file_or_folder, metavar="PATH", help="Write the result here.")
    ] = Path("subnet.onnx"),
    arch: Annotated[
        Path | None,
        typer.Option(parser=arch_file, metavar="ARCH", help=f"{ARCH_HELP} Needed if the checkpoint is a supernet."),
    ] = None,
    data: Data = "digits",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per inference of .onnx and .tflite.")] = 1,
    net_config: Annotated[
        Path | None, typer.Option(help="net.config of a published specialised net.  [default: the one beside WEIGHTS]")
    ] = None,
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    dtype: Dtype = "fp32",
    ranges: RangeMethod = "minmax",
    range_images: RangeImages = 256,
) -> None:
    """Write a sub-net with its weights: .onnx, .tflite, or a folder of net.config, run.config and init.

    A supernet's sub-net is calibrated first, on the images of --data; with --dtype int8, ranges are found on them.
    """
    from ofa_core.formats.arch_files import read_arch
    from ofa_core.train import commands
    from ofa_core.train.distributed import ALONE
    from ofa_core.train.int8 import ranges_of
    from ofa_core.train.published import open_published
    from ofa_core.train.writing import Finished, writer_of

    if resolution is not None and arch is None and net_config is None:
        raise typer.BadParameter("give --arch too; this is its input size", param_hint="--resolution")
    how = range_settings(dtype, ranges, range_images)
    write = writer_of(out, batch_size, int8=how is not None)
    request = commands.Request(weights, data, _space(space), preprocessing, workers, check_labels=False)
    if net_config is not None:
        net, px, evaluator = open_published(net_config, request, ALONE, resolution)
        found = None if how is None else ranges_of(net, px, evaluator, how)
        write(Finished(net, net_config.stem, found))
    else:
        with commands.opened(request, "cpu") as opened:
            checkpoint = opened.checkpoint
            chosen = None if arch is None else read_arch(arch, checkpoint.space, resolution)
            sub, member = commands.net_for(checkpoint, chosen, opened.evaluator)
            found = checkpoint.ranges
            say_stored(weights, found, how)
            if how is not None and found is None:
                found = ranges_of(sub, member.resolution_px, opened.evaluator, how)
        write(Finished(sub, (checkpoint.space, member), None if how is None else found))
    sys.stdout.write(f"{out}\n")


def _space(space: str | None) -> Space | None:
    from ofa_core.space_files import space_from

    return None if space is None else space_from(space)


def _train(config: Config, out: Path, resume: bool, start_from: Path | None) -> None:
    from ofa_core.train import commands
    from ofa_core.train.distributed import alone, process_group
    from ofa_core.train.run import TrainingRun, open_data
    from ofa_core.train.supernet import SUPERNET_FILE, train_supernet

    data = open_data(config)
    TrainingRun(config, data, out).recipe()  # refuse wrong settings before a folder is made
    with (
        process_group(config.run.device) as process,
        alone(out / SUPERNET_FILE, process),
        stop_on_sigterm() as stop,
        events_of(process, stop) as events,
    ):
        run = TrainingRun(config, data, out, process, events)
        net = train_supernet(run, resume=resume, start_from=start_from)
        evaluator = data.evaluator(config, process)
        rows = [(name, a) for name, _, a in commands.evaluate_standard(net, evaluator)]
        print_accuracies(rows, evaluator.labels, process)
        if process.is_root:
            sys.stdout.write(f"{out / SUPERNET_FILE}\n")


app.add_typer(hub_commands.commands, name="hub")


def main() -> int:
    """Run `ofa-train`."""
    return run_app(app, prog="ofa-train")
