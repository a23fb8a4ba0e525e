"""Profiling a device: from a space and a target to a table and its whole networks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from devices.device import Device
from devices.facts import Conditions
from ofa_core.blocks import BlockSpec
from ofa_core.networks import Network, networks_path, read_networks, write_networks
from ofa_core.space import Space
from ofa_core.table import CONTEXT_COLUMNS, Context, LatencyTable, parse_context, read_csv_rows
from profiler.cooling import Cooling
from profiler.jobs import Runner
from profiler.journal import Journal
from profiler.measurement import Clock
from profiler.models import ModelStore
from profiler.plan import NetworkItem, Plan, make_plan, reference_archs
from profiler.session import HeatGuard, Progress, Session, Settings
from profiler.tables import Measured, evaluate, network_of, statistic_name, to_table

__all__ = ["Job", "ProfileResult", "journal_path", "measure_plan", "profile"]

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
        table: the latencies.
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
    progress: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> ProfileResult:
    """Measure what the journal beside `out` lacks, then write the table and its networks.

    Args:
        job: what and how.
        device: open.
        runner: for this device and the job's backend.
        out: the CSV file to write; its networks and journal lie beside it.
        fresh: set an existing journal aside.
        progress: called after every visit.
        say: is told, in one line, what the user should know meanwhile.

    Raises:
        DeviceError: if the device is lost; the journal keeps what was measured.
        ContextMismatchError: if the journal beside `out` is of another job.
    """
    rng = np.random.default_rng([job.settings.seed, 1])
    blocks: Sequence[BlockSpec] = job.space.all_blocks(job.resolutions)
    if job.order is not None:
        blocks = job.order(blocks)
    archs = reference_archs(job.space, job.resolutions, job.n_reference, rng) if job.n_reference else []
    facts = device.facts()
    memory = min(MODEL_MEMORY_SHARE * facts.memory_bytes, MAX_MODEL_MEMORY_BYTES) if facts.memory_bytes else None
    plan = make_plan(
        blocks,
        [NetworkItem(job.space, arch) for arch in archs],
        rng,
        memory_bytes=int(memory or DEFAULT_MODEL_MEMORY_BYTES),
    )
    before = device.conditions()
    heat = Cooling(device, before, say, is_phone=(facts.os or "").startswith("Android"))
    measured, context, failures = measure_plan(
        job, plan, runner, journal_path(out), fresh=fresh, progress=progress, heat=heat if heat.can_tell else None
    )
    table = to_table(measured, plan, context)
    networks = [
        net
        for i, item in enumerate(plan.items)
        if isinstance(item, NetworkItem) and i in measured.estimates
        if (net := network_of(item, measured.estimates[i], table, "reference")) is not None
    ]
    table.write(out)
    kept = _kept_networks(networks_path(out), context)
    write_networks(networks_path(out), context, [*networks, *kept])
    return ProfileResult(table, networks, measured, failures, before, device.conditions())


def measure_plan(
    job: Job,
    plan: Plan,
    runner: Runner,
    journal_file: Path,
    *,
    fresh: bool = False,
    clock: Clock | None = None,
    ref_ns: float | None = None,
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
        progress: called after every visit.
        heat: watches the device's heat.

    Returns:
        What was found out, the complete context, and the failures by item label.
    """
    hello = runner.open()
    context = job.context(hello.backend_version)
    with tempfile.TemporaryDirectory(prefix="ofa-models-") as folder:
        models = ModelStore(
            Path(folder),
            job.backend,
            job.batch_size,
            "literal" if job.graph_form == "literal" else "fused",
            job.fake_ms,
        )
        with Journal(journal_file, _header(job, plan, context), fresh=fresh) as journal:
            Session(plan, runner, models, journal, job.settings, progress, heat=heat).run()
            measured = evaluate(journal.state, plan, job.settings.threads, clock=clock, ref_ns=ref_ns)
            failures = {plan.items[i].label: errors[-1] for i, errors in journal.state.failures.items()}
    context = replace(context, statistic=statistic_name(measured.ref_ns), clock=measured.clock)
    given_up = {plan.items[i].label for i in range(len(plan.items)) if i not in measured.estimates}
    return measured, context, {label: error for label, error in failures.items() if label in given_up}


def _header(job: Job, plan: Plan, context: Context) -> dict[str, Any]:
    settings = asdict(job.settings)
    settings.pop("budget_s")  # a resumed session may be given another one
    described = asdict(context)
    del described["statistic"], described["clock"]
    return {
        "context": described,
        "space": job.space.name,
        "resolutions": list(job.resolutions),
        "settings": settings,
        "items": [item.id for item in plan.items],
        "chunks": [list(chunk) for chunk in plan.chunks],
    }


def _kept_networks(path: Path, context: Context) -> list[Network]:
    """Networks that were verified earlier in exactly this context."""
    if not path.exists():
        return []
    rows = read_networks(path)
    return [net for net in rows if net.role == "verify"] if read_context(path) == context else []


def read_context(path: Path) -> Context | None:
    """The context of a networks file, None if it has no rows."""
    for line, row in read_csv_rows(path, CONTEXT_COLUMNS):
        return parse_context(row, f"{path}, line {line}")
    return None
