"""Compare float32 and int8 at equal latency with measured accuracy: a supernet trained on the digits.

    ofa-train                                             # about a minute; writes runs/digits/supernet.pt
    python experiments/int8/digits.py runs/digits/supernet.pt ROWS.jsonl

Latencies are sums of the least CPU times of blocks on onnxruntime (`run.py`). At each limit, the sub-net that is most
accurate on the held-out training images is chosen among random ones, once by its float32 latency and accuracy and once
by int8. Both are then evaluated on the validation images. The int8 choices are fine-tuned in int8; the control is
fine-tuned in float32 for as long, and then quantised.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from run import least_ms

from ofa_core.arch import Arch
from ofa_core.train import phases
from ofa_core.train.accuracy_table import planned_archs
from ofa_core.train.commands import Opened, Request, net_for, open_checkpoint
from ofa_core.train.distributed import ALONE
from ofa_core.train.evaluation import Evaluator
from ofa_core.train.finetune import finetune_subnet
from ofa_core.train.int8 import Comparison, RangeSettings, compare, ranges_of
from ofa_core.train.run import TrainingRun

N_SUBNETS, N_LIMITS, EPOCHS, SEED = 40, 5, 5, 0
FORMS = {"fp32": "fused", "int8": "integer"}


@dataclass(frozen=True)
class SubNet:
    """A random sub-net with its latencies and its accuracies on held-out images, by dtype."""

    arch: Arch
    ms: dict[str, float]
    top1: dict[str, float]


def both(opened: Opened, arch: Arch, evaluator: Evaluator) -> Comparison:
    """Evaluate a sub-net in float32 and in int8."""
    net, _ = net_for(opened.checkpoint, arch, evaluator)
    return compare(net, ranges_of(net, arch.resolution_px, evaluator, RangeSettings()), arch.resolution_px, evaluator)


def sub_nets(opened: Opened) -> list[SubNet]:
    """Measure random sub-nets."""
    space = opened.checkpoint.space
    archs = planned_archs(space, N_SUBNETS, SEED)
    blocks = sorted({block for arch in archs for block in space.blocks(arch)}, key=repr)
    ms = {dtype: least_ms(blocks, "onnxruntime", dtype, form) for dtype, form in FORMS.items()}
    held_out = opened.data.evaluator(opened.config, ALONE, held_out=True)
    found = []
    for arch in archs:
        measured = both(opened, arch, held_out)
        latencies = {dtype: sum(ms[dtype][block] for block in space.blocks(arch)) for dtype in FORMS}
        found.append(SubNet(arch, latencies, {"fp32": measured.fp32.top1, "int8": measured.int8.top1}))
    return found


def fine_tuned(opened: Opened, arch: Arch, dtype: str) -> Comparison:
    """Train a sub-net in a dtype, and evaluate it in both."""
    net, _ = net_for(opened.checkpoint, arch, opened.evaluator)
    net, px = copy.deepcopy(net), arch.resolution_px
    ranges = ranges_of(net, px, opened.evaluator, RangeSettings())
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(opened.config, opened.data, Path(folder) / "subnet.pt")
        learned = ranges if dtype == "int8" else None
        finetune_subnet(run, net, opened.checkpoint.space, arch, phases.finetune(EPOCHS), learned)
    if learned is None:
        ranges = ranges_of(net, px, opened.evaluator, RangeSettings())
    return compare(net, ranges, px, opened.evaluator)


def rows(opened: Opened) -> Iterator[dict[str, object]]:
    """Yield one row for each limit."""
    candidates = sub_nets(opened)
    slowest = max(net.ms[dtype] for net in candidates for dtype in FORMS)
    fastest = max(min(net.ms[dtype] for net in candidates) for dtype in FORMS)
    for limit in np.geomspace(1.1 * fastest, slowest, N_LIMITS).tolist():
        row: dict[str, object] = {"limit_ms": round(limit, 4)}
        for dtype in FORMS:
            fitting = [net for net in candidates if net.ms[dtype] <= limit]
            best = max(fitting, key=lambda net: net.top1[dtype])
            found = both(opened, best.arch, opened.evaluator)
            top1 = {"fp32": found.fp32.top1, "int8": found.int8.top1}[dtype]
            row |= {f"{dtype}_arch": str(best.arch), f"{dtype}_ms": round(best.ms[dtype], 4)}
            row |= {f"{dtype}_top1": round(top1, 2), f"{dtype}_held_out": round(best.top1[dtype], 2)}
        row["int8_after_int8"] = round(fine_tuned(opened, best.arch, "int8").int8.top1, 2)
        row["int8_after_fp32"] = round(fine_tuned(opened, best.arch, "fp32").int8.top1, 2)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("supernet", type=Path)
    parser.add_argument("rows", type=Path)
    options = parser.parse_args()
    opened = open_checkpoint(Request(options.supernet, "digits"), ALONE)
    with options.rows.open("w") as file:
        for row in rows(opened):
            print(json.dumps(row), file=file, flush=True)
            print(row, flush=True)


if __name__ == "__main__":
    main()
