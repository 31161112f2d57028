"""The report in a real browser: it loads by itself, shows everything, and fits a telephone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from browsing import Browser
from medrobust.core import Task
from medrobust.report.context import ReportContext
from medrobust.report.html import render


@pytest.mark.parametrize("width", [390, 1360])
def test_it_opens_offline_without_complaint(browser: Browser, report: Path, width: int) -> None:
    browser.load(report, width)
    images = browser.value(
        "Promise.all([...document.images].map("
        "image => image.decode().then(() => image.naturalWidth, () => 0)))"
    )
    assert len(images) >= 3
    assert all(images)
    assert browser.value("document.documentElement.scrollWidth") <= width
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(address.startswith(("file:", "data:")) for address in asked)
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in browser.events if event["method"] in complaints] == []


CONTRAST = """
(() => {
  const part = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = c => { const [r, g, b] = part(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const text = [...document.querySelectorAll(
    'p, th, td, li, a, dt, dd, h1, h2, h3, figcaption, caption, .interval')];
  return Math.min(...text.map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_both_modes(browser: Browser, report: Path, scheme: str) -> None:
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.load(report, 1360)
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 22, 28)")
    assert browser.value(CONTRAST) >= 4.5


def test_what_scrolls_can_be_reached_by_keyboard(browser: Browser, report: Path) -> None:
    browser.load(report, 390)
    stuck = browser.value(
        "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).length"
    )
    assert stuck == 0


def test_the_checks_see_a_bad_page(
    browser: Browser, make_context: Callable[[Task], ReportContext], tmp_path: Path
) -> None:
    bad = render(make_context(Task.SEGMENTATION)).replace(
        "</footer>",
        '<img src="https://example.org/a.png" alt="x">'
        '<div style="width: 2000px; color: #ccc"><p>wide</p></div></footer>',
    )
    path = tmp_path / "bad.html"
    path.write_text(bad, encoding="utf-8")
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.load(path, 1360)
    assert browser.value("document.documentElement.scrollWidth") > 1360
    assert browser.value(CONTRAST) < 4.5
    assert any(event["method"] == "Log.entryAdded" for event in browser.events)
