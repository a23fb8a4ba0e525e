"""This project's checkpoints: a network with its space, architecture, preprocessing and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ofa_core.arch import Arch
from ofa_core.errors import FormatError
from ofa_core.export.network_ranges import Ranges, ranges_from_dict
from ofa_core.formats.preprocessing import Preprocessing
from ofa_core.formats.published_weights import load_published, to_published
from ofa_core.formats.state_dicts import find_states, key_of, listed
from ofa_core.formats.torch_files import read_torch, write_torch
from ofa_core.nn.initial import bn_eps
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet
from ofa_core.schema import structured
from ofa_core.space import Space
from ofa_core.space_record import space_from_dict, space_to_dict

__all__ = [
    "Checkpoint",
    "checkpoint_dict",
    "checkpoint_from_dict",
    "read_checkpoint",
    "read_space_of",
    "write_checkpoint",
]

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint of this project.

    Attributes:
        net: the network, in evaluation mode.
        space: its search space.
        arch: the architecture of a sub-net; None for a supernet.
        preprocessing: preprocessing of its images.
        classes: names of the outputs, in order; None if the file lacks them.
        ranges: of a sub-net that was fine-tuned in int8; None for others.
    """

    net: Supernet | SubNet
    space: Space
    arch: Arch | None
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None = None
    ranges: Ranges | None = None


def write_checkpoint(
    path: Path,
    net: Supernet | SubNet,
    space: Space,
    preprocessing: Preprocessing,
    arch: Arch | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write a network with everything that is needed to use it.

    Args:
        path: the file; written to a temporary name and renamed.
        net: the supernet or sub-net.
        space: its search space.
        preprocessing: preprocessing of its images.
        arch: architecture of a sub-net.
        classes: names of the outputs, in order, if known.

    Raises:
        FormatError: for weights that hold nan or inf.
    """
    write_torch(path, checkpoint_dict(net, space, preprocessing, arch, classes))


def checkpoint_dict(
    net: Supernet | SubNet,
    space: Space,
    preprocessing: Preprocessing,
    arch: Arch | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the content of a checkpoint: plain values, and tensors by published name; see `write_checkpoint`."""
    if isinstance(net, SubNet) and arch is None:
        raise FormatError("a sub-net's checkpoint needs its architecture")
    named = {} if classes is None else {"classes": list(classes)}
    return {
        "schema": SCHEMA,
        "kind": "supernet" if isinstance(net, Supernet) else "subnet",
        "space": space_to_dict(space),
        "space_digest": space.digest,
        "arch": None if arch is None else asdict(arch),
        "preprocessing": preprocessing.to_dict(),
        **named,
        "state_dict": to_published(net),
    }


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        FormatError: for another file. The message says so for published files, which lack space and preprocessing.
    """
    return checkpoint_from_dict(read_torch(key_of(path)[0]), str(path))


def read_space_of(path: Path) -> Space:
    """Read the space of a checkpoint.

    Raises:
        FormatError: for another file, as `read_checkpoint`.
    """
    return _space_in(read_torch(path), str(path))


def _space_in(content: Any, source: str) -> Space:
    if not isinstance(content, dict) or "schema" not in content:
        hint = (
            "; it looks like a published state dict: name its space and preprocessing" if find_states(content) else ""
        )
        raise FormatError(f"{source}: not a checkpoint of this project{hint}")
    if content["schema"] != SCHEMA:
        raise FormatError(f"{source}: schema {content['schema']!r:.40}, this version reads {SCHEMA}")
    if not isinstance(content.get("space"), dict):
        raise FormatError(f"{source}: its space is missing")
    try:
        space = space_from_dict(content["space"])
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from error
    digest = content.get("space_digest", space.digest)  # absent in files of version 0.1.0
    if digest != space.digest:
        raise FormatError(f"{source}: space_digest is {str(digest)[:40]}, but its space has the digest {space.digest}")
    return space


@dataclass(frozen=True)
class _Arch:
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    resolution_px: int


@dataclass(frozen=True)
class _Preprocessing:
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str


@dataclass(frozen=True)
class _Content:
    preprocessing: dict[str, Any]
    arch: _Arch | None
    state_dict: dict[str, Any]
    ranges: dict[str, Any] | None = None


def checkpoint_from_dict(content: Any, source: str) -> Checkpoint:
    """Build a checkpoint from the content of a file: the inverse of `checkpoint_dict`."""
    space = _space_in(content, source)
    checked = structured(content, _Content, source)
    preprocessing = Preprocessing.from_dict(structured(checked.preprocessing, _Preprocessing, source).__dict__)
    given, state = checked.arch, checked.state_dict
    arch = None if given is None else Arch(**given.__dict__)
    odd = [name for name, tensor in state.items() if not isinstance(tensor, Tensor)]
    if odd:
        raise FormatError(f"{source}: {listed(odd)} in state_dict is not a tensor")
    net: Supernet | SubNet
    if arch is None:
        net = Supernet(space)
    else:
        space.validate(arch)
        net = SubNet(space.blocks(arch), bn_eps=bn_eps(space))
    load_published(net, state, source)
    ranges = None
    if arch is not None and checked.ranges is not None:
        ranges = ranges_from_dict(checked.ranges, space.blocks(arch), f"{source}: ranges")
    return Checkpoint(net.eval(), space, arch, preprocessing, _classes_in(content, space, source), ranges)


def _classes_in(content: Mapping[str, Any], space: Space, source: str) -> tuple[str, ...] | None:
    """Return the names of the outputs; None in files of version 0.1.0."""
    names = content.get("classes")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len(names) != space.n_classes:
        raise FormatError(f"{source}: classes is not a list of {space.n_classes} names")
    return tuple(names)
