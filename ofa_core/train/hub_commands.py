"""`ofa-train hub`: list, download and verify published files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_core.cli_app import EXIT_KNOWN_ERROR

if TYPE_CHECKING:
    from ofa_core.hub_index import Item

__all__ = ["commands"]

commands = typer.Typer(
    help="List, download and verify published weights, tables, predictors and nets.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DeviceFilter = Annotated[
    str | None, typer.Option("--device", help="Only what was made for or measured on this device.")
]
KindFilter = Annotated[str | None, typer.Option("--kind", help="Only supernet, net, table or accuracy.")]
TITLES = ("name", "kind", "device", "latency_ms", "batch", "top1", "epochs", "space", "cached")
NUMBERS = ("latency_ms", "batch", "top1", "epochs")
LONGEST_LINE = 120  # a narrower terminal wraps it


@commands.command("list")
def list_items(device: DeviceFilter = None, kind: KindFilter = None) -> None:
    """List published files: supernets, specialised nets with device, latency and top-1, tables and predictors."""
    rows = [_row(item) for item in _selected(device, kind)]
    _print_table(rows)


@commands.command()
def get(
    names: Annotated[
        list[str],
        typer.Argument(
            help="NAME of the list, an address with #sha256=, or a shared table (a .share.zip file).",
            show_default=False,
        ),
    ],
) -> None:
    """Download files into the cache, unless they are there, verify them, and print their paths."""
    from ofa_core.hub import PREFIX, is_address, local_path
    from ofa_core.hub_index import KINDS

    for name in names:
        text = name if is_address(name) or Path(name).exists() else f"{PREFIX}{name}"
        sys.stdout.write(f"{local_path(text, tuple(KINDS))}\n")


@commands.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Items to verify.  [default: all]", show_default=False),
    ] = None,
    device: DeviceFilter = None,
    kind: KindFilter = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download what the cache lacks, then verify it.")
    ] = False,
) -> None:
    """Compare the files in the cache with their digests; exit code 1 if one is damaged or cannot be downloaded."""
    from ofa_core.errors import OfaError
    from ofa_core.hub import PREFIX, fetch_item, file_state
    from ofa_core.hub_index import read_index

    items = [read_index().find(n.removeprefix(PREFIX)) for n in names] if names else _selected(device, kind)
    counts = dict.fromkeys(("right", "damaged", "missing", "failed"), 0)
    for item in items:
        for file in item.files:
            state, reason = file_state(item, file), ""
            if download and state != "right":
                try:
                    fetch_item(item, [file])
                    state = "right"
                except OfaError as error:
                    state, reason = "failed", f": {error}"
            counts[state] += 1
            if names or state != "missing":
                sys.stdout.write(f"{state:8} {item.name}/{file.name}{reason}\n")
    sys.stdout.write(", ".join(f"{n} {state}" for state, n in counts.items()) + "\n")
    if counts["damaged"] or counts["failed"] or (names and counts["missing"]):
        raise typer.Exit(EXIT_KNOWN_ERROR)


def _selected(device: str | None, kind: str | None) -> list[Item]:
    """Return the items of a device and kind; raise a usage error if there are none."""
    from ofa_core.hub_index import KINDS, read_index

    items = read_index().items
    devices = sorted({item.device for item in items if item.device is not None})
    if device is not None and device.lower() not in devices:
        raise typer.BadParameter(f"{device!r} is none of {', '.join(devices)}", param_hint="--device")
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}", param_hint="--kind")
    found = [i for i in items if (device is None or i.device == device.lower()) and (kind is None or i.kind == kind)]
    return sorted(found, key=lambda i: (list(KINDS).index(i.kind), i.device or "~", i.latency_ms or 0.0, i.name))


def _row(item: Item) -> tuple[str, ...]:
    from ofa_core.hub import file_state

    cached = all(file_state(item, file, verify=False) == "right" for file in item.files)
    made_for = item.device or (f"{item.mmacs:g} M MACs" if item.mmacs else None)
    values = (item.name, item.kind, made_for, item.latency_ms, item.batch_size, item.top1, item.finetune_epochs)
    texts = ("" if v is None else f"{v:g}" if isinstance(v, int | float) else v for v in values)
    return (*texts, item.space or "", "yes" if cached else "")


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """Print a table on a terminal, and tab-separated values elsewhere."""
    from ofa_core.terminal import console

    out = console()
    if not out.is_terminal:
        sys.stdout.write("".join("\t".join(row) + "\n" for row in (TITLES, *rows)))
        return
    from rich.table import Table

    shown = [i for i in range(len(TITLES)) if any(row[i] for row in rows)]
    table = Table(box=None, pad_edge=False)
    for i in shown:
        table.add_column(TITLES[i], justify="right" if TITLES[i] in NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    out.width = max(out.width, LONGEST_LINE)
    out.print(table)
