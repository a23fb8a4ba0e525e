"""The data of a search's report, as JSON values that `ofa_core/web/search.js` draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from ofa_core.arch_json import ARCH_SCHEMA, arch_from_dict, arch_to_dict
from ofa_core.html_page import equal_line, points
from ofa_core.measured_networks import Network
from ofa_core.search.memory import element_bytes
from ofa_core.search.page_devices import PageDevices
from ofa_core.search.result_folder import layers_of
from ofa_core.search.result_schema import Layer
from ofa_core.search.saved import SavedNetwork, SearchFolder
from ofa_core.space_record import space_fields

__all__ = ["Point", "page_data", "points_of"]

HEAD = {
    "first_conv": "first convolution",
    "final_expand": "final expansion",
    "avg_pool": "global pooling",
    "feature_mix": "feature convolution",
}


def page_data(folder: SearchFolder) -> dict[str, Any]:
    """Return everything that the report draws and offers as a download."""
    record, space = folder.record, folder.space
    blocks, devices = _Blocks(folder), PageDevices(folder)
    names = ["latency_ms", "top1", "mmacs", "params_m", "energy_mj", *(q.name for q in record.quantities)]
    names += [device.quantity for device in devices.all]
    cost, objective = (folder.described(name) for name in (record.cost, record.objective))
    limit = record.limit_ms if record.cost == "latency_ms" else record.limits.get(record.cost)
    return {
        "cost": asdict(cost),
        "objective": asdict(objective),
        "quantities": [asdict(folder.described(name)) for name in dict.fromkeys(names)],
        "limit": limit,
        "devices": devices.shown(),
        "networks": list(_networks(folder, blocks, devices)),
        "blocks": blocks.rows,
        "stages": [{"width": s.width, "max_depth": s.max_depth} for s in space.stages],
        "named": {"schema": ARCH_SCHEMA, **space_fields(space)},
        "measured": _measured(folder),
    }


# ---- networks and their layers ---------------------------------------------------------------------------------------


class _Blocks:
    """Collects distinct layers, which the networks share."""

    def __init__(self, folder: SearchFolder) -> None:
        self.rows: list[dict[str, Any]] = []
        self._folder = folder
        self._bytes = element_bytes(folder.record.latency.context)
        self._places: dict[str, int] = {}

    def layers(self, network: SavedNetwork) -> list[tuple[str, int]]:
        """Return the name and the place in `rows` of each layer."""
        layout = self._folder.space.layout(network.arch)
        named = layers_of(self._folder.space, network.arch, [0.0] * len(layout.blocks))
        out = []
        for layer, block in zip(named, layout.blocks, strict=True):
            row = _block_row(layer, self._bytes * block.activation_elements)
            key = str(row)
            if key not in self._places:
                self._places[key] = len(self.rows)
                self.rows.append(row)
            out.append((HEAD.get(layer.name, layer.name), self._places[key]))
        return out


def _block_row(layer: Layer, memory_bytes: int) -> dict[str, Any]:
    stage, _, block = layer.name.partition(".")
    searchable = stage.isdigit() and block.isdigit()
    shape = f"{layer.in_px} px \u00d7 {layer.in_c} \u2192 {layer.out_px} px \u00d7 {layer.out_c}"
    if layer.mid_c:
        shape += f", {layer.mid_c} inside, kernel {layer.kernel_px}{', SE' if layer.se else ''}"
    return {
        "title": f"k{layer.kernel_px} \u00b7 {layer.mid_c} ch" if searchable else "",
        "stage": int(stage) - 1 if searchable else None,
        "shape": shape,
        "macs": layer.macs,
        "params": layer.params,
        "memory": memory_bytes,
    }


def _networks(folder: SearchFolder, blocks: _Blocks, devices: PageDevices) -> Iterator[dict[str, Any]]:
    """Yield the front by ascending cost, the candidates, the best of other devices, and the winner last, on top."""
    record, winner = folder.record, folder.best
    latencies = {str(net.arch): net.blocks_ms for net in folder.front.networks}
    for i, net in enumerate(folder.front.networks):
        yield _network(folder, net, "front", f"Front, {i + 1} of {len(folder.front.networks)}", blocks, devices)
    for i, net in enumerate(folder.candidates[1:]):
        found = SavedNetwork(net.values, net.arch, net.low_ms, net.high_ms, latencies.get(str(net.arch), ()))
        answer = devices.answers.get(found.network)
        title = f"Candidate {i + 2}" if answer is None else f"Best for {answer.name}"
        yield _network(folder, found, "candidate", title, blocks, devices)
    yield from _other_answers(folder, blocks, devices)
    own = {"mmacs": record.mmacs, "params_m": record.params_m, "energy_mj": record.energy_mj}
    values = {name: value for name, value in own.items() if value is not None}
    values |= {q.name: q.value for q in record.quantities} | dict(winner.values)
    layers_ms = tuple(layer.latency_ms for layer in folder.layers)
    best = SavedNetwork(values, winner.arch, winner.low_ms, winner.high_ms, layers_ms)
    answer = devices.answers.get(best.network)
    title = "Winner" if answer is None else f"Winner: best for {answer.name}"
    yield _network(folder, best, "winner", title, blocks, devices)


def _other_answers(folder: SearchFolder, blocks: _Blocks, devices: PageDevices) -> Iterator[dict[str, Any]]:
    """Yield the best networks of devices that are no candidates of the first device."""
    listed = {net.network for net in folder.candidates}
    for network, answer in devices.answers.items():
        row = folder.device_rows.get((devices.all[0].name, network))
        if network not in listed and row is not None:
            values = {**answer.values, **devices.latencies(network)}
            net = SavedNetwork(values, arch_from_dict(row.arch, folder.space), row.low_ms, row.high_ms)
            yield _network(folder, net, "candidate", f"Best for {answer.name}", blocks, devices)


def _network(
    folder: SearchFolder, net: SavedNetwork, role: str, title: str, blocks: _Blocks, devices: PageDevices
) -> dict[str, Any]:
    on = devices.on_each(net)
    arch = arch_to_dict(net.arch, folder.space)
    layout = folder.space.layout(net.arch)
    firsts = list(accumulate(net.arch.depths, initial=0))[:-1]
    sizes = {
        "mmacs": sum(block.macs for block in layout.blocks) / 1e6,
        "params_m": sum(block.params for block in layout.blocks) / 1e6,
    }
    return {
        "role": role,
        "title": title,
        "text": str(net.arch),
        "values": {**sizes, **net.values, **devices.latencies(net.network)},
        "arch": {name: arch[name] for name in ("ks", "e", "d", "r")},
        "stage_px": [layout.searchable[i].out_px for i in firsts],
        "on": on,
        "layers": blocks.layers(net) if any("layers" in (one or {}) for one in on) else [],
    }


# ---- measured against predicted --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """A whole network: predicted and measured latency in ms, and the measurement's interval if it is known."""

    predicted_ms: float
    measured_ms: float
    network: str
    low_ms: float | None = None
    high_ms: float | None = None
    winner: bool = False


def points_of(networks: Iterable[Network], folder: SearchFolder) -> list[Point]:
    """Return networks measured for the table, predicted by its sum or the calibrated sum."""
    calibration = folder.record.latency.calibration
    points = []
    for net in networks:
        if net.sum_ms is None:
            continue
        predicted = net.sum_ms
        if calibration is not None:
            predicted = float(calibration.predict(net.sum_ms, net.n_blocks, net.mparams))
        points.append(Point(predicted, net.latency_ms, str(net.arch)))
    return points


def _trials(folder: SearchFolder) -> list[Point]:
    """Return the networks measured in the closed loop, each with its slowest measurement."""
    slowest: dict[str, Point] = {}
    for row, network in folder.trials:
        point = Point(row.predicted_ms, row.latency_ms, network, row.low_ms, row.high_ms, row.winner == 1)
        if network not in slowest or row.high_ms > (slowest[network].high_ms or 0):
            slowest[network] = point
    return list(slowest.values())


def _measured(folder: SearchFolder) -> dict[str, Any] | None:
    """Return the plot of measured against predicted latency of whole networks; None without measurements."""
    trials = _trials(folder)
    reference, verified = (
        points_of([net for net in folder.networks if net.role == role], folder) for role in ("reference", "verify")
    )
    groups = (
        ("calibration networks", reference, "grey", "ring", 3.5),
        ("verification networks", verified, "green", "circle", 4),
        ("candidates measured", trials, "orange", "diamond", 5.5),
        ("winner", [point for point in trials if point.winner], "orange", "star", 10),
    )
    every = [point for _, points, *_ in groups for point in points]
    if not every:
        return None
    low = 0.95 * min(min(p.predicted_ms, p.measured_ms) for p in every)
    high = 1.05 * max(max(p.predicted_ms, p.measured_ms) for p in every)
    series = [*_diagonal(folder, low, high), *(_group(*group) for group in groups if group[1])]
    limit_ms, guides = folder.record.limit_ms, []
    if limit_ms is not None:
        guides.append({"axis": "y", "value": limit_ms, "text": f"limit {limit_ms:g} ms", "colour": "var(--red)"})
    return {"series": series, "guides": guides}


def _diagonal(folder: SearchFolder, low: float, high: float) -> Iterator[dict[str, Any]]:
    """Yield the 90 % interval around exact predictions, and their line."""
    calibration = folder.record.latency.calibration
    if calibration is not None:
        margin = calibration.margin_90
        corners = [[low, low * margin], [high, high * margin], [high, high / margin], [low, low / margin]]
        name = f"90 % interval (\u00b1{100 * (margin - 1):.1f} %)"
        yield {"kind": "band", "name": name, "colour": "var(--band)", "points": corners}
    yield equal_line("measured = predicted", "blue", (low, high))


def _group(name: str, networks: Sequence[Point], colour: str, shape: str, size: float) -> dict[str, Any]:
    drawn = []
    for p in networks:
        error = 100 * (p.predicted_ms / p.measured_ms - 1)
        text = f"{name}\npredicted {p.predicted_ms:.4g} ms, measured {p.measured_ms:.4g} ms\nerror {error:+.1f} %\n"
        point: dict[str, Any] = {"x": p.predicted_ms, "y": p.measured_ms, "network": p.network}
        point["text"] = text + p.network.replace(" ", "\n")
        if p.low_ms is not None and p.high_ms is not None:
            point |= {"low": p.low_ms, "high": p.high_ms}
        drawn.append(point)
    return points(name, colour, shape, size, drawn)
