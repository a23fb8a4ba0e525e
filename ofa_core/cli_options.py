"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["COLUMN_HELP", "SPACE_HELP", "ColumnOption", "SpaceOption"]

SPACE_HELP = "Search space: a name such as mbv3-w1.0, a .toml file (a space or training settings), or a supernet.pt."

SpaceOption = Annotated[
    str | None, typer.Option("--space", "-s", help=f"{SPACE_HELP}  [default: the space of the given files]")
]

COLUMN_HELP = (
    "Read the measured values from this column: NAME, or NAME=UNIT if the name has no unit. UNIT is s, ms, us, ns, % "
    "or fraction."
)

ColumnOption = Annotated[
    str | None,
    typer.Option(
        "--column", help=f"{COLUMN_HELP}  [default: the column with a known name, such as latency_ms or top1]"
    ),
]
