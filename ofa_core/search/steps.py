"""The steps of `ofa-search` that know no more than protocols: limits, the search and its front, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.search.console import progress, say
from ofa_core.search.exact import largest_value
from ofa_core.search.problem import AccuracyPredictor, Constraint, LatencyPredictor, block_quantity
from ofa_core.search.run import SearchResult, fill_front, latency_constraint, search
from ofa_core.space import Space

__all__ = ["Searcher", "limits_of", "make_searcher", "try_report", "warn_of_idle_limits", "with_front"]

_UNITS = {"mmacs": "millions", "params_m": "millions", "energy_mj": "millijoules"}
Searcher = Callable[[LatencyPredictor, float, Sequence[Arch]], SearchResult]


def limits_of(
    space: Space, pixels: Sequence[int], max_mmacs: float | None, max_params_m: float | None
) -> list[Constraint]:
    """The limits besides latency: MACs and parameters, in millions."""
    out = []
    if max_mmacs is not None:
        macs = block_quantity(space, pixels, lambda block: block.macs / 1e6)
        out.append(Constraint("mmacs", macs, max_mmacs))
    if max_params_m is not None:
        params = block_quantity(space, pixels, lambda block: block.params / 1e6)
        out.append(Constraint("params_m", params, max_params_m))
    return out


def make_searcher(
    space: Space,
    accuracy: AccuracyPredictor,
    pixels: Sequence[int],
    constraints: Sequence[Constraint],
    confidence: float | None,
    seed: int,
) -> Searcher:
    """The search as a function of what may change from round to round: the prediction, the limit in ms, the start."""

    def run(latency: LatencyPredictor, limit_ms: float, start: Sequence[Arch]) -> SearchResult:
        with progress("search") as news:
            return search(
                space,
                latency,
                accuracy,
                limit_ms,
                resolutions=pixels,
                seed=seed,
                confidence=confidence,
                constraints=constraints,
                start=start,
                on_batch=lambda n, best: news(f"{n} sub-nets, best {best:.2f}"),
            )

    return run


def warn_of_idle_limits(
    space: Space, pixels: Sequence[int], latency: LatencyPredictor, limit_ms: float, others: Sequence[Constraint]
) -> None:
    """Say which limits every sub-net meets: an answer that they did not shape is probably not the one asked for."""
    for limit in (latency_constraint(latency, limit_ms), *others):
        largest = largest_value(space, max(pixels), limit)
        if largest > limit.limit:
            continue
        said = f"the limit of {limit.limit:g} ms" if limit.name == "latency_ms" else f"{limit.name} <= {limit.limit:g}"
        if limit.name == "latency_ms":
            found = f"the slowest sub-net takes {largest:.4g} ms; is the table in another unit than milliseconds?"
        else:
            found = f"the largest sub-net has {largest:.4g}; is the limit in another unit than {_UNITS[limit.name]}?"
        say(f"{said} excludes no sub-net: {found}")


def with_front(result: SearchResult, latency: LatencyPredictor, accuracy: AccuracyPredictor) -> SearchResult:
    """The result with a full front."""
    with progress("fill the front") as news:
        return fill_front(result, latency, accuracy, on_limit=lambda done, of: news(f"{done} of {of} limits"))


def try_report(out: Path) -> None:
    """Draw the report of a folder; where that cannot be done, say why."""
    from ofa_core.search.report import write_report

    try:
        write_report(out, out / "report.html")
    except OfaError as error:
        say(str(error))
