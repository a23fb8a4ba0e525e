"""The published state dicts of supernets and sub-nets, read and written.

The public code has several spellings of one layout (public code, `load_state_dict` of `ofa_mbv3.py`):

    current   blocks.1.conv.depth_conv.bn.bn.weight
    legacy    blocks.1.mobile_inverted_conv.depth_conv.bn.bn.weight     (the files that were released)
    plain     blocks.1.conv.depth_conv.bn.weight                        (specialised nets: no elastic wrappers)

All of them are read, mixed too, in the wrappers of other trainers (`state_dicts.py`). A key that is missing, left over,
doubled or of another shape is an error that names it, because a network that is filled in part still gives plausible
numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ofa_core.errors import FormatError
from ofa_core.formats.net_config import NetConfig, read_net_config
from ofa_core.formats.state_dicts import is_counter, key_of, listed, state_in, without_prefix
from ofa_core.formats.torch_files import first_nonfinite, read_torch, write_torch
from ofa_core.nn.subnet import SubNet
from ofa_core.nn.supernet import Supernet
from ofa_core.space import N_STEM, Space

__all__ = [
    "Spelling",
    "load_published",
    "n_classes_of",
    "published_names",
    "read_specialised",
    "read_state_dict",
    "to_published",
    "write_published",
]

Spelling = Literal["current", "legacy"]

_INNER = {
    "expand": "inverted_bottleneck.conv",
    "expand_bn": "inverted_bottleneck.bn",
    "depthwise": "depth_conv.conv",
    "depthwise_bn": "depth_conv.bn",
    "se": "depth_conv.se.fc",
    "project": "point_linear.conv",
    "project_bn": "point_linear.bn",
}


def published_names(net: Supernet | SubNet, spelling: Spelling = "current") -> dict[str, str]:
    """Return the published name of every tensor of a network.

    Args:
        net: a supernet (names of elastic blocks include their wrappers) or a sub-net (plain names).
        spelling: spelling of the block's inner layer.

    Returns:
        Our name -> published name, in the published order.
    """
    elastic = isinstance(net, Supernet)
    blocks = net.space.blocks(net.space.largest()) if isinstance(net, Supernet) else net.blocks
    ops = [spec.op for spec in blocks]
    names: dict[str, str] = {}
    for key in sorted(net.state_dict(), key=_matrices_first):
        index, inner = re.fullmatch(r"layers\.(\d+)\.(.+)", key).groups()  # type: ignore[union-attr]
        op, i = ops[int(index)], int(index)
        if op != "mbconv":
            layer = "feature_mix_layer" if op == "final_expand" and "feature_mix" not in ops else _HEAD[op]
            names[key] = f"{layer}.{inner}"
            continue
        head, _, leaf = inner.partition(".")
        leaf = re.sub(r"matrices\.(\w+)", r"\1_matrix", leaf)
        name = f"{_INNER[head]}.{leaf}"
        if elastic and i >= N_STEM:
            name = re.sub(r"\.bn\.", ".bn.bn.", re.sub(r"\.conv\.weight$", ".conv.conv.weight", name))
        block = "conv" if spelling == "current" else "mobile_inverted_conv"
        number = net.block_indices[i - 1] if isinstance(net, SubNet) and net.block_indices else i - 1
        names[key] = f"blocks.{number}.{block}.{name}"
    return names


_HEAD = {
    "first_conv": "first_conv",
    "final_expand": "final_expand_layer",
    "feature_mix": "feature_mix_layer",
    "classifier": "classifier",
}


def _matrices_first(key: str) -> tuple[int, int, int]:
    """Return the sort key of a tensor in the file: layer, part, and a kernel's matrices before its weight."""
    _, index, part, *rest = key.split(".")
    matrix = rest[-1] if rest and rest[0] == "matrices" else ""
    parts = list(_INNER)
    return int(index), parts.index(part) if part in parts else 0, -1 if matrix else 0


def _canonical(key: str) -> str:
    key = key.replace(".mobile_inverted_conv.", ".conv.").replace(".bn.bn.", ".bn.")
    return key.replace(".conv.conv.weight", ".conv.weight").replace(".linear.linear.", ".linear.")


def load_published(net: Supernet | SubNet, state: Mapping[str, Tensor], source: str = "state dict") -> None:
    """Fill a network from a published state dict, in any spelling.

    Args:
        net: the network; its tensors are overwritten.
        state: published name -> tensor.
        source: name of the state dict, for errors.

    Raises:
        FormatError: for missing, left over or repeated keys, or another shape; names the keys.
    """
    given: dict[str, Tensor] = {}
    for name, tensor in without_prefix(state, source).items():
        if _canonical(name) in given:
            raise FormatError(f"{source}: {listed([name])} occurs twice, in two spellings")
        given[_canonical(name)] = tensor
    wanted = {_canonical(name): key for key, name in published_names(net).items()}
    _check_names(net, wanted, given, source)
    broken = first_nonfinite(given)
    if broken is not None:
        raise FormatError(f"{source}: {broken} holds nan or inf; training went wrong before the file was written")
    own = net.state_dict()
    for name in given:
        key = wanted[name]
        if given[name].shape != own[key].shape:
            raise FormatError(
                f"{source}: {name} is {tuple(given[name].shape)}, this network has {tuple(own[key].shape)}"
            )
    with torch.no_grad():
        for name, key in wanted.items():
            if name in given:
                own[key].copy_(given[name])
            else:
                own[key].zero_()  # a counter of batches


def n_classes_of(state: Mapping[str, Tensor]) -> int | None:
    """Return the number of outputs of the classifier in a published state dict; None if it has none."""
    for name, tensor in state.items():
        if _canonical(name).endswith("classifier.linear.weight") and tensor.ndim == 2:
            return len(tensor)
    return None


def _check_names(net: Supernet | SubNet, wanted: Mapping[str, str], given: Mapping[str, Tensor], source: str) -> None:
    """Check that the weights are of this network.

    Raises:
        FormatError: for missing or left over names.
    """
    missing = sorted(name for name in wanted.keys() - given.keys() if not is_counter(name))
    left_over = sorted(given.keys() - wanted.keys())
    without_matrices = missing and not left_over and all(map(_is_matrix, missing)) and not any(map(_is_matrix, given))
    if isinstance(net, Supernet) and without_matrices:
        raise FormatError(f"{source}: no kernel matrices: {_fixed_kernels(net.space, given)}")
    parts = []
    if missing:
        parts.append(f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    if left_over:
        parts.append(f"{listed(left_over)} {'has' if len(left_over) == 1 else 'have'} no place")
    if parts:
        raise FormatError(f"{source}: {', and '.join(parts)}; is it a checkpoint of this network?")


def _is_matrix(name: str) -> bool:
    return name.endswith("_matrix")


def _fixed_kernels(space: Space, given: Mapping[str, Tensor]) -> str:
    """Return the remedy for a supernet without kernel transforms, from the kernel sizes that it has."""
    kernels: dict[int, set[int]] = {}
    for slot, stage in enumerate(space.slot_stages):
        weight = given.get(f"blocks.{slot + 1}.conv.depth_conv.conv.weight")
        if weight is not None and weight.ndim == 4:
            kernels.setdefault(stage, set()).add(weight.shape[-1])
    if {len(sizes) for sizes in kernels.values()} != {1}:
        return f"a supernet of {space.name} has them for the kernels {', '.join(map(str, space.kernels))}"
    sizes = {stage + 1: next(iter(sizes)) for stage, sizes in kernels.items()}
    if len(set(sizes.values())) == 1:
        k = next(iter(sizes.values()))
        return (
            f"a supernet whose kernels are fixed at {k}; give its space as a TOML file with [space], "
            f'name = "{space.name}" and kernels = [{k}]'
        )
    shown = ", ".join(f"{k} in stage {stage}" for stage, k in sizes.items())
    return f"a supernet with fixed kernels ({shown}); kernels that differ between the stages are not supported yet"


def to_published(net: Supernet | SubNet, spelling: Spelling = "current") -> dict[str, Tensor]:
    """Return a copy of all tensors under their published names, in the published order, on the CPU.

    Raises:
        FormatError: for weights that hold nan or inf.
    """
    own = net.state_dict()
    state = {name: own[key].detach().cpu().clone() for key, name in published_names(net, spelling).items()}
    name = first_nonfinite(state)
    if name is not None:
        raise FormatError(f"{name} holds nan or inf: the training that gave these weights went wrong")
    return state


def write_published(path: Path, net: Supernet | SubNet, spelling: Spelling = "current") -> None:
    """Write `{"state_dict": ...}`, the form of the released files."""
    write_torch(path, {"state_dict": to_published(net, spelling)})


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of weights: a dictionary of tensors, or a trainer's file that contains one.

    Args:
        path: the file, or `FILE#KEY` if it has several sets of weights.

    Raises:
        FormatError: for a file without weights, or with several sets.
    """
    file, key = key_of(path)
    return state_in(read_torch(file), str(file), key)


def read_specialised(net_config: Path, weights: Path, resolution_px: int | None = None) -> tuple[SubNet, NetConfig]:
    """Read a network in the authors' published form: `net.config` and weights.

    Args:
        net_config: the file, or the folder that holds it.
        weights: the state dict.
        resolution_px: input size that replaces those of the files.

    Returns:
        The network in evaluation mode, and its `net.config`. Neither file holds the preprocessing.

    Raises:
        FormatError: for files that cannot be read or do not match.
    """
    config = read_net_config(net_config, resolution_px=resolution_px)
    net = SubNet(
        config.blocks, bn_eps=config.bn_eps, bn_momentum=config.bn_momentum, block_indices=config.block_indices
    )
    load_published(net, read_state_dict(weights), str(weights))
    return net.eval(), config
