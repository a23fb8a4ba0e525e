"""The layers of a `net.config`, one by one, as blocks of one pixel whose sizes are still to be set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ofa_core.blocks import Act, BlockSpec, make_divisible
from ofa_core.errors import FormatError, OfaError

__all__ = ["fraction", "parse_conv", "parse_head", "parse_residual_block", "shown", "whole"]

_BLOCK_NAMES = ("MobileInvertedResidualBlock", "ResidualBlock")
_CONV_NAMES = ("MBInvertedConvLayer", "MBConvLayer")
_ACTS: dict[object, Act] = {"relu": "relu", "relu6": "relu6", "h_swish": "h_swish", None: "none"}


def parse_head(data: Mapping[str, Any], family: str, in_c: int) -> list[BlockSpec]:
    """What follows the residual blocks, the pooling included; `in_c` are the channels that reach it."""
    head = []
    expand_field = "final_expand_layer" if family == "MobileNetV3" else "feature_mix_layer"
    if family == "MobileNetV3" or data.get(expand_field) is not None:
        expand = parse_conv(data, expand_field)
        head.append(replace(expand, op="final_expand"))
        in_c = expand.out_c
    head.append(BlockSpec("avg_pool", 1, 1, in_c, 0, in_c, 0, 1, "none", False, False))
    if family == "MobileNetV3":
        mix = parse_conv(data, "feature_mix_layer", use_bn=False)
        head.append(replace(mix, op="feature_mix"))
    linear = _mapping(data, "classifier")
    sizes = [whole(linear.get(name), f"classifier.{name}") for name in ("in_features", "out_features")]
    return [*head, BlockSpec("classifier", 1, 1, sizes[0], 0, sizes[1], 1, 1, "none", False, False)]


def parse_conv(data: Mapping[str, Any], name: str, use_bn: bool = True) -> BlockSpec:
    """A `ConvLayer` as a block of 1 px; the stem's kernel is 3, that of the others 1."""
    layer = _mapping(data, name)
    kernel = whole(layer.get("kernel_size", 3), f"{name}.kernel_size", 15)
    stride = whole(layer.get("stride", 1), f"{name}.stride", 4)
    for field, only in (("groups", 1), ("dilation", 1), ("use_bn", use_bn), ("ops_order", "weight_bn_act")):
        if layer.get(field, only) != only:
            raise FormatError(f"{name}.{field} is {shown(layer[field])}; {only} is expected")
    is_stem = name == "first_conv"
    if kernel != (3 if is_stem else 1) or (stride != 1 and not is_stem):
        raise FormatError(f"{name} has kernel {kernel} and stride {stride}; kernel {3 if is_stem else 1} is expected")
    in_c, out_c = (whole(layer.get(f), f"{name}.{f}") for f in ("in_channels", "out_channels"))
    act = _act(layer.get("act_func"), f"{name}.act_func")
    return BlockSpec("final_expand", 1, 1, in_c, 0, out_c, kernel, stride, act, False, False)


def parse_residual_block(item: object, where: str) -> BlockSpec | None:
    """A residual block, by old or new names; None if it does nothing (`ZeroLayer` beside a shortcut)."""
    if not isinstance(item, Mapping) or item.get("name", _BLOCK_NAMES[0]) not in _BLOCK_NAMES:
        name = item.get("name") if isinstance(item, Mapping) else item
        raise FormatError(f"{where} is {shown(name)}; {' or '.join(_BLOCK_NAMES)} is expected")
    conv = item.get("mobile_inverted_conv", item.get("conv"))
    shortcut = item.get("shortcut")
    if isinstance(shortcut, Mapping) and shortcut.get("name") == "ZeroLayer":
        shortcut = None
    if shortcut is not None and (not isinstance(shortcut, Mapping) or shortcut.get("name") != "IdentityLayer"):
        raise FormatError(f"{where}.shortcut is {shown(shortcut)}; null or an IdentityLayer is expected")
    if conv is None or (isinstance(conv, Mapping) and conv.get("name") == "ZeroLayer"):
        if shortcut is None:
            raise FormatError(f"{where} has neither a convolution nor a shortcut: its output is zero")
        return None
    return _inverted_residual(conv, where, shortcut is not None)


def _inverted_residual(conv: object, where: str, shortcut: bool) -> BlockSpec:
    if not isinstance(conv, Mapping) or conv.get("name") not in _CONV_NAMES:
        name = conv.get("name") if isinstance(conv, Mapping) else conv
        raise FormatError(f"{where} holds {shown(name)}; {', '.join(_CONV_NAMES)} or ZeroLayer is expected")
    in_c, out_c, kernel, stride = (
        whole(conv.get(field), f"{where}.{field}", top)
        for field, top in (("in_channels", 10**5), ("out_channels", 10**5), ("kernel_size", 31), ("stride", 4))
    )
    if kernel % 2 == 0:
        raise FormatError(f"{where}.kernel_size is {kernel}; an odd number is expected")
    if conv.get("mid_channels") is not None:
        mid_c = whole(conv["mid_channels"], f"{where}.mid_channels")
    else:
        ratio = conv.get("expand_ratio")
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1 <= ratio <= 100:
            raise FormatError(f"{where}.expand_ratio is {shown(ratio)}; a number from 1 to 100 is expected")
        mid_c = in_c if ratio == 1 else make_divisible(round(in_c * ratio))
    if conv.get("groups") is not None:
        raise FormatError(f"{where}.groups is {shown(conv['groups'])}; a depth-wise block has null here")
    act = _act(conv.get("act_func"), f"{where}.act_func")
    use_se = conv.get("use_se", False)
    if not isinstance(use_se, bool):
        raise FormatError(f"{where}.use_se is {shown(use_se)}; true or false is expected")
    try:
        return BlockSpec("mbconv", 1, 1, in_c, mid_c, out_c, kernel, stride, act, use_se, shortcut)
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, Mapping):
        raise FormatError(f"{name} is {shown(value)}; a layer (a dictionary) is expected")
    return value


def whole(value: object, where: str, top: int = 10**5) -> int:
    """A whole number from 1 to `top`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= top:
        raise FormatError(f"{where} is {shown(value)}; a whole number from 1 to {top} is expected")
    return value


def fraction(value: object, where: str) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FormatError(f"{where} is {shown(value)}; a number from 0 to 1 is expected")
    return float(value)


def _act(value: object, where: str) -> Act:
    if not isinstance(value, str | None) or value not in _ACTS:
        raise FormatError(f"{where} is {shown(value)}; relu, relu6, h_swish or null is expected")
    return _ACTS[value]


def shown(value: object) -> str:
    """A value in an error: long or deeply nested ones by their type alone."""
    if isinstance(value, str):
        return repr(value[:60])
    return repr(value) if isinstance(value, bool | float | None) else _shown_number(value)


def _shown_number(value: object) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
    return f"a {type(value).__name__}"
