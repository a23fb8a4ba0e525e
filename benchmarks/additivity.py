"""Which statistic of the samples sums best to whole networks? Reads the journal of a profile; measures nothing.

    python benchmarks/additivity.py luts/local-onnxruntime.csv

For each clock, statistic and choice of runs, with and without the speed probe, the script forms a table from the
journal's blocks, sums it for the journal's whole networks (measured hot), and prints the raw bias of the sum, the
leave-one-out error of the calibration with one and with two terms, the rank correlation, and how much the networks'
level differs between the fresh processes (max - min of the mean log ratio). docs/adr/0003 quotes its output.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ofa_core.calibration import fit_calibration, spearman
from ofa_core.measured_networks import networks_path, read_networks
from ofa_core.space_record import space_of
from profiler.campaign import journal_path
from profiler.estimation import Clock, estimate, reference_probe_ns, samples_of
from profiler.journal import JournalState, VisitRecord, read_journal
from profiler.plan import BlockItem, NetworkItem

STATISTICS: dict[str, Callable[[list[int]], float]] = {
    "mean": lambda runs: float(np.mean(runs)),
    "median": lambda runs: float(np.median(runs)),
    "p25": lambda runs: float(np.percentile(runs, 25)),
    "min": lambda runs: float(np.min(runs)),
}
# which runs of a visit: the cold first one, the second, or all after these
RUNS = {"cold": slice(0, 1), "warm": slice(1, 2), "hot": slice(2, None)}


def reduce_visit(visit: VisitRecord, clock: Clock, statistic: str, runs: str) -> VisitRecord | None:
    """A visit whose counted runs all equal one statistic of the chosen clean runs."""
    times = (visit.wall_ns if clock == "wall" else visit.cpu_ns)[RUNS[runs]]
    clean = [t for t, s in zip(times, visit.switches[RUNS[runs]], strict=True) if not s]
    if not clean:
        return None
    value = (round(STATISTICS[statistic](clean)),) * 3
    return replace(visit, wall_ns=value, cpu_ns=value, switches=(0, 0, 0))


def values(state: JournalState, clock: Clock, statistic: str, runs: str, probe: bool, first_net: int) -> np.ndarray:
    """(n_processes + 1, n_items): log ms per process, and at the end over all."""
    visits = []
    for visit in state.visits.values():
        reduced = reduce_visit(visit, clock, statistic, "hot" if visit.item >= first_net else runs)
        if reduced is not None:
            visits.append(reduced)
    samples = samples_of(visits, clock)
    ref = reference_probe_ns(samples)
    n_items = len(state.header["items"])
    out = []
    processes = sorted({s.unit[0] for s in samples})
    for group in [*([p] for p in processes), processes]:
        chosen = [s for s in samples if s.unit[0] in group]
        row = np.full(n_items, np.nan)
        if probe:
            for item, e in estimate(chosen, ref).items():
                row[item] = e.latency_ms
        else:
            by_item: dict[int, list[float]] = {}
            for s in chosen:
                by_item.setdefault(s.item, []).append(np.exp(s.log_t) / 1e6)
            for item, list_ms in by_item.items():
                row[item] = STATISTICS[statistic](list_ms)  # type: ignore[arg-type]
        out.append(row)
    return np.array(out)


def main() -> None:
    table = Path(sys.argv[1])
    state = read_journal(journal_path(table))
    ids = state.header["items"]
    space = space_of(state.header)
    index = {name: i for i, name in enumerate(ids)}
    nets = [n for n in read_networks(networks_path(table)) if NetworkItem(n.space, n.arch).id in index]
    net_items = [index[NetworkItem(n.space, n.arch).id] for n in nets]
    block_items = [[index[BlockItem(b).id] for b in space.blocks(n.arch)] for n in nets]
    pixels, mparams = np.array([n.arch.resolution_px for n in nets]), [n.mparams for n in nets]
    context = state.header["context"]
    print(f"{context['device']}, {context['backend']} {context['backend_version']}, {context['threads']} thread(s)")
    print(f"{len(ids) - len(nets)} blocks, {len(nets)} whole networks, {len(state.visits)} visits")
    print("probe clock statistic runs   bias %  LOO % scale  LOO % +per block  +weights  Spearman  within px  drift %")
    clocks: tuple[Clock, ...] = ("wall", "cpu")
    for probe in (False, True):
        for clock in clocks:
            for statistic in STATISTICS:
                for runs in RUNS:
                    ms = values(state, clock, statistic, runs, probe, min(net_items))
                    whole = ms[-1][net_items]
                    sums = np.array([ms[-1][items].sum() for items in block_items])
                    n_blocks = [len(items) for items in block_items]
                    one, two, three = (
                        fit_calibration(sums, n_blocks, mparams, whole, terms)
                        for terms in ((), ("per_block",), ("per_mparam",))
                    )
                    within = [
                        spearman(sums[m], whole[m])
                        for px in sorted(set(pixels.tolist()))
                        if (m := pixels == px).sum() >= 5
                    ]
                    level = np.log(ms[:-1][:, net_items] / whole).mean(axis=1)
                    print(
                        f"{'yes' if probe else 'no':5} {clock:5} {statistic:9} {runs:5} {100 * one.raw_bias:+7.1f} "
                        f"{100 * one.loo_mape:12.2f} {100 * two.loo_mape:17.2f} {100 * three.loo_mape:9.2f} "
                        f"{one.spearman:9.3f} {min(within, default=float('nan')):10.3f} "
                        f"{100 * float(np.ptp(level)):8.1f}"
                    )


if __name__ == "__main__":
    main()
