"""Search beside the authors' package `ofa`: look-ups, predictions and best networks, one process, one thread, CPU time.

    OFA_REFERENCE_DATA=... python benchmarks/search.py [--peer-limits 25] [--peer-seeds 1]

Needs the published Note10 tables and accuracy predictor ($OFA_REFERENCE_DATA; ends with a line and exit code 0 if it
is not set) and `pip install --no-deps ofa==0.1.0.post202307202001`. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import importlib
import importlib.util
import random
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from published_code import stubbed

from ofa_core.arch_json import arch_to_dict
from ofa_core.formats.acc_predictor import read_acc_predictor
from ofa_core.genomes import decode, sample_genomes
from ofa_core.search.run import most_accurate, search
from ofa_core.spaces import get_space
from predictors.loading import load_latency

RESOLUTIONS = (160, 176, 192, 208, 224)
BARS = {15: 78.60, 20: 80.70, 25: 82.05, 30: 82.90, 40: 84.00}
SEEDS = (0, 1, 2)
MAX_CPU_S = 3.0
MIN_LOOKUPS_PER_S = 5e6


def cpu_s(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def rate(run: Callable[[], Any], n: int, repeats: int = 5) -> float:
    """Items per CPU second, the median of some repeats after a warm-up."""
    run()
    return float(n / np.median([cpu_s(run)[0] for _ in range(repeats)]))


def load_peer(data: Path) -> tuple[Any, Any, Any]:
    """The authors' finder class, their latency table and their accuracy predictor, on local files."""
    with stubbed():
        package = importlib.import_module("ofa")
        # The tutorial package imports its evaluation helper, which wants torchvision: give it an empty face.
        tutorial = types.ModuleType("ofa.tutorial")
        tutorial.__path__ = [str(Path(package.__path__[0]) / "tutorial")]
        sys.modules["ofa.tutorial"] = tutorial
        finder, latency, accuracy = (
            importlib.import_module(f"ofa.tutorial.{name}")
            for name in ("evolution_finder", "latency_table", "accuracy_predictor")
        )
    finder.tqdm = lambda rounds, **_: rounds
    latency.yaml = types.SimpleNamespace(load=lambda stream: yaml.load(stream, Loader=yaml.CSafeLoader))
    table = latency.LatencyTable(resolutions=())
    for px in RESOLUTIONS:
        table.latency_tables[px] = latency.LatencyEstimator(url=str(data / "note10_lut" / f"{px}_lookup_table.yaml"))
    predictor = accuracy.AccuracyPredictor(pretrained=False, device="cpu")
    predictor.model.load_state_dict(torch.load(data / "acc_predictor.pth", map_location="cpu", weights_only=True))
    return finder.EvolutionFinder, table, predictor


def peer_search(finder: Any, table: Any, predictor: Any, limit_ms: float, seed: int) -> tuple[float, float, int]:
    """Their published setting, 100 x 500: percent, CPU seconds, evaluations."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (their code draws from it)
    run = finder("note10", limit_ms, table, predictor, population_size=100, max_time_budget=500)
    seconds, (_, best) = cpu_s(lambda: run.run_evolution_search())
    return 100 * best[0], seconds, 100 * 501


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-limits", default="25", help="limits in ms that the peer searches too, with commas")
    parser.add_argument("--peer-seeds", type=int, default=1)
    options = parser.parse_args()
    if "OFA_REFERENCE_DATA" not in os.environ:
        print("OFA_REFERENCE_DATA is not set; it names the folder of published files")
        return 0
    data = Path(os.environ["OFA_REFERENCE_DATA"])
    torch.set_num_threads(1)
    space = get_space("mbv3-w1.2")
    latency = load_latency(data / "note10_lut", space)
    accuracy = read_acc_predictor(data / "acc_predictor.pth", space)
    has_peer = importlib.util.find_spec("ofa") is not None
    peer = load_peer(data) if has_peer else None
    ok = True

    rng = np.random.default_rng(0)
    genomes = sample_genomes(space, 1_000_000, rng, RESOLUTIONS)
    dicts = [arch_to_dict(arch, space) for arch in decode(space, genomes[:1000])]
    dense = latency.table.dense(space, RESOLUTIONS)
    ours = rate(lambda: dense.sum(genomes), len(genomes))
    ok &= ours >= MIN_LOOKUPS_PER_S
    print(f"look-ups     {ours / 1e6:.2f} M architectures / CPU s (bar {MIN_LOOKUPS_PER_S / 1e6:g} M)", end="")
    if peer is not None:
        _, table, predictor = peer
        worst = np.abs(np.array([table.predict_efficiency(d) for d in dicts]) - latency.predict(genomes[:1000])).max()
        theirs = rate(lambda: [table.predict_efficiency(d) for d in dicts], len(dicts))
        print(f", ofa {theirs / 1e3:.1f} k: {ours / theirs:.0f} x; largest difference {worst:.1e} ms", end="")
    print()
    ours = rate(lambda: accuracy.predict(genomes[:20_000]), 20_000)
    print(f"predictions  {ours / 1e3:.0f} k / CPU s", end="")
    if peer is not None:
        theirs = rate(lambda: [predictor.predict_accuracy(dicts[i : i + 100]) for i in range(0, 1000, 100)], 1000)
        far = np.abs(100 * predictor.predict_accuracy(dicts).numpy()[:, 0] - accuracy.predict(genomes[:1000])).max()
        print(
            f", ofa in batches of 100 {theirs / 1e3:.1f} k: {ours / theirs:.1f} x; difference {far:.1e} points", end=""
        )
    print("\n\nlimit ms  seed  top-1 %    bar  CPU s  evaluations / CPU s")
    found: dict[int, list[tuple[float, float, int]]] = {}
    for limit_ms, bar in BARS.items():
        for seed in SEEDS:
            seconds, result = cpu_s(
                lambda limit_ms=limit_ms, seed=seed: search(
                    most_accurate(space, latency, accuracy, limit_ms, resolutions=RESOLUTIONS), seed=seed
                )
            )
            best = result.best
            good = best.top1 >= bar and best.latency_ms <= limit_ms and seconds <= MAX_CPU_S
            ok &= good
            found.setdefault(limit_ms, []).append((best.top1, seconds, result.n_evaluated))
            speed = result.n_evaluated / seconds
            print(
                f"{limit_ms:>8}  {seed:>4}  {best.top1:7.3f}  {bar:.2f}  {seconds:5.2f}  "
                f"{result.n_evaluated} / {speed / 1e3:.1f} k{'' if good else '  MISSED'}"
            )
    if peer is None:
        print("\nofa is not installed: no ratios (pip install --no-deps ofa==0.1.0.post202307202001)")
    else:
        print("\nofa's own evolution, 100 x 500, beside the mean of our three seeds")
        for limit_ms in (int(text) for text in options.peer_limits.split(",")):
            theirs_all = [peer_search(*peer, limit_ms, seed) for seed in range(options.peer_seeds)]
            top1, seconds, n = (float(np.mean(column)) for column in zip(*theirs_all, strict=True))
            mine, took, n_mine = (float(np.mean(column)) for column in zip(*found[limit_ms], strict=True))
            print(
                f"{limit_ms} ms: ofa {top1:.3f} % in {seconds:.1f} CPU s ({n / seconds / 1e3:.1f} k evaluations / s), "
                f"ours {mine:.3f} % in {took:.2f} CPU s ({n_mine / took / 1e3:.1f} k): {mine - top1:+.3f} points, "
                f"{seconds / took:.1f} x less time, {n_mine / took / (n / seconds):.1f} x the evaluations per second"
            )
    print("all bars met" if ok else "a bar was missed")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
