"""Decide whether a device or a runtime became slower between two tables: a gate for continuous integration.

Three comparisons have their own noise: all blocks together, each kind of block (a kernel size, an activation, with or
without squeeze-and-excite) relative to the other blocks, and single blocks. A kind fails if its slow-down is beyond
noise (`Z_NOISE` standard errors) and may be as large as the limit (`Z_LIMIT` standard errors). So a slow-down as large
as the limit is found with high probability; the rule "above the limit" would find it half of the time.

Errors of blocks of equal form are correlated between sessions. The standard error of a kind is therefore that of a
random-effects model: blocks within forms, and forms within the kind. Strides are no kind here: the strided blocks of a
network are few and of many sizes, and between sessions their common ratio moves by 1 %. Stem and head have few layers;
they count among all blocks and as single ones.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET  # nosec B405 # only written
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from profiler.compare import Change, Comparison

__all__ = ["Gate", "Verdict", "gate", "junit_text", "markdown_text", "text_lines"]

Z_NOISE = 3.1  # one-sided: one of 1000 unchanged kinds
Z_LIMIT = 2.6  # 995 of 1000 slow-downs as large as the limit
Z_FOUND = 1.65  # of 95 of 100
MIN_BLOCKS = 20  # of a kind, and of the others
SESSION_SD = 0.01  # of all blocks together between sessions of one machine, at equal speed of the probe
SMALLEST_BLOCK_CHANGE = 0.10  # of a single block
BLOCK_SIGMAS = 6.0
CLIP = 3.0  # robust standard deviations; single blocks beyond do not carry a kind

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The change of all blocks or of a kind.

    Attributes:
        name: what is compared.
        n_blocks: number of its blocks in both tables.
        ratio: new latency divided by old; of a kind, relative to the other blocks.
        error: standard error, as a fraction.
        slower: True if it fails the gate.
    """

    name: str
    n_blocks: int
    ratio: float
    error: float
    slower: bool

    @property
    def resolution(self) -> float:
        """Smallest slow-down that is found in 95 of 100 comparisons, as a fraction."""
        return math.expm1((Z_NOISE + Z_FOUND) * self.error)


@dataclass(frozen=True, slots=True)
class Gate:
    """The outcome for a limit.

    Attributes:
        limit: largest accepted slow-down, as a fraction.
        verdicts: all blocks together, then each kind.
        blocks: single blocks that fail, largest change first.
        context: differences of the contexts.
        n_missing: number of blocks of the old table that the new one lacks.
    """

    limit: float
    verdicts: tuple[Verdict, ...]
    blocks: tuple[Change, ...]
    context: tuple[str, ...]
    n_missing: int

    @property
    def failed(self) -> bool:
        """True if anything is slower than the limit allows."""
        return any(verdict.slower for verdict in self.verdicts) or bool(self.blocks)


_KINDS: dict[str, Callable[[BlockSpec], bool]] = {
    **{f"kernel {k}": lambda block, k=k: block.kernel_px == k for k in (3, 5, 7, 9, 11)},  # type: ignore[misc]
    "squeeze-and-excite": lambda block: block.se,
    "no squeeze-and-excite": lambda block: not block.se,
    **{a: lambda block, a=a: block.act == a for a in ("relu", "relu6", "h_swish")},  # type: ignore[misc]
}


def gate(comparison: Comparison, limit: float) -> Gate:
    """Decide about a comparison.

    Args:
        comparison: of the old table with the new one.
        limit: largest accepted slow-down, as a fraction.
    """
    n_all = len(comparison.ratios)
    verdicts = [_verdict("all blocks together", n_all, math.log(comparison.shift), SESSION_SD, limit)]
    searchable = [(block, ratio) for (_, block), ratio in comparison.ratios if block.op == "mbconv"]
    blocks = [block for block, _ in searchable]
    values = np.array([ratio for _, ratio in searchable])
    forms = _numbered([(b.op, b.kernel_px, b.stride, b.act, b.se) for b in blocks])
    for name, belongs in _KINDS.items():
        member = np.array([belongs(block) for block in blocks])
        if MIN_BLOCKS <= member.sum() <= len(blocks) - MIN_BLOCKS:
            contrast, error = _contrast(values, member, forms)
            verdicts.append(_verdict(name, int(member.sum()), contrast, error, limit))
    smallest = max(limit, SMALLEST_BLOCK_CHANGE)
    single = (c for c in comparison.changes if c.ratio > 1 + smallest and c.sigmas > BLOCK_SIGMAS)
    return Gate(limit, tuple(verdicts), tuple(single), comparison.context, comparison.only_old)


def _verdict(name: str, n_blocks: int, log_ratio: float, error: float, limit: float) -> Verdict:
    beyond_noise = log_ratio > Z_NOISE * error
    reaches_limit = log_ratio > math.log1p(limit) - Z_LIMIT * error
    return Verdict(name, n_blocks, math.exp(log_ratio), error, beyond_noise and reaches_limit)


def _numbered(values: Sequence[object]) -> NDArray[np.int64]:
    """Return a number for each value; equal values have equal numbers."""
    number = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.array([number[value] for value in values])


def _contrast(values: Array, member: NDArray[np.bool_], forms: NDArray[np.int64]) -> tuple[float, float]:
    """Return the difference of a kind from the other blocks, and its standard error.

    Args:
        values: (n,) log ratio of each block.
        member: (n,) True for the blocks of the kind.
        forms: (n,) number of each block's form; the blocks of a form are all of the kind or none.
    """
    design = np.column_stack([np.ones(len(values)), member])
    middle = np.where(member, np.median(values[member]), np.median(values[~member]))
    rest = values - middle
    reach = CLIP * 1.4826 * float(np.median(np.abs(rest)))
    clipped = middle + np.clip(rest, -reach, reach)
    counts = np.bincount(forms)
    rest = clipped - design @ np.linalg.lstsq(design, clipped, rcond=None)[0]
    means = np.bincount(forms, rest) / counts
    within = float(((rest - means[forms]) ** 2).sum()) / max(len(values) - len(counts), 1) + 1e-12
    between = _between_forms(means, counts, within)
    # Generalised least squares: each form counts with the inverse of the variance of its mean.
    weight = 1.0 / (between + within / counts)
    of_kind = np.zeros(len(counts), dtype=bool)
    of_kind[forms[member]] = True
    middles = np.bincount(forms, clipped) / counts
    sides = [weight * of_kind, weight * ~of_kind]
    inside, outside = (float(side @ middles / side.sum()) for side in sides)
    return inside - outside, math.sqrt(sum(1.0 / float(side.sum()) for side in sides))


def _between_forms(means: Array, counts: NDArray[np.int64], within: float) -> float:
    """Return the variance between forms that their blocks' variance does not explain (DerSimonian and Laird)."""
    weight = counts / within
    excess = float(weight @ means**2) - (len(counts) - 2)
    return max(0.0, excess / float(weight.sum() - (weight**2).sum() / weight.sum()))


# ---- output ----------------------------------------------------------------------------------------------------------


def _change_text(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _rows(result: Gate) -> list[tuple[str, str, str, str, str]]:
    """Return name, blocks, change, resolution and verdict of each comparison."""
    rows = [
        (v.name, str(v.n_blocks), _change_text(v.ratio), f"{100 * v.resolution:.1f} %", "slower" if v.slower else "ok")
        for v in result.verdicts
    ]
    return rows + [(c.where, "1", _change_text(c.ratio), "", "slower") for c in result.blocks]


def _summary(result: Gate) -> str:
    """Return the outcome in one sentence."""
    limit = f"{100 * result.limit:g} %"
    slower = [name for name, *_, verdict in _rows(result) if verdict == "slower"]
    missing = f"; not compared: {result.n_missing} blocks that the new table lacks" if result.n_missing else ""
    if not slower:
        return f"no slow-down of {limit} found{missing}"
    more = f" and {len(slower) - 5} more" if len(slower) > 5 else ""
    return f"slower, with a limit of {limit}: {', '.join(slower[:5])}{more}{missing}"


def text_lines(result: Gate) -> list[str]:
    """Return the outcome as lines for a terminal."""
    lines = [f"context: {difference}" for difference in result.context]
    lines.append(f"{'what':32} {'blocks':>6} {'change':>8}  found from")
    lines += [
        f"{name:32} {n:>6} {change:>8}  {found:>10}  {verdict}" for name, n, change, found, verdict in _rows(result)
    ]
    return [*lines, _summary(result)]


def markdown_text(result: Gate) -> str:
    """Return the outcome as Markdown, for a pull request."""
    lines = [f"**Latency: {_summary(result)}**", ""]
    lines += ["| what | blocks | change | found in 95 of 100 from | |", "|---|---:|---:|---:|---|"]
    lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in _rows(result)]
    if result.context:
        lines += ["", "The tables differ: " + "; ".join(_escaped(text) for text in result.context)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in text)


def junit_text(result: Gate) -> str:
    """Return the outcome as JUnit XML: one test case per comparison, and one for blocks that were not compared."""
    rows = _rows(result)
    n_slower, n_skipped = sum(row[-1] == "slower" for row in rows), int(result.n_missing > 0)
    counts = {"tests": len(rows) + n_skipped, "failures": n_slower, "skipped": n_skipped}
    suite = ET.Element("testsuite", {name: str(n) for name, n in counts.items()}, name="latency", errors="0")
    for name, n_blocks, change, resolution, verdict in rows:
        case = ET.SubElement(suite, "testcase", classname="latency", name=name)
        text = f"{change} over {n_blocks} blocks; limit {100 * result.limit:g} %"
        if verdict == "slower":
            ET.SubElement(case, "failure", message=text).text = text
        else:
            ET.SubElement(case, "system-out").text = f"{text}; a slow-down is found from {resolution}"
    if n_skipped:
        case = ET.SubElement(suite, "testcase", classname="latency", name="blocks that the new table lacks")
        ET.SubElement(case, "skipped", message=f"not compared: {result.n_missing} blocks")
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
