"""Write the answer of a search: its folder, the network, the table's networks and the report."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from ofa_core.backend_names import DTYPES
from ofa_core.calibration import Calibration
from ofa_core.errors import OfaError
from ofa_core.lock import only_one
from ofa_core.measured_networks import networks_path, read_networks, write_networks
from ofa_core.search.closed_loop import LoopResult
from ofa_core.search.fleet import Member, device_latency
from ofa_core.search.network_file import NetworkFile
from ofa_core.search.protocols import AccuracyPredictor
from ofa_core.search.quantity import accuracy_quantity, latency_quantity
from ofa_core.search.result_folder import measured_record, write_folder
from ofa_core.search.result_schema import AccuracyRecord, CalibrationRecord, DeviceRecord, LatencyRecord, SearchRecord
from ofa_core.search.run import SearchResult
from ofa_core.search.steps import LatencySource, is_table

__all__ = ["Answer", "accuracy_record", "device_record", "latency_record", "write_answer"]

INT8_NOTE = "the loss by int8 is not predicted (ofa-train accuracy-table --dtype int8 measures it)"

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
    """

    result: SearchResult
    record: SearchRecord
    latency: LatencySource
    lut: Path
    network: NetworkFile
    loop: LoopResult | None = None


def write_answer(out: Path, answer: Answer, *, report: bool) -> None:
    """Write the search folder, with the report if it is wanted."""
    table = answer.latency.lut
    pixels = {answer.result.best.arch.resolution_px, *answer.result.front.genomes[:, 0].tolist()}
    block_ms = None if table is None else table.block_ms(sorted(pixels))
    with only_one(out / "search.json"):
        write_folder(out, answer.result, answer.record, block_ms=block_ms, loop=answer.loop)
        if table is None:
            _log.info("%s holds whole networks only: no blocks.csv, and no layers in the report", answer.lut)
        _copy_networks(answer.latency, answer.lut, out)
        answer.network.write(out)
        if report:
            _try_report(out)


def latency_record(latency: LatencySource, lut: Path, correction: float | None) -> LatencyRecord:
    """Return what a search folder holds of a latency predictor."""
    calibration = latency.calibration
    return LatencyRecord(
        lut=str(lut),
        label=latency.label,
        note=latency.note,
        calibrated=latency.calibrated,
        n_filled=latency.n_filled,
        context=latency.context,
        calibration=None if calibration is None else _calibration_record(calibration),
        correction=correction,
    )


def device_record(member: Member) -> DeviceRecord:
    """Return what a search folder holds of a further device."""
    loop = member.loop
    return DeviceRecord(
        name=member.name,
        quantity=device_latency(member.name, latency_quantity(member.latency)).name,
        limit_ms=member.limit_ms,
        latency=latency_record(member.latency, member.lut, None if loop is None else loop.factor),
        target=member.target,
        measured=None if loop is None else measured_record(loop),
    )


def _calibration_record(calibration: Calibration) -> CalibrationRecord:
    return CalibrationRecord(**asdict(calibration), margin_90=calibration.margin(0.9))


def accuracy_record(accuracy: AccuracyPredictor, source: str | None, *, int8: bool = False) -> AccuracyRecord:
    """Return what a search folder holds of an accuracy model.

    Args:
        accuracy: the model.
        source: the user's choice.
        int8: True if the network is used in int8.
    """
    percent = accuracy_quantity(accuracy).unit == "%"
    note = accuracy.note
    if int8 and accuracy.dtype != DTYPES["int8"]:
        note = "; ".join(filter(None, (note, INT8_NOTE)))
    return AccuracyRecord(source=source or "built in", label=accuracy.label, note=note, percent=percent)


def _copy_networks(latency: LatencySource, lut: Path, out: Path) -> None:
    """Copy the whole networks measured for a table, each with the table's sum, into a search folder."""
    copy = out / "networks.csv"
    copy.unlink(missing_ok=True)
    table, context = latency.lut, latency.context
    if table is None or context is None or not is_table(latency):
        return
    if lut.is_file() and networks_path(lut).is_file():
        write_networks(copy, context, table.with_sums(read_networks(networks_path(lut), context)))


def _try_report(out: Path) -> None:
    """Write the report of a folder; log the reason if that is not possible."""
    from ofa_core.search.report import write_report

    try:
        write_report(out, out / "report.html")
    except OfaError as error:
        _log.warning("%s", error)
