"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["SPACE_HELP", "SpaceOption"]

SPACE_HELP = "Search space: a name such as mbv3-w1.0, a .toml file (a space or training settings), or a supernet.pt."

SpaceOption = Annotated[
    str | None, typer.Option("--space", "-s", help=f"{SPACE_HELP}  [default: the space of the given files]")
]
