"""The page in a real browser: light and dark, on a phone, without network, by keyboard and for screen readers."""

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from test_gallery import files, keep  # noqa: F401, a fixture
from test_report import report, study

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not seen by a browser")

PHONE, DESK = 360, 1100
"""Widths in CSS pixels."""

LOOK = """
function look() {
  const page = document.querySelector("iframe"), inside = page.contentDocument, view = page.contentWindow;
  const all = (what) => [...inside.querySelectorAll(what)];
  const colour = (element, which) => view.getComputedStyle(element)[which].match(/[0-9.]+/g).slice(0, 3).map(Number);
  const focused = all("a[href], [tabindex='0']").filter((element) => {
    element.focus();
    return inside.activeElement === element;
  });
  const pictures = all("figure svg[role=img]");
  const found = {
    language: inside.documentElement.lang,
    headings: all("h1, h2, h3").map((heading) => Number(heading.tagName[1])),
    width: inside.documentElement.scrollWidth,
    background: colour(inside.body, "backgroundColor"),
    text: colour(inside.querySelector("h1"), "color"),
    drawn: pictures.map((picture) => colour(picture, "fill")),
    unnamed: all("svg[role=img], [tabindex]").filter((each) => !each.getAttribute("aria-label")).length,
    unfocusable: all("a[href], [tabindex='0']").length - focused.length,
    scrolling: all(".scroll").filter((each) => each.scrollWidth > each.clientWidth && each.tabIndex !== 0).length,
    broken: all("[*|href]").map((each) => each.getAttribute("href") ?? each.getAttribute("xlink:href"))
      .filter((target) => !inside.getElementById(target.slice(1)) && !target.startsWith("data:")).length,
    frames: all("figure svg image").filter((each) => each.getBoundingClientRect().width > 30).length,
    doubled: all("[id]").length - new Set(all("[id]").map((each) => each.id)).size,
    pixels: pictures.map((picture) => picture.getBoundingClientRect().width / picture.viewBox.baseVal.width),
    requests: view.performance.getEntriesByType("resource").filter((each) => !each.name.startsWith("data:")).length,
  };
  document.body.replaceChildren(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(found)}));
}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, files) -> str:  # noqa: F811, a fixture
    """With a gallery."""
    folder = tmp_path_factory.mktemp("study")
    study(folder)
    return report(keep(folder, files, seeds=3))


def seen(page: str, folder, width: int = DESK, dark: bool = False) -> dict:
    """What the browser makes of the page."""
    frame = f'<iframe onload="look()" width="{width}" height="2000" style="border: 0" srcdoc="{html.escape(page)}"></iframe>'
    (folder / "look.html").write_text(f"<!DOCTYPE html><meta charset='utf-8'><body><script>{LOOK}</script>{frame}</body>")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1400,2000",
        "--virtual-time-budget=5000",
    ]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--user-data-dir={folder}/profile", "--dump-dom"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", (folder / "look.html").as_uri()]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search("<pre>(.*?)</pre>", told, re.DOTALL)[1]))


def contrast(one: list[float], other: list[float]) -> float:
    """Contrast of two colours (WCAG 2.2)."""

    def luminance(colour):
        parts = [part / 255 for part in colour]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))

    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_light_and_dark_are_the_readers_choice_and_the_pictures_follow(page, tmp_path):
    light, dark = seen(page, tmp_path), seen(page, tmp_path, dark=True)
    assert light["background"] > light["text"]
    assert dark["background"] < dark["text"]
    for found in (light, dark):
        assert contrast(found["text"], found["background"]) > 7
        assert found["drawn"] == [found["text"]] * len(found["drawn"]) != []


def test_a_phone_shows_the_page_without_scrolling_sideways_and_text_in_pictures_stays_readable(page, tmp_path):
    found = seen(page, tmp_path, PHONE)
    assert found["width"] <= PHONE
    assert min(found["pixels"]) > 0.95  # of a pixel for a point: labels of 10 points have 9.5 pixels or more


def test_nothing_is_asked_for_and_nothing_is_missing(page, tmp_path):
    found = seen(page, tmp_path)
    assert (found["requests"], found["broken"], found["doubled"]) == (0, 0, 0)
    assert found["frames"] >= 8


def test_keyboards_and_screen_readers_reach_everything(page, tmp_path):
    found = seen(page, tmp_path, PHONE)
    assert found["language"] == "en"
    assert found["headings"][0] == 1
    assert found["headings"].count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(found["headings"]))
    assert (found["unnamed"], found["unfocusable"], found["scrolling"]) == (0, 0, 0)
