"""Read the layers of a `net.config` as blocks of one pixel, whose sizes are set later.

An absent field means the default of the public code's constructor (`DEFAULTS`), because older files lack fields that
newer versions write. A null field means null. A field that no constructor has is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ofa_core.blocks import Act, BlockSpec
from ofa_core.errors import FormatError, OfaError

__all__ = ["DEFAULTS", "REQUIRED", "fraction", "parse_conv", "parse_head", "parse_residual_block", "shown", "whole"]

_BLOCK_NAMES = ("MobileInvertedResidualBlock", "ResidualBlock")
_CONV_NAMES = ("MBInvertedConvLayer", "MBConvLayer")
_ACTS: dict[object, Act] = {"relu": "relu", "relu6": "relu6", "h_swish": "h_swish", "none": "none", None: "none"}

_OUTER = {"use_bn": True, "act_func": "relu", "dropout_rate": 0, "ops_order": "weight_bn_act"}
_PLAIN = {**_OUTER, "use_bn": False, "act_func": None}
DEFAULTS: dict[str, dict[str, object]] = {
    "ConvLayer": {
        "kernel_size": 3,
        "stride": 1,
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "has_shuffle": False,
        "use_se": False,
        **_OUTER,
    },
    "MBConvLayer": {
        "kernel_size": 3,
        "stride": 1,
        "expand_ratio": 6,
        "mid_channels": None,
        "act_func": "relu6",
        "use_se": False,
        "groups": None,
    },
    "LinearLayer": {"bias": True, **_PLAIN},
    "IdentityLayer": _PLAIN,
}
REQUIRED = {
    "ConvLayer": ("in_channels", "out_channels"),
    "MBConvLayer": ("in_channels", "out_channels"),
    "LinearLayer": ("in_features", "out_features"),
    "IdentityLayer": ("in_channels", "out_channels"),
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """The arguments of a layer.

    Attributes:
        where: place in the file, for errors.
        given: fields in the file.
        values: these fields, and the defaults of absent ones.
    """

    where: str
    given: Mapping[str, Any]
    values: Mapping[str, Any]

    def whole(self, field: str, top: int = 10**5) -> int:
        return whole(self.values[field], f"{self.where}.{field}", top)

    def act(self) -> Act:
        value = self.values["act_func"]
        if not isinstance(value, str | None) or value not in _ACTS:
            raise FormatError(f"{self.where}.act_func is {shown(value)}; relu, relu6, h_swish or null is expected")
        return _ACTS[value]

    def must_be(self, **expected: object) -> None:
        """Check a field of a layer; this project supports no other value."""
        for field, only in expected.items():
            value = self.values[field]
            if value != only:
                said = shown(value) if field in self.given else f"absent, and its default is {shown(value)}"
                raise FormatError(f"{self.where}.{field} is {said}; {shown(only)} is expected")


def _layer(value: object, where: str, kind: str, names: tuple[str, ...] = ()) -> _Layer:
    """Return the layer at a place of the file, and check its kind.

    Args:
        value: value in the file.
        where: place in the file.
        kind: key of `DEFAULTS`.
        names: names of the kind in files (default: `kind`).
    """
    names = names or (kind,)
    if not isinstance(value, Mapping):
        raise FormatError(f"{where} is {shown(value)}; a layer (a dictionary) is expected")
    if value.get("name") not in names:
        raise FormatError(f"{where} holds {shown(value.get('name'))}; {' or '.join(names)} is expected")
    missing = [field for field in REQUIRED[kind] if field not in value]
    if missing:
        raise FormatError(f"{where} has no {', '.join(missing)}")
    unknown = value.keys() - {"name", *REQUIRED[kind], *DEFAULTS[kind]}
    if unknown:
        raise FormatError(f"{where} has a field {shown(min(unknown, key=str))}, which no {kind} has")
    return _Layer(where, value, {**DEFAULTS[kind], **value})


def parse_head(data: Mapping[str, Any], family: str, in_c: int) -> list[BlockSpec]:
    """Read the layers after the residual blocks, with the pooling; `in_c` is the number of input channels."""
    head = []
    expand_field = "final_expand_layer" if family == "MobileNetV3" else "feature_mix_layer"
    if family == "MobileNetV3" or _given(data, expand_field) is not None:
        expand = parse_conv(data, expand_field)
        head.append(replace(expand, op="final_expand"))
        in_c = expand.out_c
    head.append(BlockSpec("avg_pool", 1, 1, in_c, 0, in_c, 0, 1, "none", False, False))
    if family == "MobileNetV3":
        mix = parse_conv(data, "feature_mix_layer", use_bn=False)
        head.append(replace(mix, op="feature_mix"))
    linear = _layer(_given(data, "classifier"), "classifier", "LinearLayer")
    linear.must_be(bias=True, use_bn=False, act_func=None)
    sizes = [linear.whole(field) for field in REQUIRED["LinearLayer"]]
    return [*head, BlockSpec("classifier", 1, 1, sizes[0], 0, sizes[1], 1, 1, "none", False, False)]


def parse_conv(data: Mapping[str, Any], name: str, use_bn: bool = True) -> BlockSpec:
    """Read a `ConvLayer` as a block of 1 px; the kernel size is 3 in the stem and 1 elsewhere."""
    layer = _layer(_given(data, name), name, "ConvLayer")
    kernel, stride = layer.whole("kernel_size", 15), layer.whole("stride", 4)
    layer.must_be(groups=1, dilation=1, bias=False, use_se=False, use_bn=use_bn, ops_order="weight_bn_act")
    is_stem = name == "first_conv"
    if kernel != (3 if is_stem else 1) or (stride != 1 and not is_stem):
        raise FormatError(f"{name} has kernel {kernel} and stride {stride}; kernel {3 if is_stem else 1} is expected")
    in_c, out_c = layer.whole("in_channels"), layer.whole("out_channels")
    return BlockSpec("final_expand", 1, 1, in_c, 0, out_c, kernel, stride, layer.act(), False, False)


def parse_residual_block(item: object, where: str) -> BlockSpec | None:
    """Read a residual block, by old or new names; None for a block without effect (`ZeroLayer` with a shortcut)."""
    if not isinstance(item, Mapping) or item.get("name", _BLOCK_NAMES[0]) not in _BLOCK_NAMES:
        name = item.get("name") if isinstance(item, Mapping) else item
        raise FormatError(f"{where} is {shown(name)}; {' or '.join(_BLOCK_NAMES)} is expected")
    inner = "conv" if "conv" in item else "mobile_inverted_conv"
    conv = _given(item, inner, where)
    shortcut = _shortcut(_given(item, "shortcut", where), f"{where}.shortcut")
    if _is_zero(conv):
        if not shortcut:
            raise FormatError(f"{where} has neither a convolution nor a shortcut")
        return None
    return _inverted_residual(_layer(conv, where, "MBConvLayer", _CONV_NAMES), shortcut)


def _shortcut(value: object, where: str) -> bool:
    if _is_zero(value):
        return False
    if not isinstance(value, Mapping) or value.get("name") != "IdentityLayer":
        raise FormatError(f"{where} is {shown(value)}; null or an IdentityLayer is expected")
    _Layer(where, value, {**DEFAULTS["IdentityLayer"], **value}).must_be(use_bn=False, act_func=None)
    return True


def _is_zero(value: object) -> bool:
    return value is None or (isinstance(value, Mapping) and value.get("name") == "ZeroLayer")


def _inverted_residual(layer: _Layer, shortcut: bool) -> BlockSpec:
    where = layer.where
    in_c, out_c = layer.whole("in_channels"), layer.whole("out_channels")
    kernel, stride = layer.whole("kernel_size", 31), layer.whole("stride", 4)
    if kernel % 2 == 0:
        raise FormatError(f"{where}.kernel_size is {kernel}; an odd number is expected")
    mid_c = _mid_channels(layer, in_c)
    if layer.values["groups"] is not None:
        raise FormatError(f"{where}.groups is {shown(layer.values['groups'])}; a depth-wise block has null here")
    use_se = layer.values["use_se"]
    if not isinstance(use_se, bool):
        raise FormatError(f"{where}.use_se is {shown(use_se)}; true or false is expected")
    try:
        return BlockSpec("mbconv", 1, 1, in_c, mid_c, out_c, kernel, stride, layer.act(), use_se, shortcut)
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error


def _mid_channels(layer: _Layer, in_c: int) -> int:
    """Return the channels of the depth-wise convolution: `mid_channels`, else round(in * `expand_ratio`).

    In the public code the block starts with a 1x1 convolution unless the ratio is 1; the channels do not matter.
    """
    ratio, mid = layer.values["expand_ratio"], layer.values["mid_channels"]
    is_number = isinstance(ratio, int | float) and not isinstance(ratio, bool) and 1 <= ratio <= 100
    if not is_number and (mid is None or ratio is not None):
        raise FormatError(f"{layer.where}.expand_ratio is {shown(ratio)}; a number from 1 to 100 is expected")
    mid_c = round(in_c * ratio) if mid is None else layer.whole("mid_channels")
    if ratio == 1 and mid_c != in_c:
        raise FormatError(f"{layer.where}.mid_channels is {mid_c} at expand_ratio 1; {in_c} is expected")
    if ratio != 1 and mid_c == in_c:
        raise FormatError(
            f"{layer.where}: expand_ratio is {shown(ratio)}, so the block starts with a convolution from {in_c} to "
            f"{mid_c} channels; such a block is not supported"
        )
    return mid_c


def _given(data: Mapping[str, Any], name: str, where: str = "") -> Any:
    """Return the value of a key that the public code requires; an absent key is an error, null is a value."""
    if name not in data:
        raise FormatError(f"{where or 'the file'} has no {name}; the public code writes it always")
    return data[name]


def whole(value: object, where: str, top: int = 10**5) -> int:
    """Return a field as a whole number from 1 to `top`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= top:
        raise FormatError(f"{where} is {shown(value)}; a whole number from 1 to {top} is expected")
    return value


def fraction(value: object, where: str) -> float:
    """Return a field as a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FormatError(f"{where} is {shown(value)}; a number from 0 to 1 is expected")
    return float(value)


def shown(value: object) -> str:
    """Return a value for an error message; the type only if it is long or deeply nested."""
    if isinstance(value, str):
        return repr(value[:60])
    return repr(value) if isinstance(value, bool | float | None) else _shown_number(value)


def _shown_number(value: object) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
    return f"a {type(value).__name__}"
