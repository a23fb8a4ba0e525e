"""The folder of a search: written by a search, read by its report.

arch.json         the winner, as every command of this project reads it
ofa.json          the winner as a plain OFA dict
candidates.json   about ten good networks near the limit, best first
pareto.csv        the Pareto front: latency_ms, top1, the architecture, and further quantities at the end
blocks.csv        the winner's layers and their latencies in the table, if there is one
measured.csv      networks measured with --measure
networks.csv      whole networks measured for the table
answers/*.json    the networks of a front (--pareto) or of several devices (--per-device)
devices.json      the networks on each of several devices, and on those of --beside
search.json       inputs, results, versions and seed

`ofa_core.search.result_schema` has the keys and columns of each.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_fields, arch_text, arch_to_dict
from ofa_core.atomic import atomic_path, check_file, is_visible, naming
from ofa_core.blocks import BlockSpec
from ofa_core.csv_fields import safe_cells
from ofa_core.genomes import decode
from ofa_core.search.closed_loop import LoopResult
from ofa_core.search.quantity import ENERGY_MJ, LATENCY_MS, TOP1
from ofa_core.search.result_schema import (
    AccuracyRecord,
    AnswerRecord,
    ArchRecord,
    CandidateRow,
    DeviceRecord,
    DeviceRow,
    FrontRow,
    Int8Record,
    LatencyRecord,
    Layer,
    MeasuredRecord,
    ProofRecord,
    QuantityRecord,
    SearchRecord,
    TrialRow,
    record_values,
)
from ofa_core.search.run import SearchResult
from ofa_core.space import Space
from ofa_core.space_record import space_columns, space_fields

__all__ = [
    "ANSWERS",
    "REPLACED",
    "BlockMs",
    "Sources",
    "later_quantities",
    "layers_of",
    "measured_record",
    "record_of",
    "shown_record",
    "write_folder",
]

BlockMs = Callable[[BlockSpec, int], float]  # from a block and a resolution to its latency in the table

ANSWERS = "answers"
# search.json is removed first and appears last, so that an incomplete folder is never read as a search.
REPLACED = (
    *("search.json", "arch.json", "ofa.json", "candidates.json", "pareto.csv", "blocks.csv", "devices.json"),
    *("measured.csv", "networks.csv", "report.html", "subnet.onnx", "subnet.tflite"),
)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The inputs of a search that its result does not hold.

    Attributes:
        latency: the latency predictor.
        accuracy: the accuracy model.
        left_out_px: resolutions that the accuracy model does not support.
        target: device of --measure.
        weights: supernet of --weights.
        devices: further devices of a search for several.
        goal: name of the quantity that was optimised; None for the objective of the result's problem.
        limits: limits that the user set, by the name of the quantity; None for those of the result's problem.
        fixed: fixed parts of the network.
        proof: how far the answer can be from the best network; None if that was not computed.
        int8: measured accuracies of the winner in int8.
    """

    latency: LatencyRecord
    accuracy: AccuracyRecord
    left_out_px: Sequence[int] = ()
    target: str | None = None
    weights: str | None = None
    devices: Sequence[DeviceRecord] = ()
    goal: str | None = None
    limits: Mapping[str, float] | None = None
    fixed: Sequence[str] = ()
    proof: ProofRecord | None = None
    int8: Int8Record | None = None


def record_of(result: SearchResult, sources: Sources, loop: LoopResult | None = None) -> SearchRecord:
    """Return the record of a result."""
    best, problem, space = result.best, result.problem, result.space
    named = space_fields(space)
    own = {c.name: c.limit for c in problem.constraints}
    limits = own if sources.limits is None else dict(sources.limits)
    of_all = {name: limit for name, limit in limits.items() if name not in own}  # of answers, such as the memory
    return SearchRecord(
        space=space.name,
        arch=ArchRecord(**arch_to_dict(best.arch, space)),
        latency_ms=best.latency_ms,
        low_ms=best.low_ms,
        high_ms=best.high_ms,
        top1=best.top1,
        limit_ms=limits.pop(LATENCY_MS.name, None),
        mmacs=best.macs / 1e6,
        params_m=best.params / 1e6,
        seconds=result.seconds,
        n_evaluated=result.n_evaluated,
        resolutions=list(problem.resolutions),
        seed=result.seed,
        measured=None if loop is None else measured_record(loop),
        space_digest=named["space_digest"],
        space_definition=named.get("space_definition"),
        confidence=problem.constraints[0].confidence,
        limits=limits,
        left_out_px=list(sources.left_out_px),
        latency=sources.latency,
        accuracy=sources.accuracy,
        target=sources.target,
        energy_mj=best.values.get(ENERGY_MJ.name),
        weights=sources.weights,
        versions=_versions(),
        cost=problem.cost.name,
        objective=problem.objective.name,
        quantities=[
            QuantityRecord(**asdict(quantity.description), value=best.values[quantity.name])
            for quantity in problem.quantities
        ],
        answers=[
            AnswerRecord(
                name=answer.name,
                file=f"{ANSWERS}/{answer.name}.json",
                limits={c.name: c.limit for c in answer.constraints} | of_all,
                values=dict(answer.best.values),
                arch=ArchRecord(**arch_to_dict(answer.best.arch, space)),
            )
            for answer in result.answers
        ],
        devices=list(sources.devices),
        goal=sources.goal or "",
        fixed=list(sources.fixed),
        proof=sources.proof,
        int8=sources.int8,
    )


def measured_record(loop: LoopResult) -> MeasuredRecord:
    """Return the record of a loop."""
    return MeasuredRecord(
        latency_ms=loop.winner.latency_ms,
        low_ms=loop.winner.low_ms,
        high_ms=loop.winner.high_ms,
        n_rounds=loop.n_rounds,
        n_networks=len({trial.predicted.arch for trial in loop.trials}),
        converged=loop.converged,
    )


def _versions() -> dict[str, str]:
    try:
        own = version("ofa-latency")
    except PackageNotFoundError:
        own = "not installed"
    return {"ofa-latency": own, "numpy": np.__version__, "python": platform.python_version()}


def shown_record(record: SearchRecord) -> dict[str, Any]:
    """Return a record as `ofa-search --json` prints it."""
    return {name: value for name, value in record_values(record).items() if name not in ("schema", "versions")}


def write_folder(
    folder: Path,
    result: SearchResult,
    record: SearchRecord,
    *,
    block_ms: BlockMs | None = None,
    loop: LoopResult | None = None,
    devices: Sequence[DeviceRow] = (),
) -> None:
    """Write all files but the network itself.

    All files are written under temporary names first. So if the disk is full, the files of an earlier search stay.

    Args:
        folder: created if it does not exist; files of an earlier search in it are replaced or removed.
        result: the result.
        record: its record.
        block_ms: function from a block and a resolution to its latency in the table; None omits `blocks.csv`.
        loop: result of the closed loop.
        devices: the networks on each of several devices; none omits `devices.json`.
    """
    space, arch = result.space, result.best.arch
    # A stack renames the last file first, so search.json is the last one to appear.
    texts = {"search.json": json.dumps(record_values(record), indent=1) + "\n"}
    for answer in result.answers:
        texts[f"{ANSWERS}/{answer.name}.json"] = arch_text(answer.best.arch, space)
    texts["arch.json"] = arch_text(arch, space)
    texts["ofa.json"] = json.dumps(arch_to_dict(arch, space)) + "\n"
    texts["candidates.json"] = json.dumps(_candidate_rows(result), indent=1) + "\n"
    texts["pareto.csv"] = _csv_text(_front_rows(result, block_ms))
    if block_ms is not None:
        latencies = [float(block_ms(block, arch.resolution_px)) for block in space.layout(arch).blocks]
        texts["blocks.csv"] = _csv_text(map(asdict, layers_of(space, arch, latencies)))
    if loop is not None:
        texts["measured.csv"] = _csv_text(map(asdict, _trial_rows(loop, space)))
    if devices:
        texts["devices.json"] = json.dumps([asdict(row) for row in devices], separators=(",", ":")) + "\n"
    paths = {folder / name: text for name, text in texts.items()}
    with ExitStack() as files:
        for path, text in paths.items():
            files.enter_context(atomic_path(path)).write_text(text, encoding="utf-8")
        check_file(folder / "search.json").unlink(missing_ok=True)
        answers = {p for p in (folder / ANSWERS).glob("*.json") if is_visible(p) and (p.is_symlink() or p.is_file())}
        for stale in {*(folder / name for name in REPLACED), *answers} - paths.keys():
            with naming(stale):
                stale.unlink(missing_ok=True)


def _candidate_rows(result: SearchResult) -> list[dict[str, Any]]:
    space, further = result.space, later_quantities(q.name for q in result.problem.quantities)
    out = []
    for c in result.candidates:
        arch = arch_to_dict(c.arch, space)
        row = CandidateRow(arch=arch, latency_ms=c.latency_ms, low_ms=c.low_ms, high_ms=c.high_ms, top1=c.top1)
        out.append({**asdict(row), **space_fields(space), **{name: c.values[name] for name in further}})
    return out


def _front_rows(result: SearchResult, block_ms: BlockMs | None) -> Iterable[dict[str, Any]]:
    space, problem, front = result.space, result.problem, result.front
    columns = {quantity.name: quantity.values(front.genomes) for quantity in problem.quantities}
    # The front has these already, from the batches in which they were evaluated.
    columns[problem.cost.name] = -problem.cost.sign * front.costs
    columns[problem.objective.name] = problem.objective.sign * front.values
    named: dict[str, Any] = dict(space_columns(space))
    for i, arch in enumerate(decode(space, front.genomes)):
        values = {name: float(column[i]) for name, column in columns.items()}
        layers = [] if block_ms is None else [block_ms(b, arch.resolution_px) for b in space.layout(arch).blocks]
        row = FrontRow(
            latency_ms=values["latency_ms"],
            top1=values["top1"],
            blocks_ms=" ".join(f"{ms:.6g}" for ms in layers),
            **arch_fields(arch, space) | named,
        )
        yield {**asdict(row), **{name: values[name] for name in later_quantities(values)}}


def layers_of(space: Space, arch: Arch, latencies_ms: Sequence[float]) -> Iterator[Layer]:
    """Yield the layers of a network, given the latency of each."""
    layout = space.layout(arch)
    names = ["first_conv", "first block"]
    names += [f"{s + 1}.{i + 1}" for s, depth in enumerate(arch.depths) for i in range(depth)]
    names += [block.op for block in layout.head]
    shared = [f.name for f in fields(Layer) if f.name not in ("schema", "index", "name", "se", "latency_ms")]
    for i, (name, block, ms) in enumerate(zip(names, layout.blocks, latencies_ms, strict=True)):
        columns: dict[str, Any] = {column: getattr(block, column) for column in shared}
        yield Layer(index=i, name=name, se=int(block.se), latency_ms=ms, **columns)


def _trial_rows(loop: LoopResult, space: Space) -> Iterable[TrialRow]:
    named: dict[str, Any] = dict(space_columns(space))
    for trial in loop.trials:
        net = trial.measured
        yield TrialRow(
            round=trial.round,
            confirms=int(trial.confirms),
            winner=int(net.arch == loop.winner.arch),
            top1=trial.predicted.top1,
            predicted_ms=trial.predicted.latency_ms,
            latency_ms=net.latency_ms,
            low_ms=net.low_ms,
            high_ms=net.high_ms,
            **arch_fields(net.arch, space) | named,
        )


def later_quantities(names: Iterable[str]) -> list[str]:
    """Return names of quantities without a key or column of their own in version 0.1.0."""
    return [name for name in names if name not in (LATENCY_MS.name, TOP1.name)]


def _csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    listed = list(rows)
    writer = csv.DictWriter(out, list(listed[0]) if listed else ["schema"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(zip(row, safe_cells(row.values()), strict=True)) for row in listed)
    return out.getvalue()
