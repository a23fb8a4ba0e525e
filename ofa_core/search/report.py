"""`report.html`: the result of a search in one file that needs no other file."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from ofa_core.atomic import write_text
from ofa_core.context import Context
from ofa_core.html_page import card, chart, heading, page, section
from ofa_core.search.console import proof_words
from ofa_core.search.page_data import page_data
from ofa_core.search.quantity import Description
from ofa_core.search.result_schema import CalibrationRecord
from ofa_core.search.saved import SearchFolder, read_folder

__all__ = ["write_page", "write_report"]

OWN_CARDS = ("latency_ms", "top1", "mmacs", "params_m", "energy_mj")
FRONT = """<div class="row" id="axis-row"><label>Horizontal axis <select id="axis"></select></label></div>
<div class="row" id="limit-row"><label>Limit <input type="range" id="limit" min="0" step="1"></label>
<output id="limit-said" for="limit"></output><button id="winner">Back to the winner</button></div>
<div id="front"></div><div id="chosen" aria-live="polite"></div>
<div class="row"><button id="get-arch">Download arch.json</button>
<button id="get-front">Download all networks (CSV)</button>
<button id="get-devices">Download them on each device (CSV)</button></div>"""
LAYERS = """<section id="layers-section"><h2>Layers of the chosen network</h2><p id="layers-text"></p>
<div class="row"><button data-mode="ms">Latency</button><button data-mode="macs">MACs</button>
<button data-mode="memory">Memory</button><button id="get-layers">Download the layers (CSV)</button></div>
<div id="layers"></div></section>"""


def write_report(folder: Path, path: Path) -> None:
    """Write the report of a search.

    Args:
        folder: folder that `ofa-search` wrote; nothing else is read.
        path: the HTML file; it appears whole or not at all.

    Raises:
        FormatError: if the folder is not that of a search.
    """
    write_page(read_folder(folder), path)


def write_page(data: SearchFolder, path: Path) -> None:
    """Write the report of a search that was read."""
    shown = page_data(data)
    layers = any(network["layers"] for network in shown["networks"])
    title, parts = _body(data, layers=layers, measured=shown["measured"] is not None)
    write_text(path, page(title, parts, shown, "search.js"))


def _body(data: SearchFolder, *, layers: bool, measured: bool) -> tuple[str, list[str]]:
    """Return the title of the page and its parts."""
    record = data.record
    context = record.latency.context
    device = context.device if context else record.latency.label
    title = f"{data.space.name} on {device}: {_kept(data)}"
    cost, objective = data.described(record.cost), data.described(record.objective)
    parts = [
        heading(title, _subtitle(context)),
        f'<div class="cards">{"".join(_cards(data))}</div>',
        section("Notes", "", f"<ul>{''.join(f'<li>{note}</li>' for note in _notes(data))}</ul>"),
        section(
            f"{_capital(objective.label)} against {cost.label}",
            f"Each point of the front is the best sub-net found at its {cost.label}. Click a point, or move the limit, "
            "to see that network below. Arrow keys and Enter do the same.",
            FRONT,
        ),
        LAYERS if layers else "",
        _measured_section(data, measured=measured),
        section("Details", "", _table([*_details(data), *_device_rows(data)])),
        f"<footer>{escape(', '.join(f'{name} {number}' for name, number in record.versions.items()))}</footer>",
    ]
    return title, parts


def _kept(data: SearchFolder) -> str:
    """Return the first limit in words."""
    record = data.record
    if record.limit_ms is not None:
        return f"{'measured' if record.measured else 'predicted'} within {record.limit_ms:g} ms"
    return next((_limit(data.described(name), limit) for name, limit in record.limits.items()), "best network")


def _measured_section(data: SearchFolder, *, measured: bool) -> str:
    title = "Measured against predicted latency"
    if not measured:
        return section(title, "No whole network was measured, so the predictions are not validated.", "")
    text = "Whole networks on the device. Points below the line are faster than predicted."
    if data.trials:
        text += " Candidates are shown at their predicted latency before any correction by the measurements."
    button = '<div class="row"><button id="get-measured">Download the measurements (CSV)</button></div>'
    return section(title, text, chart("measured") + button)


def _subtitle(context: Context | None) -> str:
    """Return how the networks were measured."""
    if context is None:
        return "measurement settings unknown"
    threads = f"{context.threads} thread{'s' if context.threads != 1 else ''}"
    parts = [f"{context.runtime} {context.backend_version}".strip(), threads, f"batch {context.batch_size}"]
    return ", ".join(part for part in parts if not part.startswith("unknown"))


# ---- cards -----------------------------------------------------------------------------------------------------------


def _cards(data: SearchFolder) -> Iterable[str]:
    record, best = data.record, data.best
    measured, accuracy = record.measured, record.accuracy
    if measured:
        note = f"90 % interval {_ms(measured.low_ms)} to {_ms(measured.high_ms)} ms, slower of two sessions"
        yield card("Measured latency", f"{_ms(measured.latency_ms)} ms", note, main=True)
    interval = "error unknown"
    if best.low_ms is not None and best.high_ms is not None:
        interval = f"90 % interval {_ms(best.low_ms)} to {_ms(best.high_ms)} ms"
    yield card("Predicted latency", f"{_ms(best.predicted_ms)} ms", interval, main=not measured)
    if accuracy.percent:
        yield card("Predicted top-1", f"{best.top1:.2f} %", accuracy.label)
    else:
        yield card("Score", f"{best.top1:.2f}", f"{accuracy.label}, not an accuracy")
    yield card("MACs", f"{_millions(record.mmacs)} M", "per image")
    yield card("Parameters", f"{record.params_m:.2f} M", f"{4 * record.params_m:.1f} MB as float32")
    if record.energy_mj is not None:
        yield card("Predicted energy", f"{record.energy_mj:.3g} mJ", "per batch, above idle")
    yield from _further_cards(data)
    yield card("Input", f"{record.arch.r[0]} px", f"{sum(record.arch.d)} searchable blocks")


def _further_cards(data: SearchFolder) -> Iterable[str]:
    """Return cards of quantities without a card of their own."""
    for quantity in data.record.quantities:
        if quantity.name not in OWN_CARDS:
            words = data.described(quantity.name)
            note = "objective of the search" if quantity.name == data.record.objective else ""
            yield card(_capital(words.label), words.shown(quantity.value).removesuffix(" per batch"), note)


def _ms(value: float) -> str:
    """Return milliseconds with three or four significant digits."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _millions(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- notes -----------------------------------------------------------------------------------------------------------


def _notes(data: SearchFolder) -> Iterable[str]:
    """Return what a reader must know about the numbers, as HTML."""
    record = data.record
    measured, accuracy = record.measured, record.accuracy
    if measured:
        yield (
            "<b>Latency is measured</b> on the device: the winner in two sessions, with the upper bound of its 90 % "
            f"interval within the limit in both. {measured.n_networks} networks were measured in "
            f"{measured.n_rounds} round{'s' if measured.n_rounds != 1 else ''}."
        )
        if not measured.converged:
            yield "The search stopped after the maximum number of rounds; a better network may exist."
    else:
        yield "<b>Latency is predicted.</b> The winner was not measured; it may exceed the limit on the device."
    yield f"Latency prediction: {escape(record.latency.note)}."
    if accuracy.percent:
        yield f"<b>Accuracy is predicted.</b> {escape(accuracy.text)}."
    else:
        yield f"<b>The score is not an accuracy.</b> {escape(accuracy.text)}."
    dtypes = {d.latency.context.dtype for d in record.devices if d.latency.context is not None}
    others = dtypes - {record.latency.context.dtype if record.latency.context is not None else ""}
    if others and record.latency.context is not None:
        yield (
            f"The accuracy is predicted for {escape(record.latency.context.dtype)} networks. Of "
            f"{escape(', '.join(sorted(others)))} networks the report shows latencies only."
        )
    if record.weights:
        yield f"The exported network has weights of {escape(record.weights)}, not fine-tuned."
    else:
        yield "The exported network has random weights: use it to measure latency, not accuracy."


# ---- details ---------------------------------------------------------------------------------------------------------


def _details(data: SearchFolder) -> Iterable[tuple[str, str]]:
    """Return rows of the table of details, as HTML."""
    record = data.record
    latency = record.latency
    context, calibration = latency.context, latency.calibration
    yield "Winner", f"<code>{escape(data.best.network)}</code>"
    yield "Limits", _limits(data)
    if record.optimised != record.objective:
        yield "Optimised", escape(data.described(record.optimised).label)
    if record.proof is not None:
        yield "Proof", escape(proof_words(record.proof, data.described(record.optimised)))
    if context:
        cores = f", cores {context.cpus}" if context.cpus else ""
        yield "Device", escape(context.device)
        yield "Measured with", escape(_subtitle(context) + cores)
        yield "Statistic and clock", escape(f"{context.statistic}, {context.clock} time, {context.dtype}")
    yield "Latency from", f"<code>{escape(latency.lut)}</code>"
    if latency.n_filled:
        yield "Estimated blocks", f"{latency.n_filled}, which the table lacks"
    if calibration is not None:
        yield from _calibration_rows(calibration)
    elif latency.calibrated:
        yield "Predictor", escape(latency.label)
    else:
        yield "Calibration", "none: no whole networks were measured for the table"
    if latency.correction is not None:
        yield "Correction near the limit", f"\u00d7 {latency.correction:.4f}, from the networks measured there"
    yield "Accuracy", escape(f"{record.accuracy.label} ({record.accuracy.source})")
    yield "Resolutions searched", escape(f"{', '.join(map(str, record.resolutions))} px")
    if record.left_out_px:
        yield "Left out", escape(f"{', '.join(map(str, record.left_out_px))} px, not supported by the accuracy model")
    yield "Search", f"{record.n_evaluated:,} sub-nets evaluated in {record.seconds:.1f} s, seed {record.seed}"


def _device_rows(data: SearchFolder) -> Iterable[tuple[str, str]]:
    """Return rows on further devices."""
    for device in data.record.devices:
        latency = device.latency
        estimated = f"; {latency.n_filled} blocks are estimated" if latency.n_filled else ""
        yield f"Latency on {device.name}", f"{escape(latency.note)}, <code>{escape(latency.lut)}</code>{estimated}"


def _calibration_rows(calibration: CalibrationRecord) -> Iterable[tuple[str, str]]:
    terms = _term("layer", calibration.per_block_ms) + _term("million parameters", calibration.per_mparam_ms)
    yield "Calibration", f"sum \u00d7 {calibration.scale:.4f}{terms}, fitted to {calibration.n_networks} networks"
    error = f"{100 * calibration.loo_mape:.2f} % mean leave-one-out error"
    yield (
        "Calibration error",
        f"{error}; raw bias {100 * calibration.raw_bias:+.1f} %, Spearman {calibration.spearman:.4f}",
    )


def _term(per: str, ms: float) -> str:
    return f" {'+' if ms > 0 else chr(0x2212)} {abs(ms):.3g} ms per {per}" if ms else ""


def _limits(data: SearchFolder) -> str:
    record = data.record
    context = record.latency.context
    parts = []
    if record.limit_ms is not None:
        parts.append(f"{record.limit_ms:g} ms per batch{f' of {context.batch_size}' if context else ''}")
    parts += [_limit(data.described(name), value) for name, value in record.limits.items()]
    if record.confidence is not None:
        parts.append(f"with probability {record.confidence:g}")
    parts += [f"fixed {fixed}" for fixed in record.fixed]
    return escape(", ".join(parts))


def _limit(words: Description, value: float) -> str:
    sign = "\u2264" if words.direction == "min" else "\u2265"
    return f"{words.label} {sign} {value:g} {words.unit}".rstrip()


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><th>{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)}</table>"
