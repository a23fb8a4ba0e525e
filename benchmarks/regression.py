"""Find how often `ofa-profile compare --fail-above` finds a slow-down, and how often it raises a false alarm.

    python benchmarks/regression.py JOURNAL.jsonl JOURNAL.jsonl [...]

Each journal is of one session of the same blocks on one machine. A simulated re-measurement takes two sessions
and draws five processes of each, with replacement, so it has the noise of the machine: within a process, between
processes, and between sessions. Then one kind of block is slowed down. A false alarm is any failure without that.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ofa_core.blocks import BlockSpec
from ofa_core.context import Context, statistic_name
from ofa_core.space_record import space_of
from ofa_core.table import Entry, LatencyTable
from profiler.compare import compare
from profiler.estimation import estimate, reference_probe_ns, samples_of
from profiler.journal import read_journal
from profiler.plan import BlockItem
from profiler.regression import gate

KINDS = {
    "kernel 3": lambda b: b.kernel_px == 3,
    "kernel 5": lambda b: b.kernel_px == 5,
    "kernel 7": lambda b: b.kernel_px == 7,
    "squeeze-and-excite": lambda b: b.se,
    "relu": lambda b: b.act == "relu",
    "h_swish": lambda b: b.act == "h_swish",
}


@dataclass(frozen=True)
class Session:
    """The latencies of a journal's blocks in each process, at the session's reference speed."""

    blocks: tuple[BlockSpec, ...]
    log_ms: NDArray[np.float64]  # (blocks, processes); NaN for a block that a process did not measure
    ref_ns: float


def read(path: Path) -> Session:
    state = read_journal(path)
    header = state.header
    space = space_of({"space": header["space"], "space_digest": header["space_digest"]})
    by_id = {BlockItem(block).id: block for block in space.all_blocks(header["resolutions"])}
    items = {i: by_id[name] for i, name in enumerate(header["items"]) if name in by_id}
    samples = samples_of(state.visits.values(), "wall")
    ref_ns = reference_probe_ns(samples)
    processes = sorted({sample.unit[0] for sample in samples})
    log_ms = np.full((len(items), len(processes)), np.nan)
    for column, process in enumerate(processes):
        estimates = estimate([s for s in samples if s.unit[0] == process], ref_ns)
        for row, item in enumerate(items):
            if item in estimates:
                log_ms[row, column] = math.log(estimates[item].latency_ms)
    return Session(tuple(items.values()), log_ms, ref_ns)


def drawn_table(session: Session, rng: np.random.Generator) -> LatencyTable:
    """Return the table of a session whose processes are drawn from those of the given one."""
    n_processes = session.log_ms.shape[1]
    drawn = session.log_ms[:, rng.integers(0, n_processes, n_processes)]
    measured = np.isfinite(drawn).sum(axis=1) >= 2
    drawn, blocks = drawn[measured], [block for block, known in zip(session.blocks, measured, strict=True) if known]
    half = stats.t.ppf(0.95, n_processes - 1) * np.nanstd(drawn, axis=1, ddof=1) / math.sqrt(n_processes)
    entries = {
        (None, block): Entry(math.exp(middle), n_processes=n_processes, ci90_ms=math.exp(middle) * math.expm1(width))
        for block, middle, width in zip(blocks, np.nanmean(drawn, axis=1), half, strict=True)
    }
    return LatencyTable(Context("simulated", statistic=statistic_name(session.ref_ns)), entries)


def slowed(table: LatencyTable, kind: str, by: float) -> LatencyTable:
    return table.with_entries(
        {
            (px, block): replace(e, latency_ms=e.latency_ms * (1 + by), ci90_ms=e.ci90_ms * (1 + by))
            for (px, block), e in table.entries.items()
            if block.op == "mbconv" and KINDS[kind](block)
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journals", nargs="+", type=Path)
    parser.add_argument("--n", type=int, default=100, help="number of re-measurements (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=0.03, help="slow-down, and limit (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.journals) < 2:
        parser.error("give at least two journals")
    sessions = [read(path) for path in options.journals]
    rng = np.random.default_rng(options.seed)
    found: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    n_alarms, errors = 0, []
    for _ in range(options.n):
        first, second = rng.choice(len(sessions), 2, replace=False)
        old, new = drawn_table(sessions[first], rng), drawn_table(sessions[second], rng)
        unchanged = gate(compare(old, new), options.limit)
        n_alarms += unchanged.failed
        alarms.update(v.name for v in unchanged.verdicts if v.slower)
        alarms.update("a single block" for _ in unchanged.blocks[:1])
        errors.append({v.name: math.log(v.ratio) for v in unchanged.verdicts})
        for kind in KINDS:
            outcome = gate(compare(old, slowed(new, kind, options.limit)), options.limit)
            found[kind] += any(v.name == kind and v.slower for v in outcome.verdicts)
    print(f"{len(sessions)} journals, {options.n} re-measurements, slow-down and limit {100 * options.limit:g} %")
    print(f"false alarms: {n_alarms} of {options.n} {dict(alarms) if alarms else ''}".rstrip())
    for kind in KINDS:
        spread = 100 * float(np.std([e[kind] for e in errors]))
        print(f"{kind:20} found {found[kind]:3d} of {options.n}; unchanged ratio spreads by {spread:.2f} %")


if __name__ == "__main__":
    main()
