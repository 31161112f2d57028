"""The report in a real browser: it loads by itself, shows everything, and fits a telephone."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import CONTRAST, STUCK, WIDTH, flawless
from medrobust.analysis.table import ABSENT
from medrobust.core import Task
from medrobust.report.page import ONLY_AS_FILES, STORY, render
from medrobust.report.reading import ReportContext

PICTURES = """Promise.all([...document.images].map(
  image => image.decode().then(() => image.naturalWidth, () => 0)))"""


OPEN = "for (const each of document.querySelectorAll('details')) each.open = true"
SIDEWAYS = """[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1
  && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map(e => e.ariaLabel || e.className)"""
"""Boxes that scroll sideways, by their names."""
PAGE = re.compile(rb"/Type\s*/Page\b")
"""A page in a PDF of Chromium's."""


@pytest.mark.parametrize(("window", "width"), [("page", 1200), ("phone", 400)])
def test_it_shows_its_pictures_and_no_box_scrolls_sideways(
    request: pytest.FixtureRequest, report: Path, window: str, width: int
) -> None:
    """Three networks and nine cells, with every question and table unfolded."""
    page: Page = request.getfixturevalue(window)
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(report.as_uri())
    page.evaluate(OPEN)
    images = page.evaluate(PICTURES)
    assert len(images) >= 8
    assert all(images)
    assert page.evaluate(WIDTH) == width
    assert page.evaluate(SIDEWAYS) == []
    assert page.evaluate(STUCK) == 0


def test_the_story_takes_a_few_screens_and_its_sections_stand_in_order(page: Page, report: Path) -> None:
    page.set_viewport_size({"width": 1200, "height": 900})
    page.goto(report.as_uri())
    tops = page.evaluate("[...document.querySelectorAll('section')].map(e => [e.id, e.offsetTop])")
    of_others = ("corrupted", "ladder")  # these studies ask for neither
    assert [name for name, _ in tops] == [*(name for name, _ in STORY if name not in of_others), "appendix"]
    heights = [top for _, top in tops]
    assert heights == sorted(heights)
    assert heights[-1] <= 4 * 900


def test_it_prints_on_at_most_six_pages_and_an_appendix(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    page.evaluate(PICTURES)
    whole = len(PAGE.findall(page.pdf(prefer_css_page_size=True)))
    page.evaluate("document.getElementById('appendix').remove()")
    story = len(PAGE.findall(page.pdf(prefer_css_page_size=True)))
    assert 2 <= story <= 6
    assert whole >= story + 3, "questions are printed open"


def test_a_link_opens_its_question(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    question = page.locator("#success")
    assert question.get_attribute("open") is None
    page.locator("#limits a").click()
    expect(question).to_have_attribute("open", "")
    page.goto("about:blank")
    page.goto(f"{report.as_uri()}#run")
    expect(page.locator("#run")).to_have_attribute("open", "")


def test_every_table_of_the_run_can_be_unfolded(page: Page, report: Path, context: ReportContext) -> None:
    page.goto(report.as_uri())
    for summary in page.locator("details > summary").all():
        page.wait_for_function("true")
        summary.evaluate("e => { e.parentElement.open = true }")
    visible = "[...document.querySelectorAll('[data-table]')].filter(e => e.checkVisibility())"
    shown = page.evaluate(f"{visible}.map(e => e.dataset.table)")
    filled = {name for name, frame in context.tables.items() if frame.height}
    assert filled - {*ONLY_AS_FILES} <= {*shown}


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(16, 22, 28)")])
def test_words_stand_out_in_both_modes(page: Page, report: Path, scheme: str, ground: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(report.as_uri())
    page.evaluate(OPEN)
    expect(page.locator("body")).to_have_css("background-color", ground)
    assert page.evaluate(CONTRAST) >= 4.5


def test_the_checks_see_a_bad_page(
    chromium: Browser, make_context: Callable[[Task], ReportContext], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        render(make_context(Task.SEGMENTATION)).replace(
            "</footer>",
            '<img src="https://example.org/a.png" alt="x">'
            '<div style="overflow-x: auto; width: 20px"><p style="width: 90px">narrow</p></div>'
            '<div style="width: 2000px; color: #ccc"><p>wide</p></div></footer>',
        ),
        encoding="utf-8",
    )
    with (
        pytest.raises(pytest.fail.Exception, match=r"example\.org/a\.png"),
        flawless(chromium.new_page()) as page,
    ):
        page.goto(bad.as_uri())
    with chromium.new_page() as page:
        page.goto(bad.as_uri())
        assert page.evaluate(WIDTH) > 1360
        assert page.evaluate(CONTRAST) < 4.5
        assert page.evaluate(STUCK) == 1


def test_tables_sort_by_any_column_and_say_so(page: Page, report: Path, context: ReportContext) -> None:
    page.goto(report.as_uri())
    shown = page.locator("#overall table.sortable").first
    heads = shown.locator("thead th")

    def column(place: int) -> list[str]:
        cells = shown.locator(f"tbody tr > :nth-child({place + 1})").all_inner_texts()
        return [cell.split()[0] for cell in cells]

    table = context.tables["table1"]
    names, scores = table["model"].to_list(), [f"{score:.3f}" for score in table["adversarial"]]
    assert column(3) == scores
    heads.nth(3).get_by_role("button").press("Enter")
    assert column(3) == sorted(scores, reverse=True)
    assert heads.nth(3).get_attribute("aria-sort") == "descending"
    heads.nth(3).get_by_role("button").click()
    assert column(3) == sorted(scores)
    heads.nth(0).get_by_role("button").click()
    assert column(0) == sorted(names)
    assert [head.get_attribute("aria-sort") for head in heads.all()[:4]] == ["ascending", None, None, None]


def test_undefined_values_stay_last_in_both_orders(
    page: Page, tmp_path: Path, make_context: Callable[[Task], ReportContext]
) -> None:
    context = make_context(Task.SEGMENTATION)
    some = pl.when(pl.col("model") != "unet").then(pl.col("noise")).alias("noise")
    tables = {**context.tables, "table1": context.tables["table1"].with_columns(some)}
    report = tmp_path / "report.html"
    report.write_text(render(replace(context, tables=tables)), encoding="utf-8")
    page.goto(report.as_uri())
    shown = page.locator("#overall table.sortable").first
    for order in ("descending", "ascending"):
        shown.locator("thead th").nth(2).get_by_role("button").click()
        assert shown.locator("thead th").nth(2).get_attribute("aria-sort") == order
        first, second, last = shown.locator("tbody tr > :nth-child(3)").all_inner_texts()
        assert (first.split()[0] > second.split()[0]) == (order == "descending")
        assert last == ABSENT


def test_paper_is_white_and_nothing_on_it_is_cut(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    page.evaluate(OPEN)
    page.emulate_media(media="print", color_scheme="dark")
    for control in (".choices", ".keys"):
        expect(page.locator(control).first).to_be_hidden()
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    page.set_viewport_size({"width": 703, "height": 1000})  # between the margins of A4, at 96 points an inch
    right = "Math.max(...[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right))"
    assert page.evaluate(right) <= 704
