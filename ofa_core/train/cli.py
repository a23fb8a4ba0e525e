"""`ofa-train`: the composition root of training."""

from __future__ import annotations

import sys

import typer

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Train a supernet once, then evaluate, fine-tune and export its sub-nets."""
    if context.invoked_subcommand is None:
        sys.stderr.write("ofa-train: the training loop is not part of this version yet\n")
        raise typer.Exit(2)


def main() -> None:
    """Console entry point."""
    app(prog_name="ofa-train")
