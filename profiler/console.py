"""Output of `ofa-profile`: progress on stderr, and results as plain lines."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

from devices.facts import Conditions, DeviceFacts, quiet_report
from ofa_core.energy_model import fit_energy
from ofa_core.measured_networks import calibration_of
from ofa_core.table import LatencyTable
from profiler.campaign import ProfileResult
from profiler.compare import Comparison
from profiler.estimation import N_DISCARDED
from profiler.results import Measured
from profiler.settings import Progress
from profiler.verify import Verification

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "QUIETER",
    "conditions_lines",
    "phone_line",
    "progress_bar",
    "progress_rows",
    "show_comparison",
    "show_profile",
    "show_verification",
    "verification_record",
]

_LOG = logging.getLogger(__name__)
QUIETER = "use a quieter machine or a larger --budget-s"
PLAIN_EVERY_S = 10.0
METHODS = {"calibrated sum": "calibrated", "plain sum": "NOT calibrated", "whole networks": "whole-network model"}
CHANGED_STATE = 0.1  # change of networks' latency that the speed probe does not show


@contextmanager
def progress_rows() -> Iterator[Callable[[str], Callable[[Progress], None]]]:
    """Yield a function that adds a device's progress: a bar on a terminal, a message every ten seconds elsewhere."""
    from ofa_core.terminal import console

    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield _plain_progress
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", style="dim", markup=False),
    )
    bar = Bar(*columns, console=terminal, transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar, redirect_stderr(_AboveBar(terminal)):

        def add(name: str) -> Callable[[Progress], None]:
            task = bar.add_task(f"{name} pilot", total=None, what="")

            def show(p: Progress) -> None:
                text = f"{name} {p.phase}"
                bar.update(task, description=text, total=p.total or None, completed=p.done, what=_last_visit(p))

            return show

        yield add


class _AboveBar(io.TextIOBase):
    """A text stream that prints whole lines above a progress bar, without wrapping them.

    rich can redirect stderr itself, but it wraps lines at the width of the terminal.
    """

    def __init__(self, terminal: Console) -> None:
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Print text above the bar."""
        if text.strip():
            self._terminal.print(text.rstrip("\n"), soft_wrap=True)
        return len(text)


def _last_visit(p: Progress) -> str:
    """Return the last visit, the state of the machine and the item in a few words."""
    parts = []
    if p.last_ms is not None:
        parts += [f"{p.last_ms:.3g} ms \u00b1{50 * p.last_spread:.1f} %", f"speed {p.speed:.2f}"]
    if p.temperature_c is not None:
        parts.append(f"{p.temperature_c:.0f} C")
    if p.n_failed:
        parts.append(f"{p.n_failed} failed")
    return " \u00b7 ".join([*parts, p.what if len(p.what) <= 48 else f"{p.what[:47]}\u2026"])


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """Yield the progress callback of a single device."""
    with progress_rows() as add:
        yield add(name)


def _plain_progress(name: str) -> Callable[[Progress], None]:
    last = [-PLAIN_EVERY_S]

    def show(p: Progress) -> None:
        now = time.monotonic()
        if now - last[0] < PLAIN_EVERY_S and not 0 < p.done == p.total:
            return
        last[0] = now
        share = f" {100 * p.done / p.total:.0f} %" if p.total else ""
        left = f", about {p.left_s:.0f} s left" if p.left_s is not None else ""
        _LOG.info("%s: %s%s, %.0f s%s; %s", name, p.phase, share, p.elapsed_s, left, _last_visit(p))

    return show


def phone_line(facts: DeviceFacts, conditions: Conditions, payload: str, takes: str) -> str:
    """Return the line that introduces a session on a phone: what it is, its battery, what is pushed, how long it takes.

    Args:
        facts: of the phone.
        conditions: of the phone.
        payload: what is pushed, with its size.
        takes: how long the session is expected to take.
    """
    c = conditions
    power = {True: ", discharging", False: ", charging or full", None: ""}[c.on_battery]
    battery = f"battery {c.battery_percent} %{power}" if c.battery_percent is not None else "battery unknown"
    phone = f"{facts.model or 'unknown model'}, {facts.os or 'unknown system'}, {battery}"
    return f"{phone}; pushing {payload}; {takes}"


def conditions_lines(conditions: Conditions) -> list[str]:
    """Return the machine's state in one line, and a line of advice for each way in which it is not quiet."""
    c = conditions
    parts = [
        f"governor {', '.join(sorted(set(c.governors)))}" if c.governors else "governor unknown",
        f"load {c.load_1min:.2f}" if c.load_1min is not None else "load unknown",
        f"{c.busy_cores:.1f} of {c.n_cores} cores busy" if c.busy_cores is not None else "",
        f"{min(c.cur_freq_mhz):.0f}-{max(c.cur_freq_mhz):.0f} MHz" if c.cur_freq_mhz else "frequency unknown",
        f"{max(t for _, t in c.temperatures_c):.0f} C" if c.temperatures_c else "temperature unknown",
    ]
    return [", ".join(part for part in parts if part), *(f"advice: {line}" for line in quiet_report(conditions))]


def _session_lines(m: Measured, wall_s: float) -> list[str]:
    n_all = m.n_runs + m.n_dropped
    lines = [
        (
            f"{m.n_visits} visits, {m.n_runs} clean runs, {m.n_dropped} dropped as preempted "
            f"({100 * m.n_dropped / max(n_all, 1):.1f} %), {m.clock} clock, "
            f"first {N_DISCARDED} runs of a visit discarded"
        ),
    ]
    if wall_s:
        timed, share = f"{m.timed_s:.0f} s of timed inference", 100 * m.timed_s / wall_s
        shown = f", of which {timed} ({share:.0f} %)" if share <= 100 else f"; {timed} with earlier runs of the session"
        lines.append(f"{wall_s:.0f} s{shown}")
    worst = max((abs(offset) for offset in m.offsets.values()), default=0.0)
    if worst > 0.01:
        lines.append(f"drift not explained by the speed probe: up to {100 * worst:.1f} %, corrected")
    return lines


def show_profile(
    result: ProfileResult, wall_s: float, filled: LatencyTable | None = None, n_filled: int = 0
) -> list[str]:
    """Return the summary of a profile.

    Args:
        result: the profile.
        wall_s: seconds that it took.
        filled: its table with estimates of the blocks that were left out; None if none was.
        n_filled: number of these blocks at the profile's resolutions.
    """
    estimates = result.measured.estimates.values()
    widths = sorted(e.half_width for e in estimates)
    table = result.table
    n_unstable = sum(e.status == "unstable" for e in table.entries.values())
    blocks = f"{len(table)} blocks ({table.n_failed} failed, {n_unstable} unstable), " if len(table) else ""
    lines = [
        f"{blocks}{len(result.networks)} {'reference' if blocks else 'whole'} networks",
        *(
            [f"{n_filled} blocks not measured; the figures below use estimates of them, as --fill does"]
            if filled
            else []
        ),
        *_session_lines(result.measured, wall_s),
        (
            f"90 % intervals over {max(e.n_processes for e in estimates)} processes: "
            f"median +-{100 * widths[len(widths) // 2]:.1f} %, worst +-{100 * widths[-1]:.1f} %"
        ),
    ]
    c = calibration_of(result.networks, filled or table)
    if c is not None:
        lines.append(
            f"calibration on {c.n_networks} networks: sum off by {100 * c.raw_bias:+.1f} % (raw), leave-one-out error "
            f"{100 * c.loo_mape:.1f} %, Spearman {c.spearman:.3f}{': additive' if c.is_additive else ''}"
        )
        if not c.is_additive:
            lines.append(
                "not additive: on this device the sum of blocks does not predict a whole network's latency, because "
                "launches or transfers dominate. ofa-predict and ofa-search use a model of the reference networks "
                "instead, if its error is a fifth smaller; measure larger batches (--batch-size), or search with "
                "--measure"
            )
    lines += [*_energy_lines(result, filled or table), *(f"failed: {error}" for error in result.failures.values())]
    return lines


def _energy_lines(result: ProfileResult, table: LatencyTable) -> list[str]:
    records = list(result.measured.energy.values())
    known = [r.energy_mj for r in records if r.energy_mj is not None]
    reasons = [r.why for r in records if r.energy_mj is None]
    lines = []
    if known:
        lines.append(
            f"energy from {records[0].source}: {len(known)} networks take {min(known):.3g} to {max(known):.3g} mJ "
            "per batch above idle"
        )
    if reasons:
        lines.append(f"energy unknown for {len(reasons)} networks: {reasons[0]}")
    model = fit_energy(result.networks, table)
    if model is not None:
        terms = f"{model.watts:.3g} W while running"
        if model.pj_per_mac or model.pj_per_element:
            terms += f", {model.pj_per_mac:.3g} pJ per MAC, {model.pj_per_element:.3g} pJ per element moved"
        lines.append(
            f"energy of blocks is derived, not measured: {terms}; leave-one-out error {100 * model.loo_mape:.1f} %"
        )
    elif records and len(table):
        lines.append("energy: too few networks for a model, so blocks and other networks have no energy")
    return lines


def show_verification(v: Verification, wall_s: float) -> list[str]:
    """Return the table of measured sub-nets, and its summary."""
    lines = ["   px  sum ms  predicted  measured   +-90 %    error  raw median"]
    for c in sorted(v.checks, key=lambda c: (c.network.arch.resolution_px, c.network.latency_ms)):
        n = c.network
        half = 100 * (c.upper_ms / n.latency_ms - 1)
        lines.append(
            f"  {n.arch.resolution_px:>3} {c.sum_ms:7.3f} {c.predicted_ms:10.3f} {n.latency_ms:9.3f} {half:6.1f} % "
            f"{100 * c.error:+6.1f} % {n.median_ms or 0.0:10.3f}"
        )
    ranks = ", ".join(f"{px} px {rho:.3f}" for px, rho in v.spearman_by_resolution().items())
    lines += [
        (
            f"{len(v.checks)} sub-net{'s' if len(v.checks) > 1 else ''}: "
            f"raw bias of the sum {100 * v.raw_bias:+.1f} %, {METHODS[v.method]} MAPE {100 * v.mape:.2f} %, "
            f"RMSE {v.rmse_ms:.3f} ms"
        ),
        *([] if v.spearman is None else [f"Spearman {v.spearman:.3f} overall{'; within ' + ranks if ranks else ''}"]),
        f"worst: {100 * v.worst.error:+.1f} % for {v.worst.network.arch}",
        *([f"{v.n_filled} of their blocks are estimated, not measured"] if v.n_filled else []),
        f"machine speed: the speed probe took {v.measured.speed:.2f} x its time in the table's session",
        *_state_lines(v),
        *_session_lines(v.measured, wall_s),
        *(f"failed: {error}" for error in v.failures.values()),
    ]
    return lines


def _state_lines(v: Verification) -> list[str]:
    if v.state is None:
        return []
    lines = [
        (
            f"device state: {v.state.n_networks} networks of the table's session were measured again. Latency is now "
            f"{v.state.scale:.3f} x the earlier latency {1e3 * v.state.per_mparam_ms:+.0f} us per million parameters. "
            f"Corrected (MAPE without the correction: {100 * v.mape_now:.2f} %)"
        )
    ]
    if abs(v.slower_now - 1) > CHANGED_STATE:
        lines.append(f"advice: networks now take {v.slower_now:.2f} x their time in the table's session; profile again")
    return lines


def verification_record(v: Verification) -> dict[str, Any]:
    """Return a verification as a dictionary, for `--json`."""
    from ofa_core.arch_json import arch_to_dict

    return {
        "mape": v.mape,
        "raw_bias": v.raw_bias,
        "rmse_ms": v.rmse_ms,
        "spearman": v.spearman,
        "spearman_by_resolution": {str(px): rho for px, rho in v.spearman_by_resolution().items()},
        "calibrated": v.calibration is not None,
        "method": v.method,
        "n_filled": v.n_filled,
        "clock": v.measured.clock,
        "speed": v.measured.speed,
        "mape_now": v.mape_now,
        "slower_now": v.slower_now,
        "load_1min": v.before.load_1min,
        "n_runs": v.measured.n_runs,
        "n_dropped": v.measured.n_dropped,
        "networks": [
            {
                "space": c.network.space.name,
                "arch": arch_to_dict(c.network.arch, c.network.space),
                "sum_ms": c.sum_ms,
                "predicted_ms": c.predicted_ms,
                "latency_ms": c.network.latency_ms,
                "upper_ms": c.upper_ms,
                "now_ms": c.now_ms,
                "median_ms": c.network.median_ms,
            }
            for c in v.checks
        ],
    }


def show_comparison(c: Comparison) -> list[str]:
    """Return the lines of a comparison."""
    lines = [f"context: {difference}" for difference in c.context]
    lines.append(f"{c.n_common} blocks in both, {c.only_old} only in the first, {c.only_new} only in the second")
    verdict = "beyond" if c.shifted else "within"
    lines.append(
        f"all blocks together: x {c.shift:.3f} ({verdict} 3 %), single blocks spread by {100 * c.spread:.1f} %"
    )
    lines += [
        f"  {change.where}: {change.old_ms:.4f} -> {change.new_ms:.4f} ms, "
        f"x {change.ratio:.2f} relative to the others ({change.sigmas:.0f} standard errors)"
        for change in c.changes[:20]
    ]
    if len(c.changes) > 20:
        lines.append(f"  and {len(c.changes) - 20} more")
    lines.append("changed" if c.changed else "nothing changed beyond noise")
    return lines
