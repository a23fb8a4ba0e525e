"""The built-in search spaces: literal numbers from the published code."""

from __future__ import annotations

import re

from ofa_core.blocks import make_divisible
from ofa_core.errors import SpaceError
from ofa_core.space import Space, Stage

__all__ = ["SPACE_NAMES", "find_builtin", "get_space", "mobilenet_v3", "proxyless", "tiny"]

SPACE_NAMES: tuple[str, ...] = ("mbv3-w1.0", "mbv3-w1.2", "proxyless-w1.3", "tiny")


def mobilenet_v3(width: float = 1.0) -> Space:
    """Return the MobileNetV3 space of the OFA paper (`ofa_mbv3_d234_e346_k357`), published at widths 1.0 and 1.2."""
    c = [make_divisible(base * width) for base in (16, 16, 24, 40, 80, 112, 160, 960, 1280)]
    return Space(
        name=f"mbv3-w{width:.1f}" if round(width, 1) == width else f"mbv3-w{width:g}",
        first_c=c[0],
        first_act="h_swish",
        base_c=c[1],
        base_act="relu",
        stages=(
            Stage(c[2], 2, "relu", False, (2, 3, 4)),
            Stage(c[3], 2, "relu", True, (2, 3, 4)),
            Stage(c[4], 2, "h_swish", False, (2, 3, 4)),
            Stage(c[5], 1, "h_swish", True, (2, 3, 4)),
            Stage(c[6], 2, "h_swish", True, (2, 3, 4)),
        ),
        final_expand_c=c[7],
        feature_c=c[8],
        head_act="h_swish",
    )


def proxyless(width: float = 1.3) -> Space:
    """Return the ProxylessNAS space of the OFA code (`ofa_proxyless_d234_e346_k357`), published at width 1.3."""
    c = [make_divisible(base * width) for base in (32, 16, 24, 40, 80, 96, 192, 320, 1280)]
    strides = (2, 2, 2, 1, 2)
    return Space(
        name=f"proxyless-w{width:.1f}" if round(width, 1) == width else f"proxyless-w{width:g}",
        first_c=c[0],
        first_act="relu6",
        base_c=c[1],
        base_act="relu6",
        stages=(
            *(Stage(w, s, "relu6", False, (2, 3, 4)) for w, s in zip(c[2:7], strides, strict=True)),
            Stage(c[7], 1, "relu6", False, (1,)),
        ),
        final_expand_c=c[8],
        feature_c=0,
        head_act="relu6",
        base_shortcut=False,
    )


def tiny() -> Space:
    """Return a space of 1,200 architectures for 24 to 32 px and 10 classes, for tests and the embedded images."""
    return Space(
        name="tiny",
        first_c=8,
        first_act="h_swish",
        base_c=8,
        base_act="relu",
        stages=(Stage(16, 2, "relu", False, (1, 2)), Stage(24, 2, "h_swish", True, (1, 2))),
        final_expand_c=64,
        feature_c=128,
        head_act="h_swish",
        kernels=(3, 5),
        expands=(3, 6),
        resolutions=(24, 28, 32),
        n_classes=10,
    )


def find_builtin(name: str) -> Space | None:
    """Return the built-in space of this name, None if there is none."""
    if name == "tiny":
        return tiny()
    match = re.fullmatch(r"(mbv3|proxyless)-w(\d(?:\.\d{1,3})?)", name)
    if match and 0.1 <= float(match[2]) <= 4:
        return (mobilenet_v3 if match[1] == "mbv3" else proxyless)(float(match[2]))
    return None


def get_space(name: str) -> Space:
    """Return a built-in space; `mbv3-w<width>` and `proxyless-w<width>` exist for any width from 0.1 to 4.

    Raises:
        SpaceError: for an unknown name; lists the known ones.
    """
    found = find_builtin(name)
    if found is not None:
        return found
    raise SpaceError(f"unknown space {name[:60]!r}; known: {', '.join(SPACE_NAMES)}")
