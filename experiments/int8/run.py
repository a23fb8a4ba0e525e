"""Measure quick tables of single blocks, float32 and int8, for both runtimes on this machine.

    python experiments/int8/run.py FOLDER [--resolutions 160,192,224]

Writes FOLDER/BACKEND-DTYPE.csv, tables with the least CPU time of each block over 36 runs in random order, in one
process. It takes seconds where `ofa-profile` takes minutes, and has no whole networks: use it to develop predictors of
blocks, not to search. FOLDER/rows.jsonl has all four numbers of a block on one line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ofa_core.backend_names import DTYPES
from ofa_core.blocks import BlockSpec
from ofa_core.spaces import get_space
from ofa_core.table import Context, Entry, LatencyTable
from profiler.agent.backends import open_backend
from profiler.backends import choose, graph_forms
from profiler.model_files import ModelStore
from profiler.plan import BlockItem

RUNTIMES = [(backend, dtype) for backend in ("tflite", "onnxruntime") for dtype in ("fp32", "int8")]
N_ROUNDS, N_RUNS = 12, 3


def least_ms(blocks: Sequence[BlockSpec], backend: str, dtype: str, form: str) -> dict[BlockSpec, float]:
    """Return the least CPU time of each block in milliseconds."""
    runtime, rng = open_backend(backend, dtype, graph_form=form), np.random.default_rng(0)
    best = dict.fromkeys(blocks, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        store = ModelStore(Path(folder), backend, graph_form=form, dtype=dtype)
        models = {block: runtime.load(str(store.path(BlockItem(block))), 1) for block in blocks}
        for _ in range(N_ROUNDS):
            for i in rng.permutation(len(blocks)):
                model = models[blocks[i]]
                model.run()
                for _ in range(N_RUNS):
                    start = time.thread_time_ns()
                    model.run()
                    best[blocks[i]] = min(best[blocks[i]], (time.thread_time_ns() - start) / 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resolutions", default="160,192,224")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    blocks = list(get_space("mbv3-w1.0").all_blocks(tuple(map(int, options.resolutions.split(",")))))
    found = {}
    for backend, dtype in RUNTIMES:
        choice = choose(backend, dtype)
        form = graph_forms(choice)[0]
        ms = found[choice.label] = least_ms(blocks, backend, dtype, form)
        context = Context(
            device="quick", backend=backend, dtype=DTYPES[dtype], delegate=choice.delegate, graph_form=form, clock="cpu"
        )
        entries = {(None, block): Entry(ms[block]) for block in blocks}
        LatencyTable(context, entries).write(options.folder / f"{backend}-{dtype}.csv")
        print(f"{choice.label}: {len(blocks)} blocks, {sum(ms.values()):.1f} ms together", flush=True)
    lines = [{"block": block.label(), **{name: round(ms[block], 5) for name, ms in found.items()}} for block in blocks]
    (options.folder / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


if __name__ == "__main__":
    main()
