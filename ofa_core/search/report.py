"""`report.html`: what a search found, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from ofa_core.atomic import write_text
from ofa_core.context import Context
from ofa_core.html_page import figure_html, page, plotly_script, section
from ofa_core.search.figures import blocks_figure, front_figure, measured_figure
from ofa_core.search.folder import SearchFolder, read_folder

__all__ = ["write_report"]


def write_report(folder: Path, path: Path) -> None:
    """Draw a search's report.

    Args:
        folder: what `ofa-search` wrote; nothing else is read.
        path: the HTML file; it appears whole or not at all.

    Raises:
        FormatError: if the folder is not that of a search.
        OfaError: if plotly is not installed, naming the extra that brings it.
    """
    data = read_folder(folder)
    script = plotly_script()
    title, parts = _body(data)
    write_text(path, page(title, parts, script))


def _body(data: SearchFolder) -> tuple[str, list[str]]:
    latency = data.record["latency"]
    context = latency["context"]
    kept = "measured within" if data.record["measured"] else "predicted within"
    device = context["device"] if context else latency["label"]
    title = f"{data.space.name} on {device}: {kept} {data.limit_ms:g} ms"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_subtitle(data))}</p>",
        f'<div class="cards">{"".join(_cards(data))}</div>',
        section("What these numbers are", "", f"<ul>{''.join(f'<li>{x}</li>' for x in _labels(data))}</ul>"),
        section(
            "Accuracy against latency",
            "Each point of the front is the most accurate sub-net found at its latency. Hover for its architecture; "
            "drag to zoom, double-click to go back.",
            figure_html(front_figure(data), "front"),
        ),
        _measured_section(data),
    ]
    if data.layers:
        total = sum(layer.latency_ms for layer in data.layers)
        parts.append(
            section(
                "Where the winner's time goes",
                f"Latency of each layer as the table has it, {total:.4g} ms in sum, not calibrated. "
                "Colours are stages; grey layers are in every sub-net.",
                figure_html(blocks_figure(data.layers), "blocks", zoom=False),
            )
        )
    parts.append(section("Details", "", _table(_details(data))))
    parts.append(f"<footer>{escape(_versions(data))}</footer>")
    return title, parts


def _measured_section(data: SearchFolder) -> str:
    title = "Predicted against measured"
    figure = measured_figure(data)
    if figure is None:
        return section(title, "No whole network was measured: there is nothing to hold the predictions against.", "")
    text = "Whole networks on the device. Points below the line were faster than predicted."
    if data.trials:
        text += " Candidates are drawn at the latency predicted when each was chosen, before it corrected anything."
    return section(title, text, figure_html(figure, "measured"))


def _subtitle(data: SearchFolder) -> str:
    context = data.record["latency"]["context"]
    if context is None:
        return "how the networks were measured is not known"
    how = Context(**context)
    threads = f"{how.threads} thread{'s' if how.threads != 1 else ''}"
    parts = [f"{how.runtime} {how.backend_version}".strip(), threads, f"batch {how.batch_size}"]
    return ", ".join(part for part in parts if not part.startswith("unknown"))


def _cards(data: SearchFolder) -> Iterable[str]:
    record, best = data.record, data.best
    measured = record["measured"]
    if measured:
        note = f"90 % within {_ms(measured['low_ms'])} to {_ms(measured['high_ms'])} ms, the slower of two sessions"
        yield _card("Measured latency", f"{_ms(measured['latency_ms'])} ms", note, main=True)
    interval = (
        f"90 % within {_ms(best.low_ms)} to {_ms(best.high_ms)} ms"
        if best.low_ms is not None and best.high_ms is not None
        else "error unknown"
    )
    yield _card("Predicted latency", f"{_ms(best.predicted_ms)} ms", interval, main=not measured)
    if data.percent:
        yield _card("Predicted top-1", f"{best.top1:.2f} %", record["accuracy"]["label"])
    else:
        yield _card("Score", f"{best.top1:.2f}", f"{record['accuracy']['label']}, not an accuracy")
    yield _card("MACs", f"{_millions(record['mmacs'])} M", "one image")
    yield _card("Parameters", f"{record['params_m']:.2f} M", "float32: " + f"{4 * record['params_m']:.1f} MB")
    if record["energy_mj"] is not None:
        yield _card("Predicted energy", f"{record['energy_mj']:.3g} mJ", "per batch, above idle")
    yield _card("Input", f"{record['arch']['r'][0]} px", f"{sum(record['arch']['d'])} searchable blocks")


def _ms(value: float) -> str:
    """Milliseconds with three or four digits that mean something."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _millions(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _card(name: str, value: str, more: str, *, main: bool = False) -> str:
    return (
        f'<div class="card{" main" if main else ""}"><div class="name">{escape(name)}</div>'
        f'<div class="value">{escape(value)}</div><div class="more">{escape(more)}</div></div>'
    )


def _labels(data: SearchFolder) -> Iterable[str]:
    record = data.record
    measured, latency, accuracy = record["measured"], record["latency"], record["accuracy"]
    if measured:
        yield (
            f"<b>Latency was measured</b> on the device: the winner in two sessions, and the upper end of its 90 % "
            f"interval is within the limit in both. {measured['n_networks']} networks were measured in "
            f"{measured['n_rounds']} round{'s' if measured['n_rounds'] != 1 else ''}."
        )
        if not measured["converged"]:
            yield "The rounds ran out before the search was sure that nothing more accurate holds the limit."
    else:
        yield "<b>Latency is a prediction.</b> The winner was not measured; it may break the limit on the device."
    yield f"Prediction of latency: {escape(latency['note'])}."
    if accuracy["percent"]:
        yield f"<b>Accuracy is a predictor's</b> ({escape(accuracy['label'])}): {escape(accuracy['note'])}."
    else:
        yield f"<b>There is no accuracy here.</b> The score ({escape(accuracy['label'])}): {escape(accuracy['note'])}."
    if record["weights"]:
        yield f"The exported network has the weights of {escape(record['weights'])}, not fine-tuned."
    else:
        yield "The exported network has random weights: its latency is real, its outputs mean nothing."


def _details(data: SearchFolder) -> Iterable[tuple[str, str]]:
    record = data.record
    latency = record["latency"]
    context, calibration = latency["context"], latency["calibration"]
    yield "Winner", f"<code>{escape(data.best.network)}</code>"
    yield "Limit", _limits(record)
    if context:
        yield "Device", escape(str(context["device"]))
        yield "Measured with", escape(_subtitle(data)) + _pinned(context)
        yield "Statistic and clock", escape(f"{context['statistic']}, {context['clock']} time, {context['dtype']}")
    yield "Latency from", f"<code>{escape(str(latency['lut']))}</code>"
    if latency["n_filled"]:
        yield "Blocks estimated", f"{latency['n_filled']} that the table lacks"
    if calibration is None and latency["calibrated"]:
        yield "Predictor", escape(latency["label"])
    elif calibration is None:
        yield "Calibration", "none: no whole networks beside the table"
    else:
        yield (
            "Calibration",
            f"sum \u00d7 {calibration['scale']:.4f}"
            + _per("layer", calibration["per_block_ms"])
            + _per("million parameters", calibration["per_mparam_ms"])
            + f", on {calibration['n_networks']} networks",
        )
        left_out = f"{100 * calibration['loo_mape']:.2f} % mean, left out one by one"
        bias = f"raw bias {100 * calibration['raw_bias']:+.1f} %, Spearman {calibration['spearman']:.4f}"
        yield "Calibration error", f"{left_out}; {bias}"
    if latency["correction"] is not None:
        yield "Correction near the limit", f"\u00d7 {latency['correction']:.4f}, from the networks measured there"
    yield "Accuracy", escape(f"{record['accuracy']['label']} ({record['accuracy']['source']})")
    yield "Resolutions searched", escape(f"{', '.join(map(str, record['resolutions']))} px")
    if record["left_out_px"]:
        yield "Left out", escape(f"{', '.join(map(str, record['left_out_px']))} px: the accuracy is unknown there")
    yield "Search", f"{record['n_evaluated']:,} sub-nets evaluated in {record['seconds']:.1f} s, seed {record['seed']}"


def _per(what: str, ms: float) -> str:
    return f" {'+' if ms > 0 else chr(0x2212)} {abs(ms):.3g} ms per {what}" if ms else ""


def _limits(record: Any) -> str:
    context = record["latency"]["context"]
    parts = [f"{record['limit_ms']:g} ms per batch{' of ' + str(context['batch_size']) if context else ''}"]
    units = {"mmacs": "M MACs", "params_m": "M parameters", "energy_mj": "mJ above idle"}
    parts += [f"{value:g} {units.get(name, name)}" for name, value in record["limits"].items()]
    if record["confidence"] is not None:
        parts.append(f"with probability {record['confidence']:g}")
    return escape(", ".join(parts))


def _pinned(context: Any) -> str:
    return f", cores {escape(str(context['cpus']))}" if context["cpus"] else ""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><th>{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)}</table>"


def _versions(data: SearchFolder) -> str:
    return ", ".join(f"{name} {number}" for name, number in data.record["versions"].items())
