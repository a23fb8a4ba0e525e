"""What the options of `ofa-profile` have in common, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_core.cli_app import parse_pixels
from ofa_core.errors import OfaError

if TYPE_CHECKING:
    from ofa_core.arch import Arch
    from ofa_core.measured_networks import Network
    from ofa_core.space import Space
    from ofa_core.table import LatencyTable

__all__ = [
    "MOST_NETWORKS",
    "MOST_S",
    "AgentOption",
    "BackendOption",
    "BenchmarkOption",
    "DelegateOption",
    "DtypeOption",
    "FreshOption",
    "KeepOption",
    "LibraryOption",
    "LutOption",
    "PythonOption",
    "SeedOption",
    "TargetOption",
    "check_choice",
    "check_cpus",
    "check_name",
    "only_space",
    "parse_resolutions",
    "part_of_blocks",
    "verify_archs",
]

ACTIVE_SHARE = 0.25  # of the blocks: docs/predictors.md has what it costs

TargetOption = Annotated[
    list[str],
    typer.Option(
        "--target", "-t", help="Device: local, ssh:USER@HOST, adb:SERIAL, adb:pixel2, adb:* or an alias. Repeatable."
    ),
]
LutOption = Annotated[Path, typer.Option("--lut", help="Latency table (CSV) that ofa-profile wrote.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random orders and choices.")]
MOST_NETWORKS = 20_000  # measuring them takes more than a day
MOST_S = 1e7  # four months: a session ends
BackendOption = Annotated[
    str | None, typer.Option(help="Runtime on the device. [default: onnxruntime; tflite on phones]")
]
DtypeOption = Annotated[str | None, typer.Option(help="Type of weights and activations: fp32 or fp16. [default: fp32]")]
DelegateOption = Annotated[
    str | None,
    typer.Option(
        help="Part of the runtime that computes: cpu or cuda for onnxruntime and torch (cuda-nhwc and cuda-eager for "
        "torch, too), xnnpack or none for tflite. cuda:1 is the second GPU. [default: cpu or xnnpack]"
    ),
]
PythonOption = Annotated[str | None, typer.Option(help="Interpreter on the device.")]
BenchmarkOption = Annotated[
    Path | None, typer.Option(help="The official benchmark_model, built for the device: run it instead of an agent.")
]
AgentOption = Annotated[Path | None, typer.Option(help="The C agent, built for the device. [default: built here]")]
LibraryOption = Annotated[Path | None, typer.Option(help="libLiteRt.so for the C agent.")]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Set the journal of an interrupted run aside instead of resuming it.")
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Leave the files on the device for the next time.")]


def check_choice(value: str, choices: tuple[str, ...], option: str) -> None:
    """Refuse, as wrong usage, what is none of the choices."""
    if value not in choices:
        raise typer.BadParameter(f"{value!r}; {' or '.join(choices)}", param_hint=option)


def check_name(name: str) -> None:
    """Refuse, as wrong usage, a device's name that no table can hold."""
    from ofa_core.context import MAX_TEXT

    if len(name) > MAX_TEXT or not name.isprintable():
        raise typer.BadParameter(f"{ascii(name)[:80]}: a device's name has at most {MAX_TEXT} printable characters")


def check_cpus(cpus: str | None) -> None:
    """Refuse, as wrong usage, what names no cores."""
    from profiler.cpu_clusters import parse_cpus

    if cpus is not None and cpus not in ("big", "little", "all"):
        try:
            parse_cpus(cpus)
        except OfaError as error:
            raise typer.BadParameter(str(error)) from error


def part_of_blocks(plan: str, share: float | None, nets: int | None) -> float:
    """The part of the blocks that is to be measured with a table."""
    if nets is not None and plan != "all":
        raise typer.BadParameter("--nets measures no blocks", param_hint="--plan")
    if share is not None and plan == "all":
        raise typer.BadParameter("a part of the blocks is chosen with --plan active", param_hint="--share")
    return 1.0 if plan == "all" else share or ACTIVE_SHARE


def parse_resolutions(text: str | None, space: Space) -> tuple[int, ...]:
    """Read `160,192,224` or `128-224:16`; the default is three of the space's choices, spread over its range."""
    if text is None:
        return (160, 192, 224) if 224 in space.resolutions else space.resolutions
    from ofa_core.space import check_resolution

    pixels = parse_pixels(text)
    for px in pixels:
        check_resolution(px)
    return pixels


def verify_archs(
    lut: Path,
    table: LatencyTable,
    space: str | None,
    nets: int | None,
    arch: list[Path] | None,
    candidates: Path | None,
    resolutions: str | None,
    fill: bool,
    seed: int,
    resolution_px: int | None = None,
) -> tuple[Space, list[Arch]]:
    """The sub-nets that `verify` was asked to measure, and their space; `resolution_px` is the input size of `arch`."""
    import numpy as np

    from ofa_core.formats.arch_files import read_archs
    from ofa_core.genomes import decode
    from ofa_core.space_files import space_from
    from ofa_core.space_record import require_space
    from profiler.plan import reference_archs
    from profiler.verify import load_calibration

    networks = load_calibration(lut, table)[1]
    if nets is None:
        named = None if space is None else space_from(space)
        paths = [candidates] if candidates else arch or []
        found = [read_archs(p, named, lambda: only_space(table, networks), resolution_px) for p in paths]
        for path, other in zip(paths, found, strict=True):
            require_space(other.space, found[0].space, path)
        the_space = found[0].space
        return the_space, list(dict.fromkeys(decode(the_space, np.concatenate([nets.genomes for nets in found]))))
    the_space = only_space(table, networks) if space is None else space_from(space)
    pixels = table.input_sizes() if fill else table.resolutions(the_space)
    if resolutions:
        pixels = parse_resolutions(resolutions, the_space)
    elif not pixels:
        raise OfaError(f"{lut} covers {the_space.name} completely at no resolution; --fill estimates what is missing")
    known = [net.arch for net in networks]
    return the_space, reference_archs(the_space, pixels, nets, np.random.default_rng([seed, 2]), avoid=known)


def only_space(table: LatencyTable, networks: Sequence[Network] = ()) -> Space:
    """The space that a table is for, where only one can be meant."""
    from ofa_core.measured_networks import spaces_of

    spaces = spaces_of(table, networks)
    if len(spaces) != 1:
        covered = ", ".join(space.name for space in spaces) or "no built-in space completely"
        raise typer.BadParameter(f"the table covers {covered}; name one", param_hint="--space")
    return spaces[0]
