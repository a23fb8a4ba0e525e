"""Options that several commands have, and the parsers of files that may be published ones.

A file that is read is a path, or an address such as `hub:NAME` (see `ofa_core.hub`). The parser of its option returns
the local file, so that readers see local files only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "COLUMN_HELP",
    "SPACE_HELP",
    "ColumnOption",
    "SpaceOption",
    "accuracy_file",
    "arch_file",
    "space_word",
    "supernet_file",
    "table_argument",
    "table_file",
    "table_option",
    "weights_file",
]


def _file(*kinds: str) -> Callable[[str | Path], Path]:
    """Return the parser of a file that is read; `kinds` as in `ofa_core.hub.local_path`."""

    def parse(text: str | Path) -> Path:
        from ofa_core.hub import local_path

        return local_path(str(text), kinds)

    return parse


weights_file = _file("supernet", "net")
supernet_file = _file("supernet")
arch_file = _file("arch")
table_file = _file("table")


def table_option(*names: str, help: str) -> Any:  # noqa: A002  (as typer calls it)
    """Return a typer option that names a latency file to be read."""
    return typer.Option(*names, parser=table_file, metavar="FILE", help=help, show_default=False)


def table_argument(*, help: str, metavar: str = "FILE") -> Any:  # noqa: A002
    """Return a typer argument that names a latency file to be read."""
    return typer.Argument(parser=table_file, metavar=metavar, help=help, show_default=False)


def accuracy_file(text: str) -> str:
    """Parse `--accuracy`: an address becomes the path of its local file; other words stay."""
    from ofa_core.hub import is_address

    return str(_file("accuracy")(text)) if is_address(text) else text


def space_word(text: str) -> str:
    """Parse `--space`: `hub:NAME` becomes the name of its space; other words stay."""
    from ofa_core.hub import space_name

    return space_name(text)


SPACE_HELP = (
    "Search space: a name such as mbv3-w1.0, a .toml file (a space or training settings), a supernet.pt, or hub:NAME."
)

SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        "-s",
        parser=space_word,
        metavar="SPACE",
        help=f"{SPACE_HELP}  [default: the space of the given files]",
    ),
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
