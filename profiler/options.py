"""Options of the commands of `ofa-profile`, and checks of their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_core.cli_app import parse_pixels
from ofa_core.cli_options import table_option
from ofa_core.errors import OfaError

if TYPE_CHECKING:
    from ofa_core.measured_networks import Network
    from ofa_core.space import Space
    from ofa_core.table import LatencyTable
    from profiler.backends import Choice

__all__ = [
    "MOST_NETWORKS",
    "MOST_S",
    "AgentOption",
    "BackendOption",
    "BenchmarkOption",
    "DelegateOption",
    "DtypeOption",
    "FractionOption",
    "FreshOption",
    "KeepOption",
    "LibraryOption",
    "LutOption",
    "OldFractionOption",
    "PythonOption",
    "RuntimeOption",
    "SeedOption",
    "TargetOption",
    "blocks_budget_s",
    "check_choice",
    "check_cpus",
    "check_graph_form",
    "check_name",
    "networks_budget_s",
    "only_space",
    "parse_resolutions",
    "part_of_blocks",
]

S_PER_NETWORK = 6.0
MIN_NETWORKS_S = 40.0
ACTIVE_FRACTION = 0.25  # of the blocks; docs/predictors.md gives the errors

TargetOption = Annotated[
    list[str],
    typer.Option(
        "--target", "-t", help="Device: local, ssh:USER@HOST, adb:SERIAL, adb:pixel2, adb:* or an alias. Repeatable."
    ),
]
LutOption = Annotated[Path, table_option("--lut", help="Latency table (CSV) that ofa-profile wrote.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random choices.")]
MOST_NETWORKS = 20_000  # take more than a day to measure
MOST_S = 1e7  # four months
BackendOption = Annotated[
    str | None, typer.Option(help="Runtime on the device. [default: onnxruntime; tflite on phones]")
]
DtypeOption = Annotated[
    str | None, typer.Option(help="Type of weights and activations: fp32, fp16 or int8. [default: fp32]")
]
DelegateOption = Annotated[
    str | None,
    typer.Option(
        help="Select the part of the runtime that computes. onnxruntime: cpu or cuda. torch: cpu, cuda, cuda-nhwc or "
        "cuda-eager. tflite: xnnpack or none. cuda:1 is the second GPU. [default: cpu or xnnpack]"
    ),
]
FractionOption = Annotated[
    float | None,
    typer.Option(min=0.01, max=1, help="Fraction of the blocks to measure with --plan active. [default: 0.25]"),
]
OldFractionOption = Annotated[float | None, typer.Option("--share", min=0.01, max=1, hidden=True)]
PythonOption = Annotated[str | None, typer.Option(help="Python interpreter on the device.")]
BenchmarkOption = Annotated[
    Path | None, typer.Option(help="Official benchmark_model, built for the device, to run instead of an agent.")
]
AgentOption = Annotated[Path | None, typer.Option(help="C agent, built for the device. [default: the shipped one]")]
LibraryOption = Annotated[
    Path | None,
    typer.Option(
        help="Runtime of the C agent: libLiteRt.so, or an .aar, .apk, .zip or .whl with it. [default: downloaded once]"
    ),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        help="Runtime of the C agent: official, or glibc: that for Linux, for phones whose Android is older than the "
        "official one. [default: that of the table or interrupted session, else official]"
    ),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Start again: rename the journal of an interrupted run instead of resuming it.")
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Leave the files on the device for later runs.")]


def check_choice(value: str, choices: tuple[str, ...], option: str) -> None:
    """Raise a usage error if a value is none of the choices."""
    if value not in choices:
        raise typer.BadParameter(f"{value!r} is not {' or '.join(choices)}", param_hint=option)


def check_graph_form(form: str | None, choice: Choice) -> None:
    """Raise a usage error for a graph form that a backend's models do not have with this dtype."""
    from profiler.backends import graph_forms

    forms = graph_forms(choice)
    if form is not None and form not in forms:
        raise typer.BadParameter(
            f"{form!r}: models of {choice.label} are {' or '.join(forms)}", param_hint="--graph-form"
        )


def check_name(name: str) -> None:
    """Raise a usage error for a device name that no table can hold."""
    from ofa_core.context import MAX_TEXT

    if len(name) > MAX_TEXT or not name.isprintable():
        raise typer.BadParameter(f"{ascii(name)[:80]}: a device's name has at most {MAX_TEXT} printable characters")


def check_cpus(cpus: str | None) -> None:
    """Raise a usage error for text that names no cores."""
    from profiler.cpu_clusters import parse_cpus

    if cpus is not None and cpus not in ("big", "little", "all"):
        try:
            parse_cpus(cpus)
        except OfaError as error:
            raise typer.BadParameter(str(error)) from error


def part_of_blocks(plan: str, fraction: float | None, old: float | None, nets: int | None) -> float:
    """Return the fraction of the blocks to measure; `old` is the value of --share."""
    if fraction is not None and old is not None:
        raise typer.BadParameter("is the old name of --fraction; give one of them", param_hint="--share")
    fraction = old if fraction is None else fraction
    if nets is not None and plan != "all":
        raise typer.BadParameter("leave out --plan: --nets measures no blocks", param_hint="--plan")
    if fraction is not None and plan == "all":
        raise typer.BadParameter("needs --plan active", param_hint="--fraction")
    return 1.0 if plan == "all" else fraction or ACTIVE_FRACTION


def blocks_budget_s(fraction: float, n_resolutions: int) -> float:
    """Return the default seconds of a session with a fraction of the blocks; half of the time goes to networks."""
    return 60.0 + 35.0 * (1 + fraction) * n_resolutions


def networks_budget_s(n: int) -> float:
    """Return the default seconds of a session of whole networks."""
    return max(MIN_NETWORKS_S, S_PER_NETWORK * n)


def parse_resolutions(text: str | None, space: Space) -> tuple[int, ...]:
    """Read `160,192,224` or `128-224:16`; the default is three of the space's input sizes, spread over its range."""
    if text is None:
        return (160, 192, 224) if 224 in space.resolutions else space.resolutions
    from ofa_core.space import check_resolution

    pixels = parse_pixels(text)
    for px in pixels:
        check_resolution(px)
    return pixels


def only_space(table: LatencyTable, networks: Sequence[Network] = ()) -> Space:
    """Return the only space that a table covers; raise a usage error if there is none or more than one."""
    from ofa_core.measured_networks import spaces_of

    spaces = spaces_of(table, networks)
    if len(spaces) != 1:
        covered = ", ".join(space.name for space in spaces) or "no built-in space completely"
        raise typer.BadParameter(f"the table covers {covered}; name a space", param_hint="--space")
    return spaces[0]
