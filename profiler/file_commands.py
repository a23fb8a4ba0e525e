"""Commands of `ofa-profile` that work on files: `compare`, `convert`, `share` and `space`."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_core.cli_app import EXIT_UNSTABLE, out_file_or_folder, to_file
from ofa_core.cli_options import SPACE_HELP, ColumnOption, SpaceOption, space_word, table_argument
from ofa_core.errors import OfaError
from profiler.options import only_space

if TYPE_CHECKING:
    from ofa_core.measured_files import MeasuredFile
    from profiler.compare import Comparison

__all__ = ["commands"]

_LOG = logging.getLogger(__name__)
commands = typer.Typer()


@commands.command()
def compare(
    old: Annotated[Path, table_argument(metavar="OLD", help="A latency table, or hub:NAME.")],
    new: Annotated[
        Path,
        table_argument(metavar="NEW", help="A latency table to compare with it, of the same device or another."),
    ],
    fail_above: Annotated[
        str | None,
        typer.Option(
            "--fail-above",
            metavar="PERCENT",
            help="Exit with 3 only if all blocks, a kind of block or a single block became slower by as much as this, "
            "such as 3%.",
        ),
    ] = None,
    markdown: Annotated[
        Path | None, to_file("--markdown", help="Also write the outcome of --fail-above as Markdown.")
    ] = None,
    junit: Annotated[
        Path | None, to_file("--junit", help="Also write the outcome of --fail-above as JUnit XML.")
    ] = None,
) -> None:
    """Print the changes between two tables that exceed noise; exit code 3 for any, or those of --fail-above."""
    from ofa_core.formats.yaml_tables import read_table
    from profiler import console
    from profiler.compare import compare as run_compare

    limit = None if fail_above is None else _fraction(fail_above)
    if limit is None and (markdown or junit):
        raise typer.BadParameter("needs --fail-above", param_hint="--markdown" if markdown else "--junit")
    result = run_compare(read_table(old), read_table(new))
    if limit is None:
        sys.stdout.write("\n".join(console.show_comparison(result)) + "\n")
        failed = result.changed
    else:
        failed = _gate(result, limit, markdown, junit)
    if failed:
        raise typer.Exit(EXIT_UNSTABLE)


def _fraction(text: str) -> float:
    """Read a percentage of a command line as a fraction."""
    number = text.removesuffix("%").strip()
    try:
        percent = float(number) if text.endswith("%") else math.nan
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 1000:
        raise typer.BadParameter(f"{text[:40]!r}; a percentage is expected, such as 3%", param_hint="--fail-above")
    return percent / 100


def _gate(result: Comparison, limit: float, markdown: Path | None, junit: Path | None) -> bool:
    """Print and write the outcome of --fail-above; return True if something is slower."""
    from ofa_core.atomic import write_text
    from profiler.regression import gate, junit_text, markdown_text, text_lines

    outcome = gate(result, limit)
    sys.stdout.write("\n".join(text_lines(outcome)) + "\n")
    if markdown is not None:
        write_text(markdown, markdown_text(outcome))
    if junit is not None:
        write_text(junit, junit_text(outcome))
    return outcome.failed


@commands.command()
def report(
    table: Annotated[Path, table_argument(metavar="TABLE", help="A latency table, or hub:NAME.")],
    other: Annotated[
        Path | None, table_argument(metavar="[OTHER]", help="A table of the same blocks, shown beside it.")
    ] = None,
    out: Annotated[Path | None, to_file("--out", "-o", help="[default: the table's name with .html, here]")] = None,
) -> None:
    """Write a page of a table: blocks, intervals, whole networks, conditions; with OTHER, also the differences."""
    from profiler.table_page import read_files, write_table_page

    path = out or Path(f"{table.stem}.html")
    write_table_page(path, read_files(table), None if other is None else read_files(other))
    sys.stdout.write(f"{path}\n")


@commands.command()
def share(
    table: Annotated[Path, typer.Argument(help="Latency table that ofa-profile wrote.", show_default=False)],
    licence: Annotated[
        str,
        typer.Option(
            "--licence", help="Terms for others, in one line, such as CC0-1.0 or CC-BY-4.0.", show_default=False
        ),
    ],
    out: Annotated[Path | None, to_file("--out", "-o", help="[default: TABLE without .csv, and .share.zip]")] = None,
) -> None:
    """Put a table, its networks, conditions, versions and licence into one file that others can use by its address."""
    import hashlib
    from importlib.metadata import version
    from platform import python_version

    from ofa_core.share import SHARE_SUFFIX, write_share

    if not licence.strip() or not licence.isprintable() or len(licence) > 200:
        raise typer.BadParameter("give one line of at most 200 characters", param_hint="--licence")
    path = out or table.with_name(f"{table.stem}{SHARE_SUFFIX}")
    versions = {"ofa-latency": version("ofa-latency"), "python": python_version()}
    record = write_share(table, path, licence, versions)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sys.stdout.write(f"{path}: {record.n_blocks} blocks, {record.n_networks} networks, {record.licence}\n")
    sys.stdout.write(f"others use it as: --lut 'https://HOST/{path.name}#sha256={digest}'\n")


@commands.command()
def space(
    name: Annotated[str, typer.Argument(parser=space_word, metavar="SPACE", help=SPACE_HELP)],
) -> None:
    """Print a search space as TOML, as a template for your own space (--space FILE)."""
    from ofa_core.space_files import space_from, space_toml

    sys.stdout.write(space_toml(space_from(name)))


@commands.command()
def convert(
    src: Annotated[
        Path,
        table_argument(
            metavar="SRC",
            help="Latency table (CSV, published YAML, or a folder of YAML), CSV of measured networks, or hub:NAME.",
        ),
    ],
    dst: Annotated[
        Path,
        typer.Argument(
            parser=out_file_or_folder,
            metavar="DST",
            help="Write to this .csv file, or to this folder as R_lookup_table.yaml for each resolution R.",
        ),
    ],
    space: SpaceOption = None,
    column: ColumnOption = None,
) -> None:
    """Convert tables between CSV and the published YAML, and measured networks of other tools to CSV."""
    from ofa_core.formats.yaml_tables import read_table, write_ofa_yaml
    from ofa_core.measured_files import MeasuredFile
    from ofa_core.space_files import space_from

    file = MeasuredFile.find(src)
    if file is not None:
        _convert_networks(file, dst, space, column)
        return
    if column is not None:
        raise typer.BadParameter(f"leave out --column: {src} contains no networks", param_hint="--column")
    unread: list[str] = []
    table = read_table(src, unread)
    if unread:
        _LOG.warning("%s: %d unknown keys left out, such as %s", src, len(unread), unread[0])
    if dst.suffix == ".csv":
        table.write(dst)
        sys.stdout.write(f"{dst}\n")
        return
    the_space = only_space(table) if space is None else space_from(space)
    pixels = table.resolutions(the_space)
    if not pixels:
        raise OfaError(f"{src} lacks blocks of {the_space.name} at every resolution; nothing is written")
    write_ofa_yaml(table, dst, the_space, pixels)
    sys.stdout.write(f"{dst}: {', '.join(map(str, pixels))} px\n")


def _convert_networks(file: MeasuredFile, dst: Path, space: str | None, column: str | None) -> None:
    from ofa_core.measured_files import write_measured
    from ofa_core.space_files import space_from

    if dst.suffix.lower() != ".csv":
        raise typer.BadParameter(f"{file.path} lists networks; a .csv file is expected, not {dst}", param_hint="DST")
    columns = file.columns(column)
    if space is None and not file.spaces():
        raise typer.BadParameter(f"{file.path} does not contain a space; give one with --space", param_hint="--space")
    the_space = file.only_space() if space is None else space_from(space)
    n_rows, left_out = write_measured(dst, file, the_space, columns)
    for one in columns:
        if one.name != one.quantity:
            _LOG.info("%s: %s", file.path, one.reading)
    if left_out:
        _LOG.warning("%s: columns left out: %s", file.path, ", ".join(left_out)[:200])
    if n_rows < len(file.rows):
        _LOG.warning("%s: %d rows of other spaces left out", file.path, len(file.rows) - n_rows)
    sys.stdout.write(f"{dst}\n")
