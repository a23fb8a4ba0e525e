"""Measure whole sub-nets in new processes and compare them with a latency table.

The speed probe is a small block, so it does not show how fast the device fetches weights from memory at the moment; on
a shared machine that changes from hour to hour (docs/adr/0005). Therefore some of the table's own reference networks
are measured again in the same rounds. Their latencies now against those in the table's session give the device's state,

    now = scale * then + per_mparam * (parameters / 10^6)

It is taken out of the sub-nets' latencies, so these latencies refer to the device state during the table's session.

A session has a journal beside the table. It is resumed like that of a profile, and removed once the networks are
written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from devices.facts import Conditions
from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.calibration import MIN_NETWORKS, Calibration, spearman
from ofa_core.errors import MissingBlockError, OfaError
from ofa_core.measured_networks import Network, calibration_of, networks_path, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.table import LatencyTable
from profiler.plan import NetworkItem
from profiler.remeasure import is_finished, remeasure, remeasure_path, spec_in_context
from profiler.results import Measured, network_of
from profiler.runner import Runner
from profiler.settings import Progress, Settings

__all__ = ["N_STATE", "NetworkCheck", "Verification", "VerifySpec", "load_calibration", "verify"]

N_STATE = 6  # reference networks measured again for the device's state


@dataclass(frozen=True, slots=True)
class VerifySpec:
    """The sub-nets to measure against a table, and how to measure and store them.

    Attributes:
        space: space of the sub-nets.
        archs: the sub-nets.
        settings: settings of the session; threads and cores come from the table.
        role: `verify` (the calibration is never fitted to them) or `reference` (it is, when the table is loaded next).
        fill: returns the table with estimates, status `filled`, for the blocks that it lacks; None requires all blocks.
        fake_ms: latency of a list of blocks, for the `sleep` backend.
        predict: returns the latencies of whole networks, where sums do not give them; None uses the calibrated sum.
    """

    space: Space
    archs: Sequence[Arch]
    settings: Settings
    role: str = "verify"
    fill: Callable[[LatencyTable, Space], LatencyTable] | None = None
    fake_ms: Callable[[tuple[BlockSpec, ...]], float] | None = None
    predict: Callable[[Sequence[Arch]], NDArray[np.float64]] | None = None


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """One sub-net: the table's prediction and the measurement.

    Attributes:
        network: the measurement.
        sum_ms: the table's sum, estimated blocks included.
        predicted_ms: the calibrated sum; the sum itself where there is no calibration; or that of `VerifySpec.predict`.
        upper_ms: upper end of the 90 % interval of the measured latency, from its spread over processes and the error
            of the device's state.
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
    """Result of `ofa-profile verify`.

    Attributes:
        checks: one per sub-net.
        calibration: calibration of the sums; None if the table has no reference networks.
        state: change of the device since the table's session, as a correction of latencies; None if the table has fewer
            than the required reference networks.
        measured: figures of the session.
        failures: label and last error of each sub-net that could not be measured.
        before: conditions of the device before the session.
        after: conditions of the device after it.
        n_filled: number of different blocks of the sub-nets whose latency in the sums is an estimate.
        method: what made the predictions: `calibrated sum`, `plain sum` or `whole networks`.
    """

    checks: tuple[NetworkCheck, ...]
    calibration: Calibration | None
    state: Calibration | None
    measured: Measured
    failures: dict[str, str]
    before: Conditions
    after: Conditions
    n_filled: int = 0
    method: str = "calibrated sum"

    @property
    def raw_bias(self) -> float:
        """Mean of sum / latency - 1, as a fraction."""
        return float(np.mean([c.sum_ms / c.network.latency_ms - 1 for c in self.checks]))

    @property
    def mape(self) -> float:
        """Mean absolute error of the prediction, as a fraction."""
        return float(np.mean([abs(c.error) for c in self.checks]))

    @property
    def mape_now(self) -> float:
        """Mean absolute error against the latencies in the device's present state, as a fraction."""
        return float(np.mean([abs(c.predicted_ms / c.now_ms - 1) for c in self.checks]))

    @property
    def slower_now(self) -> float:
        """Mean ratio of latencies in the present state to those in the table's session, at equal probe speed."""
        return float(np.mean([c.now_ms / c.network.latency_ms for c in self.checks]))

    @property
    def rmse_ms(self) -> float:
        """Root mean square error of the prediction in milliseconds."""
        return math.sqrt(float(np.mean([(c.predicted_ms - c.network.latency_ms) ** 2 for c in self.checks])))

    @property
    def worst(self) -> NetworkCheck:
        """The sub-net with the largest relative error."""
        return max(self.checks, key=lambda c: abs(c.error))

    @property
    def spearman(self) -> float | None:
        """Rank correlation of prediction and measurement over all sub-nets; None for fewer than three."""
        if len(self.checks) < 3:
            return None
        return spearman([c.predicted_ms for c in self.checks], [c.network.latency_ms for c in self.checks])

    def spearman_by_resolution(self) -> dict[int, float]:
        """Return the rank correlation within each resolution that has at least three sub-nets."""
        out = {}
        for px in sorted({c.network.arch.resolution_px for c in self.checks}):
            group = [c for c in self.checks if c.network.arch.resolution_px == px]
            if len(group) >= 3:
                out[px] = spearman([c.predicted_ms for c in group], [c.network.latency_ms for c in group])
        return out


def load_calibration(path: Path, table: LatencyTable) -> tuple[Calibration | None, list[Network]]:
    """Return the calibration of a table from the reference networks beside its file, and all its networks.

    Raises:
        FormatError, ContextMismatchError: if the networks file is damaged or of another context.
    """
    beside = networks_path(path)
    networks = read_networks(beside, table.context) if beside.exists() else []
    return calibration_of(networks, table), networks


def verify(
    table_path: Path,
    spec: VerifySpec,
    runner: Runner,
    *,
    journal: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Verification:
    """Measure whole sub-nets, compare them with the table, and add them to its networks file.

    Up to `N_STATE` of the table's reference networks are measured with them, for the device's state.

    Args:
        table_path: a table that `profile` wrote.
        spec: the sub-nets, and how to measure and store them.
        runner: runner for the table's backend on an open device.
        journal: file of this session's visits, which the caller removes; by default `<stem>.verify.journal.jsonl`
            beside the table, which is removed here.
        progress: called after every visit.

    Raises:
        ContextMismatchError: if the device's context differs from the table's, or the journal belongs to other
            sub-nets.
        MissingBlockError: if a sub-net has a block that the table lacks.
        OfaError: if none of the sub-nets could be measured.
    """
    measured_table = LatencyTable.read(table_path)
    table = measured_table if spec.fill is None else spec.fill(measured_table, spec.space)
    calibration, networks = load_calibration(table_path, table)
    try:
        sums_ms = table.sum_ms(spec.space, spec.archs).tolist()
    except MissingBlockError as error:  # before the session
        raise MissingBlockError(f"{table_path}: {error}; --fill estimates missing blocks") from error
    wanted = [NetworkItem(spec.space, arch) for arch in spec.archs]
    known = _state_networks(networks, wanted)
    before = runner.device.conditions()
    own = journal is None
    journal = remeasure_path(table_path, "verify") if journal is None else journal
    was_finished = is_finished(journal, [*wanted, *known])
    how = replace(spec_in_context(table.context, spec.space, spec.settings), fake_ms=spec.fake_ms)
    again = remeasure(how, [*wanted, *known], runner, journal, progress)
    found = {
        item: (network_of(item, e, measured_table, spec.role), e.half_width) for item, e in again.estimates.items()
    }
    pairs = [(then, found[item][0]) for item, then in known.items() if item in found]
    state = _state(pairs, [net for net, _ in found.values()])
    sums = dict(zip(wanted, sums_ms, strict=True))
    checks = [_check(*found[item], total, calibration, state) for item, total in sums.items() if item in found]
    if not checks:
        journal.unlink()  # so that the same command tries again
        reason = next(iter(again.failures.values()), "no sample")
        raise OfaError(f"none of the {len(spec.archs)} sub-nets could be measured: {reason}")
    method = "plain sum" if calibration is None else "calibrated sum"
    if spec.predict is not None:
        method, predicted = "whole networks", spec.predict([c.network.arch for c in checks])
        checks = [replace(c, predicted_ms=float(ms)) for c, ms in zip(checks, predicted, strict=True)]
    new = [c.network for c in checks if not (was_finished and c.network in networks)]
    write_networks(networks_path(table_path), table.context, [*networks, *new])
    if own:
        journal.unlink()
    n_filled = _n_filled(table, [c.network for c in checks])
    after = runner.device.conditions()
    return Verification(
        tuple(checks), calibration, state, again.measured, again.failures, before, after, n_filled, method
    )


def _n_filled(table: LatencyTable, networks: Sequence[Network]) -> int:
    """Return the number of different blocks of the networks whose latency in the table is an estimate."""
    needed = {(block, net.arch.resolution_px) for net in networks for block in net.space.blocks(net.arch)}
    entries = (table.find(block, px) for block, px in needed)
    return sum(entry is not None and entry.status == "filled" for entry in entries)


def _state_networks(networks: Sequence[Network], others: Sequence[NetworkItem]) -> dict[NetworkItem, Network]:
    """Choose the reference networks to measure again, evenly by parameters per millisecond, without the others."""
    rows = {NetworkItem(net.space, net.arch): net for net in networks if net.role == "reference"}
    free = [(item, net) for item, net in rows.items() if item not in others]
    if len(free) < MIN_NETWORKS:
        return {}
    free.sort(key=lambda pair: pair[1].mparams / pair[1].latency_ms)
    return dict(free[i] for i in np.linspace(0, len(free) - 1, min(N_STATE, len(free))).round().astype(int).tolist())


def _state(pairs: Sequence[tuple[Network, Network]], measured: Sequence[Network]) -> Calibration | None:
    """Fit the latencies now as a correction of those in the table's session.

    Only the scale is fitted if the term of the parameters exceeds the latency of a network, as with much noise.

    Args:
        pairs: networks of the table's session as measured then and now.
        measured: all networks measured now.
    """
    rows = [replace(now, sum_ms=then.latency_ms, role="reference") for then, now in pairs]
    state = calibration_of(rows, None, ("per_mparam",))
    if state is None or (state.scale > 0 and all(_then_ms(net, state) > 0 for net in measured)):
        return state
    return calibration_of(rows, None, ())


def _then_ms(net: Network, state: Calibration) -> float:
    """Return the latency that a network measured now had in the table's session."""
    return (net.latency_ms - state.per_mparam_ms * net.mparams) / state.scale


def _check(
    net: Network, half_width: float, sum_ms: float, calibration: Calibration | None, state: Calibration | None
) -> NetworkCheck:
    now_ms = net.latency_ms
    if state is not None:
        net = replace(net, latency_ms=_then_ms(net, state))
        errors = np.asarray(state.loo_errors)
        quantile = float(stats.t.ppf(0.95, len(errors) - 2))
        half_width = math.hypot(half_width, quantile * math.sqrt(float(np.mean(errors**2)) / len(errors)))
    predicted_ms = sum_ms
    if calibration is not None:
        predicted_ms = float(calibration.predict(sum_ms, net.n_blocks, net.mparams))
    return NetworkCheck(net, sum_ms, predicted_ms, net.latency_ms * (1 + half_width), now_ms)
