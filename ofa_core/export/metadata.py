"""Metadata of exported files, which tell random weights from trained ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.blocks import BlockSpec
from ofa_core.space import Space
from ofa_core.space_record import space_columns

__all__ = ["EXPORT_SCHEMA", "arch_metadata", "block_metadata"]

EXPORT_SCHEMA = 1
RANDOM_NOTE = "random weights: measures latency, predicts nothing"
TRAINED_NOTE = "given weights, batch norm folded in"


def block_metadata(block: BlockSpec, graph_form: str, *, trained: bool) -> dict[str, str]:
    """Return the metadata of a block's file: keys `schema`, `block`, `block_spec`, `graph_form`, `weights`."""
    what = {"block": block.label(), "block_spec": json.dumps(asdict(block))}
    return _metadata(what, graph_form, trained)


def arch_metadata(space: Space, arch: Arch, graph_form: str, *, trained: bool) -> dict[str, str]:
    """Return the metadata of a network's file: keys `schema`, `space...`, `arch`, `graph_form`, `weights`."""
    space_keys = {name: value for name, value in space_columns(space).items() if value}
    what = {**space_keys, "arch": json.dumps(arch_to_dict(arch, space))}
    return _metadata(what, graph_form, trained)


def _metadata(what: Mapping[str, str], graph_form: str, trained: bool) -> dict[str, str]:
    return {
        "schema": str(EXPORT_SCHEMA),
        **what,
        "graph_form": graph_form,
        "weights": TRAINED_NOTE if trained else RANDOM_NOTE,
    }
