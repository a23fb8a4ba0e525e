"""Measure whole networks again, in the context and at the machine speed of an earlier session.

`ofa-profile verify` and `ofa-search --measure` use it. A session has a journal beside the earlier session's file, so
that it can be resumed; the caller removes the journal once the results are stored elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ofa_core.space import Space
from ofa_core.table import Context
from profiler.backends import choice_of
from profiler.campaign import Campaign, ProfileSpec, measure_plan
from profiler.cpu_clusters import parse_cpus
from profiler.estimation import Estimate
from profiler.journal import mark_done, read_journal
from profiler.plan import NetworkItem, make_plan
from profiler.results import Measured
from profiler.runner import Runner
from profiler.settings import Progress, Settings

__all__ = ["Remeasured", "is_finished", "remeasure", "remeasure_path", "spec_in_context"]


@dataclass(frozen=True, slots=True)
class Remeasured:
    """Results of measuring networks again.

    Attributes:
        estimates: latency of each network that could be measured, in order.
        measured: figures of the session.
        failures: item label and last error of each network that could not be measured.
    """

    estimates: Mapping[NetworkItem, Estimate]
    measured: Measured
    failures: dict[str, str]


def remeasure_path(source: Path, command: str) -> Path:
    """Return the path of the journal of a command that measures networks again: beside the source file."""
    return source.with_name(f"{source.stem}.{command}.journal.jsonl")


def spec_in_context(context: Context, space: Space, settings: Settings) -> ProfileSpec:
    """Return the spec that measures networks of a space in an earlier session's context.

    Args:
        context: context of the earlier session.
        space: space of the networks.
        settings: settings of the new session; threads and cores are replaced by those of the context.
    """
    cpus = parse_cpus(context.cpus) if context.cpus else None
    choice = choice_of(context)
    return ProfileSpec(
        space=space,
        resolutions=(),
        device=context.device,
        backend=choice.backend,
        dtype=choice.dtype,
        delegate=choice.delegate,
        batch_size=context.batch_size,
        graph_form=context.graph_form,
        settings=replace(settings, threads=context.threads, cpus=cpus),
        reference=context,
    )


def remeasure(
    spec: ProfileSpec,
    networks: Sequence[NetworkItem],
    runner: Runner,
    journal: Path,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Remeasured:
    """Measure whole networks at the machine speed of an earlier session.

    Args:
        spec: spec from `spec_in_context`.
        networks: the networks.
        runner: runner for the spec's backend on an open device.
        journal: file of the session's visits; it is resumed if it exists.
        progress: called after every visit.

    Raises:
        TableError: if the context has no reference speed, or no visit has a clean run.
        ContextMismatchError: if the device's context differs from the earlier session's.
    """
    spec = replace(spec, resolutions=tuple(sorted({item.arch.resolution_px for item in networks})))
    plan = make_plan([], networks, np.random.default_rng(spec.settings.seed), memory_bytes=2**62)
    measured, _, failures = measure_plan(Campaign(spec, plan, runner, journal, progress))
    mark_done(journal)
    estimates = {
        item: measured.estimates[i]
        for i, item in enumerate(plan.items)
        if isinstance(item, NetworkItem) and i in measured.estimates
    }
    return Remeasured(estimates, measured, failures)


def is_finished(journal: Path, networks: Sequence[NetworkItem]) -> bool:
    """Return True if a journal holds a finished session of these networks whose results may be written already."""
    if not journal.exists():
        return False
    state = read_journal(journal)
    return state.done and sorted(map(str, state.header.get("items", ()))) == sorted(item.id for item in networks)
