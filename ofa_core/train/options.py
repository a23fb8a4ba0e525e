"""The options that several sub-commands of `ofa-train` have."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ofa_core.cli_app import to_file, to_folder
from ofa_core.cli_options import arch_file, weights_file

if TYPE_CHECKING:
    from ofa_core.export.network_ranges import Ranges
    from ofa_core.train.int8 import RangeSettings

_LOG = logging.getLogger(__name__)

Data = Annotated[str, typer.Option("--data", help="Images: digits, imagefolder:PATH, cifar10:PATH or npz:TRAIN,VAL.")]
WEIGHTS_HELP = "Checkpoint of ofa-train, published state dict, folder of a published net, or hub:NAME."
ARCH_HELP = "Architecture of the sub-net: arch.json, or hub:NAME of a net."
Weights = Annotated[Path, typer.Argument(parser=weights_file, metavar="WEIGHTS", help=WEIGHTS_HELP, show_default=False)]
WeightsOption = Annotated[
    Path, typer.Option("--weights", parser=weights_file, metavar="WEIGHTS", help=WEIGHTS_HELP, show_default=False)
]
ArchFile = Annotated[Path, typer.Argument(parser=arch_file, metavar="ARCH", help=ARCH_HELP, show_default=False)]
How = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        help="Set the preprocessing of published weights, whose file does not contain it: imagenet, half or half-crop.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Number of processes that decode images.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
OutFile = Annotated[Path, to_file("--out", help="Write the result to this file.")]
OutFolder = Annotated[Path, to_folder("--out", help="Write the result to this folder.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint in --out.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
Dtype = Annotated[
    Literal["fp32", "int8"],
    typer.Option("--dtype", help="fp32; or int8: quantise the network, with ranges found on training images."),
]
RangeMethod = Annotated[
    Literal["minmax", "percentile", "mse"],
    typer.Option(
        "--ranges",
        help="For int8: ranges from the smallest to the largest value; without the outer 0.01 % of the values at each "
        "end; or of the smallest mean squared error.",
    ),
]
RangeImages = Annotated[int, typer.Option("--range-images", min=1, help="For int8: images that ranges are found on.")]


def range_settings(dtype: str, method: Literal["minmax", "percentile", "mse"], n_images: int) -> RangeSettings | None:
    """Return how ranges are found; None for fp32."""
    from ofa_core.train.int8 import RangeSettings

    return RangeSettings(method, n_images) if dtype == "int8" else None


def say_stored(weights: Path, stored: Ranges | None, how: RangeSettings | None) -> None:
    """Log that a checkpoint holds ranges, which are used in place of those asked for."""
    if stored is not None and how is not None and stored.note != how.note:
        _LOG.info("%s holds %s: --ranges and --range-images are not used", weights, stored.note)
