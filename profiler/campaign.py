"""Profile a device: measure the blocks of a space, and whole networks with them, and write the latency table.

`profile` plans, measures and writes. `measure_plan` only measures; `profiler.remeasure` uses it too. Energy comes last,
after the table is written, because it takes long and can fail without harm to the latencies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from devices.facts import Conditions
from devices.power_meter import MeterError
from devices.session_folder import SessionFolder
from ofa_core.arch import Arch
from ofa_core.backend_names import DTYPES
from ofa_core.blocks import BlockSpec
from ofa_core.context import CONTEXT_COLUMNS, parse_context, reference_ns_of, statistic_name
from ofa_core.csv_fields import read_csv_rows
from ofa_core.errors import ContextMismatchError
from ofa_core.measured_networks import Network, networks_path, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.space_record import space_fields
from ofa_core.table import Context, LatencyTable
from profiler.backends import Choice, choose, graph_forms
from profiler.cooling import Cooling
from profiler.crowding import crowding
from profiler.energy_session import N_NETWORKS, EnergyOptions, duration_s, measure_energy, open_meter
from profiler.estimation import Clock
from profiler.journal import EnergyRecord, Journal
from profiler.model_files import ModelStore
from profiler.plan import NetworkItem, Plan, make_plan, reference_archs
from profiler.results import Measured, evaluate, network_of, to_table, with_energy
from profiler.runner import Runner
from profiler.session import HeatGuard, Session
from profiler.settings import Progress, Settings

__all__ = ["Campaign", "ProfileResult", "ProfileSpec", "journal_path", "measure_plan", "profile"]

_LOG = logging.getLogger(__name__)
N_REFERENCE = 24  # whole networks measured with the blocks
MODEL_MEMORY_SHARE = 0.35  # share of the device's memory for loaded models
MAX_MODEL_MEMORY_BYTES = 4_000_000_000
DEFAULT_MODEL_MEMORY_BYTES = 1_000_000_000
UNSTABLE_SHARE = 0.05  # of the blocks
UNSTABLE_MEDIAN = 0.05  # of the half widths of the 90 % intervals


@dataclass(frozen=True, slots=True)
class ProfileSpec:
    """Choice of what to measure, and the settings. Two tables with equal specs are comparable.

    Attributes:
        space: space of the blocks.
        resolutions: input sizes in pixels.
        device: name of the device in tables.
        backend: backend of the agent, or an old name such as `tflite-fp16`.
        batch_size: images per inference.
        graph_form: one of `profiler.backends.graph_forms`; None takes the first.
        settings: settings of the session.
        n_reference: number of whole networks to measure with the blocks.
        networks: whole networks to measure instead of blocks; None measures blocks.
        order: orders the blocks to measure, and may drop some.
        fake_ms: latency of a list of blocks, for the `sleep` backend.
        reference: context of an earlier session. This session must match it, uses its clock and gives latencies at its
            machine speed. None chooses the clock and takes this session's own speed.
        dtype: such as `fp16`; None takes the backend's default.
        delegate: such as `xnnpack`; None takes the backend's default.
    """

    space: Space
    resolutions: tuple[int, ...]
    device: str
    backend: str = "onnxruntime"
    batch_size: int = 1
    graph_form: str | None = None
    settings: Settings = field(default_factory=Settings)
    n_reference: int = N_REFERENCE
    networks: tuple[Arch, ...] | None = None
    order: Callable[[Sequence[BlockSpec]], Sequence[BlockSpec]] | None = None
    fake_ms: Callable[[tuple[BlockSpec, ...]], float] | None = None
    reference: Context | None = None
    dtype: str | None = None
    delegate: str | None = None

    @property
    def choice(self) -> Choice:
        """The backend with its dtype and delegate; raises as `profiler.backends.choose` does."""
        return choose(self.backend, self.dtype, self.delegate)

    @property
    def form(self) -> str:
        """The graph form of the models."""
        return self.graph_form or graph_forms(self.choice)[0]

    def context(self, backend_version: str) -> Context:
        """Return the context columns of the table; clock and statistic are empty until the session is evaluated."""
        cpus, choice = self.settings.cpus, self.choice
        return Context(
            device=self.device,
            backend=choice.backend,
            backend_version=backend_version,
            threads=self.settings.threads,
            cpus=",".join(map(str, cpus)) if cpus else "",
            dtype=DTYPES[choice.dtype],
            delegate=choice.delegate,
            batch_size=self.batch_size,
            graph_form=self.form,
            statistic="",
            clock="",
        )


@dataclass(frozen=True, slots=True)
class Campaign:
    """A plan to measure through a runner into a journal.

    Attributes:
        spec: what to measure and how.
        plan: the items to measure.
        runner: runner for the spec's device and backend, not open.
        journal_file: file that holds the visits; it is resumed if it exists.
        progress: called after every visit.
    """

    spec: ProfileSpec
    plan: Plan
    runner: Runner
    journal_file: Path
    progress: Callable[[Progress], None] = lambda _: None

    def models(self, folder: Path) -> ModelStore:
        """Return the store that writes the plan's model files into a folder."""
        spec = self.spec
        return ModelStore(folder, spec.backend, spec.batch_size, spec.form, spec.choice.dtype, spec.fake_ms)

    def header(self, context: Context) -> dict[str, Any]:
        """Return the first line of the journal: all that must agree for a session to be resumed."""
        settings = asdict(self.spec.settings)
        settings.pop("budget_s")  # a resumed session may have another budget
        described = asdict(context)
        del described["statistic"], described["clock"]
        if not context.isa:  # as in journals of version 0.1.0
            del described["isa"]
        return {
            "context": described,
            **space_fields(self.spec.space),
            "resolutions": list(self.spec.resolutions),
            "settings": settings,
            "items": [item.id for item in self.plan.items],
            "chunks": [list(chunk) for chunk in self.plan.chunks],
        }


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """A finished profile.

    Attributes:
        table: the latencies; empty if only whole networks were measured.
        networks: the measured reference networks.
        measured: figures of the session.
        failures: item label and last error of each item that was given up.
        before: conditions of the device before the session.
        after: conditions of the device after it.
    """

    table: LatencyTable
    networks: list[Network]
    measured: Measured
    failures: dict[str, str]
    before: Conditions
    after: Conditions

    @property
    def is_unstable(self) -> bool:
        """True if more than 5 % of the blocks are unstable, or the median 90 % interval is wider than +-5 %."""
        widths = sorted(e.half_width for e in self.measured.estimates.values())
        n_unstable = sum(e.status == "unstable" for e in self.table.entries.values())
        return n_unstable > UNSTABLE_SHARE * len(self.table) or widths[len(widths) // 2] > UNSTABLE_MEDIAN


def journal_path(table: Path) -> Path:
    """Return the path of a table's journal: `<stem>.journal.jsonl` in the same folder."""
    return table.with_name(f"{table.stem}.journal.jsonl")


def profile(
    spec: ProfileSpec,
    runner: Runner,
    out: Path,
    *,
    energy: EnergyOptions | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ProfileResult:
    """Measure the items that the journal beside `out` lacks, then write the table and its networks.

    Args:
        spec: what to measure and how.
        runner: runner for the spec's backend on an open device.
        out: CSV file to write; its networks and journal are written beside it. If only whole networks are measured,
            it holds them, in the format of `<stem>.networks.csv`.
        energy: also measure the energy of some of the networks, if the device has a meter.
        progress: called after every visit.

    Raises:
        DeviceError: if the connection to the device is lost; the journal keeps the visits made so far.
        ContextMismatchError: if the journal beside `out` belongs to another spec.
    """
    device = runner.device
    campaign = Campaign(spec, _plan(spec, device.facts().memory_bytes), runner, journal_path(out), progress)
    if energy is not None and not _has_meter(campaign, energy):
        energy = None
    before = device.conditions()
    heat = Cooling(device, before, is_phone=device.kind == "phone")
    measured, context, failures = measure_plan(campaign, heat if heat.can_tell else None)
    table, networks = _write(out, campaign.plan, measured, context)
    if energy is not None:
        try:
            measured = replace(measured, energy=_measure_energy(campaign, measured, context, energy))
            table, networks = _write(out, campaign.plan, measured, context)
        except MeterError as error:
            _LOG.warning("%s: energy not measured: %s", spec.device, error)
    return ProfileResult(table, networks, measured, failures, before, device.conditions())


def measure_plan(campaign: Campaign, heat: HeatGuard | None = None) -> tuple[Measured, Context, dict[str, str]]:
    """Run a session over a plan and evaluate its journal.

    Args:
        campaign: what to measure, and through which runner.
        heat: watches the device's temperature.

    Returns:
        The results, the complete context, and the last error of each item that was given up, by label.

    Raises:
        ContextMismatchError: if the device's context is not the spec's reference, or the journal belongs to another
            plan.
        TableError: if the reference context has no reference speed, or no visit has a clean run.
    """
    spec, plan, reference = campaign.spec, campaign.plan, campaign.spec.reference
    clock: Clock | None = None
    ref_ns = None
    if reference is not None:
        clock, ref_ns = "cpu" if reference.clock == "cpu" else "wall", reference_ns_of(reference.statistic)
    with campaign.runner.opened() as hello, SessionFolder("models") as folder:
        context = spec.context(hello.backend_version)
        if spec.choice.dtype == "int8":
            context = replace(context, isa=campaign.runner.device.facts().int8_text)
            _LOG.info("%s: instructions for int8: %s", spec.device, context.isa)
        crowded = crowding(spec.choice, spec.settings.threads, spec.settings.cpus, hello)
        if crowded:
            _LOG.warning("%s: %s", spec.device, crowded)
        _check_reference(context, reference)
        models = campaign.models(Path(folder))
        with Journal(campaign.journal_file, campaign.header(context)) as journal:
            Session(
                plan, campaign.runner, models, journal, spec.settings, campaign.progress,
                heat=heat, crowding=crowded, name=spec.device,
            ).run()  # fmt: skip
            measured = evaluate(journal.state, plan, spec.settings.threads, clock=clock, ref_ns=ref_ns)
            measured = replace(measured, crowding=crowded)
            failures = {plan.items[i].label: errors[-1] for i, errors in journal.state.failures.items()}
    context = replace(context, statistic=statistic_name(measured.ref_ns), clock=measured.clock)
    given_up = {plan.items[i].label for i in range(len(plan.items)) if i not in measured.estimates}
    return measured, context, {label: error for label, error in failures.items() if label in given_up}


def _check_reference(context: Context, reference: Context | None) -> None:
    if reference is None:
        return
    now = replace(context, statistic=reference.statistic, clock=reference.clock)
    if differences := reference.differences(now):
        raise ContextMismatchError(f"the table was measured in another context: {'; '.join(differences)}")


def _plan(spec: ProfileSpec, memory_bytes: int | None) -> Plan:
    """Return the items of a spec, in chunks that fit the device's memory."""
    rng = np.random.default_rng([spec.settings.seed, 1])
    blocks: Sequence[BlockSpec] = ()
    archs: Sequence[Arch] = spec.networks or ()
    if spec.networks is None:
        blocks = spec.space.all_blocks(spec.resolutions)
        blocks = blocks if spec.order is None else spec.order(blocks)
        archs = _reference(spec, rng)
    memory = min(MODEL_MEMORY_SHARE * memory_bytes, MAX_MODEL_MEMORY_BYTES) if memory_bytes else None
    items = [NetworkItem(spec.space, arch) for arch in archs]
    return make_plan(blocks, items, rng, memory_bytes=int(memory or DEFAULT_MODEL_MEMORY_BYTES))


def _reference(spec: ProfileSpec, rng: np.random.Generator) -> list[Arch]:
    """Draw the networks to measure with the blocks; those of a space with few sub-nets have several resolutions."""
    archs = reference_archs(spec.space, spec.resolutions, min(spec.n_reference, spec.space.n_subnets), rng)
    others = [arch.at(px) for px in spec.resolutions for arch in archs if px != arch.resolution_px]
    archs += others[: spec.n_reference - len(archs)]
    if len(archs) < spec.n_reference:
        _LOG.warning(
            "%s: only %d distinct networks of %s exist at these resolutions (%d requested); all of them are measured",
            spec.device, len(archs), spec.space.name, spec.n_reference,
        )  # fmt: skip
    return archs


def _write(out: Path, plan: Plan, measured: Measured, context: Context) -> tuple[LatencyTable, list[Network]]:
    """Write the table and its networks with the known energies; write networks alone if there are no blocks."""
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


def _has_meter(campaign: Campaign, energy: EnergyOptions) -> bool:
    """Check before the session that the energy meter can be read, and log how long energy takes."""
    name = campaign.spec.device
    n = min(N_NETWORKS, sum(isinstance(item, NetworkItem) for item in campaign.plan.items))
    try:
        with closing(open_meter(campaign.runner.device, campaign.spec.choice, energy)) as meter:
            meter.wait()
            _LOG.info(
                "%s: energy is read from %s; after the table, %d networks run for 30 s each with equal rests: "
                "%.0f more minutes",
                name, meter.source, n, duration_s(n) / 60,
            )  # fmt: skip
    except MeterError as error:
        _LOG.warning("%s: energy not measured: %s", name, error)
        return False
    return True


def _measure_energy(
    campaign: Campaign, measured: Measured, context: Context, options: EnergyOptions
) -> Mapping[int, EnergyRecord]:
    """Measure the energy of the first networks that the journal lacks; return all energies of the journal."""
    plan, runner = campaign.plan, campaign.runner
    chosen = [i for i, item in enumerate(plan.items) if isinstance(item, NetworkItem) and i in measured.estimates]
    chosen = chosen[:N_NETWORKS]
    todo = [i for i in chosen if i not in measured.energy or measured.energy[i].energy_mj is None]
    state = Progress("energy", done=len(chosen) - len(todo), total=len(chosen))
    started = options.clock()
    with (
        SessionFolder("models") as folder,
        Journal(campaign.journal_file, campaign.header(context)) as journal,
        closing(open_meter(runner.device, campaign.spec.choice, options)) as meter,
        runner.opened(),
    ):

        def record(result: EnergyRecord) -> None:
            journal.write(result.to_json())
            state.done, state.what = state.done + 1, plan.items[result.item].label
            state.elapsed_s = options.clock() - started
            campaign.progress(state)

        models = campaign.models(Path(folder))
        campaign.progress(state)
        networks = [(i, models.path(plan.items[i]), measured.estimates[i].latency_ms) for i in todo]
        measure_energy(networks, runner, meter, record, campaign.spec.settings, options.clock)
        return journal.state.energy


def _kept_networks(path: Path, context: Context, again: Sequence[Network]) -> list[Network]:
    """Return the networks that `verify` or a search measured later in exactly this context."""
    if not path.exists() or _read_context(path) != context:
        return []
    known = {(net.space, net.arch) for net in again}
    return [net for net in read_networks(path) if net.role == "verify" or (net.space, net.arch) not in known]


def _read_context(path: Path) -> Context | None:
    """Return the context of a networks file; None if it has no rows."""
    for line, row in read_csv_rows(path, CONTEXT_COLUMNS):
        return parse_context(row, f"{path}, line {line}")
    return None
