"""Evaluate a journal: latencies, the rows of a table, and its whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ofa_core.energy_model import fit_energy
from ofa_core.errors import TableError
from ofa_core.measured_networks import Network
from ofa_core.table import Context, Entry, Key, LatencyTable
from profiler.estimation import (
    Clock,
    Estimate,
    choose_clock,
    estimate,
    reference_probe_ns,
    samples_of,
    shrunk_offsets,
    unit_offsets,
)
from profiler.journal import EnergyRecord, JournalState
from profiler.plan import PROBE_RUNS, BlockItem, NetworkItem, Plan

__all__ = [
    "Measured",
    "evaluate",
    "network_of",
    "to_table",
    "with_energy",
]

UNSTABLE = 0.10  # half width of the 90 % interval, as a fraction, above which an entry is unstable


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of a session.

    Attributes:
        estimates: latencies by item of the plan; failed items are absent.
        clock: clock of the latencies.
        ref_ns: time of the speed probe at the reference speed of the machine.
        speed: median time of the probe in this session divided by `ref_ns`; 1 if this session is the reference.
        n_visits: number of valid visits.
        n_runs: number of clean runs.
        n_dropped: number of runs dropped because the thread was preempted.
        offsets: corrections of units whose anchors drifted, as log ratios.
        timed_s: seconds of timed inference, the probe included.
        energy: energy of networks, by item of the plan.
        crowding: advice if there are more threads than cores, else empty.
    """

    estimates: Mapping[int, Estimate]
    clock: Clock
    ref_ns: float
    speed: float
    n_visits: int
    n_runs: int
    n_dropped: int
    offsets: Mapping[tuple[int, int], float]
    timed_s: float
    energy: Mapping[int, EnergyRecord] = field(default_factory=dict)
    crowding: str = ""


def evaluate(
    state: JournalState, plan: Plan, threads: int, *, clock: Clock | None = None, ref_ns: float | None = None
) -> Measured:
    """Evaluate a journal.

    Args:
        state: state of a journal of this plan.
        plan: the items.
        threads: threads of one inference.
        clock: clock of the table that the measurements belong to; None chooses one.
        ref_ns: time of the speed probe at the reference speed; None takes the median of this session.

    Raises:
        TableError: if no visit has a clean run.
    """
    visits = list(state.visits.values())
    clock = choose_clock(visits, threads) if clock is None else clock
    samples = samples_of(visits, clock)
    if not samples:
        raise TableError("the journal has no visit with a clean run; measure on a quieter machine, or longer")
    own_ns = reference_probe_ns(samples)
    ref_ns = own_ns if ref_ns is None else ref_ns
    offsets = shrunk_offsets(unit_offsets(samples, plan.anchors, own_ns))
    return Measured(
        estimates=estimate(samples, ref_ns, offsets),
        clock=clock,
        ref_ns=ref_ns,
        speed=own_ns / ref_ns,
        n_visits=len(visits),
        n_runs=sum(len(s.runs_ms) for s in samples),
        n_dropped=sum(s.n_dropped for s in samples),
        offsets=offsets,
        timed_s=sum(v.timed_s(PROBE_RUNS[1]) for v in visits),
        energy=state.energy,
    )


def _entry_of(e: Estimate | None) -> Entry:
    """Return the row of a table; a failed one for None."""
    if e is None:
        return Entry(None, status="failed")
    status = "ok" if e.half_width <= UNSTABLE else "unstable"
    return Entry(
        e.latency_ms, e.median_ms, e.p25_ms, e.p90_ms, e.iqr_ms, e.n_samples, e.n_processes, status,
        ci90_ms=e.half_width * e.latency_ms,
    )  # fmt: skip


def to_table(measured: Measured, plan: Plan, context: Context) -> LatencyTable:
    """Return the blocks of a plan as a table."""
    entries: dict[Key, Entry] = {
        (None, item.block): _entry_of(measured.estimates.get(i))
        for i, item in enumerate(plan.items)
        if isinstance(item, BlockItem)
    }
    return LatencyTable(context, entries)


def network_of(item: NetworkItem, e: Estimate, table: LatencyTable, role: str) -> Network:
    """Return a row of `<stem>.networks.csv`; the sum is empty if the table lacks one of the network's blocks."""
    blocks = item.space.blocks(item.arch)
    lacking = any(table.find(block, item.arch.resolution_px) is None for block in blocks)
    total = None if lacking else float(table.sum_ms(item.space, [item.arch])[0])
    return Network(
        item.space, item.arch, role, len(blocks), total, e.latency_ms, e.median_ms, e.p90_ms, e.iqr_ms,
        e.n_samples, e.n_processes,
    )  # fmt: skip


def with_energy(table: LatencyTable, networks: Sequence[Network]) -> LatencyTable:
    """Return the table with its blocks' energy, fitted to whole networks; unchanged if there are too few of them."""
    model = fit_energy(networks, table)
    if model is None:
        return table
    return table.with_entries(
        {
            (px, block): replace(entry, energy_mj=model.block_mj(block, entry.latency_ms))
            for (px, block), entry in table.entries.items()
            if entry.latency_ms is not None
        }
    )
