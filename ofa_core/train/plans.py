"""Remembered kernel plans: measured once per machine, so that equal runs give equal bits."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.nn.kernels import MAX_PAIRS, KernelPlan, measure_plan

__all__ = ["remembered_plan"]


def _cache_file(batch_size: int) -> Path:
    """One file per machine, torch version, number of threads and batch size."""
    parts = (platform.node(), platform.machine(), torch.__version__, torch.get_num_threads(), batch_size)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "ofa-latency" / f"kernels-{digest}.json"


def remembered_plan(blocks: Iterable[BlockSpec], batch_size: int) -> KernelPlan:
    """The kernel plan of these layers: from the user's cache, and measured where it does not know a shape.

    Args:
        blocks: layers that will be trained.
        batch_size: images per step.

    Returns:
        The same plan in every run on this machine. A cache that cannot be read or written is done without.
    """
    path = _cache_file(batch_size)
    try:
        known = {tuple(map(int, key.split(","))): bool(gemm) for key, gemm in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        known = {}
    shapes: dict[tuple[int, ...], list[BlockSpec]] = {}
    for block in blocks:
        if block.op == "mbconv" and (block.in_px * block.out_px) ** 2 <= MAX_PAIRS:
            shapes.setdefault((block.kernel_px, block.stride, block.in_px), []).append(block)
    missing = [block for key, members in shapes.items() if key not in known for block in members]
    if missing:
        measured = measure_plan(missing, batch_size)
        known |= {(b.kernel_px, b.stride, b.in_px): measured.uses_gemm(b.kernel_px, b.stride, b.in_px) for b in missing}
        with suppress(OSError):  # the plan holds for this run all the same
            write_text(path, json.dumps({",".join(map(str, key)): gemm for key, gemm in sorted(known.items())}) + "\n")
    return KernelPlan(frozenset((k, s, px) for k, s, px in shapes if known[k, s, px]))
