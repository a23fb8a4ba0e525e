"""Convert between blocks and the keys of published latency tables.

    OFA             expanded_conv-input:96x96x24-output:96x96x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0
    ProxylessNAS    expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:7-stride:2-idskip:0
    nsganetv2       MBConv-input:100x100x16-output:50x50x24-expand:3-kernel:3-stride:2-idskip:0-se:0
    kairos03        56x56x24-28x28x40-expand:3-kernel:7-stride:2

`expand` is the number of channels in OFA's tables and the ratio in the others. Its size shows the difference, because a
block never has fewer inner channels than inputs. If a table lacks the activation, it follows
from the family: ReLU6 in ProxylessNAS, and in nsganetv2 that of the block of `mbv3-w1.0` or `mbv3-w1.2` which has
these channels. Pooling is part of `Logits` in ProxylessNAS and of `final_expand_layer` in nsganetv2: there it is read
as 0 ms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ofa_core.blocks import Act, BlockSpec, Op, make_divisible
from ofa_core.errors import OfaError
from ofa_core.spaces import mobilenet_v3

__all__ = ["DIALECTS", "Dialect", "LutKey", "block_of", "format_keys", "has_channels", "parse_key", "sniff_dialect"]

Dialect = Literal["ofa", "proxyless", "nsganetv2"]
DIALECTS: tuple[Dialect, ...] = ("ofa", "proxyless", "nsganetv2")

_SHAPE = r"(?:(\d{1,4})x(\d{1,4})x)?(\d{1,6})"
_KEY = re.compile(
    rf"(?:(?P<op>[A-Za-z_]\w{{0,30}}?)-)?(?P<named>input:)?{_SHAPE}-(?:output:)?{_SHAPE}"
    r"(?:-expand:(?P<expand>\d{1,6})-kernel:(?P<kernel>\d{1,3})-stride:(?P<stride>\d{1,2})"
    r"(?:-idskip:(?P<idskip>[01]))?(?:-se:(?P<se>[01]))?(?:-hs:(?P<hs>[01]))?)?:?",
    re.ASCII,
)
# What the layers of each family are called; "mbconv" is spelt `expanded_conv`, `MBConv` or not at all.
_OPS: dict[Dialect, dict[str, Op]] = {
    "ofa": {
        "Conv": "first_conv",
        "expanded_conv": "mbconv",
        "Conv_1": "final_expand",
        "AvgPool2D": "avg_pool",
        "Conv_2": "feature_mix",
        "Logits": "classifier",
    },
    "proxyless": {
        "Conv": "first_conv",
        "expanded_conv": "mbconv",
        "": "mbconv",
        "Conv_1": "final_expand",
        "Logits": "classifier",
    },
    "nsganetv2": {
        "first_conv": "first_conv",
        "MBConv": "mbconv",
        "final_expand_layer": "final_expand",
        "feature_mix_layer": "feature_mix",
        "classifier": "classifier",
    },
}


@dataclass(frozen=True, slots=True)
class LutKey:
    """The fields of a key; None for absent ones.

    Attributes:
        op: name of the layer in the file; empty if it has none.
        in_px: input size in pixels, 1 if the key has none.
        in_c: input channels.
        out_px: output size in pixels, 1 if the key has none.
        out_c: output channels.
        expand: inner channels or ratio of an inverted residual block.
        kernel_px: kernel size.
        stride: stride.
        idskip: True for a shortcut.
        se: True for squeeze-and-excite.
        hs: True for the activation h-swish.
    """

    op: str
    in_px: int
    in_c: int
    out_px: int
    out_c: int
    expand: int | None = None
    kernel_px: int = 1
    stride: int = 1
    idskip: bool | None = None
    se: bool | None = None
    hs: bool | None = None


def parse_key(text: str) -> LutKey | None:
    """Parse a key; None if it is of no known dialect."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        return None
    in_h, in_w, in_c, out_h, out_w, out_c = (int(g) if g else 1 for g in match.group(3, 4, 5, 6, 7, 8))
    op = match["op"] or ""
    if in_h != in_w or out_h != out_w or (match["expand"] is None) == (op in ("expanded_conv", "MBConv", "")):
        return None
    if match["expand"] is None:
        return LutKey(op, in_h, in_c, out_h, out_c)
    idskip, se, hs = (None if match[name] is None else match[name] == "1" for name in ("idskip", "se", "hs"))
    expand, kernel, stride = (int(match[name]) for name in ("expand", "kernel", "stride"))
    return LutKey(op, in_h, in_c, out_h, out_c, expand, kernel, stride, idskip, se, hs)


def _fits(key: LutKey, dialect: Dialect) -> bool:
    if _OPS[dialect].get(key.op) is None:
        return False
    if key.expand is None:
        return True
    flags = (key.se is not None, key.hs is not None)
    return flags == {"ofa": (True, True), "proxyless": (False, False), "nsganetv2": (True, False)}[dialect]


def sniff_dialect(keys: list[LutKey]) -> Dialect | None:
    """Return the dialect that fits most keys (the first of `DIALECTS` in a tie); None if no key fits."""
    counts = {dialect: sum(_fits(key, dialect) for key in keys) for dialect in DIALECTS}
    best = max(DIALECTS, key=lambda dialect: counts[dialect])
    return best if counts[best] else None


def has_channels(keys: list[LutKey]) -> bool:
    """Return True if `expand` of most keys can be a number of channels: at least the input channels."""
    votes = [1 if key.expand >= key.in_c else -1 for key in keys if key.expand is not None]
    return sum(votes) > 0


def block_of(key: LutKey, dialect: Dialect, channels: bool) -> BlockSpec | None:
    """Return the block of a key.

    Args:
        key: the key.
        dialect: dialect of the file.
        channels: True if `expand` is a number of channels.

    Returns:
        The block; None if the key does not fit the dialect or describes an impossible layer.
    """
    if not _fits(key, dialect):
        return None
    op = _OPS[dialect][key.op]
    try:
        return _mbconv(key, dialect, channels) if op == "mbconv" else _fixed_layer(op, key, dialect)
    except OfaError:
        return None


def _fixed_layer(op: Op, key: LutKey, dialect: Dialect) -> BlockSpec:
    """Return a layer of the stem or the head."""
    in_px, out_px = (1, 1) if op == "classifier" else (key.in_px, key.out_px)
    kernel_px = {"first_conv": 3, "avg_pool": 0}.get(op, 1)
    stride = 2 if op == "first_conv" and in_px != out_px else 1
    act: Act = "none" if op in ("avg_pool", "classifier") else "relu6" if dialect == "proxyless" else "h_swish"
    return BlockSpec(op, in_px, out_px, key.in_c, 0, key.out_c, kernel_px, stride, act, False, False)


def _mbconv(key: LutKey, dialect: Dialect, channels: bool) -> BlockSpec | None:
    expand = key.expand or 0
    if channels != (expand >= key.in_c):
        return None
    mid_c = expand if channels else key.in_c if expand == 1 else make_divisible(round(key.in_c * expand))
    act: Act | None = "relu6"
    if dialect == "ofa":
        act = "h_swish" if key.hs else "relu"
    elif dialect == "nsganetv2":
        act = _known_acts().get((key.in_c, key.out_c, key.stride, bool(key.se), mid_c == key.in_c))
    if act is None:
        return None
    idskip = key.stride == 1 and key.in_c == key.out_c if key.idskip is None else key.idskip
    return BlockSpec(
        "mbconv",
        key.in_px,
        key.out_px,
        key.in_c,
        mid_c,
        key.out_c,
        key.kernel_px,
        key.stride,
        act,
        bool(key.se),
        idskip,
    )


@cache
def _known_acts() -> dict[tuple[int, int, int, bool, bool], Act]:
    acts: dict[tuple[int, int, int, bool, bool], Act] = {}
    for width in (1.0, 1.2):
        space = mobilenet_v3(width)
        for expand in space.expands:
            for block in space.blocks(space.uniform(space.kernels[0], expand, None)):
                if block.op == "mbconv":
                    acts[block.in_c, block.out_c, block.stride, block.se, not block.expands] = block.act
    return acts


def format_keys(block: BlockSpec, dialect: Dialect) -> str | None:
    """Return the key under which the authors' reader of a dialect looks for a block.

    Args:
        block: any block except pooling and classifier of ProxylessNAS, which share a key.
        dialect: `ofa` or `proxyless`.

    Returns:
        The key; None if the dialect cannot express the block.
    """
    names = {op: name for name, op in _OPS[dialect].items() if name}
    name = names.get(block.op)
    acts = ("relu6",) if dialect == "proxyless" else ("relu", "h_swish")
    if name is None or (block.op == "mbconv" and (block.act not in acts or (dialect == "proxyless" and block.se))):
        return None
    output = str(block.out_c) if block.op == "classifier" else f"{block.out_px}x{block.out_px}x{block.out_c}"
    key = f"{name}-input:{block.in_px}x{block.in_px}x{block.in_c}-output:{output}"
    if block.op != "mbconv":
        return key
    ratio, rest = divmod(block.mid_c, block.in_c)
    if dialect == "proxyless" and rest:
        return None
    expand = ratio if dialect == "proxyless" else block.mid_c
    key += f"-expand:{expand}-kernel:{block.kernel_px}-stride:{block.stride}-idskip:{int(block.shortcut)}"
    return key if dialect == "proxyless" else f"{key}-se:{int(block.se)}-hs:{int(block.act == 'h_swish')}"
