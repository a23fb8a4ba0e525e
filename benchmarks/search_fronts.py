"""Fronts and fleets on the published Note10 table: each against dedicated searches, and against pymoo's NSGA-II.

    OFA_REFERENCE_DATA=... python benchmarks/search_fronts.py

One process, one thread, CPU time. A dedicated search has one limit and the default effort, seed 0. The fleet is the
Note10 and three made-up devices: its table with factors that differ from block to block (lognormal, 20 %), because
no other table of the space is published. Needs the published files ($OFA_REFERENCE_DATA; ends with a line and exit
code 0 if it is not set) and `pip install pymoo`. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.dense import DenseTable
from ofa_core.formats.acc_predictor import read_acc_predictor
from ofa_core.genomes import encode_padded
from ofa_core.search.additive import fitted_table, probed_table
from ofa_core.search.additive_front import additive_front
from ofa_core.search.exact import loosest_value
from ofa_core.search.fleet import search_each
from ofa_core.search.front import front_limits, search_front
from ofa_core.search.pareto import pareto_order
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import Quantity
from ofa_core.search.run import most_accurate, search
from ofa_core.spaces import get_space
from predictors.loading import load_latency

RESOLUTIONS = (160, 176, 192, 208, 224)
FLEET_LIMITS_MS = (15, 20, 25, 30, 40)
FLEET_SPREAD = 0.2
Floats = np.ndarray[Any, np.dtype[np.float64]]


def cpu_s(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def bar(text: str, good: bool) -> bool:
    print(text + ("" if good else "  MISSED"), flush=True)
    return good


def hypervolume(costs: Floats, values: Floats, worst_cost: float, worst_value: float) -> float:
    """Area between the front and the worst corner."""
    keep = pareto_order(costs, values)
    costs, values = costs[keep], values[keep]
    inside = (costs < worst_cost) & (values > worst_value)
    costs, values = costs[inside], values[inside]
    widths = np.append(costs[1:], worst_cost) - costs
    return float((widths * (values - worst_value)).sum())


def dedicated(problem: Problem, limit: Constraint) -> float:
    return search(replace(problem, constraints=(limit,))).best.top1


def check_front(problem: Problem) -> bool:
    seconds, found = cpu_s(lambda: search_front(problem, 20))
    limits = front_limits(problem, 20)
    alone = np.array([dedicated(problem, limit) for limit in limits])
    points = [(answer.best.latency_ms, answer.best.top1) for answer in found.answers]
    below = alone - [max(top1 for ms, top1 in points if ms <= limit.limit) for limit in limits]
    costs = np.array([answer.best.latency_ms for answer in found.answers])
    values = np.array([answer.best.top1 for answer in found.answers])
    ok = bar(
        f"front of 20 limits: {len(points)} networks in {seconds:.1f} CPU s; below dedicated searches "
        f"{below.mean():.3f} in the mean, {(below <= 0.1).sum()} within .1, {below.max():.3f} at most",
        bool(seconds <= 15 and below.mean() <= 0.03 and (below <= 0.1).sum() >= 18 and below.max() <= 0.3),
    )
    if importlib.util.find_spec("pymoo") is None:
        print("pymoo is not installed: no comparison of hypervolumes (pip install pymoo)")
        return ok
    corner = (problem.constraints[0].limit, float(values.min()) - 0.5)
    theirs = hypervolume(*nsga2(problem, seconds), *corner)
    ours = hypervolume(costs, values, *corner)
    return ok & bar(
        f"hypervolume: {ours:.1f}, NSGA-II of pymoo in the same CPU time {theirs:.1f}: {ours / theirs:.3f} x",
        ours >= 1.03 * theirs,
    )


def nsga2(problem: Problem, seconds: float) -> tuple[Floats, Floats]:
    """Latency and top-1 of the front that NSGA-II finds in this CPU time."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    space = problem.space
    n, n_stages = space.n_slots, len(space.stages)
    depths, kernels, expands, pixels = (
        np.asarray(c) for c in (space.stages[0].depths, space.kernels, space.expands, problem.resolutions)
    )
    upper = np.array([len(kernels)] * n + [len(expands)] * n + [len(depths)] * n_stages + [len(pixels)]) - 1

    class Networks(PymooProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(upper), n_obj=2, xl=0, xu=upper, vtype=int)

        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            k, e, d, r = np.split(x.astype(int), [n, 2 * n, 2 * n + n_stages], axis=1)
            genomes, _member = encode_padded(space, kernels[k], expands[e], depths[d], pixels[r[:, 0]])
            out["F"] = np.column_stack([problem.cost.values(genomes), -problem.scores(genomes)])

    integers = {"vtype": float, "repair": RoundingRepair()}
    algorithm = NSGA2(
        pop_size=200,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3, **integers),
        mutation=PM(prob=1.0, eta=3, **integers),
        eliminate_duplicates=True,
    )
    algorithm.setup(Networks(), termination=("n_gen", 10**6), seed=1, verbose=False)
    start, everything = time.process_time(), []
    while time.process_time() - start < seconds:
        algorithm.next()
        everything.append(algorithm.pop.get("F"))
    found = np.concatenate(everything)
    return found[:, 0], -found[:, 1]


def devices_of(table: DenseTable) -> list[Quantity]:
    out = []
    for i in range(4):
        rng = np.random.default_rng(i)
        factors = np.exp(rng.normal(0, FLEET_SPREAD if i else 0.0, table.slots.shape[1:]))
        own = DenseTable(table.resolutions, table.fixed, table.slots * factors)
        out.append(Quantity(f"latency_ms:{i}" if i else "latency_ms", own.sum, unit="ms", table=own))
    return out


def check_fleet(problem: Problem, table: DenseTable) -> bool:
    devices = devices_of(table)
    limits = [Constraint(device, float(ms)) for device in devices for ms in FLEET_LIMITS_MS]
    names = [str(limit) for limit in limits]
    each = replace(problem, constraints=tuple(limits))
    seconds, found = cpu_s(lambda: search_each(each, names))
    alone = np.array([dedicated(problem, limit) for limit in limits])
    below = alone - [answer.best.top1 for answer in found.answers]
    ok = bar(
        f"4 devices x 5 limits, one network each: {seconds:.1f} CPU s; {(below <= 0.1).sum()} of 20 within .1 of "
        f"dedicated searches, {below.max():.3f} at most",
        bool(seconds <= 20 and (below <= 0.1).sum() >= 17),
    )
    shared = replace(problem, constraints=tuple(Constraint(device, 25.0) for device in devices))
    runs = [cpu_s(lambda seed=seed: search(shared, seed=seed)) for seed in range(3)]
    top1 = [result.best.top1 for _, result in runs]
    slowest = max(seconds for seconds, _ in runs)
    return ok & bar(
        f"one network for 4 devices, 25 ms each: {', '.join(f'{x:.3f}' for x in top1)} % of three seeds; at most "
        f"{slowest:.1f} CPU s",
        slowest <= 6 and max(top1) - min(top1) <= 0.15,
    )


def main() -> int:
    if "OFA_REFERENCE_DATA" not in os.environ:
        print("OFA_REFERENCE_DATA is not set; it names the folder of published files")
        return 0
    data = Path(os.environ["OFA_REFERENCE_DATA"])
    space = get_space("mbv3-w1.2")
    latency = load_latency(data / "note10_lut", space)
    accuracy = read_acc_predictor(data / "acc_predictor.pth", space)
    problem = most_accurate(space, latency, accuracy, 1.0, resolutions=RESOLUTIONS)
    largest = replace(problem.constraints[0], limit=loosest_value(space, RESOLUTIONS, problem.constraints[0]))
    problem = replace(problem, constraints=(largest,))

    table, adds_up = probed_table(space, RESOLUTIONS, latency.predict)
    value = fitted_table(space, RESOLUTIONS, accuracy.predict, np.random.default_rng(0))
    seconds, front = cpu_s(lambda: additive_front(space, table, value))
    ok = bar(
        f"exact front of an additive accuracy (the predictor's ridge fit), {len(RESOLUTIONS)} resolutions: "
        f"{len(front[1])} networks in {seconds:.3f} CPU s",
        adds_up and seconds <= 1,
    )
    ok &= check_front(problem)
    ok &= check_fleet(problem, table)
    print("all bars met" if ok else "a bar was missed")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
