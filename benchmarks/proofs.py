"""Proofs and the least latency of a wanted accuracy, with the built-in accuracy model; one thread, CPU time.

    python benchmarks/proofs.py [--lut luts/local-onnxruntime.csv] [--limits 2.5,3.5,4.5] [--max-optimum-s 30]

Without --lut the device is a made-up one, so that the figures can be repeated anywhere. Without --limits there are six,
from 1.15 times the fastest network to 0.55 times the slowest, by ratio. With $OFA_REFERENCE_DATA, the least latency
is also searched with the published Note10 tables and accuracy network. Exit code 1 if a bar is missed:
a gap of 0.1 points proved at every limit in 15 s, the optimum at five of six in 30 s, no bound below any of 100,000
random networks, three seeds of `--min-top1` within 2 % in 5 s each.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.formats.acc_predictor import read_acc_predictor
from ofa_core.genomes import encode, sample_genomes
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.prove import prove
from ofa_core.search.run import most_accurate, search
from ofa_core.spaces import get_space
from ofa_core.table import Context, Entry, LatencyTable
from predictors.builtin_accuracy import BuiltinAccuracy
from predictors.loading import load_latency
from predictors.lut import LutPredictor

GAP, MAX_GAP_S = 0.1, 15.0
N_OPTIMA = 5
N_NETWORKS = 100_000
MAX_INVERSE_S, MAX_INVERSE_SPREAD = 5.0, 0.02
PIXELS = (160, 192, 224)


def made_up_device() -> LutPredictor:
    """A device that pays for arithmetic, for memory and for each layer."""
    space = get_space("mbv3-w1.0")
    blocks = space.all_blocks(PIXELS)
    entries = {(None, b): Entry(0.02 + b.macs / 5e7 + (b.activation_elements + b.params) / 5e6) for b in blocks}
    return LutPredictor(space).fit(LatencyTable(Context(device="made-up"), entries))


def limits_of(latency: Any) -> list[float]:
    """Six limits, from a bit above the fastest network to half of the slowest."""
    space = get_space("mbv3-w1.0")
    pixels = latency.resolutions
    low, high = latency.predict([space.smallest(pixels[0]), space.largest(pixels[-1])])
    return [round(float(limit), 2) for limit in np.geomspace(1.15 * low, 0.55 * high, 6)]


def cpu_s(run: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def proofs(latency: Any, limits: list[float], max_optimum_s: float) -> bool:
    """Prove each limit twice: to the gap, and to the optimum."""
    space, accuracy = get_space("mbv3-w1.0"), BuiltinAccuracy()
    genomes = sample_genomes(space, N_NETWORKS, np.random.default_rng(0), latency.resolutions)
    top1, ms = accuracy.predict(genomes), latency.predict(genomes)
    print("limit ms  search %   bound %     gap  CPU s   best known %   gap left  CPU s  parts")
    ok, n_optima = True, 0
    for limit_ms in limits:
        problem = most_accurate(space, latency, accuracy, limit_ms)
        first = encode(space, [search(problem, seed=0).best.arch])[0]
        gap_s, near = cpu_s(lambda p=problem, g=first: prove(p, g, gap=GAP, clock=time.process_time))
        best_s, best = cpu_s(lambda p=problem, g=first: prove(p, g, max_s=max_optimum_s, clock=time.process_time))
        highest = float(top1[ms <= limit_ms].max(initial=-np.inf))
        good = near.gap <= GAP + 1e-6 and gap_s <= MAX_GAP_S and min(near.bound, best.bound) >= highest - 1e-9
        ok &= good
        n_optima += best.is_optimal
        found = float(accuracy.predict(first[None])[0])
        print(
            f"{limit_ms:>8g}  {found:8.3f}  {near.bound:8.3f}  {near.gap:6.3f}  {gap_s:5.1f}  {best.value:13.4f}  "
            f"{best.gap:9.4f}  {best_s:5.1f}  {best.n_parts:>5}{'' if good else '  MISSED'}"
        )
    print(f"optimum proved at {n_optima} of {len(limits)} limits in {max_optimum_s:g} s each")
    return ok and n_optima >= min(N_OPTIMA, len(limits))


def inverses(name: str, problem: Problem, wanted: tuple[float, ...]) -> bool:
    """Search the least latency of wanted accuracies with three seeds."""
    ok = True
    for top1 in wanted:
        inverse = replace(problem, objective=problem.cost, constraints=(Constraint(problem.objective, top1),))
        found = [cpu_s(lambda p=inverse, seed=seed: search(p, seed=seed).best) for seed in range(3)]
        ms, seconds = [best.latency_ms for _, best in found], [s for s, _ in found]
        spread = max(ms) / min(ms) - 1
        good = spread <= MAX_INVERSE_SPREAD and max(seconds) <= MAX_INVERSE_S
        ok &= good and all(best.top1 >= top1 for _, best in found)
        shown = ", ".join(f"{x:.3f}" for x in ms)
        print(
            f"{name}: at least {top1:g} %: {shown} ms, spread {100 * spread:.2f} %, {max(seconds):.1f} CPU s"
            f"{'' if good else '  MISSED'}"
        )
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lut", type=Path, help="latency table of mbv3-w1.0; a made-up device without it")
    parser.add_argument("--limits", help="limits in ms, with commas")
    parser.add_argument("--max-optimum-s", type=float, default=30.0)
    options = parser.parse_args()
    space = get_space("mbv3-w1.0")
    latency = made_up_device() if options.lut is None else load_latency(options.lut, space)
    limits = [float(text) for text in options.limits.split(",")] if options.limits else limits_of(latency)
    ok = proofs(latency, limits, options.max_optimum_s)
    ok &= inverses(latency.label, most_accurate(space, latency, BuiltinAccuracy(), limits[-1]), (72.0, 75.0))
    if "OFA_REFERENCE_DATA" in os.environ:
        data, wide = Path(os.environ["OFA_REFERENCE_DATA"]), get_space("mbv3-w1.2")
        network = read_acc_predictor(data / "acc_predictor.pth", wide)
        published = most_accurate(wide, load_latency(data / "note10_lut", wide), network, 40.0)
        ok &= inverses("published Note10", published, (82.0, 84.0))
    print("all bars met" if ok else "a bar was missed")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
