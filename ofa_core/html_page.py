"""Build a self-contained HTML page: style, sections, and the script of plotly."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from ofa_core.extras import needed_for

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LINE",
    "ORANGE",
    "RED",
    "dress",
    "figure_html",
    "page",
    "plotly_script",
    "section",
]

INK, GREY, LINE = "#1c2733", "#6b7885", "#e4e8ec"
BLUE, ORANGE, GREEN, RED = "#2463a8", "#d9480f", "#2b8a5a", "#b3261e"

STYLE = """
:root { color-scheme: light; --ink: #1c2733; --grey: #5d6975; --line: #e4e8ec; --blue: #2463a8; --orange: #d9480f; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7f9; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h1 ~ h1 { margin-top: 38px; }
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
tr.head td { color: var(--grey); }
th { font-weight: 500; color: var(--grey); width: 34%; }
code { font: 12.5px/1.45 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
footer { color: var(--grey); font-size: 13px; margin-top: 18px; }
@media (max-width: 560px) { main { padding: 18px 10px 32px; } section { padding: 14px 10px 10px; }
  h1 { font-size: 21px; } .cards { grid-template-columns: 1fr 1fr; gap: 8px; } .card .value { font-size: 20px; }
  th { width: 40%; } }
"""


def plotly_script() -> str:
    """Return the script that draws figures.

    Raises:
        MissingPackageError: if plotly is not installed; names the extra.
    """
    with needed_for("the report"):
        from plotly.offline import get_plotlyjs
    return str(get_plotlyjs())


def page(title: str, parts: Iterable[str], script: str) -> str:
    """Return a page.

    Args:
        title: title of the window.
        parts: HTML of the sections, top to bottom.
        script: result of `plotly_script`.
    """
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<script>{script}</script>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, text: str, body: str) -> str:
    """Return a section of a page: title and text (both are escaped here) and HTML."""
    below = f"<p>{escape(text)}</p>" if text else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{below}{body}\n</section>"


def figure_html(figure: Any, name: str, *, zoom: bool = True) -> str:
    """Return a plotly figure as HTML.

    Args:
        figure: the figure.
        name: id that is unique on the page, of letters, digits and `-`.
        zoom: True to zoom by dragging with a mouse; on a touch screen, dragging scrolls the page.
    """
    script = f"if (matchMedia('(pointer: fine)').matches) Plotly.relayout('{name}', {{dragmode: 'zoom'}});"
    config = {"responsive": True, "displayModeBar": False}
    html = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config=config, post_script=script if zoom else None
    )
    return str(html)


def dress(figure: Any, x: str, y: str) -> None:
    """Apply the page's style to a figure, and set the titles of its axes."""
    figure.update_layout(
        height=460,
        margin={"l": 10, "r": 16, "t": 10, "b": 10},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": INK},
        dragmode=False,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "white", "bordercolor": LINE, "font": {"size": 12, "color": INK}, "align": "left"},
    )
    axis = {"gridcolor": LINE, "linecolor": GREY, "zeroline": False, "ticks": "outside", "tickcolor": LINE}
    figure.update_xaxes(title={"text": x, "standoff": 10}, automargin=True, **axis)
    figure.update_yaxes(title={"text": y, "standoff": 10}, automargin=True, **axis)
