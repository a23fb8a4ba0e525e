"""Error of latencies predicted from other batch sizes, beside the nearest batch size scaled by images.

    ofa-profile -r 160 --batch-size N --out bN.csv     for each N of 1, 2, 4, 8
    python benchmarks/batch_sizes.py b1.csv b2.csv b4.csv b8.csv

Each table between the smallest and the largest batch size is predicted from all others and from its two neighbours, and
compared with the measurement. Whole networks on GPUs (batch 32 from 1 and 64) are in `ofa_gpu_latency.csv`, in the
folder of OFA_REFERENCE_DATA if it has that file.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np

from ofa_core.table import LatencyTable
from predictors.batch_size import EXPONENTS, at_batch, table_at_batch


def mape(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean absolute error in percent."""
    return 100 * float(np.mean(np.abs(predicted / truth - 1)))


def main() -> int:
    """Print the errors."""
    tables = sorted((LatencyTable.read(Path(path)) for path in sys.argv[1:]), key=lambda t: t.context.batch_size)
    for i, table in enumerate(tables[1:-1], start=1):
        size = table.context.batch_size
        others = [t for t in tables if t is not table]
        for name, known in (("all others", others), ("two neighbours", [tables[i - 1], tables[i + 1]])):
            found, _ = table_at_batch(known, size)
            keys = [key for key in found.entries if (e := table.entries.get(key)) is not None and e.measured]
            truth = np.array([table.entries[key].latency_ms for key in keys], dtype=np.float64)
            ours = np.array([found.entries[key].latency_ms for key in keys], dtype=np.float64)
            below = tables[i - 1]
            scaled = np.array([below.entries[key].latency_ms for key in keys], dtype=np.float64)
            scaled *= size / below.context.batch_size
            noise = 100 * float(np.median([(table.entries[key].ci90_ms or np.nan) for key in keys] / truth))
            batches = ", ".join(str(t.context.batch_size) for t in known)
            print(
                f"{table.context.device}, batch {size} from {name} ({batches}): {len(keys)} blocks, "
                f"MAPE {mape(ours, truth):.1f} %, of their sum {100 * (ours.sum() / truth.sum() - 1):+.1f} %; "
                f"batch {below.context.batch_size} scaled: {mape(scaled, truth):.1f} %; "
                f"median 90 % interval of the measurement {noise:.1f} %"
            )
    path = Path(os.environ.get("OFA_REFERENCE_DATA", "")) / "ofa_gpu_latency.csv"
    if path.is_file():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for gpu in ("2080ti", "titan_rtx", "titan_xp"):
            ms = np.array([[float(row[f"lat_ms:{gpu}_b{b}"]) for row in rows] for b in (1, 32, 64)])
            errors = [mape(at_batch((1, 64), ms[[0, 2]], 32, p), ms[1]) for p in EXPONENTS]
            shown = ", ".join(f"p={p:g} {error:.1f} %" for p, error in zip(EXPONENTS, errors, strict=True))
            halved = mape(ms[2] / 2, ms[1])
            print(f"{gpu}: {len(rows)} networks, batch 32 from 1 and 64: {shown}; 64 halved: {halved:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
