"""`report.html`: what a search found, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from ofa_core.atomic import write_text
from ofa_core.errors import OfaError
from ofa_core.search.figures import blocks_figure, front_figure, measured_figure
from ofa_core.search.folder import SearchFolder, read_folder

__all__ = ["write_report"]

STYLE = """
:root { color-scheme: light; --ink: #1c2733; --grey: #5d6975; --line: #e4e8ec; --blue: #2463a8; --orange: #d9480f; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7f9; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0 0 10px; color: var(--grey); }
section, .card { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
section { padding: 18px 18px 14px; margin-top: 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(155px, 1fr)); gap: 12px; margin-top: 18px; }
.card { padding: 12px 14px; }
.card .name { color: var(--grey); font-size: 13px; }
.card .value { font-size: 23px; font-weight: 650; white-space: nowrap; }
.card .more { color: var(--grey); font-size: 12.5px; line-height: 1.35; }
.card.main { border-color: var(--orange); }
.card.main .value { color: var(--orange); }
ul { margin: 4px 0 4px; padding-left: 20px; }
li { margin: 3px 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px 6px 0; border-top: 1px solid var(--line); }
tr:first-child th, tr:first-child td { border-top: 0; }
th { font-weight: 500; color: var(--grey); width: 34%; }
code { font: 12.5px/1.45 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
footer { color: var(--grey); font-size: 13px; margin-top: 18px; }
@media (max-width: 560px) { main { padding: 18px 10px 32px; } section { padding: 14px 10px 10px; }
  h1 { font-size: 21px; } .cards { grid-template-columns: 1fr 1fr; gap: 8px; } .card .value { font-size: 20px; }
  th { width: 40%; } }
"""


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
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise OfaError("the report needs plotly: pip install 'ofa-latency[report]'") from error
    write_text(path, _page(data, get_plotlyjs()))


def _page(data: SearchFolder, script: str) -> str:
    latency = data.record["latency"]
    context = latency["context"]
    kept = "measured within" if data.record["measured"] else "predicted within"
    device = context["device"] if context else latency["label"]
    title = f"{data.space.name} on {device}: {kept} {data.limit_ms:g} ms"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_subtitle(data))}</p>",
        f'<div class="cards">{"".join(_cards(data))}</div>',
        _section("What these numbers are", "", f"<ul>{''.join(f'<li>{x}</li>' for x in _labels(data))}</ul>"),
        _section(
            "Accuracy against latency",
            "Each point of the front is the most accurate sub-net found at its latency. Hover for its architecture; "
            "drag to zoom, double-click to go back.",
            _figure(front_figure(data), "front"),
        ),
        _measured_section(data),
    ]
    if data.layers:
        total = sum(layer.latency_ms for layer in data.layers)
        parts.append(
            _section(
                "Where the winner's time goes",
                f"Latency of each layer as the table has it, {total:.4g} ms in sum, not calibrated. "
                "Colours are stages; grey layers are in every sub-net.",
                _figure(blocks_figure(data.layers), "blocks"),
            )
        )
    parts.append(_section("Details", "", _table(_details(data))))
    parts.append(f"<footer>{escape(_versions(data))}</footer>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<script>{script}</script>\n</head>\n"
        f"<body>\n<main>\n{chr(10).join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _figure(figure: Any, name: str) -> str:
    # Dragging zooms with a mouse only: on a touch screen it scrolls the page.
    zoom = f"if (matchMedia('(pointer: fine)').matches) Plotly.relayout('{name}', {{dragmode: 'zoom'}});"
    config = {"responsive": True, "displayModeBar": False}
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config=config,
        post_script=None if name == "blocks" else zoom,
    )
    return str(html)


def _section(title: str, text: str, body: str) -> str:
    below = f"<p>{escape(text)}</p>" if text else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{below}{body}\n</section>"


def _measured_section(data: SearchFolder) -> str:
    title = "Predicted against measured"
    figure = measured_figure(data)
    if figure is None:
        return _section(title, "No whole network was measured: there is nothing to hold the predictions against.", "")
    text = "Whole networks on the device. Points below the line were faster than predicted."
    if data.trials:
        text += " Candidates are drawn at the latency predicted when each was chosen, before it corrected anything."
    return _section(title, text, _figure(figure, "measured"))


def _subtitle(data: SearchFolder) -> str:
    context = data.record["latency"]["context"]
    if context is None:
        return "how the networks were measured is not known"
    threads = f"{context['threads']} thread{'s' if context['threads'] != 1 else ''}"
    parts = [f"{context['backend']} {context['backend_version']}".strip(), threads, f"batch {context['batch_size']}"]
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
    units = {"mmacs": "M MACs", "params_m": "M parameters"}
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
