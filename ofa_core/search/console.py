"""What `ofa-search` shows: progress on stderr, the answer as plain lines on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ofa_core.search.closed_loop import Trial
from ofa_core.search.run import SearchResult

__all__ = ["answer_lines", "progress", "round_line", "say", "span"]

PLAIN_EVERY_S = 10.0


def say(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"ofa-search: {message}\n")


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the latest news where stderr is a terminal, a line every ten seconds elsewhere."""
    from ofa_core.terminal import console

    terminal = console(stderr=True)
    if not terminal.is_terminal:
        last = [time.monotonic()]

        def plain(news: str) -> None:
            if time.monotonic() - last[0] >= PLAIN_EVERY_S:
                last[0] = time.monotonic()
                say(f"{what}: {news}")

        yield plain
        return
    with terminal.status(what) as status:
        yield lambda news: status.update(f"{what}: {news}")


def span(low: float | None, high: float | None) -> str:
    """An interval in milliseconds, if it is known."""
    return f" ({low:.4g} to {high:.4g})" if low is not None and high is not None else ""


def round_line(number: int, result: SearchResult, trials: Sequence[Trial], limit_ms: float) -> str:
    """What a round of the loop brought."""
    if not trials:
        return f"round {number}: nothing could be measured"
    new = [t for t in trials if not t.confirms]
    kept = sum(t.measured.high_ms <= limit_ms for t in new)
    bias = sum(t.measured.latency_ms / t.predicted.latency_ms - 1 for t in trials) / len(trials)
    again = [t for t in trials if t.confirms]
    held = sum(t.measured.high_ms <= limit_ms for t in again)
    return (
        f"round {number}: {len(new)} networks measured, {kept} within {limit_ms:g} ms; they took {100 * bias:+.1f} % "
        f"against the prediction; measured again {len(again)}, {held} held (best predicted {result.best.top1:.2f})"
    )


def answer_lines(record: Mapping[str, Any], network: str) -> list[str]:
    """The answer for people.

    Args:
        record: as in `search.json`.
        network: the architecture in short.
    """
    latency, accuracy, measured = record["latency"], record["accuracy"], record["measured"]
    lines = [f"{record['space']} on {latency['label']}, at most {record['limit_ms']:g} ms"]
    if measured:
        rounds = f"{measured['n_rounds']} round{'s' if measured['n_rounds'] != 1 else ''}"
        where = f"{measured['n_networks']} networks measured in {rounds}"
        lines.append(
            f"measured   {measured['latency_ms']:.4g} ms{span(measured['low_ms'], measured['high_ms'])}, {where}"
        )
    predicted = f"{record['latency_ms']:.4g} ms{span(record['low_ms'], record['high_ms'])}"
    lines.append(f"predicted  {predicted}, {latency['note']}")
    score = f"{record['top1']:.2f} %" if accuracy["percent"] else f"{record['top1']:.2f}"
    lines.append(f"{'top-1' if accuracy['percent'] else 'score':<11}{score}, {accuracy['label']}: {accuracy['note']}")
    size = f"{record['mmacs']:.1f} M MACs, {record['params_m']:.2f} M parameters"
    if record["energy_mj"] is not None:
        size += f", {record['energy_mj']:.3g} mJ above idle"
    lines.append(f"size       {record['arch']['r'][0]} px, {size}")
    lines.append(f"network    {network}")
    effort = f"{record['n_evaluated']} sub-nets evaluated in {record['seconds']:.1f} s, seed {record['seed']}"
    lines.append(f"search     {effort}")
    return lines
