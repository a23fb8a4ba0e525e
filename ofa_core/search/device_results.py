"""Describe the devices of a search for its folder: how each is predicted, and the networks on each.

A search for several devices, and `--beside TABLE`, both end here: each device has a `DeviceRecord`, and a `DeviceRow`
for every network of the report.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_to_dict
from ofa_core.calibration import Calibration
from ofa_core.genomes import decode
from ofa_core.search.fleet import Member, device_latency
from ofa_core.search.quantity import latency_quantity
from ofa_core.search.result_folder import measured_record
from ofa_core.search.result_schema import CalibrationRecord, DeviceRecord, DeviceRow, LatencyRecord
from ofa_core.search.run import SearchResult
from ofa_core.search.saved import SearchFolder
from ofa_core.search.steps import LatencySource
from ofa_core.space import Space

__all__ = ["device_record", "device_rows", "latency_record", "rows_of", "with_devices"]

_log = logging.getLogger(__name__)


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


def device_rows(
    name: str, latency: LatencySource, space: Space, archs: Iterable[Arch], factor: float = 1.0
) -> list[DeviceRow]:
    """Predict networks on a device; those at resolutions that it does not support are left out.

    Args:
        name: name of the device.
        latency: its latency predictor.
        space: space of the networks.
        archs: the networks.
        factor: correction of the prediction by measurements.
    """
    given = list(dict.fromkeys(archs))
    known = [arch for arch in given if arch.resolution_px in latency.resolutions]
    if len(known) < len(given):
        _log.warning(
            "%s: %d of %d networks have resolutions whose blocks the file lacks; add --fill to estimate them",
            name,
            len(given) - len(known),
            len(given),
        )
    if not known:
        return []
    ms = factor * latency.predict(known)
    low, high = (factor * bound for bound in latency.predict_interval(known))
    table = latency.lut
    block_ms = None if table is None else table.block_ms(sorted({arch.resolution_px for arch in known}))
    return [
        DeviceRow(
            device=name,
            arch=arch_to_dict(arch, space),
            latency_ms=float(ms[i]),
            low_ms=float(low[i]) if isfinite(low[i]) else None,
            high_ms=float(high[i]) if isfinite(high[i]) else None,
            blocks_ms=[]
            if block_ms is None
            else [float(f"{block_ms(block, arch.resolution_px):.6g}") for block in space.layout(arch).blocks],
        )
        for i, arch in enumerate(known)
    ]


def rows_of(result: SearchResult, first: Member, others: Sequence[Member]) -> list[DeviceRow]:
    """Predict the networks of a search on all its devices; return nothing if there is only the first."""
    if not others:
        return []
    archs = [*decode(result.space, result.front.genomes), *(candidate.arch for candidate in result.candidates)]
    archs += [answer.best.arch for answer in result.answers]
    return [
        row
        for m in (first, *others)
        for row in device_rows(m.name, m.latency, result.space, archs, 1.0 if m.loop is None else m.loop.factor)
    ]


def with_devices(folder: SearchFolder, members: Sequence[Member]) -> SearchFolder:
    """Return a search folder with further devices, which predict all its networks."""
    archs = [net.arch for net in (*folder.front.networks, *folder.candidates)]
    rows = dict(folder.device_rows)
    for member in members:
        for row in device_rows(member.name, member.latency, folder.space, archs):
            rows[member.name, folder.network_of(row)] = row
    devices = [*folder.record.devices, *map(device_record, members)]
    return replace(folder, record=replace(folder.record, devices=devices), device_rows=rows)
