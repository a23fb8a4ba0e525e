"""Make the devices and networks of a comparison: from search folders, from tables, and from the authors' nets.

Like `measuring`, this module knows the predictors, which the rest of the search knows as protocols only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.formats.net_config import read_member
from ofa_core.hub import PREFIX, local_path
from ofa_core.hub_index import Item, read_index
from ofa_core.search.comparison import Cell, Contender, Device, is_same_device, unique_names
from ofa_core.search.limits import Limits, make_problem
from ofa_core.search.saved import read_folder
from ofa_core.search.steps import make_search
from ofa_core.space import Space
from predictors.estimator import as_space
from predictors.loading import LatencyFile, load_accuracy
from predictors.lut import LatencyEstimator

__all__ = ["Entrant", "Wanted", "entrants", "from_folder", "from_table", "nets_of_authors"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entrant:
    """A device, the network that was searched for it, and where they come from.

    Attributes:
        device: the device.
        net: the network.
        place: file or folder.
        accuracy: the accuracy model of the network's top-1.
        model: name of the device in its files.
    """

    device: Device
    net: Contender
    place: str
    accuracy: str
    model: str


@dataclass(frozen=True)
class Wanted:
    """The goal of a search on a table.

    Attributes:
        limit_ms: latency limit.
        space: the space; None for the only one of the table.
        accuracy: accuracy model, as in `load_accuracy`.
        seed: seed of the search.
        fill: True to estimate the blocks of a table that covers no resolution completely.
    """

    limit_ms: float
    space: Space | None = None
    accuracy: str | None = None
    seed: int = 0
    fill: bool = False


def from_folder(folder: Path) -> Entrant:
    """Read a search folder; its table is read again, because it predicts the other networks.

    Raises:
        OfaError: if the folder or its table cannot be read, or its score is no accuracy.
    """
    saved = read_folder(folder)
    record = saved.record
    if not record.accuracy.percent:
        raise OfaError(f"{folder}: {record.accuracy.label} ranks networks only; a comparison needs a top-1 in percent")
    lut = Path(record.latency.lut)
    if not lut.exists():
        raise OfaError(f"{folder}: its latency file {lut} is not there; run this command where the search was run")
    model = lut.stem if record.latency.context is None else record.latency.context.device
    device = Device(model, record.limit_ms, _cells(LatencyFile.read(lut)))
    net = Contender("", model, saved.space, saved.best.arch, saved.best.top1)
    return Entrant(device, net, str(folder), record.accuracy.label, model)


def from_table(lut: Path, wanted: Wanted) -> Entrant:
    """Search a table for its best network.

    Raises:
        OfaError: if the table or the accuracy model does not fit, or no network meets the limit.
    """
    file = LatencyFile.read(lut)
    latency = file.predictor(wanted.space)
    space = as_space(latency.space)
    if not latency.resolutions and wanted.fill:
        latency = file.predictor(space, fill=True)
    if not latency.resolutions:
        raise OfaError(f"{lut} lacks blocks of {space.name} at every resolution; add --fill to estimate them")
    accuracy = load_accuracy(wanted.accuracy, space)
    if wanted.accuracy is not None and wanted.accuracy.startswith("proxy:"):
        raise OfaError(f"{wanted.accuracy} ranks networks only; a comparison needs a top-1 in percent")
    problem, _ = make_problem(space, latency, accuracy, None, Limits(latency_ms=wanted.limit_ms))
    best = make_search(wanted.seed)(problem, ()).best
    model = lut.stem if latency.context is None else latency.context.device
    device = Device(model, wanted.limit_ms, _cells(file))
    return Entrant(device, Contender("", model, space, best.arch, best.top1), str(lut), accuracy.label, model)


def entrants(found: Sequence[Entrant]) -> list[Entrant]:
    """Give devices with equal names their places as well, and name each network after its device."""
    names = unique_names([one.device.name for one in found], [one.place for one in found])
    out = []
    for one, name in zip(found, names, strict=True):
        limit = "" if one.device.limit_ms is None else f", {one.device.limit_ms:g} ms"
        net = replace(one.net, name=f"best for {name}{limit}", device=name)
        out.append(replace(one, device=replace(one.device, name=name), net=net))
    models = {one.accuracy for one in found}
    if len(models) > 1:
        _log.warning("the searches had different accuracy models, so their top-1 differ: %s", "; ".join(sorted(models)))
    return out


def _cells(file: LatencyFile) -> Callable[[Space, Arch], Cell]:
    """Return the latencies of networks of any space by a file; blocks that a table lacks are estimated."""
    predictor = cache(lambda space, fill: file.predictor(space, fill=fill))

    def predicted(space: Space, arch: Arch, *, fill: bool) -> Cell:
        latency: LatencyEstimator = predictor(space, fill)
        (ms,) = latency.predict([arch])
        low_ms, high_ms = (float(bound) if isfinite(bound) else None for (bound,) in latency.predict_interval([arch]))
        return Cell(float(ms), low_ms, high_ms, estimated=fill)

    def cell(space: Space, arch: Arch) -> Cell:
        try:
            return predicted(space, arch, fill=False)
        except OfaError:
            try:
                return predicted(space, arch, fill=True)
            except OfaError as error:
                return Cell(None, why=str(error))

    return cell


def nets_of_authors(found: Iterable[Entrant], named: Sequence[str]) -> list[Contender]:
    """Return the authors' specialised nets for devices that are theirs.

    Args:
        found: devices; those whose names the hub knows get their nets.
        named: names of further devices of the hub.

    Raises:
        OfaError: for a name that the hub does not know.
    """
    items = [item for item in read_index().items if item.kind == "net" and item.device and item.latency_ms]
    known = {item.device for item in items if item.device is not None}
    unknown = [name for name in named if not any(is_same_device(name, device) for device in known)]
    if unknown:
        raise OfaError(f"the hub has no nets for {unknown[0]}; it has nets for {', '.join(sorted(known))}")
    owners = {device: one.device.name for one in found for device in known if is_same_device(one.model, device)}
    further = {device: device for name in named for device in known if is_same_device(name, device)}
    owners = {**further, **owners}
    nets = []
    for item in sorted(items, key=lambda item: (item.device or "", item.latency_ms or 0.0)):
        if item.device in owners:
            try:
                nets.append(_net_of(item, owners[item.device]))
            except OfaError as error:
                _log.warning("the nets of the authors are left out: %s", error)
                return []
    return nets


def _net_of(item: Item, device: str) -> Contender:
    space, arch = read_member(local_path(f"{PREFIX}{item.name}", ("arch",)))
    name = f"authors' net for {item.device}, {item.latency_ms:g} ms"
    return Contender(name, device, space, arch, item.top1 or 0.0, published=True, published_ms=item.latency_ms)
