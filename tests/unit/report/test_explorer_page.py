"""The explorer in a real browser: choices, pictures, slider, keys, and the address."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import Browser
from medrobust.core import Task
from medrobust.report.context import ReportContext
from medrobust.report.figures.examples import Examples
from medrobust.report.html import render
from medrobust.steps.views import LEVELS

READY = """
new Promise(done => {
  const busy = () => document.querySelector('#explorer-view').hasAttribute('aria-busy');
  const look = () => busy() ? setTimeout(look, 10) : done();
  setTimeout(look, 10);
})
"""
PART = "document.querySelector('#explorer-view [data-part=\"NAME\"]')"
CAPTIONS = "[...document.querySelectorAll('#explorer-view figcaption')].map(each => each.textContent)"


class Explorer:
    """The explorer of a page that is open."""

    def __init__(self, browser: Browser, page: Path, choice: str = "", width: int = 1360) -> None:
        self._browser = browser
        browser.load("about:blank", width)  # else a new hash would not load the page anew
        browser.load(page.as_uri() + choice, width)
        self.wait()

    def wait(self) -> None:
        self._browser.value(READY)

    def value(self, expression: str) -> Any:
        return self._browser.value(expression)

    def part(self, name: str, what: str) -> Any:
        return self.value(f"{PART.replace('NAME', name)}.{what}")

    def choose(self, name: str, text: str) -> None:
        self.value(f"""(() => {{
          const select = {PART.replace("NAME", name)};
          select.value = [...select.options].find(each => each.text.startsWith({json.dumps(text)})).value;
          select.dispatchEvent(new Event('change', {{bubbles: true}}));
        }})()""")
        self.wait()

    def set(self, name: str, value: str) -> None:
        self.value(f"""(() => {{
          const input = {PART.replace("NAME", name)};
          input.value = {json.dumps(value)};
          input.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()""")
        self.wait()

    def click(self, name: str) -> None:
        self.part(name, "click()")
        self.wait()

    def key(self, key: str) -> None:
        self._browser.press(key)
        self.wait()

    def chosen(self, name: str) -> str:
        return str(self.part(name, "selectedOptions[0].text"))

    @property
    def captions(self) -> list[str]:
        return list(self.value(CAPTIONS))

    def pixels(self, figure: int) -> list[int]:
        return list(
            self.value(f"""(() => {{
              const canvas = document.querySelectorAll('#explorer-view canvas')[{figure}];
              return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
            }})()""")
        )


@pytest.fixture
def explorer(browser: Browser, report: Path) -> Explorer:
    return Explorer(browser, report)


def test_it_opens_on_the_worst_case_under_an_attack_or_noise(
    explorer: Explorer, context: ReportContext, browser: Browser
) -> None:
    assert context.explorer is not None
    index = context.explorer["index"]
    clean, attacked = 0, index["pairs"].index([1, 0])
    assert explorer.chosen("target") == index["targets"][0]
    assert explorer.chosen("perturbation") == index["sets"][1]["perturbation"]
    said = explorer.part("said", "textContent")
    assert "Number 1 of 2, counted from the worst." in said
    worst = min(index["scans"], key=lambda scan: mean(scan["scores"][attacked]))
    assert said.startswith(f"{worst['id']}: ")
    assert f"{mean(worst['scores'][attacked]):.3f} under" in said
    assert f"{mean(worst['scores'][clean]):.3f} when clean" in said
    assert browser.complaints == []


def mean(score: Any) -> float:
    if not isinstance(score, list):
        return float(score)
    known = [value for value in score if value is not None]
    return sum(known) / len(known) / 1000


@pytest.mark.parametrize("place", [1, 2])
def test_the_perturbed_image_is_computed_from_the_clean_one(
    explorer: Explorer, context: ReportContext, examples: Examples, place: int
) -> None:
    assert context.explorer is not None
    explorer.choose("perturbation", context.explorer["index"]["sets"][place]["perturbation"])
    case = int(explorer.chosen("case").split()[1]) % len(examples.case_ids)
    stored = 255 * np.moveaxis(examples.images[case, place], 0, -1)
    seen = np.array(explorer.pixels(1)).reshape(*stored.shape[:2], 4)[..., :3]
    # Half of a level of the change, and half of a 255th for each of two roundings.
    largest = 255 * np.abs(examples.images[case, place] - examples.images[case, 0]).max()
    np.testing.assert_allclose(seen, np.broadcast_to(stored, seen.shape), atol=1 + largest / LEVELS / 2)


def test_every_choice_changes_what_is_shown(explorer: Explorer, context: ReportContext) -> None:
    assert context.explorer is not None
    index = context.explorer["index"]
    before = explorer.pixels(1)
    explorer.choose("perturbation", index["sets"][2]["perturbation"])
    assert explorer.captions[1] == index["sets"][2]["perturbation"]
    assert re.fullmatch(r"Difference \u00d7 [\d.]+", explorer.captions[2])
    assert explorer.pixels(1) != before
    said = explorer.part("said", "textContent")
    explorer.choose("target", index["targets"][2])
    assert index["targets"][2] in explorer.part("said", "textContent") != said
    if not index["segmentation"]:
        explorer.choose("perturbation", "deepfool")  # changes of some 255ths: multiplied by hundreds
        assert re.fullmatch(r"Difference \u00d7 \d{3}", explorer.captions[2])
    explorer.choose("perturbation", "clean")
    assert explorer.captions[0] == "Clean"
    assert not any(caption.startswith("Difference") for caption in explorer.captions)
    heads = explorer.value(
        "[...document.querySelectorAll('#explorer-view th')].map(each => each.textContent)"
    )
    assert ("structure" in heads) == index["segmentation"]
    assert ("class" in heads) != index["segmentation"]


def test_the_address_keeps_the_choice(
    explorer: Explorer, browser: Browser, report: Path, context: ReportContext
) -> None:
    assert context.explorer is not None
    index = context.explorer["index"]
    other = {"case 0": "case 1", "case 1": "case 0"}[explorer.chosen("case").partition(" (")[0]]
    explorer.choose("perturbation", index["sets"][3]["perturbation"])
    explorer.choose("target", index["targets"][1])
    explorer.choose("case", other)
    explorer.set("slice", "0")
    address = explorer.value("location.hash")
    again = Explorer(browser, report, address)
    names = ("case", "target", "perturbation", "source")
    assert [again.chosen(name) for name in names] == [explorer.chosen(name) for name in names]
    assert again.chosen("case").startswith(other)
    assert again.part("slice-name", "textContent") == "slice 3"
    assert again.value("location.hash") == address


@pytest.mark.parametrize(
    "address", ["#explorer?case=nobody&target=x&perturbation=y&slice=z", "#explorer?", "#explorer?%E0%A4%A"]
)
def test_an_address_that_names_nothing_changes_nothing(
    browser: Browser, report: Path, address: str, explorer: Explorer
) -> None:
    names = ("case", "target", "perturbation", "source")
    expected = [explorer.chosen(name) for name in names]
    odd = Explorer(browser, report, address)
    assert [odd.chosen(name) for name in names] == expected
    assert browser.complaints == []


def test_worst_cases_follow_each_other(explorer: Explorer) -> None:
    order = explorer.value(f"[...{PART.replace('NAME', 'case')}.options].map(each => each.text)")
    assert explorer.chosen("case") == order[0]
    explorer.click("next")
    assert explorer.chosen("case") == order[1]
    explorer.click("next")  # there is no other
    assert explorer.chosen("case") == order[1]
    explorer.click("previous")
    assert explorer.chosen("case") == order[0]


def test_keys_work_while_the_explorer_has_the_focus(explorer: Explorer) -> None:
    explorer.value("document.querySelector('#explorer-view').focus()")
    first = explorer.chosen("case")
    assert explorer.part("slice-name", "textContent") == "slice 9"
    explorer.key("ArrowLeft")
    explorer.key("ArrowLeft")
    assert explorer.part("slice-name", "textContent") == "slice 3"
    explorer.key("n")
    assert explorer.chosen("case") != first
    explorer.key("p")
    assert explorer.chosen("case") == first
    explorer.key("s")
    assert explorer.part("wipe", "checked")
    explorer.key("l")
    assert explorer.part("overlay", "value") == "50"
    explorer.value("document.activeElement.blur()")
    explorer.key("s")
    assert explorer.part("wipe", "checked")


def test_the_slider_goes_from_clean_to_perturbed(explorer: Explorer, context: ReportContext) -> None:
    explorer.choose("perturbation", context.explorer["index"]["sets"][1]["perturbation"])
    explorer.click("wipe")
    assert explorer.captions[0].startswith("Left clean, right ")
    explorer.set("position", "0")
    perturbed = explorer.pixels(0)
    explorer.set("position", "100")
    clean = explorer.pixels(0)
    assert perturbed != clean
    explorer.set("position", "50")
    assert explorer.pixels(0) not in (perturbed, clean)
    explorer.choose("perturbation", "clean")
    explorer.set("position", "100")
    assert explorer.pixels(0) == clean


def test_labels_lie_over_the_images(
    browser: Browser, tmp_path: Path, make_context: Callable[[Task], ReportContext]
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(make_context(Task.SEGMENTATION)), encoding="utf-8")
    explorer = Explorer(browser, page)
    assert explorer.captions[-3:] == ["Truth", "Prediction when clean", "Prediction under rician@dag_a"]
    plain, truth = explorer.pixels(0), explorer.pixels(3)
    explorer.set("overlay", "100")
    labelled = explorer.pixels(0)
    inside = [place for place in range(0, len(truth), 4) if any(truth[place : place + 3])]
    assert all(labelled[place : place + 3] == truth[place : place + 3] for place in inside)
    outside = set(range(0, len(truth), 4)) - set(inside)
    assert all(labelled[place : place + 3] == plain[place : place + 3] for place in outside)
    swatches = explorer.value(
        "[...document.querySelectorAll('#explorer-view .swatch')].map(each => each.style.backgroundColor)"
    )
    assert len(swatches) == 8


def test_names_of_the_data_stay_text(
    browser: Browser, tmp_path: Path, make_context: Callable[[Task], ReportContext]
) -> None:
    evil = "<script>document.title = 'caught'</script><img src=x onerror=\"document.title = 'caught'\">"
    context = make_context(Task.SEGMENTATION)
    assert context.explorer is not None
    index = context.explorer["index"]
    named = {
        "classes": ["background", *[evil] * (len(index["classes"]) - 1)],
        "targets": [evil, *index["targets"][1:]],
        "sets": [index["sets"][0], *({"perturbation": evil, "source": evil} for _ in index["sets"][1:])],
        "scans": [scan | {"id": evil, "why": evil} for scan in index["scans"]],
    }
    page = tmp_path / "report.html"
    page.write_text(
        render(replace(context, title=evil, explorer={**context.explorer, "index": {**index, **named}})),
        encoding="utf-8",
    )
    explorer = Explorer(browser, page)
    assert explorer.part("said", "textContent").startswith(evil)
    assert explorer.value("document.title") == evil
    assert (
        explorer.value("document.querySelectorAll('#explorer-view img, #explorer-view script').length") == 0
    )
    assert browser.complaints == []


def test_it_fits_a_telephone(browser: Browser, report: Path) -> None:
    explorer = Explorer(browser, report, width=400)
    assert explorer.value("document.documentElement.scrollWidth") <= 400
    wide = explorer.value(
        "[...document.querySelectorAll('#explorer-view :is(select, button, input, canvas)')]"
        ".filter(each => each.getBoundingClientRect().right > 400).length"
    )
    assert wide == 0


def test_every_control_has_a_name(explorer: Explorer) -> None:
    controls = "[...document.querySelectorAll('#explorer-view :is(select, input)')]"
    assert explorer.value(f"{controls}.every(each => each.labels.length === 1)")
    pictures = "[...document.querySelectorAll('#explorer-view canvas')]"
    assert explorer.value(f"{pictures}.every(each => each.role === 'img' && each.ariaLabel)")
