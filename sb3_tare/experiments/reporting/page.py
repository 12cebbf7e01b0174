"""A report as one HTML page that holds its pictures and asks for nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #444; font-size: .92rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; vertical-align: bottom; } .text { text-align: left; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Picture:
    """An SVG picture.

    :param svg: the file
    :param name: of the file, without suffix
    :param alternative: what it shows, for who cannot see it
    :param caption: below it
    """

    svg: bytes
    name: str
    alternative: str
    caption: str


def page(title: str, blocks: Iterable[str]) -> str:
    """The whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join([f"<h1>{escape(title)}</h1>", *blocks])
        + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def bullets(items: Sequence[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def preformatted(text: str) -> str:
    """Text that keeps its lines."""
    return f"<pre>{escape(text)}</pre>"


def figure(picture: Picture) -> str:
    """A picture, embedded."""
    data = base64.b64encode(picture.svg).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.alternative)}">'
    return f"<figure>{image}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys, which head the columns; text stands left and numbers right."""

    def cell(tag: str, key: str, value: Any) -> str:
        side = ' class="text"' if isinstance(rows[0][key], str) else ""
        return f"<{tag}{side}>{escape(number(value))}</{tag}>"

    head = "".join(cell("th", key, key) for key in rows[0])
    body = "".join(f"<tr>{''.join(cell('td', key, value) for key, value in row.items())}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: Any) -> str:
    """A number as short text: no decimals from 100 on, four figures below; a dash for what is not there."""
    if value is None or value != value:  # NaN
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)
