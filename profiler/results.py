"""From a journal to a latency table and its whole networks."""

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
    "entry_of",
    "evaluate",
    "network_of",
    "to_table",
    "with_energy",
]

UNSTABLE = 0.10  # half width of the 90 % interval, as a fraction, above which an entry is called unstable


@dataclass(frozen=True, slots=True)
class Measured:
    """What a session found out.

    Attributes:
        estimates: by item of the plan; items that failed are not there.
        clock: that was chosen.
        ref_ns: the probe's time at the speed that latencies are given for.
        speed: the probe's median time in this session over `ref_ns`; 1 unless the reference came from elsewhere.
        n_visits: visits that count.
        n_runs: clean runs.
        n_dropped: runs dropped because the thread was preempted.
        offsets: log ratios taken out of units because their anchors had drifted.
        timed_s: seconds of timed inference, the probe's included.
        energy: of networks, by item of the plan.
        crowding: what to do about more threads than cores; empty if there are enough.
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
    """Reduce a journal.

    Args:
        state: of a journal of this plan.
        plan: what was measured.
        threads: threads of one inference.
        clock: that of the table these measurements belong to; None chooses.
        ref_ns: the probe's time at the reference speed; None takes this session's median.

    Raises:
        TableError: if the journal has no usable visit.
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


def entry_of(e: Estimate | None) -> Entry:
    """The row of a table; a failed one where nothing was measured."""
    if e is None:
        return Entry(None, status="failed")
    status = "ok" if e.half_width <= UNSTABLE else "unstable"
    return Entry(
        e.latency_ms, e.median_ms, e.p25_ms, e.p90_ms, e.iqr_ms, e.n_samples, e.n_processes, status,
        ci90_ms=e.half_width * e.latency_ms,
    )  # fmt: skip


def to_table(measured: Measured, plan: Plan, context: Context) -> LatencyTable:
    """The blocks of a plan as a table."""
    entries: dict[Key, Entry] = {
        (None, item.block): entry_of(measured.estimates.get(i))
        for i, item in enumerate(plan.items)
        if isinstance(item, BlockItem)
    }
    return LatencyTable(context, entries)


def network_of(item: NetworkItem, e: Estimate, table: LatencyTable, role: str) -> Network:
    """A measured network as a row of `<stem>.networks.csv`; without a sum if the table lacks one of its blocks."""
    blocks = item.space.blocks(item.arch)
    lacking = any(table.find(block, item.arch.resolution_px) is None for block in blocks)
    total = None if lacking else float(table.sum_ms(item.space, [item.arch])[0])
    return Network(
        item.space, item.arch, role, len(blocks), total, e.latency_ms, e.median_ms, e.p90_ms, e.iqr_ms,
        e.n_samples, e.n_processes,
    )  # fmt: skip


def with_energy(table: LatencyTable, networks: Sequence[Network]) -> LatencyTable:
    """The table with what its blocks take, attributed from whole networks; unchanged where too few were measured."""
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
