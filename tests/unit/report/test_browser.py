"""The report in a real browser: it loads by itself, shows everything, and fits a telephone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import CONTRAST, STUCK, WIDTH, flawless
from medrobust.core import Task
from medrobust.report.page import render
from medrobust.report.reading import ReportContext

PICTURES = """Promise.all([...document.images].map(
  image => image.decode().then(() => image.naturalWidth, () => 0)))"""


@pytest.mark.parametrize("window", ["page", "phone"])
def test_it_shows_its_pictures_and_fits(request: pytest.FixtureRequest, report: Path, window: str) -> None:
    page: Page = request.getfixturevalue(window)
    page.goto(report.as_uri())
    images = page.evaluate(PICTURES)
    assert len(images) >= 3
    assert all(images)
    assert page.evaluate(WIDTH) == page.evaluate("screen.width")
    assert page.evaluate(STUCK) == 0


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(16, 22, 28)")])
def test_words_stand_out_in_both_modes(page: Page, report: Path, scheme: str, ground: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(report.as_uri())
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


def test_two_lines_of_heads_sort_too(page: Page, report: Path, context: ReportContext) -> None:
    page.goto(report.as_uri())
    cells = context.tables["table2"]
    first = cells.filter(perturbation=cells["perturbation"][0], source=cells["source"][0])
    table = page.get_by_role("region", name="Table 2.").locator("table").first
    table.locator("thead tr").nth(1).get_by_role("button").first.click()
    assert (
        table.locator("tbody th").all_inner_texts()
        == first.sort("score", descending=True)["target"].to_list()
    )


def test_it_prints_without_controls(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    page.emulate_media(media="print")
    for control in ("nav", ".choices", ".keys"):
        expect(page.locator(control).first).to_be_hidden()
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    page.set_viewport_size({"width": 703, "height": 1000})  # between the margins of A4, at 96 points an inch
    right = "Math.max(...[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right))"
    assert page.evaluate(right) <= 704  # on paper nothing scrolls
