"""A report as one HTML page that asks for nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sb3_tare.experiments.reporting.pictures import scrolling
from sb3_tare.experiments.reporting.style import STYLE


def page(study: str, about: str, beginning: Iterable[str], sections: Mapping[str, Sequence[str]]) -> str:
    """The whole page.

    :param study: its name
    :param about: what it compares
    :param beginning: what a reader sees first
    :param sections: blocks by the heading above them
    """
    links = "".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>Study {escape(study)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<p class="study">Study {escape(study)}</p>\n<h1>{escape(about)}</h1>\n'
        + "\n".join([*beginning, f'<nav aria-label="Sections"><ul>{links}</ul></nav>'])
        + "".join(_section(title, blocks) for title, blocks in sections.items())
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, blocks: Sequence[str]) -> str:
    anchor = _anchor(title)
    heading = f'<h2 id="{anchor}">{escape(title)}</h2>'
    return "\n".join([f'\n<section aria-labelledby="{anchor}">', heading, *blocks, "</section>"])


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def subheading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, kind: str | None = None) -> str:
    """A paragraph of plain text.

    :param kind: a class of the style
    """
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def bullets(items: Sequence[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def preformatted(text: str, label: str) -> str:
    """Text that keeps its lines.

    :param label: its name for who cannot see it
    """
    return f'<pre role="group" tabindex="0" aria-label="{escape(label)}">{escape(text)}</pre>'


def table(rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """Rows with the same keys, which head the columns; text stands left and numbers right.

    :param label: the table's name for who cannot see it
    """

    def cell(key: str, value: Any, scope: str | None = None) -> str:
        side = ' class="text"' if isinstance(rows[0][key], str) else ""
        tag = f'th scope="{scope}"' if scope else "td"
        return f"<{tag}{side}>{escape(number(value))}</{tag[:2]}>"

    first = next(iter(rows[0]))
    head = "".join(cell(key, key.strip(), "col") for key in rows[0])
    body = "".join(
        f"<tr>{''.join(cell(key, value, 'row' if key == first else None) for key, value in row.items())}</tr>" for row in rows
    )
    return scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", label)


def number(value: Any) -> str:
    """A number as short text: no decimals from 100 on, four figures below; a dash for what is not there."""
    if value is None or value != value:  # NaN
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)
