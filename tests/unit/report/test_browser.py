"""The report in a real browser: it loads by itself, shows everything, and fits a telephone."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from browsing import CONTRAST, Browser
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
    assert browser.requests
    assert all(address.startswith(("file:", "data:")) for address in browser.requests)
    assert browser.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_both_modes(browser: Browser, report: Path, scheme: str) -> None:
    browser.colours(scheme)
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
    browser.colours("light")
    browser.load(path, 1360)
    assert browser.value("document.documentElement.scrollWidth") > 1360
    assert browser.value(CONTRAST) < 4.5
    assert browser.complaints


COLUMN = """
[...document.querySelectorAll('#overall table.sortable')[0].tBodies[0].rows]
  .map(row => row.cells[COLUMN].textContent.trim().split(/\\s/)[0])
"""


def test_tables_sort_by_any_column_and_say_so(browser: Browser, report: Path, context: ReportContext) -> None:
    browser.load(report, 1360)
    head = "document.querySelectorAll('#overall table.sortable')[0].tHead.rows[0].cells"
    table = context.tables["table1"]
    names, scores = table["model"].to_list(), [f"{score:.3f}" for score in table["adversarial"]]
    assert browser.value(COLUMN.replace("COLUMN", "3")) == scores
    browser.value(f"{head}[3].querySelector('button').focus()")
    browser.press("Enter")
    browser.value(f"{head}[3].querySelector('button').click()")
    assert browser.value(COLUMN.replace("COLUMN", "3")) == sorted(scores, reverse=True)
    assert browser.value(f"{head}[3].ariaSort") == "descending"
    browser.value(f"{head}[3].querySelector('button').click()")
    assert browser.value(COLUMN.replace("COLUMN", "3")) == sorted(scores)
    browser.value(f"{head}[0].querySelector('button').click()")
    assert browser.value(COLUMN.replace("COLUMN", "0")) == sorted(names)
    assert browser.value(f"[...{head}].map(each => each.ariaSort)")[:4] == ["ascending", None, None, None]


def test_two_lines_of_heads_sort_too(browser: Browser, report: Path, context: ReportContext) -> None:
    browser.load(report, 1360)
    cells = context.tables["table2"]
    first = cells.filter(perturbation=cells["perturbation"][0], source=cells["source"][0])
    browser.value(
        "document.querySelector('table.cross').tHead.rows[1].cells[0].querySelector('button').click()"
    )
    order = browser.value(
        "[...document.querySelector('table.cross').tBodies[0].rows].map(row => row.cells[0].textContent)"
    )
    assert order == first.sort("score", descending=True)["target"].to_list()


def test_it_prints_without_controls(browser: Browser, report: Path) -> None:
    browser.load(report, 1360)
    pdf = base64.b64decode(browser("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    browser("Emulation.setEmulatedMedia", media="print")
    try:
        hidden = browser.value(
            "['nav', '.choices', '.keys'].map(name => getComputedStyle(document.querySelector(name)).display)"
        )
        assert hidden == ["none", "none", "none"]
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        browser("Emulation.setEmulatedMedia", media="")
