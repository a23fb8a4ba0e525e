"""Measure a kernel plan once per machine and keep it in the user's cache.

Another plan changes the last bits of gradients, so equal runs need the same plan to give equal bits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.nn.kernels import FORMS, KernelPlan, Shape, measure_plan, shape_of

__all__ = ["remembered_plan"]

BUILTIN_FORM = "builtin"  # cached for shapes whose fastest form is torch's own

_log = logging.getLogger(__name__)


def _cache_file(batch_size: int) -> Path:
    """Return the cache file of this machine, torch version, number of threads and batch size."""
    parts = (platform.node(), platform.machine(), torch.__version__, torch.get_num_threads(), batch_size)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "ofa-latency" / f"kernels-{digest}.json"


def remembered_plan(blocks: Iterable[BlockSpec], batch_size: int) -> KernelPlan:
    """Return the kernel plan of these layers, from the user's cache; measure and add the shapes that it lacks.

    Measuring all sizes of ImageNet takes a minute.

    Args:
        blocks: layers to train.
        batch_size: images per step.

    Returns:
        The same plan in every run on this machine. Without a readable and writable cache, it is measured in each run.
    """
    path = _cache_file(batch_size)
    try:
        cached = {tuple(map(int, key.split(","))): form for key, form in json.loads(path.read_text()).items()}
        known = {shape: form for shape, form in cached.items() if form in (*FORMS, BUILTIN_FORM)}
    except (OSError, ValueError, AttributeError, TypeError):
        known = {}
    shapes: dict[Shape, list[BlockSpec]] = {}
    for block in blocks:
        shape = shape_of(block)
        if shape is not None:
            shapes.setdefault(shape, []).append(block)
    missing = [shape for shape in shapes if shape not in known]
    if missing:
        _log.info("timing the weight gradients of %d convolution shapes, once on this machine", len(missing))
        measured = measure_plan([block for shape in missing for block in shapes[shape]], batch_size)
        known |= {shape: measured.forms.get(shape, BUILTIN_FORM) for shape in missing}
        with suppress(OSError):
            write_text(path, json.dumps({",".join(map(str, key)): form for key, form in sorted(known.items())}) + "\n")
    return KernelPlan({shape: known[shape] for shape in shapes if known[shape] != BUILTIN_FORM})
