"""Fit the built-in accuracy model of mbv3-w1.0 and print its errors.

    python tools/fit_accuracy.py DATA_FOLDER [--out predictors/data/mbv3-w1.0-top1.npz]

DATA_FOLDER contains `ofa_mbv3_w1.0_imagenet_top1.csv` (DyNAS-T) and `ofa_mbv3_w1.0_top1_multires.csv`
(memory-optimized-once-for-all). The two sources are combined in three steps:

1. Fit a model f to the first source, at 224 px.
2. Compute the means of d = (second source) - f at 128, 160 and 192 px. Their differences shrink by a factor rho, and a
   geometric decay extrapolates d to 224 px. This value would be 0 for equal sources. It is the offset between the
   sources, and is subtracted from the second source.
3. Fit one model to both, each row with the noise of its source.

Errors are cross-validated: five folds by network, and one search run left out at a time.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from ofa_core.arch_json import arch_from_dict
from ofa_core.atomic import atomic_path
from ofa_core.genomes import Genomes, encode
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3
from predictors.estimator import Floats
from predictors.gaussian_process import QuadraticForm, fit_process
from predictors.process_design import DECAY_PER_32_PX

NOISE_224 = 0.01  # variance of a row of the first source around the model, in points^2
NOISE_SHARD = 0.3  # the same for the second source, which has 12,500 images and another evaluation
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("predictors/data/mbv3-w1.0-top1.npz"))
    options = parser.parse_args()
    space = mobilenet_v3(1.0)

    runs, genomes, top1 = read_dynas(options.data / "ofa_mbv3_w1.0_imagenet_top1.csv", space)
    nets, first, inverse, counts = np.unique(
        genomes, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    y = np.bincount(inverse.reshape(-1), top1) / counts
    run = np.array(runs)[first]
    spread = within_net_sd(inverse.reshape(-1), top1, y, counts)
    print(
        f"224 px: {len(top1)} rows, {len(nets)} networks, {len(set(runs))} runs; repeated evaluations: sd {spread:.3f}"
    )

    elsewhere, shard = read_multires(options.data / "ofa_mbv3_w1.0_top1_multires.csv", space)
    offset, steps = source_offset(space, nets, y, counts, elsewhere, shard)
    print(f"other sizes: {len(shard)} sub-nets; second source minus model {np.round(steps, 3).tolist()} points")
    print(f"  offset of the second source at 224 px {offset:+.3f} points")
    shard = shard - offset

    rows, values = np.concatenate([nets, elsewhere]), np.concatenate([y, shard])
    noise = np.concatenate([NOISE_224 / counts, np.full(len(shard), NOISE_SHARD)])
    at_224 = np.arange(len(rows)) < len(nets)

    rng = np.random.default_rng(0)
    by_net = held_out(space, rows, values, noise, rng.integers(0, FOLDS, len(rows)))
    run_fold = np.concatenate([np.unique(run, return_inverse=True)[1], rng.integers(0, len(set(runs)), len(shard))])
    by_run = held_out(space, rows, values, noise, run_fold)
    errors = values - by_net
    facts: dict[str, Any] = {
        "space": space.name,
        "sources": [
            "IntelLabs/DyNAS-T notebooks/data mbnv3w10 CSV files (Apache-2.0): top-1 at 224 px, 50,000 images",
            "MaximeGirard/memory-optimized-once-for-all (MIT): top-1 at 128, 160, 192 px, 12,500 images",
        ],
        "n_nets": len(nets),
        "n_rows_elsewhere": len(shard),
        "offset_of_second_source": round(offset, 3),
        "mae_by_net": round(float(np.abs(errors[at_224]).mean()), 4),
        "kendall_by_net": round(float(kendalltau(by_net[at_224], y)[0]), 4),
        "mae_by_run": round(float(np.abs(values - by_run)[at_224].mean()), 4),
        "mae_elsewhere": round(float(np.abs(errors[~at_224]).mean()), 4),
        "kendall_elsewhere": {
            int(px): round(float(kendalltau(by_net[here], values[here])[0]), 4)
            for px in np.unique(elsewhere[:, 0])
            for here in [~at_224 & (rows[:, 0] == px)]
        },
    }
    print(json.dumps(facts, indent=1))

    form = fit(space, rows, values, noise)
    quantiles = np.linspace(0, 1, 401)
    arrays = {name: array.astype(np.float64) for name, array in form.arrays().items()}
    arrays["errors_by_run"] = np.quantile(np.abs(values - by_run)[at_224], quantiles)
    arrays["errors_elsewhere"] = np.quantile(np.abs(errors[~at_224]), quantiles)
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    with atomic_path(options.out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    print(f"{options.out}: {options.out.stat().st_size} bytes")


def fit(space: Space, rows: Genomes, values: Floats, noise: Floats) -> QuadraticForm:
    """Fit the model to all rows."""
    form = fit_process(space, rows, values, NOISE_224 / noise, ("quadratic",))[1]
    assert isinstance(form, QuadraticForm)
    return form


def held_out(space: Space, rows: Genomes, values: Floats, noise: Floats, fold: NDArray[np.integer]) -> Floats:
    """Return (n,) predictions, each by the model of the other folds."""
    out = np.empty(len(rows))
    for f in np.unique(fold):
        test = fold == f
        out[test] = fit(space, rows[~test], values[~test], noise[~test])(space, rows[test])
    return out


def source_offset(
    space: Space, nets: Genomes, y: Floats, counts: NDArray[np.integer], elsewhere: Genomes, shard: Floats
) -> tuple[float, Floats]:
    """Return the offset of the second source at 224 px, and its three mean differences to the model of the first."""
    there = elsewhere.copy()
    there[:, 0] = 224
    difference = shard - fit(space, nets, y, NOISE_224 / counts)(space, there)
    steps = np.array([difference[elsewhere[:, 0] == px].mean() for px in (128, 160, 192)])
    rho = (steps[2] - steps[1]) / (steps[1] - steps[0])
    print(f"  decay per 32 px: {rho:.3f} here, {DECAY_PER_32_PX} in predictors/process_design.py")
    return float(steps[2] + rho * (steps[2] - steps[1])), steps


def within_net_sd(inverse: NDArray[np.integer], top1: Floats, y: Floats, counts: NDArray[np.integer]) -> float:
    """Return the pooled standard deviation of repeated evaluations of one network."""
    repeated = counts[inverse] > 1
    return float(np.sqrt(((top1 - y[inverse])[repeated] ** 2).sum() / (counts[counts > 1] - 1).sum()))


def read_dynas(path: Path, space: Space) -> tuple[list[str], Genomes, Floats]:
    with path.open(encoding="utf-8", newline="") as stream:
        records = list(csv.DictReader(stream))
    archs = [arch_from_dict({k: json.loads(row[k]) for k in ("ks", "e", "d", "r")}, space) for row in records]
    return [row["run"] for row in records], encode(space, archs), np.array([float(row["top1"]) for row in records])


def read_multires(path: Path, space: Space) -> tuple[Genomes, Floats]:
    with path.open(encoding="utf-8", newline="") as stream:
        records = list(csv.DictReader(stream))
    archs = [
        arch_from_dict({k: [int(v) for v in row[k].split()] for k in ("ks", "e", "d", "r")}, space) for row in records
    ]
    return encode(space, archs), 100 * np.array([float(row["top1_fraction"]) for row in records])


if __name__ == "__main__":
    main()
