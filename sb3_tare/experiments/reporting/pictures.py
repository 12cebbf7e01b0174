"""Pictures of a page: SVG within the page itself, so that they take its colours, light or dark, and can be scaled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from sb3_tare.analysis.drawing import Styles

PIXELS = 4 / 3
"""CSS pixels in a point, the unit in which a picture's file tells its size."""

SMALLEST = 0.72
"""Share of its size to which a picture is scaled down on a narrow screen; below it, it scrolls: text stays readable."""


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


def figure(picture: Picture) -> str:
    """A picture and its caption."""
    return _captioned(embedded(picture), picture.caption)


def panels(pictures: Sequence[Picture], styles: Styles, caption: str) -> str:
    """Pictures side by side, or one below the other where the screen is narrow, with one legend and one caption."""
    shown = "".join(map(embedded, pictures))
    return _captioned(f'<div class="panels">{shown}</div>{_legend(styles)}', caption)


def embedded(picture: Picture) -> str:
    """A picture as an element of the page; its name keeps what it refers to apart from that of other pictures.

    Black is the colour of the page's text and white that of its background.
    """
    text = picture.svg.decode()
    head, inside = re.fullmatch(r".*?<svg ([^>]*)>(.*)</svg>\s*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', head).groups())  # type: ignore[union-attr]
    inside = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = re.sub(r'<g id="[^"]*">', "<g>", inside)
    inside = re.sub(r' id="image[0-9a-f]+"', "", inside)  # equal images have equal ones, and nothing refers to them
    inside = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{picture.name}-", inside)
    inside = inside.replace("#000000", "currentColor").replace("#ffffff", "none")
    size = f"max-width: {width * PIXELS:.0f}px; min-width: {width * PIXELS * SMALLEST:.0f}px"
    label = escape(picture.alternative)
    element = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" style="{size}">{inside}</svg>'
    return scrolling(element, picture.alternative)


def scrolling(element: str, label: str) -> str:
    """An element that scrolls sideways where it is too wide, by keyboard too.

    :param label: its name for who cannot see it
    """
    return f'<div class="scroll" role="group" tabindex="0" aria-label="{escape(label)}">{element}</div>'


def _captioned(element: str, caption: str) -> str:
    return f"<figure>{element}<figcaption>{escape(caption)}</figcaption></figure>"


def _legend(styles: Styles) -> str:
    items = "".join(f"<li>{_line(style)}{escape(name)}</li>" for name, style in styles.items())
    return f'<ul class="legend">{items}</ul>'


def _line(style: Mapping[str, object]) -> str:
    colour, dashes = str(style["color"]), style["linestyle"]
    pattern = f' stroke-dasharray="{" ".join(f"{2 * length:g}" for length in dashes[1])}"' if isinstance(dashes, tuple) else ""
    colour = colour.replace("#000000", "currentColor")
    return (
        f'<svg viewBox="0 0 42 12" aria-hidden="true"><path d="M0 6H42" stroke-width="2.5" stroke="{colour}"{pattern}/></svg>'
    )
