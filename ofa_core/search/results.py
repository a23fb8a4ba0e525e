"""The folder that a search writes, and that its report is made of.

arch.json         the answer, as every command of this project reads it
ofa.json          the same as a plain OFA dict
candidates.json   about ten good ones near the limit, best first (docs/formats.md)
pareto.csv        the front: latency_ms, top1, and the architecture
blocks.csv        the answer's layers, with what the table says of each
measured.csv      networks that were measured while the loop was closed, if it was
search.json       what was asked, of what, with which versions and seed
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.arch_json import arch_fields, arch_to_dict, write_arch
from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.csv_fields import safe_cells
from ofa_core.genomes import decode
from ofa_core.search.closed_loop import LoopResult, Trial
from ofa_core.search.problem import Candidate
from ofa_core.search.run import SearchResult
from ofa_core.space import Space
from ofa_core.space_record import space_columns, space_fields

__all__ = ["RESULTS_SCHEMA", "candidate_record", "summary", "write_results"]

RESULTS_SCHEMA = 1


def write_results(
    folder: Path,
    result: SearchResult,
    facts: Mapping[str, Any],
    *,
    block_ms: Callable[[BlockSpec, int], float] | None = None,
    loop: LoopResult | None = None,
) -> None:
    """Write everything but the network itself; each file appears whole or not at all.

    Args:
        folder: made if it is not there; files of an earlier search in it are replaced or removed.
        result: what was found.
        facts: what `search.json` says besides: device, predictors, labels.
        block_ms: milliseconds of a block at a resolution, as the table has it; None (no table) leaves `blocks.csv` out.
        loop: how the loop was closed, if it was.
    """
    space, arch = result.space, result.best.arch
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("blocks.csv", "measured.csv", "report.html", "subnet.onnx"):
        (folder / name).unlink(missing_ok=True)
    write_arch(folder / "arch.json", arch, space)
    write_text(folder / "ofa.json", json.dumps(arch_to_dict(arch, space)) + "\n")
    records = [{**candidate_record(c, space), **space_fields(space)} for c in result.candidates]
    write_text(folder / "candidates.json", json.dumps(records, indent=1) + "\n")
    _write_csv(folder / "pareto.csv", _front_rows(result))
    if block_ms is not None:
        _write_csv(folder / "blocks.csv", _block_rows(space, result.best, block_ms))
    if loop is not None:
        _write_csv(folder / "measured.csv", [_trial_row(t, space, loop) for t in loop.trials])
    record = {"schema": RESULTS_SCHEMA, **summary(result, loop), **facts, "versions": _versions()}
    write_text(folder / "search.json", json.dumps(record, indent=1) + "\n")


def summary(result: SearchResult, loop: LoopResult | None = None) -> dict[str, Any]:
    """The answer in numbers, as `ofa-search --json` prints it: latency in ms, `top1` in percent."""
    best = result.best
    return {
        "space": result.space.name,
        **candidate_record(best, result.space),
        "limit_ms": result.limit_ms,
        "mmacs": best.macs / 1e6,
        "params_m": best.params / 1e6,
        "seconds": result.seconds,
        "n_evaluated": result.n_evaluated,
        "resolutions": list(result.resolutions),
        "seed": result.seed,
        "measured": None if loop is None else _loop_record(loop),
        **{name: value for name, value in space_fields(result.space).items() if name != "space"},
    }


def candidate_record(candidate: Candidate, space: Space) -> dict[str, Any]:
    """A candidate as `candidates.json` has it."""
    return {
        "arch": arch_to_dict(candidate.arch, space),
        "latency_ms": candidate.latency_ms,
        "low_ms": candidate.low_ms,
        "high_ms": candidate.high_ms,
        "top1": candidate.top1,
    }


def _loop_record(loop: LoopResult) -> dict[str, Any]:
    return {
        "latency_ms": loop.winner.latency_ms,
        "low_ms": loop.winner.low_ms,
        "high_ms": loop.winner.high_ms,
        "n_rounds": loop.n_rounds,
        "n_networks": len({trial.predicted.arch for trial in loop.trials}),
        "converged": loop.converged,
    }


def _front_rows(result: SearchResult) -> Iterable[dict[str, Any]]:
    front = result.front
    digest = _digest_columns(result.space)
    for arch, ms, top1 in zip(decode(result.space, front.genomes), front.costs, front.values, strict=True):
        yield {
            "schema": RESULTS_SCHEMA,
            "space": result.space.name,
            "latency_ms": float(ms),
            "top1": float(top1),
            **arch_fields(arch, result.space),
            **digest,
        }


def _block_rows(space: Space, best: Candidate, block_ms: Callable[[BlockSpec, int], float]) -> Iterable[dict[str, Any]]:
    px = best.arch.resolution_px
    names = [f"{s + 1}.{i + 1}" for s, depth in enumerate(best.arch.depths) for i in range(depth)]
    blocks = space.blocks(best.arch)
    n_after = len(blocks) - 2 - len(names)
    for i, (name, block) in enumerate(zip(["", "", *names, *[""] * n_after], blocks, strict=True)):
        yield {
            "schema": RESULTS_SCHEMA,
            "index": i,
            "name": name or ("first block" if i == 1 else block.op),
            "op": block.op,
            "in_px": block.in_px,
            "out_px": block.out_px,
            "in_c": block.in_c,
            "mid_c": block.mid_c,
            "out_c": block.out_c,
            "kernel_px": block.kernel_px,
            "stride": block.stride,
            "se": int(block.se),
            "macs": block.macs,
            "params": block.params,
            "latency_ms": float(block_ms(block, px)),
        }


def _trial_row(trial: Trial, space: Space, loop: LoopResult) -> dict[str, Any]:
    measured = trial.measured
    return {
        "schema": RESULTS_SCHEMA,
        "round": trial.round,
        "confirms": int(trial.confirms),
        "winner": int(measured.arch == loop.winner.arch),
        "space": space.name,
        **arch_fields(measured.arch, space),
        "top1": trial.predicted.top1,
        "predicted_ms": trial.predicted.latency_ms,
        "latency_ms": measured.latency_ms,
        "low_ms": measured.low_ms,
        "high_ms": measured.high_ms,
        **_digest_columns(space),
    }


def _digest_columns(space: Space) -> dict[str, str]:
    return {name: value for name, value in space_columns(space).items() if name != "space"}


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    out = io.StringIO()
    listed: Sequence[Mapping[str, Any]] = list(rows)
    writer = csv.DictWriter(out, list(listed[0]) if listed else ["schema"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(zip(row, safe_cells(row.values()), strict=True)) for row in listed)
    write_text(path, out.getvalue())


def _versions() -> dict[str, str]:
    try:
        own = version("ofa-latency")
    except PackageNotFoundError:
        own = "not installed"
    return {"ofa-latency": own, "numpy": np.__version__, "python": platform.python_version()}
