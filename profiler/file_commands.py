"""The commands of `ofa-profile` that take tables from files: `compare` and `convert`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ofa_core.cli_app import EXIT_UNSTABLE, out_file_or_folder
from ofa_core.errors import OfaError
from profiler.options import only_space

__all__ = ["compare", "convert"]


def compare(
    old: Annotated[Path, typer.Argument(help="A latency table.")],
    new: Annotated[Path, typer.Argument(help="Another one, of the same device or not.")],
) -> None:
    """Tell what changed between two tables beyond noise; exit code 3 if anything did."""
    from ofa_core.formats.yaml_tables import read_table
    from profiler import console
    from profiler.compare import compare as run_compare

    result = run_compare(read_table(old), read_table(new))
    sys.stdout.write("\n".join(console.show_comparison(result)) + "\n")
    if result.changed:
        raise typer.Exit(EXIT_UNSTABLE)


def convert(
    src: Annotated[Path, typer.Argument(help="A table: CSV, a published YAML file, or a folder of them.")],
    dst: Annotated[
        Path,
        typer.Argument(
            parser=out_file_or_folder,
            metavar="DST",
            help="A .csv file, or a folder for OFA's <resolution>_lookup_table.yaml.",
        ),
    ],
    space: Annotated[str | None, typer.Option("--space", "-s", help="Whose networks, for YAML output.")] = None,
) -> None:
    """Convert between our CSV tables and the published YAML ones."""
    from ofa_core.formats.yaml_tables import read_table, write_ofa_yaml
    from ofa_core.spaces import get_space

    unread: list[str] = []
    table = read_table(src, unread)
    if unread:
        typer.echo(f"{src}: {len(unread)} keys not understood, such as {unread[0]}", err=True)
    if dst.suffix == ".csv":
        table.write(dst)
        sys.stdout.write(f"{dst}\n")
        return
    the_space = get_space(space or only_space(table))
    pixels = table.resolutions(the_space)
    if not pixels:
        raise OfaError(f"{src} covers {the_space.name} completely at no resolution; nothing to write")
    write_ofa_yaml(table, dst, the_space, pixels)
    sys.stdout.write(f"{dst}: {', '.join(map(str, pixels))} px\n")
