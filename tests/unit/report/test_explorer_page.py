"""The explorer in a real browser: choices, pictures, slider, keys, and the address."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page

from browsing import WIDTH
from medrobust.core import Task
from medrobust.report.examples import Examples
from medrobust.report.page import render
from medrobust.report.reading import ReportContext
from medrobust.running.explorer import LEVELS

Array = npt.NDArray[np.uint8]


class Explorer:
    """The explorer of a page that is open; every act waits until its pictures are there."""

    def __init__(self, page: Page, report: Path, choice: str = "") -> None:
        self.page, self.view = page, page.locator("#explorer-view")
        page.goto("about:blank")  # else a new hash would not load the page anew
        page.goto(report.as_uri() + choice)
        page.locator("#explorer").evaluate("question => { question.open = true }")
        self.wait()

    def wait(self) -> None:
        self.page.locator("#explorer-view:not([aria-busy])").wait_for()

    def part(self, name: str) -> Locator:
        return self.view.locator(f"[data-part='{name}']")

    def options(self, name: str) -> list[str]:
        return self.part(name).locator("option").all_text_contents()

    def chosen(self, name: str) -> str:
        return str(self.part(name).evaluate("select => select.selectedOptions[0].text"))

    def choose(self, name: str, text: str) -> None:
        places = [place for place, each in enumerate(self.options(name)) if each.startswith(text)]
        self.part(name).select_option(index=places[0])
        self.wait()

    def set(self, name: str, value: int) -> None:
        self.part(name).fill(str(value))
        self.wait()

    def click(self, name: str) -> None:
        self.part(name).click()
        self.wait()

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.wait()

    @property
    def choice(self) -> list[str]:
        return [self.chosen(name) for name in ("case", "target", "perturbation", "source")]

    @property
    def address(self) -> str:
        return str(self.page.evaluate("location.hash"))

    @property
    def said(self) -> str:
        return self.part("said").inner_text()

    @property
    def slice(self) -> str:
        return self.part("slice-name").text_content() or ""

    @property
    def captions(self) -> list[str]:
        return self.view.locator("figcaption").all_text_contents()

    def pixels(self, figure: int) -> Array:
        """Colours that a picture shows, `y x 3`."""
        uri = self.view.locator("canvas").nth(figure).evaluate("canvas => canvas.toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB"))


@pytest.fixture
def explorer(page: Page, report: Path) -> Explorer:
    return Explorer(page, report)


def test_it_opens_on_the_worst_case_under_an_attack_or_noise(
    explorer: Explorer, context: ReportContext
) -> None:
    assert context.explorer is not None
    index = context.explorer["index"]
    clean, attacked = 0, index["pairs"].index([1, 0])
    assert explorer.chosen("target") == index["targets"][0]
    assert explorer.chosen("perturbation") == index["sets"][1]["perturbation"]
    said = explorer.said
    assert "Number 1 of 2, counted from the worst." in said
    worst = min(index["scans"], key=lambda scan: mean(scan["scores"][attacked]))
    assert said.startswith(f"{worst['id']}: ")
    assert f"{mean(worst['scores'][attacked]):.3f} under" in said
    assert f"{mean(worst['scores'][clean]):.3f} when clean" in said


def test_pictures_have_the_proportions_of_their_pixels(page: Page, report: Path) -> None:
    """In the second frame pixels are twice as high as wide."""
    explorer = Explorer(page, report)
    proportions = []
    for key in ("ArrowLeft", "ArrowRight"):
        explorer.view.focus()
        explorer.press(key)
        canvas = explorer.view.locator("canvas").first
        box = canvas.bounding_box()
        width, height = canvas.evaluate("canvas => [canvas.width, canvas.height]")
        assert box is not None
        proportions.append(box["height"] / box["width"] * width / height)
    assert proportions == pytest.approx([1, 2], rel=0.01)


def mean(score: Any) -> float:
    return float(score["mean"] if isinstance(score, dict) else score)


def test_a_structure_that_the_truth_lacks_reads_the_same_in_every_cell(
    page: Page, tmp_path: Path, make_context: Callable[[Task], ReportContext]
) -> None:
    """The first structure is shown where it is not; of the second nothing is, in truth and prediction."""
    context = make_context(Task.SEGMENTATION)
    assert context.explorer is not None
    index, frames = context.explorer["index"], context.explorer["frames"]

    def lacking(overlap: dict[str, Any], pixels: int) -> dict[str, Any]:
        dice = [None, None, None, 0, *overlap["dice"][4:]]
        return {"dice": dice, "mean": 0.25, "extra": {"1": pixels} if pixels else {}}

    told = {
        "index": {
            **index,
            "scans": [
                {
                    **scan,
                    "scores": [lacking(score, 3 * (place > 0)) for place, score in enumerate(scan["scores"])],
                }
                for scan in index["scans"]
            ],
        },
        "frames": [
            [{**each, "overlap": [lacking(overlap, 12) for overlap in each["overlap"]]} for each in scan]
            for scan in frames
        ],
    }
    report = tmp_path / "report.html"
    report.write_text(render(replace(context, explorer={**context.explorer, **told})), encoding="utf-8")
    explorer = Explorer(page, report)
    lines = [line.split("\t") for line in explorer.part("table").locator("tr").all_inner_texts()[1:]]
    cells = {name: values for name, *values in lines}
    first, second, third = index["classes"][1:4]
    assert cells[first] == ["\u2013 (12 px)", "\u2013 (12 px)", "\u2013", "\u2013 (3 px)"]
    assert second not in cells
    assert cells[third] == ["0.000"] * 4
    assert "in brackets, the pixels predicted of it" in explorer.view.inner_text()
    assert "mean Dice of segnet 0.250" in explorer.said


@pytest.mark.parametrize("place", [1, 2])
def test_the_perturbed_image_is_computed_from_the_clean_one(
    explorer: Explorer, context: ReportContext, examples: Examples, place: int
) -> None:
    assert context.explorer is not None
    explorer.choose("perturbation", context.explorer["index"]["sets"][place]["perturbation"])
    case = int(explorer.chosen("case").split()[1]) % len(examples.case_ids)
    stored = 255 * np.moveaxis(examples.images[case, place], 0, -1)
    seen = explorer.pixels(1)
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
    assert not np.array_equal(explorer.pixels(1), before)
    said = explorer.said
    explorer.choose("target", index["targets"][2])
    assert index["targets"][2] in explorer.said != said
    if not index["segmentation"]:
        explorer.choose("perturbation", "deepfool")  # changes of some 255ths: multiplied by hundreds
        assert re.fullmatch(r"Difference \u00d7 \d{3}", explorer.captions[2])
    explorer.choose("perturbation", "clean")
    assert explorer.captions[0] == "Clean"
    assert not any(caption.startswith("Difference") for caption in explorer.captions)
    heads = explorer.view.locator("th").all_text_contents()
    assert ("structure" in heads) == index["segmentation"]
    assert ("class" in heads) != index["segmentation"]


def test_the_address_keeps_the_choice(
    explorer: Explorer, page: Page, report: Path, context: ReportContext
) -> None:
    assert context.explorer is not None
    index = context.explorer["index"]
    other = {"case 0": "case 1", "case 1": "case 0"}[explorer.chosen("case").partition(" (")[0]]
    explorer.choose("perturbation", index["sets"][3]["perturbation"])
    explorer.choose("target", index["targets"][1])
    explorer.choose("case", other)
    explorer.set("slice", 0)
    chosen, address = explorer.choice, explorer.address
    again = Explorer(page, report, address)
    assert (again.choice, again.address) == (chosen, address)
    assert again.chosen("case").startswith(other)
    assert again.slice == "slice 3"


def test_an_address_that_names_nothing_changes_nothing(page: Page, report: Path, explorer: Explorer) -> None:
    expected = explorer.choice
    for address in ("case=nobody&target=x&perturbation=y&slice=z", "", "%E0%A4%A"):
        assert Explorer(page, report, f"#explorer?{address}").choice == expected


def test_worst_cases_follow_each_other(explorer: Explorer) -> None:
    order = explorer.options("case")
    assert explorer.chosen("case") == order[0]
    explorer.click("next")
    assert explorer.chosen("case") == order[1]
    explorer.click("next")  # there is no other
    assert explorer.chosen("case") == order[1]
    explorer.click("previous")
    assert explorer.chosen("case") == order[0]


def test_keys_work_while_the_explorer_has_the_focus(explorer: Explorer) -> None:
    explorer.view.focus()
    first = explorer.chosen("case")
    assert explorer.slice == "slice 9"
    explorer.press("ArrowLeft")
    explorer.press("ArrowLeft")
    assert explorer.slice == "slice 3"
    explorer.press("n")
    assert explorer.chosen("case") != first
    explorer.press("p")
    assert explorer.chosen("case") == first
    explorer.press("s")
    assert explorer.part("wipe").is_checked()
    explorer.press("l")
    assert explorer.part("overlay").input_value() == "50"
    explorer.view.blur()
    explorer.press("s")
    assert explorer.part("wipe").is_checked()


def test_the_slider_goes_from_clean_to_perturbed(explorer: Explorer, context: ReportContext) -> None:
    explorer.choose("perturbation", context.explorer["index"]["sets"][1]["perturbation"])
    explorer.click("wipe")
    assert explorer.captions[0].startswith("Left clean, right ")
    explorer.set("position", 0)
    perturbed = explorer.pixels(0)
    explorer.set("position", 100)
    clean = explorer.pixels(0)
    assert not np.array_equal(perturbed, clean)
    explorer.set("position", 50)
    between = explorer.pixels(0)
    half = between.shape[1] // 2 - 2  # beside the line between the two
    np.testing.assert_array_equal(between[:, :half], clean[:, :half])
    np.testing.assert_array_equal(between[:, -half:], perturbed[:, -half:])
    explorer.choose("perturbation", "clean")
    explorer.set("position", 100)
    np.testing.assert_array_equal(explorer.pixels(0), clean)


def test_labels_lie_over_the_images(
    page: Page, tmp_path: Path, make_context: Callable[[Task], ReportContext]
) -> None:
    report = tmp_path / "report.html"
    report.write_text(render(make_context(Task.SEGMENTATION)), encoding="utf-8")
    explorer = Explorer(page, report)
    assert explorer.captions[-3:] == ["Truth", "Prediction when clean", "Prediction under rician@dag_a"]
    plain, truth = explorer.pixels(0), explorer.pixels(3)
    explorer.set("overlay", 100)
    labelled = explorer.pixels(0)
    inside = truth.any(-1)
    np.testing.assert_array_equal(labelled, np.where(inside[..., None], truth, plain))
    assert explorer.view.locator(".swatch").count() == 8


def test_names_of_the_data_stay_text(
    page: Page, tmp_path: Path, make_context: Callable[[Task], ReportContext]
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
    report = tmp_path / "report.html"
    report.write_text(
        render(replace(context, title=evil, explorer={**context.explorer, "index": {**index, **named}})),
        encoding="utf-8",
    )
    explorer = Explorer(page, report)
    assert explorer.said.startswith(evil)
    assert page.title() == evil
    assert explorer.view.locator("img, script").count() == 0


def test_it_fits_a_telephone(phone: Page, report: Path) -> None:
    explorer = Explorer(phone, report)
    assert phone.evaluate(WIDTH) == 400
    for part in explorer.view.locator("select, button, input, canvas").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= 400


def test_every_control_has_a_name(explorer: Explorer) -> None:
    controls = explorer.view.locator("select, input")
    assert controls.evaluate_all("all => all.every(each => each.labels.length === 1)")
    pictures = explorer.view.locator("canvas")
    assert pictures.evaluate_all("all => all.every(each => each.role === 'img' && each.ariaLabel)")
