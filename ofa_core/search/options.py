"""Options of `ofa-search` that set its goal, and the check of those that do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_core.cli_options import table_option

if TYPE_CHECKING:
    from ofa_core.search.limits import Limits

__all__ = [
    "FRONT_POINTS",
    "BesideOption",
    "BestOption",
    "FixOption",
    "MemoryOption",
    "MinTop1Option",
    "ObjectiveOption",
    "ParetoOption",
    "ProveOption",
    "check_goal",
    "default_objective",
]

FRONT_POINTS = 20
COSTS = ("latency", "energy", "memory")

MinTop1Option = Annotated[
    float | None,
    typer.Option(
        "--min-top1",
        help="Find the network with the least latency whose predicted top-1 accuracy is at least this, in percent.",
        show_default=False,
    ),
]

ObjectiveOption = Annotated[
    str | None,
    typer.Option("--objective", help="With --min-top1: minimise latency, energy or memory.  [default: latency]"),
]

MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--max-memory-mb",
        help="Limit the peak memory of activations, in megabytes, in the data type and for the batch of --lut.",
    ),
]

FixOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fix",
        metavar="NAME=VALUES",
        help="Fix parts of the network: d=2,3,4,\\*,\\* (depth of each stage), ks=... or e=... (of each slot), r=192. "
        "Repeat it for several parts.",
        show_default=False,
    ),
]

BesideOption = Annotated[
    list[Path] | None,
    table_option(
        "--beside",
        help="Also show the networks with this latency file, of another device or data type, in the report. Repeat it "
        "for several.",
    ),
]

BestOption = Annotated[int | None, typer.Option("--best", min=1, max=10, help="Write the K best different networks.")]

ProveOption = Annotated[
    float | None,
    typer.Option(
        "--prove",
        min=0,
        metavar="[GAP]",
        help="Prove that no network is better by more than GAP, in the unit of the objective. Without GAP, prove the "
        "optimum.",
    ),
]


ParetoOption = Annotated[
    int | None,
    typer.Option(
        "--pareto",
        min=2,
        max=200,
        help="Find the best networks at N limits from the smallest network to the largest, or to --max-latency-ms; "
        f"N is {FRONT_POINTS} if left out.",
        show_default=False,
    ),
]


def default_objective(min_top1: float | None) -> str:
    """Return the objective of a search whose user named none."""
    return "accuracy" if min_top1 is None else "latency"


def check_goal(limits: Limits, best: int | None, prove: float | None, others: Mapping[str, object]) -> None:
    """Refuse options that do not go together.

    Args:
        limits: limits and objective.
        best: value of --best.
        prove: value of --prove.
        others: options that have answers of their own, such as `--pareto`, with their values.
    """
    given = [name for name, value in others.items() if value is not None]
    if not (limits.named() or "--pareto" in given):
        raise typer.BadParameter("give a limit, or --pareto for a front", param_hint="--max-latency-ms")
    if limits.top1 is None and limits.objective in COSTS:
        expected = "needs --min-top1, the smallest accuracy; without it, the accuracy is maximised"
        raise typer.BadParameter(expected, param_hint="--objective")
    if limits.objective not in (COSTS if limits.top1 is not None else ("accuracy",)):
        expected = f"with --min-top1, one of {', '.join(COSTS)} is expected"
        raise typer.BadParameter(f"{limits.objective[:40]!r}; {expected}", param_hint="--objective")
    if limits.top1 is not None and limits.confidence is not None:
        raise typer.BadParameter("is of --max-latency-ms; leave --min-top1 out", param_hint="--confidence")
    if "--measure" in given and limits.latency_ms is None:
        raise typer.BadParameter("needs --max-latency-ms", param_hint="--measure")
    for option, value in (("--min-top1", limits.top1), ("--best", best), ("--prove", prove)):
        if value is not None and given:
            raise typer.BadParameter(f"cannot be combined with {given[0]}; leave one of them out", param_hint=option)
