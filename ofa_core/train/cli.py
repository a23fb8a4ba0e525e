"""`ofa-train`: the composition root of training. Everything heavy is imported inside the commands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_core.cli_app import ResolutionOption, new_app, out_file_or_folder, run_app, to_file, to_folder
from ofa_core.cli_options import SpaceOption
from ofa_core.train.console import print_accuracies, progress, warn, warn_of_chance

if TYPE_CHECKING:
    from ofa_core.train.commands import Opened
    from ofa_core.train.config import Config
    from ofa_core.train.distributed import Process
    from ofa_core.train.evaluation import Accuracy
    from ofa_core.train.run import Events

__all__ = ["app", "main"]

app = new_app(
    "Train a supernet once, then evaluate, fine-tune and export its sub-nets. Without a sub-command: a tiny supernet "
    "on the embedded digits through all phases, in minutes."
)

Data = Annotated[str, typer.Option("--data", help="digits, imagefolder:PATH, cifar10:PATH or npz:TRAIN,VAL.")]
Weights = Annotated[Path, typer.Argument(help="Checkpoint of ofa-train or published state dict.", show_default=False)]
WeightsOption = Annotated[Path, typer.Option("--weights", help="The supernet's checkpoint.", show_default=False)]
ArchFile = Annotated[Path, typer.Argument(help="arch.json.", show_default=False)]
How = Annotated[
    str | None, typer.Option("--preprocessing", help="imagenet, half or half-crop, where the file does not say.")
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that decode images.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
OutFile = Annotated[Path, to_file("--out", help="File that the result is written to.")]
OutFolder = Annotated[Path, to_folder("--out", help="Folder that the result is written to.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML settings.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the folder's newest checkpoint.")]


@app.callback()
def train_embedded(
    out: OutFolder = Path("runs/digits"),
    epochs: Annotated[float | None, typer.Option(help="Passes over the images, all phases together.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Resume = False,
) -> None:
    """Train the embedded default and print what its sub-nets reach."""
    from dataclasses import replace

    from ofa_core.train.config import embedded

    config = embedded()
    recipe = config.recipe if epochs is None else replace(config.recipe, epochs=epochs)
    _train(replace(config, recipe=recipe, run=replace(config.run, seed=seed, device="cpu")), out, resume, None)


@app.command()
def supernet(
    data: Annotated[str | None, typer.Option("--data", help="Default: that of --config, else digits.")] = None,
    config: ConfigFile = None,
    out: OutFolder = Path("runs/supernet"),
    space: SpaceOption = None,
    recipe: Annotated[str | None, typer.Option(help="progressive, joint or sandwich.")] = None,
    epochs: Annotated[float | None, typer.Option(help="All phases together; default as published.")] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", help="Weights to start from.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=0, help="Processes that decode images.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    resume: Resume = False,
) -> None:
    """Train a supernet through all phases. Under torchrun: one process per device."""
    from dataclasses import replace

    from ofa_core.space_files import SpaceConfig, space_table

    settings = _settings(config, data or "digits")
    if space is not None:  # in place of that of --config, but for what is no part of a space's identity
        kept = SpaceConfig(resolutions=settings.space.resolutions, dropout=settings.space.dropout)
        settings = replace(settings, space=kept)
    overrides: dict[str, dict[str, Any]] = {
        "space": {} if space is None else space_table(space),
        "data": {"source": data, "workers": workers},
        "recipe": {"name": recipe, "epochs": epochs},
        "run": {"device": device, "seed": seed},
    }
    from ofa_core.train.config import from_table

    for part, values in overrides.items():
        given = {k: v for k, v in values.items() if v is not None}
        if given:
            current = getattr(settings, part)
            checked = from_table(type(current), {**_as_table(current), **given}, part)
            settings = replace(settings, **{part: checked})
    _train(settings, out, resume, start_from)


@app.command()
def evaluate(
    weights: Weights,
    data: Data = "digits",
    arch: Annotated[list[Path] | None, typer.Option("--arch", help="arch.json of a sub-net; repeatable.")] = None,
    net_config: Annotated[Path | None, typer.Option(help="net.config of a published specialised net.")] = None,
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Print the accuracy of sub-nets (each calibrated first), or of a checkpoint."""
    from ofa_core.formats.arch_files import read_arch
    from ofa_core.nn.supernet import Supernet
    from ofa_core.train import commands
    from ofa_core.train.distributed import process_group
    from ofa_core.train.evaluation import standard_archs
    from ofa_core.train.sources import open_sources

    if net_config is not None:
        with process_group(device) as process:
            how = commands.named_preprocessing(preprocessing, weights)
            images = open_sources(data)[1]
            result = commands.evaluate_static(net_config, weights, how, images, workers, process, resolution)
            print_accuracies([(net_config.name, result)], images.labels, process)
        return
    with _opened(weights, data, space, preprocessing, workers, device) as opened:
        checkpoint, evaluator = opened.checkpoint, opened.evaluator
        if isinstance(checkpoint.net, Supernet):
            archs = {str(p): read_arch(p, checkpoint.space, resolution) for p in arch} if arch else None
            if archs is None and resolution is not None:
                archs = standard_archs(checkpoint.space, (resolution,))
            rows = [(n, a) for n, _, a in commands.evaluate_standard(checkpoint.net, evaluator, archs)]
        else:
            sub, own = commands.net_for(checkpoint, None, evaluator)
            own = own if resolution is None else own.at(resolution)
            checkpoint.space.validate(own)
            rows = [(str(own), evaluator.accuracy(sub, own))]
        print_accuracies(rows, evaluator.labels, opened.process)


@app.command("accuracy-table")
def accuracy_table(
    weights: Weights,
    data: Data = "digits",
    out: OutFile = Path("accuracy.csv"),
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="Random sub-nets (paper: 16,000).")] = 1000,
    images: Annotated[int, typer.Option(min=1, help="Held-out training images (paper: 10,000).")] = 10_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Measure random sub-nets for `ofa-search --accuracy`; goes on where it was interrupted."""
    from ofa_core.train import commands
    from ofa_core.train.accuracy_table import merge
    from ofa_core.train.distributed import alone, any_rank

    with _opened(weights, data, space, preprocessing, workers, device, held_out=images) as opened:
        process = opened.process
        measured: list[Accuracy] = []
        with alone(out, process), progress(process.is_root) as bar:
            for done, wanted in commands.table_rows(opened, out, n, seed, measured.append):
                bar("sub-nets", done, wanted)
        warn_of_chance(measured, opened.data.train.labels[opened.data.held_out], process)
        any_rank(False, process)  # wait for all
        if process.is_root:
            sys.stdout.write(f"{merge(out, process.world)} sub-nets in {out}\n")


@app.command()
def finetune(
    arch: ArchFile,
    weights: WeightsOption,
    data: Data = "digits",
    out: OutFile = Path("subnet.pt"),
    epochs: Annotated[int, typer.Option(min=1, help="25 and 75 are the paper's.")] = 25,
    lr: Annotated[float | None, typer.Option(help="Of one process.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2)] = None,
    config: ConfigFile = None,
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
    device: Device = "auto",
) -> None:
    """Train one sub-net by itself, starting from the supernet's weights."""
    from dataclasses import replace

    from ofa_core.formats.arch_files import read_arch
    from ofa_core.train import commands, phases
    from ofa_core.train.finetune import finetune_subnet
    from ofa_core.train.loop import n_steps

    base = _settings(config, data) if config is not None else None
    with _opened(weights, data, space, preprocessing, workers, device, base=base) as opened:
        checkpoint, evaluator, process = opened.checkpoint, opened.evaluator, opened.process
        sub, member = commands.net_for(checkpoint, read_arch(arch, checkpoint.space, resolution), evaluator)
        before = evaluator.accuracy(sub, member)
        given = {k: v for k, v in {"lr": lr, "batch_size": batch_size}.items() if v is not None}
        phase = replace(phases.finetune(epochs), **given)  # type: ignore[arg-type]
        if opened.config.run.compile and process.is_root:
            warn("compiling the network before the first step: minutes on a CPU")
        total = n_steps(phase, opened.data.loader(opened.config, phase, checkpoint.space, process))[1]
        with progress(process.is_root) as bar:
            finetune_subnet(
                sub, checkpoint.space, member, opened.config, phase, opened.data, process, out,
                on_step=lambda step: bar("steps", step.index + 1, total),
            )  # fmt: skip
        after = evaluator.accuracy(sub, member)
        print_accuracies([("before", before), (f"after {epochs} epochs", after)], evaluator.labels, process)


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

    with _opened(weights, data, space, preprocessing, workers, device) as opened:
        checkpoint, evaluator, process = opened.checkpoint, opened.evaluator, opened.process
        sub, member = commands.net_for(checkpoint, read_arch(arch, checkpoint.space, resolution), evaluator)
        if process.is_root:
            write_checkpoint(out, sub, checkpoint.space, checkpoint.preprocessing, member, opened.data.train.classes)
        print_accuracies([(str(member), evaluator.accuracy(sub, member))], evaluator.labels, process)


@app.command()
def export(
    weights: Weights,
    out: Annotated[
        Path, typer.Option("--out", parser=out_file_or_folder, metavar="PATH", help="Where the result goes.")
    ] = Path("subnet.onnx"),
    arch: Annotated[Path | None, typer.Option(help="arch.json, where the checkpoint is a supernet.")] = None,
    data: Data = "digits",
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    resolution: ResolutionOption = None,
    space: SpaceOption = None,
    preprocessing: How = None,
    workers: Workers = 0,
) -> None:
    """Write a sub-net with its weights: .onnx, .tflite, or a folder of net.config, run.config and init.

    A supernet's sub-net is calibrated first, on the images of --data.
    """
    from ofa_core.atomic import write_bytes
    from ofa_core.formats.arch_files import read_arch
    from ofa_core.formats.net_config import write_net_config
    from ofa_core.formats.published_weights import write_published
    from ofa_core.train import commands

    if resolution is not None and arch is None:
        raise typer.BadParameter("it is the input size of --arch", param_hint="--resolution")
    with _opened(weights, data, space, preprocessing, workers, "cpu", check_labels=False) as opened:
        checkpoint = opened.checkpoint
        wanted = None if arch is None else read_arch(arch, checkpoint.space, resolution)
        sub, member = commands.net_for(checkpoint, wanted, opened.evaluator)
    if out.suffix == ".onnx":
        from ofa_core.export.onnx import arch_model, write_onnx
        from ofa_core.export.trained_weights import trained_weights

        write_onnx(arch_model(checkpoint.space, member, batch_size=batch_size, weights=trained_weights(sub)), out)
    elif out.suffix == ".tflite":
        from ofa_core.export import tflite as to_tflite
        from ofa_core.export.trained_weights import trained_weights

        content = to_tflite.arch_tflite(checkpoint.space, member, batch_size=batch_size, weights=trained_weights(sub))
        write_bytes(out, content)
    else:
        write_net_config(out, checkpoint.space, member)
        write_published(out / "init", sub)
    sys.stdout.write(f"{out}\n")


@contextmanager
def _opened(
    weights: Path,
    data: str,
    space: str | None,
    preprocessing: str | None,
    workers: int,
    device: str,
    *,
    base: Config | None = None,
    held_out: int | None = None,
    check_labels: bool = True,
) -> Iterator[Opened]:
    """A checkpoint and images, in this process among those of torchrun; says in the end which could not be read."""
    from ofa_core.space_files import space_from
    from ofa_core.train.commands import open_checkpoint
    from ofa_core.train.distributed import process_group

    with process_group(device) as process:
        opened = open_checkpoint(
            weights,
            data,
            process,
            space=None if space is None else space_from(space),
            preprocessing=preprocessing,
            workers=workers,
            base=base,
            held_out=held_out,
            check_labels=check_labels,
        )
        yield opened
        if opened.data.unreadable.names and process.is_root:
            warn(f"{opened.data.unreadable.summary()}, and left out")


def _settings(config: Path | None, data: str) -> Config:
    from ofa_core.train.config import Config, DataConfig, embedded, read_config

    if config is not None:
        return read_config(config)
    return embedded() if data == "digits" else Config(data=DataConfig(data))


def _as_table(settings: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items() if v is not None}


def _train(config: Config, out: Path, resume: bool, start_from: Path | None) -> None:
    from ofa_core.train import commands, run
    from ofa_core.train.distributed import alone, process_group

    data = run.open_data(config)
    run.recipe_of(config, data)  # what is wrong with the settings is told before a folder is made
    with (
        process_group(config.run.device) as process,
        alone(out / run.SUPERNET_FILE, process),
        _training_events(process) as events,
    ):
        net = run.train_supernet(config, out, data, process, resume=resume, start_from=start_from, events=events)
        evaluator = data.evaluator(config, process)
        rows = [(name, a) for name, _, a in commands.evaluate_standard(net, evaluator)]
        print_accuracies(rows, evaluator.labels, process)
        if process.is_root:
            sys.stdout.write(f"{out / run.SUPERNET_FILE}\n")


@contextmanager
def _training_events(process: Process) -> Iterator[Events]:
    """Progress on stderr, and SIGTERM as the wish to stop after a checkpoint."""
    from ofa_core.train.run import Events

    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    total = [1]
    with progress(process.is_root) as bar:

        def start(phase: Any, step: int, n_steps: int) -> None:
            total[0] = n_steps
            bar(phase.name, step, n_steps)

        try:
            yield Events(
                start=start,
                step=lambda step: bar(
                    step.phase, step.index + 1, total[0], f"loss {step.loss:.3f} top-1 {step.top1:.1f} %"
                ),
                warn=warn if process.is_root else lambda _: None,
                stop=lambda: bool(stopped),
            )
        finally:
            signal.signal(signal.SIGTERM, before)


def main() -> int:
    """Console entry point."""
    return run_app(app, prog="ofa-train")
