"""Build a self-contained HTML page: style, sections, data as JSON, and scripts that draw it.

The scripts and the style are files of `ofa_core/web`. They draw SVG themselves (docs/adr/0009), so a page of 100 kB
needs no other file and no network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["card", "cards", "chart", "equal_line", "heading", "page", "points", "section", "table"]


def page(title: str, parts: Iterable[str], data: Any, script: str) -> str:
    """Return a page.

    Args:
        title: title of the window.
        parts: HTML of the sections, top to bottom.
        data: JSON values that the script draws; NaN and infinity are not allowed.
        script: the page's own file in `ofa_core/web`, which runs after `charts.js`.
    """
    # In a script element only `<` could end it early; in JSON it stands in strings only.
    shown = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{_web('page.css')}</style>\n</head>\n"
        f'<body>\n<main>\n{body}\n</main>\n<script type="application/json" id="data">{shown}</script>\n'
        f"<script>\n{_web('charts.js')}</script>\n<script>\n{_web(script)}</script>\n</body>\n</html>\n"
    )


def _web(name: str) -> str:
    return (files("ofa_core") / "web" / name).read_text(encoding="utf-8")


def heading(title: str, text: str) -> str:
    """Return the head of a page: title and text (both are escaped here), and the place of the theme button."""
    below = f"<p>{escape(text)}</p>" if text else ""
    return f'<header><div><h1>{escape(title)}</h1>{below}</div><div id="theme"></div></header>'


def section(title: str, text: str, body: str) -> str:
    """Return a section of a page: title and text (both are escaped here) and HTML."""
    below = f"<p>{escape(text)}</p>" if text else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{below}{body}\n</section>"


def card(name: str, value: str, more: str, *, main: bool = False) -> str:
    """Return one figure with its name and a note, all plain text; `main` stands out."""
    return (
        f'<div class="card{" main" if main else ""}"><div class="name">{escape(name)}</div>'
        f'<div class="value">{escape(value)}</div><div class="more">{escape(more)}</div></div>'
    )


def cards(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return a row of cards of name, value and note."""
    return f'<div class="cards">{"".join(card(*entry) for entry in entries)}</div>'


def chart(name: str) -> str:
    """Return the place of a chart that the page's script draws; `name` is an id of letters, digits and `-`."""
    return f'<div id="{name}"></div>'


def points(name: str, colour: str, shape: str, size: float, drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """Return points with one name and look, as a series of `drawPlot` in `charts.js`.

    Args:
        name: name in the legend; empty for none.
        colour: name of a colour in `page.css`, such as `blue`.
        shape: `circle`, `ring`, `diamond` or `star`.
        size: radius in pixels.
        drawn: the points, each with `x`, `y` and `text`.
    """
    return {"kind": "points", "name": name, "colour": f"var(--{colour})", "shape": shape, "size": size, "points": drawn}


def equal_line(name: str, colour: str, values: Iterable[float]) -> dict[str, Any]:
    """Return the line on which both axes are equal, from the smallest to the largest value, as a series."""
    ends = (min(known := list(values)), max(known))
    return {"kind": "line", "name": name, "colour": f"var(--{colour})", "points": [[end, end] for end in ends]}


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of plain text, with column titles; it scrolls sideways on a narrow screen."""
    head = "".join(f"<td>{escape(title)}</td>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(field)}</td>' for field in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="grid"><tr class="head">{head}</tr>{body}</table></div>'
