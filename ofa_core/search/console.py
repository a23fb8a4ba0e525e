"""The output of `ofa-search`: progress on stderr, the answer as plain lines on stdout."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ofa_core.search.closed_loop import Trial
from ofa_core.search.quantity import TOP1, Description
from ofa_core.search.result_schema import Int8Record, ProofRecord, SearchRecord
from ofa_core.search.run import SearchResult

__all__ = ["answer_lines", "progress", "proof_words", "round_line", "stop_on_interrupt", "table_lines"]

PLAIN_EVERY_S = 10.0
_log = logging.getLogger(__name__)


@contextmanager
def progress(task: str) -> Iterator[Callable[[str], None]]:
    """Show progress: a spinner with the latest text on a terminal, a line every ten seconds elsewhere."""
    from ofa_core.terminal import console

    terminal = console(stderr=True)
    if not terminal.is_terminal:
        last = [time.monotonic()]

        def plain(news: str) -> None:
            if time.monotonic() - last[0] >= PLAIN_EVERY_S:
                last[0] = time.monotonic()
                _log.info("%s: %s", task, news)

        yield plain
        return
    with terminal.status(task) as status:
        yield lambda news: status.update(f"{task}: {news}")


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end a search with its best results so far; the second one ends the program."""
    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: bool(stopped)
    finally:
        signal.signal(signal.SIGINT, before)


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as aligned lines of plain text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (titles, *rows)
    ]


def round_line(number: int, result: SearchResult, trials: Sequence[Trial], limit_ms: float) -> str:
    """Return the line on a round of the loop, with the user's limit; a round searches below it."""
    if not trials:
        return f"round {number}: no network could be measured"
    new = [t for t in trials if not t.confirms]
    again = [t for t in trials if t.confirms]
    bias = sum(t.measured.latency_ms / t.predicted.latency_ms - 1 for t in trials) / len(trials)
    objective = result.problem.objective
    return (
        f"round {number}: {len(new)} networks measured, {_n_within(new, limit_ms)} within {limit_ms:g} ms; measured "
        f"against predicted latency {100 * bias:+.1f} %; {len(again)} measured again, {_n_within(again, limit_ms)} "
        f"within the limit; best {objective.label} {result.best.values[objective.name]:.2f}"
    )


def _n_within(trials: Sequence[Trial], limit_ms: float) -> int:
    return sum(trial.measured.high_ms <= limit_ms for trial in trials)


def _interval(low: float | None, high: float | None) -> str:
    return f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""


def answer_lines(record: SearchRecord, network: str) -> list[str]:
    """Return the answer as lines for people.

    Args:
        record: content of `search.json`.
        network: the architecture in short.
    """
    latency, accuracy, measured = record.latency, record.accuracy, record.measured
    words = {q.name: Description(q.name, q.label, q.unit) for q in record.quantities}
    limit = "" if record.limit_ms is None else f", at most {record.limit_ms:g} ms"
    lines = [f"{record.space} on {latency.label}{limit}"]
    if measured is not None:
        networks = f"{measured.n_networks} network{'s' if measured.n_networks != 1 else ''}"
        rounds = f"{measured.n_rounds} round{'s' if measured.n_rounds != 1 else ''}"
        lines.append(
            f"measured   {measured.latency_ms:.4g} ms{_interval(measured.low_ms, measured.high_ms)}, "
            f"{networks} measured in {rounds}"
        )
    lines.append(f"predicted  {record.latency_ms:.4g} ms{_interval(record.low_ms, record.high_ms)}, {latency.note}")
    score = f"{record.top1:.2f} %" if accuracy.percent else f"{record.top1:.2f}"
    lines.append(f"{'top-1' if accuracy.percent else 'score':<11}{score}, {accuracy.text}")
    if record.int8 is not None:
        lines.append(_int8_line(record.int8))
    if record.optimised != TOP1.name:
        goal = next(q for q in record.quantities if q.name == record.optimised)
        lines.append(f"{'objective':<11}{goal.label} {words[goal.name].shown(goal.value)}")
    if record.proof is not None:
        lines.append(f"{'proof':<11}{proof_words(record.proof, words[record.optimised])}")
    size = f"{record.mmacs:.1f} M MACs, {record.params_m:.2f} M parameters"
    size += "".join(f", {q.value:.3g} MB of activations" for q in record.quantities if q.name == "memory_mb")
    if record.energy_mj is not None:
        size += f", {record.energy_mj:.3g} mJ above idle"
    lines.append(f"size       {record.arch.r[0]} px, {size}")
    lines.append(f"network    {network}")
    lines.append(f"search     {record.n_evaluated} sub-nets evaluated in {record.seconds:.1f} s, seed {record.seed}")
    return [*lines, *_lines_of_answers(record)]


def proof_words(proof: ProofRecord, goal: Description) -> str:
    """Return how far an answer can be from the best network, in words."""
    if proof.bound is None or proof.gap is None:
        return f"no bound is known: {proof.reason}"
    if proof.is_optimal:
        return f"proved optimal for these predictions, in {proof.seconds:.1f} s"
    unit = "points" if goal.unit == "%" else goal.unit
    return f"within {proof.gap:.2g} {unit} of the best network, whose {goal.label} is at best {goal.shown(proof.bound)}"


def _int8_line(found: Int8Record) -> str:
    accuracies = f"top-1 {found.fp32_top1:.2f} % in fp32 and {found.int8_top1:.2f} % in int8"
    agreement = f"int8 chooses the class of fp32 for {found.agreement:.1f} %"
    return f"{'in int8':<11}{accuracies} on {found.n_images} validation images; {agreement} ({found.ranges})"


def _lines_of_answers(record: SearchRecord) -> Iterator[str]:
    """Yield a line for each network of a front or of several devices."""
    words = {q.name: f"{{:.4g}} {q.unit}".strip() for q in record.quantities}
    best = {q.name: q.value for q in record.quantities}
    for device in record.devices:
        if device.limit_ms is None:
            yield f"{'beside':<11}{device.name}, in the report: {device.latency.label}"
        elif not record.answers:
            shown = f"{best[device.quantity]:.4g} ms, at most {device.limit_ms:g} ms"
            if device.measured is not None:
                shown = f"measured {device.measured.latency_ms:.4g} ms, predicted {shown}"
            yield f"{device.name:<11}{shown}, {device.latency.label}: {device.latency.note}"
    signs = {q.name: ">=" if q.direction == "max" else "<=" for q in record.quantities}
    for answer in record.answers:
        limits = ", ".join(f"{name} {signs.get(name, '<=')} {limit:.4g}" for name, limit in answer.limits.items())
        values = ", ".join(words[name].format(value) for name, value in answer.values.items() if name in words)
        yield f"{answer.name:<11}{limits}: {values}"
