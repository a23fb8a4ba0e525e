"""Whole sub-nets, measured in new processes, against the table that claims to know them."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from devices.device import Device
from devices.facts import Conditions
from ofa_core.arch import Arch
from ofa_core.calibration import Calibration, spearman
from ofa_core.errors import ContextMismatchError, OfaError
from ofa_core.networks import Network, calibration_of, networks_path, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.table import Context, LatencyTable
from profiler.jobs import Runner
from profiler.measurement import Clock
from profiler.plan import NetworkItem, make_plan
from profiler.profiling import Job, measure_plan
from profiler.session import Progress, Settings
from profiler.tables import Measured, network_of, reference_ns_of

__all__ = ["NetworkCheck", "Verification", "job_of", "load_calibration", "read_candidates", "verify"]


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """One sub-net: what the table says, and what was measured.

    Attributes:
        network: the measurement, with the table's sum.
        predicted_ms: the calibrated sum; the sum itself where there is no calibration.
        upper_ms: upper end of the 90 % interval of the measured latency, by its spread over processes.
    """

    network: Network
    predicted_ms: float
    upper_ms: float

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
        measured: how the session went.
        failures: sub-nets that could not be measured, with their last error.
        before: the device's conditions before.
        after: and after.
    """

    checks: tuple[NetworkCheck, ...]
    calibration: Calibration | None
    measured: Measured
    failures: dict[str, str]
    before: Conditions
    after: Conditions

    @property
    def raw_bias(self) -> float:
        """Mean of sum / latency - 1, as a fraction."""
        return float(np.mean([c.network.sum_ms / c.network.latency_ms - 1 for c in self.checks]))

    @property
    def mape(self) -> float:
        """Mean absolute error of the calibrated prediction, as a fraction."""
        return float(np.mean([abs(c.error) for c in self.checks]))

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
    cpus = tuple(int(cpu) for cpu in context.cpus.split(",")) if context.cpus else None
    return Job(
        space=space,
        resolutions=tuple(resolutions),
        device=context.device,
        backend=context.backend,
        batch_size=context.batch_size,
        graph_form=context.graph_form,
        settings=replace(settings, threads=context.threads, cpus=cpus),
    )


def load_calibration(table: Path, context: Context) -> tuple[Calibration | None, list[Network]]:
    """The calibration from the reference networks beside a table, and all its networks.

    Raises:
        FormatError, ContextMismatchError: if the networks file is damaged or of another context.
    """
    path = networks_path(table)
    if not path.exists():
        return None, []
    networks = read_networks(path, context)
    return calibration_of(networks), networks


def read_candidates(path: Path) -> list[dict[str, Any]]:
    """Read a candidates.json of ofa-search: dictionaries with an `arch` each.

    Raises:
        OfaError: it is none.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise OfaError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, list) or not all(isinstance(item, dict) and "arch" in item for item in data) or not data:
        raise OfaError(f'{path}: a list of {{"arch": {{...}}, ...}} is expected, as ofa-search writes it')
    return data


def verify(
    table_path: Path,
    space: Space,
    archs: Sequence[Arch],
    device: Device,
    runner: Runner,
    settings: Settings,
    *,
    role: str = "verify",
    job: Job | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Verification:
    """Measure whole sub-nets and set them against the table; the measurements are added to its networks file.

    Args:
        table_path: a table of ours.
        space: of the sub-nets.
        archs: the sub-nets.
        device: open; the table's.
        runner: for this device and the table's backend.
        settings: of the session; threads and cores come from the table.
        role: `verify` (never fitted to) or `reference` (the calibration is refitted with them at the next load).
        job: how to measure; by default as the table was.
        progress: called after every visit.

    Raises:
        ContextMismatchError: if the device's runtime has another version than the table's.
        MissingBlockError: if a sub-net has a block that the table lacks.
        OfaError: if none of the sub-nets could be measured.
    """
    table = LatencyTable.read(table_path)
    calibration, networks = load_calibration(table_path, table.context)
    table.sum_ms(space, archs)  # fails before anything is measured if a block is missing
    ref_ns = reference_ns_of(table.context.statistic)
    clock: Clock = "cpu" if table.context.clock == "cpu" else "wall"
    job = job_of(table.context, space, sorted({a.resolution_px for a in archs}), settings) if job is None else job
    plan = make_plan(
        [], [NetworkItem(space, arch) for arch in archs], np.random.default_rng(settings.seed), memory_bytes=2**62
    )
    before = device.conditions()
    with tempfile.TemporaryDirectory(prefix="ofa-verify-") as folder:
        measured, context, failures = measure_plan(
            job, plan, runner, Path(folder, "journal.jsonl"), clock=clock, ref_ns=ref_ns, progress=progress
        )
    differences = table.context.differences(replace(context, statistic=table.context.statistic))
    if differences:
        raise ContextMismatchError(f"{table_path} was measured in another context: {'; '.join(differences)}")
    checks = []
    for i, item in enumerate(plan.items):
        e = measured.estimates.get(i)
        if e is None or not isinstance(item, NetworkItem):
            continue
        net = network_of(item, e, table, role)
        if net is not None:
            predicted = net.sum_ms
            if calibration is not None:
                predicted = float(calibration.predict(net.sum_ms, net.n_blocks, net.mparams))
            checks.append(NetworkCheck(net, predicted, net.latency_ms * (1 + e.half_width)))
    if not checks:
        raise OfaError(
            f"none of the {len(archs)} sub-nets could be measured: {next(iter(failures.values()), 'no sample')}"
        )
    write_networks(networks_path(table_path), table.context, [*networks, *(c.network for c in checks)])
    return Verification(tuple(checks), calibration, measured, failures, before, device.conditions())
