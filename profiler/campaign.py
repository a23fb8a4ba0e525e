"""Profiling a device: from a space and a target to a table and its whole networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.device import Device
from devices.facts import Conditions
from devices.power_meter import MeterError
from devices.session_folder import SessionFolder
from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.errors import ContextMismatchError
from ofa_core.measured_networks import Network, networks_path, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.space_record import space_fields
from ofa_core.table import CONTEXT_COLUMNS, Context, LatencyTable, parse_context, read_csv_rows, statistic_name
from profiler.cooling import Cooling
from profiler.crowding import crowding
from profiler.energy_session import N_NETWORKS, EnergyOptions, duration_s, measure_energy, open_meter
from profiler.estimation import Clock
from profiler.journal import EnergyRecord, Journal
from profiler.model_files import ModelStore
from profiler.plan import NetworkItem, Plan, make_plan, reference_archs
from profiler.results import Measured, evaluate, network_of, to_table, with_energy
from profiler.runner import Runner
from profiler.session import HeatGuard, Progress, Session, Settings

if TYPE_CHECKING:
    from ofa_core.export.onnx import GraphForm

__all__ = ["Job", "ProfileResult", "journal_path", "measure_plan", "profile"]

_LOG = logging.getLogger(__name__)
N_REFERENCE = 24  # whole networks measured along with the blocks
MODEL_MEMORY_SHARE = 0.35  # of the device's memory that loaded models may take
MAX_MODEL_MEMORY_BYTES = 4_000_000_000
DEFAULT_MODEL_MEMORY_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What shall be measured, and how; all that makes one table and not another.

    Attributes:
        space: whose blocks.
        resolutions: input sizes in pixels.
        device: name of the device in tables.
        backend: of the agent.
        batch_size: images per inference.
        graph_form: `fused` or `literal`.
        settings: of the session.
        n_reference: whole networks to measure along.
        networks: whole networks to measure instead, and no blocks; None measures blocks.
        order: puts blocks into the order in which they shall be measured, and may leave some out.
        fake_ms: latency of a list of blocks, for the `sleep` backend.
    """

    space: Space
    resolutions: tuple[int, ...]
    device: str
    backend: str = "onnxruntime"
    batch_size: int = 1
    graph_form: str = "fused"
    settings: Settings = field(default_factory=Settings)
    n_reference: int = N_REFERENCE
    networks: tuple[Arch, ...] | None = None
    order: Callable[[Sequence[BlockSpec]], Sequence[BlockSpec]] | None = None
    fake_ms: Callable[[tuple[BlockSpec, ...]], float] | None = None

    def context(self, backend_version: str) -> Context:
        """The context columns, before clock and statistic are known."""
        cpus = self.settings.cpus
        return Context(
            device=self.device,
            backend=self.backend,
            backend_version=backend_version,
            threads=self.settings.threads,
            cpus=",".join(map(str, cpus)) if cpus else "",
            dtype="float16" if "fp16" in self.backend else "float32",
            batch_size=self.batch_size,
            graph_form=self.graph_form,
            statistic="",
            clock="",
        )


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """A finished profile.

    Attributes:
        table: the latencies; empty where whole networks alone were to be measured.
        networks: reference networks, measured along.
        measured: how it went.
        failures: item label and last error of each item that was given up.
        before: the device's conditions before.
        after: and after.
    """

    table: LatencyTable
    networks: list[Network]
    measured: Measured
    failures: dict[str, str]
    before: Conditions
    after: Conditions


def journal_path(table: Path) -> Path:
    """Where the journal of a table lies: `<stem>.journal.jsonl` in the same folder."""
    return table.with_name(f"{table.stem}.journal.jsonl")


def profile(
    job: Job,
    device: Device,
    runner: Runner,
    out: Path,
    *,
    fresh: bool = False,
    energy: EnergyOptions | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> ProfileResult:
    """Measure what the journal beside `out` lacks, then write the table and its networks.

    Energy comes last, when both are written, and is written into both.

    Args:
        job: what and how.
        device: open.
        runner: for this device and the job's backend.
        out: the CSV file to write; its networks and journal lie beside it. Where whole networks alone are measured it
            holds these, in the form of `<stem>.networks.csv`.
        fresh: set an existing journal aside.
        energy: also measure the energy of some of the networks, where the device tells it.
        progress: called after every visit.
        say: is told, in one line, what the user should know meanwhile.

    Raises:
        DeviceError: if the device is lost; the journal keeps what was measured.
        ContextMismatchError: if the journal beside `out` is of another job.
    """
    rng = np.random.default_rng([job.settings.seed, 1])
    blocks: Sequence[BlockSpec] = ()
    archs: Sequence[Arch] = job.networks or ()
    if job.networks is None:
        blocks = job.space.all_blocks(job.resolutions)
        blocks = blocks if job.order is None else job.order(blocks)
        archs = reference_archs(job.space, job.resolutions, job.n_reference, rng) if job.n_reference else []
    facts = device.facts()
    memory = min(MODEL_MEMORY_SHARE * facts.memory_bytes, MAX_MODEL_MEMORY_BYTES) if facts.memory_bytes else None
    plan = make_plan(
        blocks,
        [NetworkItem(job.space, arch) for arch in archs],
        rng,
        memory_bytes=int(memory or DEFAULT_MODEL_MEMORY_BYTES),
    )
    if energy is not None:
        energy = _energy_if_told(job, device, plan, energy, say)
    before = device.conditions()
    heat = Cooling(device, before, say, is_phone=device.kind == "phone")
    measured, context, failures = measure_plan(
        job, plan, runner, journal_path(out), fresh=fresh, progress=progress, heat=heat if heat.can_tell else None
    )
    table, networks = _write(out, plan, measured, context)
    if energy is not None:
        try:
            records = _measure_energy(job, plan, measured, context, device, runner, journal_path(out), energy, progress)
            measured = replace(measured, energy=records)
            table, networks = _write(out, plan, measured, context)
        except MeterError as error:
            say(f"{device.name}: no energy: {error}")
    return ProfileResult(table, networks, measured, failures, before, device.conditions())


def _write(out: Path, plan: Plan, measured: Measured, context: Context) -> tuple[LatencyTable, list[Network]]:
    """Write the table and its networks, with the energy that is known; networks alone where there are no blocks."""
    table = to_table(measured, plan, context)
    networks = []
    for i, item in enumerate(plan.items):
        if not isinstance(item, NetworkItem) or i not in measured.estimates:
            continue
        net, record = network_of(item, measured.estimates[i], table, "reference"), measured.energy.get(i)
        if record is not None:
            net = replace(
                net,
                energy_mj=record.energy_mj,
                gross_mj=record.gross_mj,
                idle_mj=record.idle_mj,
                energy_source=record.source,
            )
        networks.append(net)
    if not len(table):
        write_networks(out, context, networks)
        return table, networks
    table = with_energy(table, networks)
    table.write(out)
    kept = _kept_networks(networks_path(out), context, networks)
    write_networks(networks_path(out), context, [*networks, *kept])
    return table, networks


def _energy_if_told(
    job: Job, device: Device, plan: Plan, energy: EnergyOptions, say: Callable[[str], None]
) -> EnergyOptions | None:
    """Look whether the device tells its energy now, before anything takes long; None if not."""
    n = min(N_NETWORKS, sum(isinstance(item, NetworkItem) for item in plan.items))
    try:
        with closing(open_meter(device, job.backend, energy)) as meter:
            meter.wait()
            say(
                f"{device.name}: energy by {meter.source}: after the table, {n} networks run half a minute each, with "
                f"as long a rest between: {duration_s(n) / 60:.0f} minutes more"
            )
    except MeterError as error:
        say(f"{device.name}: no energy: {error}")
        return None
    return energy


def _measure_energy(
    job: Job,
    plan: Plan,
    measured: Measured,
    context: Context,
    device: Device,
    runner: Runner,
    journal_file: Path,
    options: EnergyOptions,
    progress: Callable[[Progress], None],
) -> Mapping[int, EnergyRecord]:
    """Measure the energy of the first networks as far as the journal lacks it."""
    chosen = [i for i, item in enumerate(plan.items) if isinstance(item, NetworkItem) and i in measured.estimates]
    chosen = chosen[:N_NETWORKS]
    todo = [i for i in chosen if i not in measured.energy or measured.energy[i].energy_mj is None]
    state = Progress("energy", done=len(chosen) - len(todo), total=len(chosen))
    started = options.clock()
    with (
        SessionFolder("models") as folder,
        Journal(journal_file, _header(job, plan, context)) as journal,
        closing(open_meter(device, job.backend, options)) as meter,
    ):

        def record(what: EnergyRecord) -> None:
            journal.write(what.to_json())
            state.done, state.what = state.done + 1, plan.items[what.item].label
            state.elapsed_s = options.clock() - started
            progress(state)

        models = _models(job, Path(folder))
        runner.open()
        try:
            progress(state)
            measure_energy(
                [(i, models.path(plan.items[i]), measured.estimates[i].latency_ms) for i in todo],
                runner,
                meter,
                record,
                threads=job.settings.threads,
                cpus=job.settings.cpus,
                clock=options.clock,
            )
        finally:
            runner.close()
        return journal.state.energy


def measure_plan(
    job: Job,
    plan: Plan,
    runner: Runner,
    journal_file: Path,
    *,
    fresh: bool = False,
    clock: Clock | None = None,
    ref_ns: float | None = None,
    expected: Context | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    heat: HeatGuard | None = None,
) -> tuple[Measured, Context, dict[str, str]]:
    """Run a session over a plan and reduce its journal.

    Args:
        job: what and how.
        plan: the items.
        runner: not yet open.
        journal_file: resumed if it exists.
        fresh: set it aside instead.
        clock: that of the table the measurements belong to; None chooses.
        ref_ns: the probe's time at the reference speed; None takes this session's.
        expected: the context that this one must be, but for statistic and clock; None takes any.
        progress: called after every visit.
        heat: watches the device's heat.

    Returns:
        What was found out, the complete context, and the failures by item label.

    Raises:
        ContextMismatchError: if the device's context is not the expected one, or the journal is of something else.
    """
    hello = runner.open()
    context = job.context(hello.backend_version)
    crowded = crowding(job.backend, job.settings.threads, job.settings.cpus, hello)
    if crowded:
        _LOG.warning("%s: %s", job.device, crowded)
    if expected is not None:
        now = replace(context, statistic=expected.statistic, clock=expected.clock)
        if differences := expected.differences(now):
            raise ContextMismatchError(f"the table was measured in another context: {'; '.join(differences)}")
    with SessionFolder("models") as folder:
        models = _models(job, Path(folder))
        with Journal(journal_file, _header(job, plan, context), fresh=fresh) as journal:
            Session(plan, runner, models, journal, job.settings, progress, heat=heat, crowding=crowded).run()
            measured = evaluate(journal.state, plan, job.settings.threads, clock=clock, ref_ns=ref_ns)
            measured = replace(measured, crowding=crowded)
            failures = {plan.items[i].label: errors[-1] for i, errors in journal.state.failures.items()}
    context = replace(context, statistic=statistic_name(measured.ref_ns), clock=measured.clock)
    given_up = {plan.items[i].label for i in range(len(plan.items)) if i not in measured.estimates}
    return measured, context, {label: error for label, error in failures.items() if label in given_up}


def _models(job: Job, folder: Path) -> ModelStore:
    form: GraphForm = "literal" if job.graph_form == "literal" else "fused"
    return ModelStore(folder, job.backend, job.batch_size, form, job.fake_ms)


def _header(job: Job, plan: Plan, context: Context) -> dict[str, Any]:
    settings = asdict(job.settings)
    settings.pop("budget_s")  # a resumed session may be given another one
    described = asdict(context)
    del described["statistic"], described["clock"]
    return {
        "context": described,
        **space_fields(job.space),
        "resolutions": list(job.resolutions),
        "settings": settings,
        "items": [item.id for item in plan.items],
        "chunks": [list(chunk) for chunk in plan.chunks],
    }


def _kept_networks(path: Path, context: Context, again: Sequence[Network]) -> list[Network]:
    """Networks that were measured later in exactly this context, by `verify` or a search."""
    if not path.exists() or read_context(path) != context:
        return []
    known = {(net.space, net.arch) for net in again}
    return [net for net in read_networks(path) if net.role == "verify" or (net.space, net.arch) not in known]


def read_context(path: Path) -> Context | None:
    """The context of a networks file, None if it has no rows."""
    for line, row in read_csv_rows(path, CONTEXT_COLUMNS):
        return parse_context(row, f"{path}, line {line}")
    return None
