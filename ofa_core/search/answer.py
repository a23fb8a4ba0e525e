"""Write the answer of a search: its folder, the network, the table's networks and the report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_core.backend_names import DTYPES
from ofa_core.errors import OfaError
from ofa_core.lock import only_one
from ofa_core.measured_networks import networks_path, read_networks, write_networks
from ofa_core.search.closed_loop import LoopResult
from ofa_core.search.device_results import rows_of
from ofa_core.search.device_words import device_name
from ofa_core.search.fleet import Member
from ofa_core.search.network_file import NetworkFile
from ofa_core.search.protocols import AccuracyPredictor
from ofa_core.search.quantity import accuracy_quantity
from ofa_core.search.result_folder import write_folder
from ofa_core.search.result_schema import AccuracyRecord, SearchRecord
from ofa_core.search.run import SearchResult
from ofa_core.search.steps import LatencySource, is_table

__all__ = ["Answer", "accuracy_record", "write_answer"]

INT8_NOTE = "the loss by int8 is not predicted (ofa-train accuracy-table --dtype int8 measures it)"
FLOAT_NOTE = "these are accuracies of int8 networks, and this network is float; its accuracy is probably higher"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The answer of a search with all that its folder is made of.

    Attributes:
        result: result of the search.
        record: content of `search.json`.
        latency: latency predictor.
        lut: file of the latency predictor.
        network: the network to write.
        loop: result of the closed loop; None without --measure.
        others: the further devices of the search and of --beside.
    """

    result: SearchResult
    record: SearchRecord
    latency: LatencySource
    lut: Path
    network: NetworkFile
    loop: LoopResult | None = None
    others: Sequence[Member] = ()


def write_answer(out: Path, answer: Answer, report: bool) -> None:
    """Write the search folder, with the report if it is wanted."""
    table = answer.latency.lut
    pixels = {answer.result.best.arch.resolution_px, *answer.result.front.genomes[:, 0].tolist()}
    block_ms = None if table is None else table.block_ms(sorted(pixels))
    lut, loop = answer.lut, answer.loop
    devices = rows_of(answer.result, Member(device_name(lut), lut, answer.latency, loop=loop), answer.others)
    with only_one(out / "search.json"):
        write_folder(out, answer.result, answer.record, block_ms=block_ms, loop=loop, devices=devices)
        if table is None:
            _log.info("%s holds whole networks only: no blocks.csv, and no layers in the report", lut)
        _copy_networks(answer.latency, lut, out)
        answer.network.write(out)
        if report:
            _try_report(out)


def accuracy_record(accuracy: AccuracyPredictor, source: str | None, *, int8: bool = False) -> AccuracyRecord:
    """Return what a search folder holds of an accuracy model.

    Args:
        accuracy: the model.
        source: the user's choice.
        int8: True if the network is used in int8.
    """
    percent = accuracy_quantity(accuracy).unit == "%"
    note, measured_int8 = accuracy.note, accuracy.dtype == DTYPES["int8"]
    if int8 != measured_int8:
        note = "; ".join(filter(None, (note, INT8_NOTE if int8 else FLOAT_NOTE)))
    return AccuracyRecord(source=source or "built in", label=accuracy.label, note=note, percent=percent)


def _copy_networks(latency: LatencySource, lut: Path, out: Path) -> None:
    """Copy the whole networks measured for a table, each with the table's sum, into a search folder."""
    table, context = latency.lut, latency.context
    if table is None or context is None or not is_table(latency):
        return
    if lut.is_file() and networks_path(lut).is_file():
        write_networks(out / "networks.csv", context, table.with_sums(read_networks(networks_path(lut), context)))


def _try_report(out: Path) -> None:
    """Write the report of a folder; log the reason if that is not possible."""
    from ofa_core.search.report import write_report

    try:
        write_report(out, out / "report.html")
    except OfaError as error:
        _log.warning("%s", error)
