"""Whole sub-nets, measured in new processes, against the table that claims to know them.

The speed probe is a small block: it does not see how fast a device fetches weights from memory at the moment, and on a
shared machine that changes from hour to hour (docs/adr/0005). So some of the table's own reference networks are
measured again in the same rounds. What they take now against what they took then is the device's state,

    now = scale * then + per_mparam * (parameters / 10^6)

and it is taken out of the sub-nets' latencies, which so are given for the state in which the table was measured.

A session has a journal beside the table. It is resumed like a profile's, and removed when the networks are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from devices.device import Device
from devices.facts import Conditions
from ofa_core.arch import Arch
from ofa_core.calibration import MIN_NETWORKS, Calibration, spearman
from ofa_core.errors import OfaError
from ofa_core.measured_networks import Network, calibration_of, networks_path, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.table import Context, LatencyTable, reference_ns_of
from profiler.campaign import Job, measure_plan
from profiler.cpu_clusters import parse_cpus
from profiler.estimation import Clock, Estimate
from profiler.journal import mark_done, read_journal
from profiler.plan import NetworkItem, make_plan
from profiler.results import Measured, network_of
from profiler.runner import Runner
from profiler.session import Progress, Settings

__all__ = [
    "N_STATE",
    "NetworkCheck",
    "Verification",
    "again_path",
    "job_of",
    "load_calibration",
    "measure_again",
    "verify",
]

N_STATE = 6  # reference networks that tell the device's state


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """One sub-net: what the table says, and what was measured.

    Attributes:
        network: the measurement.
        sum_ms: the table's sum, estimated blocks included.
        predicted_ms: the calibrated sum; the sum itself where there is no calibration.
        upper_ms: upper end of the 90 % interval of the measured latency, by its spread over processes and the error of
            the device's state.
        now_ms: the measured latency in the device's present state, at the speed probe's reference.
    """

    network: Network
    sum_ms: float
    predicted_ms: float
    upper_ms: float
    now_ms: float

    @property
    def error(self) -> float:
        """Prediction over measurement, minus one."""
        return self.predicted_ms / self.network.latency_ms - 1


@dataclass(frozen=True, slots=True)
class Verification:
    """What `ofa-profile verify` says.

    Attributes:
        checks: one a sub-net.
        calibration: that was applied; None if the table has no reference networks.
        state: of the device, from networks of the table's session to now; None if the table has too few of them.
        measured: how the session went.
        failures: sub-nets that could not be measured, with their last error.
        before: the device's conditions before.
        after: and after.
        n_filled: different blocks of the sub-nets whose latency in the sums is an estimate.
    """

    checks: tuple[NetworkCheck, ...]
    calibration: Calibration | None
    state: Calibration | None
    measured: Measured
    failures: dict[str, str]
    before: Conditions
    after: Conditions
    n_filled: int = 0

    @property
    def raw_bias(self) -> float:
        """Mean of sum / latency - 1, as a fraction."""
        return float(np.mean([c.sum_ms / c.network.latency_ms - 1 for c in self.checks]))

    @property
    def mape(self) -> float:
        """Mean absolute error of the calibrated prediction, as a fraction."""
        return float(np.mean([abs(c.error) for c in self.checks]))

    @property
    def mape_now(self) -> float:
        """The same against the latencies in the device's present state."""
        return float(np.mean([abs(c.predicted_ms / c.now_ms - 1) for c in self.checks]))

    @property
    def slower_now(self) -> float:
        """How much longer the sub-nets take in the device's present state, at equal speed of the probe: a ratio."""
        return float(np.mean([c.now_ms / c.network.latency_ms for c in self.checks]))

    @property
    def rmse_ms(self) -> float:
        """Root mean square error of the calibrated prediction in milliseconds."""
        return math.sqrt(float(np.mean([(c.predicted_ms - c.network.latency_ms) ** 2 for c in self.checks])))

    @property
    def worst(self) -> NetworkCheck:
        """The sub-net with the largest relative error."""
        return max(self.checks, key=lambda c: abs(c.error))

    @property
    def spearman(self) -> float:
        """Rank correlation of prediction and measurement over all sub-nets."""
        return spearman([c.predicted_ms for c in self.checks], [c.network.latency_ms for c in self.checks])

    def spearman_by_resolution(self) -> dict[int, float]:
        """The same within each resolution that has at least three sub-nets."""
        out = {}
        for px in sorted({c.network.arch.resolution_px for c in self.checks}):
            group = [c for c in self.checks if c.network.arch.resolution_px == px]
            if len(group) >= 3:
                out[px] = spearman([c.predicted_ms for c in group], [c.network.latency_ms for c in group])
        return out


def job_of(context: Context, space: Space, resolutions: Sequence[int], settings: Settings) -> Job:
    """The job that measures in a table's context."""
    cpus = parse_cpus(context.cpus) if context.cpus else None
    return Job(
        space=space,
        resolutions=tuple(resolutions),
        device=context.device,
        backend=context.backend,
        batch_size=context.batch_size,
        graph_form=context.graph_form,
        settings=replace(settings, threads=context.threads, cpus=cpus),
    )


def load_calibration(path: Path, table: LatencyTable) -> tuple[Calibration | None, list[Network]]:
    """The calibration of a table from the reference networks beside its file, and all its networks.

    Raises:
        FormatError, ContextMismatchError: if the networks file is damaged or of another context.
    """
    beside = networks_path(path)
    networks = read_networks(beside, table.context) if beside.exists() else []
    return calibration_of(networks, table), networks


def verify(
    table_path: Path,
    space: Space,
    archs: Sequence[Arch],
    device: Device,
    runner: Runner,
    settings: Settings,
    *,
    role: str = "verify",
    fill: Callable[[LatencyTable, Space], LatencyTable] | None = None,
    job: Job | None = None,
    journal: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Verification:
    """Measure whole sub-nets and set them against the table; the measurements are added to its networks file.

    Up to `N_STATE` of the table's reference networks are measured with them, for the device's state.

    Args:
        table_path: a table of ours.
        space: of the sub-nets.
        archs: the sub-nets.
        device: open; the table's.
        runner: for this device and the table's backend.
        settings: of the session; threads and cores come from the table.
        role: `verify` (never fitted to) or `reference` (the calibration is refitted with them at the next load).
        fill: supplies blocks of a space that a table lacks, with status `filled`; without it none may be lacking.
        job: how to measure; by default as the table was.
        journal: of this session, to be removed by the caller when the result is kept elsewhere; by default
            `<stem>.verify.journal.jsonl` beside the table, which is removed here.
        progress: called after every visit.

    Raises:
        ContextMismatchError: if the device's runtime has another version than the table's, or the journal is of other
            sub-nets.
        MissingBlockError: if a sub-net has a block that the table lacks.
        OfaError: if none of the sub-nets could be measured.
    """
    measured_table = LatencyTable.read(table_path)
    table = measured_table if fill is None else fill(measured_table, space)
    calibration, networks = load_calibration(table_path, table)
    table.sum_ms(space, archs)  # fails before anything is measured if a block is missing
    wanted = [NetworkItem(space, arch) for arch in archs]
    known = _state_networks(networks, wanted)
    before = device.conditions()
    own = journal is None
    journal = again_path(table_path, "verify") if journal is None else journal
    written_before = _is_done(journal, [*wanted, *known])
    estimates, measured, failures = measure_again(
        table.context, [*wanted, *known], runner, settings, journal, job=job, progress=progress
    )
    found = {item: (network_of(item, e, measured_table, role), e.half_width) for item, e in estimates.items()}
    state = _state([(then, found[item][0]) for item, then in known.items() if item in found])
    sums = dict(zip(wanted, table.sum_ms(space, archs).tolist(), strict=True))
    checks = [_check(*found[item], total, calibration, state) for item, total in sums.items() if item in found]
    if not checks:
        journal.unlink()  # so that the same command tries again
        raise OfaError(
            f"none of the {len(archs)} sub-nets could be measured: {next(iter(failures.values()), 'no sample')}"
        )
    new = [c.network for c in checks if not (written_before and c.network in networks)]
    write_networks(networks_path(table_path), table.context, [*networks, *new])
    if own:
        journal.unlink()
    needed = {(block, c.network.arch.resolution_px) for c in checks for block in space.blocks(c.network.arch)}
    used = {block: table.find(block, px) for block, px in needed}
    n_filled = sum(entry is not None and entry.status == "filled" for entry in used.values())
    return Verification(tuple(checks), calibration, state, measured, failures, before, device.conditions(), n_filled)


def again_path(source: Path, command: str) -> Path:
    """Where the journal of a command lies that measures networks in the context of a file: beside that file."""
    return source.with_name(f"{source.stem}.{command}.journal.jsonl")


def measure_again(
    context: Context,
    networks: Sequence[NetworkItem],
    runner: Runner,
    settings: Settings,
    journal: Path,
    *,
    job: Job | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[dict[NetworkItem, Estimate], Measured, dict[str, str]]:
    """Measure whole sub-nets in the context, and at the machine speed, of an earlier session.

    Args:
        context: how to measure.
        networks: the sub-nets.
        runner: for the context's device and backend.
        settings: of the session; threads and cores come from the context.
        journal: resumed if it exists; the caller removes it when the results are kept elsewhere.
        job: how to measure instead.
        progress: called after every visit.

    Returns:
        Estimates of those that could be measured, how the session went, and what failed.

    Raises:
        TableError: if the context names no reference speed, or there was no clean run at all.
        ContextMismatchError: if the device's runtime has another version than the context's.
    """
    ref_ns = reference_ns_of(context.statistic)
    clock: Clock = "cpu" if context.clock == "cpu" else "wall"
    if job is None:
        job = job_of(context, networks[0].space, sorted({item.arch.resolution_px for item in networks}), settings)
    plan = make_plan([], networks, np.random.default_rng(settings.seed), memory_bytes=2**62)
    measured, _, failures = measure_plan(
        job, plan, runner, journal, clock=clock, ref_ns=ref_ns, expected=context, progress=progress
    )
    mark_done(journal)
    items = {item: measured.estimates.get(i) for i, item in enumerate(plan.items) if isinstance(item, NetworkItem)}
    return {item: e for item, e in items.items() if e is not None}, measured, failures


def _is_done(journal: Path, networks: Sequence[NetworkItem]) -> bool:
    """Whether a journal is that of a session with these networks which was killed when it wrote its results."""
    if not journal.exists():
        return False
    state = read_journal(journal)
    return state.done and sorted(map(str, state.header.get("items", ()))) == sorted(item.id for item in networks)


def _state_networks(networks: Sequence[Network], others: Sequence[NetworkItem]) -> dict[NetworkItem, Network]:
    """The reference networks to measure again: from few to many parameters for their latency, none of the others."""
    rows = {NetworkItem(net.space, net.arch): net for net in networks if net.role == "reference"}
    free = [(item, net) for item, net in rows.items() if item not in others]
    if len(free) < MIN_NETWORKS:
        return {}
    free.sort(key=lambda pair: pair[1].mparams / pair[1].latency_ms)
    return dict(free[i] for i in np.linspace(0, len(free) - 1, min(N_STATE, len(free))).round().astype(int).tolist())


def _state(pairs: Sequence[tuple[Network, Network]]) -> Calibration | None:
    """What networks take now, as a correction of what they took in the table's session."""
    rows = [replace(now, sum_ms=then.latency_ms, role="reference") for then, now in pairs]
    return calibration_of(rows, None, ("per_mparam",))


def _check(
    net: Network, half_width: float, sum_ms: float, calibration: Calibration | None, state: Calibration | None
) -> NetworkCheck:
    now_ms = net.latency_ms
    if state is not None:
        net = replace(net, latency_ms=(now_ms - state.per_mparam_ms * net.mparams) / state.scale)
        errors = np.asarray(state.loo_errors)
        quantile = float(stats.t.ppf(0.95, len(errors) - 2))
        half_width = math.hypot(half_width, quantile * math.sqrt(float(np.mean(errors**2)) / len(errors)))
    predicted_ms = sum_ms
    if calibration is not None:
        predicted_ms = float(calibration.predict(sum_ms, net.n_blocks, net.mparams))
    return NetworkCheck(net, sum_ms, predicted_ms, net.latency_ms * (1 + half_width), now_ms)
