"""Small search spaces for tests: one of a user's own as TOML, and every architecture of `tiny`."""

from __future__ import annotations

import itertools

from ofa_core.arch import Arch

OWN_SPACE = """
[space]
name = "mine"
n_classes = 10
resolutions = [24, 28, 32]
kernels = [3, 5]
expands = [3, 6]
first_c = 8
first_stride = 1
first_act = "h_swish"
base_c = 8
base_act = "relu"
base_shortcut = true
final_expand_c = 64
feature_c = 128
head_act = "h_swish"

[[space.stages]]
width = 16
stride = 2
act = "relu"
se = false
depths = [1, 2]

[[space.stages]]
width = 24
stride = 2
act = "h_swish"
se = true
depths = [1, 2]
"""
"""`tiny` with a stem of stride 1, in full."""


def enumerate_tiny() -> list[Arch]:
    """Return every architecture of `tiny`."""
    pairs = list(itertools.product((3, 5), (3, 6)))
    archs = []
    for px in (24, 28, 32):
        for d1, d2 in itertools.product((1, 2), repeat=2):
            for blocks in itertools.product(pairs, repeat=d1 + d2):
                archs.append(Arch((d1, d2), tuple(k for k, _ in blocks), tuple(e for _, e in blocks), px))
    return archs
