"""Measure on the device of a target: lock the table, open the device, log its state, profile it.

`profile_target` does all of this for `ofa-profile`. `verify` measures inside `opened_for`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from devices.device import Device
from devices.facts import Conditions
from devices.target import Target
from ofa_core.atomic import check_file
from ofa_core.jsonlines import read_lines, set_aside
from ofa_core.lock import only_one
from ofa_core.measured_networks import networks_path
from profiler.campaign import ProfileResult, ProfileSpec, journal_path, profile
from profiler.console import conditions_lines, phone_line
from profiler.cpu_clusters import choose_cpus
from profiler.energy_session import EnergyOptions
from profiler.launch import Launch, launch, resumed
from profiler.runner import Runner
from profiler.settings import Progress
from profiler.tuning import tuned

__all__ = ["RunOptions", "TableFiles", "default_path", "introduce", "opened_for", "profile_target"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TableFiles:
    """A table that a command is about to measure for.

    Attributes:
        table: path of the table; the command holds its lock.
        journal: path of the session's journal.
        fresh: set the journal of an interrupted session aside instead of resuming it.
    """

    table: Path
    journal: Path
    fresh: bool = False


@contextmanager
def opened_for(
    files: TableFiles, name: str, start: Callable[[], tuple[Device, Runner]], budget_s: float
) -> Iterator[Runner]:
    """Yield a runner on an open device, and close the device on exit.

    What goes to the device is found and checked first, so that files for another system are refused before anything is
    pushed.

    Args:
        files: the table to lock, and its journal.
        name: name of the device in messages.
        start: opens the device and makes a runner for it.
        budget_s: seconds that the session is expected to take.

    Raises:
        InUseError: if another command holds the table.
        DeviceError: if the device cannot be opened.
    """
    with only_one(files.table):
        if files.fresh:
            set_aside(files.journal)
        device, runner = start()
        with device:
            conditions = introduce(name, runner, f"about {math.ceil(budget_s / 60)} min")
            for line in conditions_lines(conditions):
                _LOG.info("%s: %s", name, line)
            yield runner


def introduce(name: str, runner: Runner, takes: str) -> Conditions:
    """Log a phone, what it gets and how long it takes; then download and check what goes to the device.

    Args:
        name: name of the device in messages.
        runner: runner for the open device.
        takes: how long the session is expected to take.

    Returns:
        The conditions of the device.
    """
    device, payload = runner.device, runner.payload()
    conditions = device.conditions()
    if device.kind == "phone":
        _LOG.info("%s: %s", name, phone_line(device.facts(), conditions, payload, takes))
    runner.prepare()
    return conditions


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of `ofa-profile` that hold for every target.

    Attributes:
        launch: options of the runner.
        out: table to write; None derives the path from device and backend.
        fresh: set the journal of an interrupted session aside instead of resuming it.
        cpus: cores to pin to, such as `4-7` or `big`; None takes the target's, else the default of its kind.
        tune: set maximum clock speeds while measuring.
        energy: measure the energy of whole networks too.
    """

    launch: Launch
    out: Path | None = None
    fresh: bool = False
    cpus: str | None = None
    tune: bool = False
    energy: bool = False


def profile_target(
    spec: ProfileSpec, target: Target, options: RunOptions, progress: Callable[[Progress], None]
) -> tuple[Path, ProfileResult]:
    """Profile one target; return the path of the written table, and the result.

    Raises:
        InUseError: if another command holds the table.
        OutputError: if the table, its networks or its journal cannot be written.
        OfaError, DeviceError: as `profiler.campaign.profile` and `profiler.launch.launch` do.
    """
    path = options.out or default_path(spec)
    for file in (path, networks_path(path), journal_path(path)):
        check_file(file)
    meter = EnergyOptions(options.launch.python or target.python) if options.energy else None
    files = TableFiles(path, journal_path(path), options.fresh)
    with ExitStack() as stack:

        def start() -> tuple[Device, Runner]:
            return launch(target, spec.choice, _as_interrupted(files.journal, options.launch), spec.form)

        runner = stack.enter_context(opened_for(files, spec.device, start, spec.settings.budget_s))
        device = runner.device
        if options.tune:
            _LOG.info("%s: %s", spec.device, stack.enter_context(tuned(device)))
        cpus = choose_cpus(options.cpus, target.cpus, device.facts(), is_phone=device.kind == "phone")
        spec = replace(spec, settings=replace(spec.settings, cpus=cpus))
        return path, profile(spec, runner, path, energy=meter, progress=progress)


def _as_interrupted(journal: Path, options: Launch) -> Launch:
    """Return the options with the runtime of the session that a journal holds, if it is to be resumed."""
    if not journal.exists() or not journal.stat().st_size:
        return options
    header, events = read_lines(journal)
    context = header.get("context")
    if not isinstance(context, dict) or (events and "done" in events[-1][1]):
        return options
    return resumed(options, str(context.get("backend_version", "")))


def default_path(spec: ProfileSpec) -> Path:
    """Return the default path of a spec's table: `luts/DEVICE-BACKEND.csv`, or `...-nets.csv` for whole networks."""
    name = f"{spec.device}-{spec.choice.label}{'-nets' if spec.networks else ''}"
    return Path("luts", f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}.csv")
