"""Metadata of exported files, which distinguish random weights from trained ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.blocks import BlockSpec
from ofa_core.space import Space
from ofa_core.space_record import space_columns

__all__ = ["EXPORT_SCHEMA", "arch_metadata", "block_metadata", "int8_metadata", "net_metadata"]

EXPORT_SCHEMA = 1
RANDOM_NOTE = "random weights: measures latency, predicts nothing"
TRAINED_NOTE = "given weights, batch norm folded in"
FIXED_NOTE = "fixed ranges: measures latency, predicts nothing"
DATA_NOTE = "given ranges"


def block_metadata(block: BlockSpec, graph_form: str, *, trained: bool) -> dict[str, str]:
    """Return the metadata of a block's file: keys `schema`, `block`, `block_spec`, `graph_form`, `weights`."""
    what = {"block": block.label(), "block_spec": json.dumps(asdict(block))}
    return _metadata(what, graph_form, trained)


def arch_metadata(space: Space, arch: Arch, graph_form: str, *, trained: bool) -> dict[str, str]:
    """Return the metadata of a network's file: keys `schema`, `space...`, `arch`, `graph_form`, `weights`."""
    space_keys = {name: value for name, value in space_columns(space).items() if value}
    what = {**space_keys, "arch": json.dumps(arch_to_dict(arch, space))}
    return _metadata(what, graph_form, trained)


def net_metadata(name: str, graph_form: str) -> dict[str, str]:
    """Return the metadata of a trained network outside all spaces: keys `schema`, `net`, `graph_form`, `weights`."""
    return _metadata({"net": name}, graph_form, trained=True)


def int8_metadata(grids: Mapping[str, tuple[float, int]], *, from_data: bool) -> dict[str, str]:
    """Return the further metadata of an int8 file: `dtype`, `ranges`, and the grids of input and output.

    Args:
        grids: scale and zero point of `input` and `output`, in the type that the file has.
        from_data: True if the ranges of the activations come from data.
    """
    found = {"dtype": "int8", "ranges": DATA_NOTE if from_data else FIXED_NOTE}
    for name, (scale, zero) in grids.items():
        found |= {f"{name}_scale": repr(scale), f"{name}_zero_point": repr(zero)}
    return found


def _metadata(what: Mapping[str, str], graph_form: str, trained: bool) -> dict[str, str]:
    return {
        "schema": str(EXPORT_SCHEMA),
        **what,
        "graph_form": graph_form,
        "weights": TRAINED_NOTE if trained else RANDOM_NOTE,
    }
