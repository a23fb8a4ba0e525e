"""`net.config` and `run.config`: the form in which the OFA and ProxylessNAS authors publish specialised networks.

`net.config` is JSON that describes every layer, with old names (`MobileInvertedResidualBlock`,
`mobile_inverted_conv`, `MBInvertedConvLayer`) or new ones (`ResidualBlock`, `conv`, `MBConvLayer`); `run.config`
beside it holds the input size, unless the caller gives one. Such a network need not be a member of a space: `NetConfig`
is its list of layers. Files are written with the old names, which the authors' old and new code reads.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ofa_core.arch import Arch
from ofa_core.arch_json import read_arch_dict, resolution_of
from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec, make_divisible
from ofa_core.errors import ArchError, FormatError, OfaError
from ofa_core.formats.config_layers import fraction, parse_conv, parse_head, parse_residual_block, shown
from ofa_core.space import N_STEM, Space, check_resolution
from ofa_core.space_record import space_fields, space_of_record
from ofa_core.spaces import SPACE_NAMES, get_space

__all__ = [
    "NetConfig",
    "find_space",
    "is_net_config",
    "net_config_of",
    "parse_net_config",
    "read_member",
    "read_net_config",
    "write_net_config",
]

Family = Literal["MobileNetV3", "ProxylessNASNets"]

DEFAULT_RESOLUTION_PX = 224
DEFAULT_BN_EPS = {"MobileNetV3": 1e-5, "ProxylessNASNets": 1e-3}
MAX_BLOCKS = 1000


@dataclass(frozen=True, slots=True)
class NetConfig:
    """A published network.

    Attributes:
        family: class in the authors' code.
        blocks: layers in the order of `Space.blocks`, stem to classifier, without blocks that have no effect
            (`ZeroLayer` with a shortcut).
        block_indices: number of each `mbconv` in the file, where blocks without effect count; checkpoints use it in
            the names of weights.
        resolution_px: input size; None if the files lack it, and `blocks` then have the sizes at 224 px.
        n_classes: outputs of the classifier.
        bn_momentum: momentum of batch normalisation.
        bn_eps: epsilon of batch normalisation.
        space: space that the file names; None in published files.
    """

    family: Family
    blocks: tuple[BlockSpec, ...]
    block_indices: tuple[int, ...]
    resolution_px: int | None
    n_classes: int
    bn_momentum: float
    bn_eps: float
    space: Space | None = None

    def at(self, resolution_px: int) -> NetConfig:
        """Return the same network at another input size."""
        check_resolution(resolution_px)
        return replace(self, blocks=_resized(self.blocks, resolution_px), resolution_px=resolution_px)

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of one image."""
        return sum(block.macs for block in self.blocks)

    @property
    def params(self) -> int:
        """Return the number of learnt parameters."""
        return sum(block.params for block in self.blocks)

    def arch(self, space: Space, resolution_px: int | None = None) -> Arch:
        """Return this network as a member of `space`, with this network's number of classes.

        Args:
            space: the space.
            resolution_px: input size, if the files lack it.

        Raises:
            ArchError: if it is not a member; names the first layer that does not fit.
        """
        px = self.resolution_px if resolution_px is None else resolution_px
        if px is None:
            raise ArchError("the net.config has no image size (run.config); give one, for example with --resolution PX")
        check_resolution(px)
        blocks = _resized(self.blocks, px)
        space = space.with_classes(self.n_classes)
        searchable = [block for block in blocks[N_STEM:] if block.op == "mbconv"]
        furthest = 0
        for depths in itertools.product(*(stage.depths for stage in space.stages)):
            if sum(depths) != len(searchable):
                continue
            choices = [_choices(block, space) for block in searchable]
            if None not in choices:
                kernels, expands = zip(*(c for c in choices if c is not None), strict=True)
                arch = Arch(depths, kernels, expands, px)
                theirs = space.blocks(arch)
                if theirs == blocks:
                    return arch
                same = (a == b for a, b in zip(theirs, blocks, strict=False))
                furthest = max(furthest, sum(itertools.takewhile(bool, same)))
        layer = blocks[min(furthest, len(blocks) - 1)]
        raise ArchError(f"no member of {space.name}: it has {len(searchable)} blocks, and {layer.label()} does not fit")


def _choices(block: BlockSpec, space: Space) -> tuple[int, int] | None:
    if block.op != "mbconv" or block.kernel_px not in space.kernels:
        return None
    ratios = [e for e in space.expands if make_divisible(round(block.in_c * e)) == block.mid_c]
    return (block.kernel_px, ratios[0]) if ratios else None


def find_space(config: NetConfig) -> Space | None:
    """Return the built-in space of the network, with its number of classes; None if there is none."""
    for name in SPACE_NAMES:
        space = get_space(name)
        try:
            config.arch(space, config.resolution_px or DEFAULT_RESOLUTION_PX)
        except ArchError:
            continue
        return space if config.n_classes == space.n_classes else space.with_classes(config.n_classes)
    return None


def read_member(path: Path, space: Space | None = None, resolution_px: int | None = None) -> tuple[Space, Arch]:
    """Read a published network as a member of a space.

    Args:
        path: a `net.config`, or the folder of one; `run.config` beside it holds the input size.
        space: the space (default: the one that the file names, else the first built-in one that has the network).
        resolution_px: input size that replaces those of the files.

    Returns:
        The space, with the network's number of classes, and the architecture.

    Raises:
        FormatError: for a damaged file.
        ArchError: if no space, or not `space`, has such a network (names the layer), or the input size is unknown.
    """
    config = read_net_config(path, resolution_px=resolution_px)
    named = config.space if space is None else space
    found = find_space(config) if named is None else named.with_classes(config.n_classes)
    if found is None:
        known = ", ".join(SPACE_NAMES)
        raise ArchError(f"{path}: no member of {known}; give its space by --space (a name, a .toml or a supernet.pt)")
    try:
        return found, config.arch(found)
    except ArchError as error:
        raise ArchError(f"{path}: {error}") from error


def _resized(blocks: tuple[BlockSpec, ...], resolution_px: int) -> tuple[BlockSpec, ...]:
    px = resolution_px
    out = []
    for block in blocks:
        if block.op in ("feature_mix", "classifier"):
            out.append(block)
            continue
        after = 1 if block.op == "avg_pool" else -(-px // block.stride)
        out.append(replace(block, in_px=px, out_px=after))
        px = after
    return tuple(out)


# ---- reading ---------------------------------------------------------------------------------------------------------


def is_net_config(text: str) -> bool:
    """Return True for the text of a dictionary with the stem of MobileNetV3, ProxylessNAS or ResNets."""
    return text.lstrip().startswith("{") and ("first_conv" in text or "input_stem" in text)


def read_net_config(path: Path, run_config: Path | None = None, *, resolution_px: int | None = None) -> NetConfig:
    """Read a `net.config`.

    Args:
        path: the file, or the folder of `net.config` and `run.config`.
        run_config: the `run.config` (default: the one beside the file, if it exists).
        resolution_px: input size that replaces those of the files.

    Raises:
        FormatError: for another format (names field, value and valid ones), or several sizes.
    """
    if path.is_dir():
        path = path / "net.config"
    data = read_arch_dict(path)
    beside = path.with_name("run.config")
    run_path = run_config if run_config is not None else beside if beside != path and beside.is_file() else None
    records = [data] if run_path is None else [data, read_arch_dict(run_path)]
    try:
        config = parse_net_config(data, resolution_of(*records) if resolution_px is None else resolution_px)
        return replace(config, space=space_of_record(data) if data.get("space_digest") else None)
    except OfaError as error:
        raise FormatError(f"{path}: {error}") from error


def parse_net_config(data: Mapping[str, Any], resolution_px: int | None = None) -> NetConfig:
    """Read the dictionary of a `net.config`.

    `mid_channels` has priority over `expand_ratio`, which means round(in * ratio) channels.

    Args:
        data: the dictionary.
        resolution_px: input size (default: that of the dictionary, if any).

    Raises:
        FormatError: for a wrong value; names field, value and valid ones.
        ArchError: for an invalid input size.
    """
    family = _family(data.get("name"))
    if resolution_px is None:
        resolution_px = resolution_of(data)
    if resolution_px is not None:
        check_resolution(resolution_px)
    stem = parse_conv(data, "first_conv")
    blocks = [replace(stem, op="first_conv")]
    items = data.get("blocks")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_BLOCKS:
        raise FormatError(f"blocks is {shown(items)}; a list of 1 to {MAX_BLOCKS} residual blocks is expected")
    indices = []
    for i, item in enumerate(items):
        block = parse_residual_block(item, f"blocks[{i}]")
        if block is not None:
            blocks.append(block)
            indices.append(i)
    blocks += parse_head(data, family, blocks[-1].out_c)
    for before, after in itertools.pairwise(blocks):
        if before.out_c != after.in_c:
            raise FormatError(f"{after.label()} follows {before.label()}, whose outputs are its inputs")
    momentum, eps = _batch_norm(data, family)
    return NetConfig(
        family=family,
        blocks=_resized(tuple(blocks), resolution_px or DEFAULT_RESOLUTION_PX),
        block_indices=tuple(indices),
        resolution_px=resolution_px,
        n_classes=blocks[-1].out_c,
        bn_momentum=momentum,
        bn_eps=eps,
    )


def _family(name: object) -> Family:
    if name == "MobileNetV3" or name == "ProxylessNASNets":
        return name
    text = name if isinstance(name, str) else ""
    if "ResNet" in text:
        raise FormatError(f"name is {shown(name)}: ResNets are not supported yet; MobileNetV3 and ProxylessNASNets are")
    if text.startswith("OFA"):
        raise FormatError(
            f"name is {shown(name)}: a supernet, not one network; give the architecture of a sub-net (JSON with ks, e, "
            "d, r), or the net.config of a sub-net"
        )
    raise FormatError(f"name is {shown(name)}; MobileNetV3 or ProxylessNASNets is expected")


def _batch_norm(data: Mapping[str, Any], family: Family) -> tuple[float, float]:
    """Return momentum and epsilon of batch normalisation; the defaults are those of the public code."""
    bn = data.get("bn", {"momentum": 0.1, "eps": DEFAULT_BN_EPS[family]})
    if not isinstance(bn, Mapping) or not {"momentum", "eps"} <= bn.keys():
        raise FormatError(f"bn is {shown(bn)}; momentum and eps are expected")
    for field in ("gn_channel_per_group", "ws_eps"):
        if bn.get(field) is not None:
            raise FormatError(f"bn.{field} is {shown(bn[field])}; only batch normalisation (null) is supported")
    return fraction(bn["momentum"], "bn.momentum"), fraction(bn["eps"], "bn.eps")


# ---- writing ---------------------------------------------------------------------------------------------------------


def net_config_of(space: Space, arch: Arch) -> dict[str, Any]:
    """Return the `net.config` of a member of `space`, with the authors' field names.

    Raises:
        ArchError: if `arch` is not a member.
    """
    space.validate(arch)
    ratios = iter((None, *arch.expands))
    blocks = space.blocks(arch)
    inner = [_block_record(block, next(ratios) or 1) for block in blocks if block.op == "mbconv"]
    layers = {block.op: block for block in blocks}
    mobile = "feature_mix" in layers
    head = {"final_expand_layer": _conv_record(layers["final_expand"], True)} if mobile else {}
    mix = _conv_record(layers["feature_mix"], False) if mobile else _conv_record(layers["final_expand"], True)
    return {
        "name": "MobileNetV3" if mobile else "ProxylessNASNets",
        "bn": {"momentum": 0.1, "eps": DEFAULT_BN_EPS["MobileNetV3" if mobile else "ProxylessNASNets"]},
        "first_conv": _conv_record(layers["first_conv"], True),
        "blocks": inner,
        **head,
        "feature_mix_layer": mix,
        "classifier": {
            "name": "LinearLayer",
            "in_features": layers["classifier"].in_c,
            "out_features": layers["classifier"].out_c,
            "bias": True,
            **_layer_record(use_bn=False, act=None),
        },
    }


def _layer_record(*, use_bn: bool, act: str | None) -> dict[str, Any]:
    """Return the fields that all layers but mobile inverted convolutions have."""
    return {"use_bn": use_bn, "act_func": act, "dropout_rate": 0, "ops_order": "weight_bn_act"}


def _conv_record(block: BlockSpec, use_bn: bool) -> dict[str, Any]:
    return {
        "name": "ConvLayer",
        "kernel_size": block.kernel_px,
        "stride": block.stride,
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "has_shuffle": False,
        "in_channels": block.in_c,
        "out_channels": block.out_c,
        **_layer_record(use_bn=use_bn, act=block.act),
    }


def _block_record(block: BlockSpec, ratio: int) -> dict[str, Any]:
    identity = {
        "name": "IdentityLayer",
        "in_channels": [block.in_c],
        "out_channels": [block.out_c],
        **_layer_record(use_bn=False, act=None),
    }
    return {
        "name": "MobileInvertedResidualBlock",
        "mobile_inverted_conv": {
            "name": "MBInvertedConvLayer",
            "in_channels": block.in_c,
            "out_channels": block.out_c,
            "kernel_size": block.kernel_px,
            "stride": block.stride,
            "expand_ratio": ratio,
            "mid_channels": block.mid_c,
            "act_func": block.act,
            "use_se": block.se,
        },
        "shortcut": identity if block.shortcut else None,
    }


def write_net_config(folder: Path, space: Space, arch: Arch) -> None:
    """Write `net.config` (with its space) and `run.config` of a member into a folder, created if needed."""
    record = {**net_config_of(space, arch), **space_fields(space)}
    write_text(folder / "net.config", json.dumps(record, indent=4) + "\n")
    write_text(folder / "run.config", json.dumps({"image_size": arch.resolution_px}) + "\n")
