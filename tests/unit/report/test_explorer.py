"""What the page is given: pictures that give the images back, names, scores, and a size that is kept."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from matplotlib.colors import to_hex
from PIL import Image

from made_rows import classification, segmentation
from medrobust.analysis.scores import Cell
from medrobust.core import Task
from medrobust.report.explorer import (
    GREY,
    STEP,
    Frame,
    change_uri,
    fitting,
    frame,
    frames_of,
    image_uri,
    index,
    labels_uri,
    read_explorer,
)
from medrobust.report.style import UNLABELLED, coloured, region_colours, structure_colours
from medrobust.running.explorer import EXPLORED, LEVELS, View, scan_scores
from medrobust.running.train import score
from medrobust.storage import RunFolder

CLASSES = ("ground", "left horn", "right horn", "stem")


def decoded(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_changes_come_back(channels: int) -> None:
    draws = np.random.default_rng(0)
    image = draws.integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    change = draws.integers(-LEVELS, LEVELS + 1, (channels, 5, 7)).astype(np.int8)
    back = np.asarray(decoded(image_uri(image))).reshape(5, 7, channels)
    np.testing.assert_array_equal(np.moveaxis(back, -1, 0), image)
    levels = (np.asarray(decoded(change_uri(change))).astype(int) - GREY).reshape(5, 7, channels)
    np.testing.assert_array_equal(np.moveaxis(levels, -1, 0), STEP * change)


def test_other_numbers_of_channels_show_the_first() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(np.asarray(decoded(image_uri(image))), image[0])


@pytest.mark.parametrize("classes", [CLASSES, ("ground", *(f"s{i}" for i in range(300)))])
def test_label_maps_have_the_colours_of_the_legend_on_nothing(classes: tuple[str, ...]) -> None:
    labels = np.arange(len(classes)).reshape(1, -1)
    colours = structure_colours(classes)
    shown = np.asarray(decoded(labels_uri(labels, colours)).convert("RGBA"))[0]
    assert shown[0, 3] == 0
    assert (shown[1:, 3] == 255).all()
    assert ["#" + bytes(pixel).hex() for pixel in shown[1:, :3]] == list(colours[1:])


def test_dice_of_a_slice_is_undefined_where_the_truth_lacks_the_structure() -> None:
    truth = np.array([[0, 1, 1, 1], [0, 0, 2, 2]])
    answer = np.array([[3, 1, 1, 0], [0, 0, 1, 1]])
    view = View(
        clean=np.zeros((1, 2, 4), np.uint8),
        changes=np.zeros((1, 1, 2, 4), np.int8),
        largest=np.zeros(1, np.float32),
        truth=truth,
        answers=answer[None],
    )
    (told,) = frame(view, structure_colours((*CLASSES, "twig")))["overlap"]
    assert told == {"dice": [None, round(2000 * 2 / 7), 0, None, None], "mean": 0.285714, "extra": {"3": 1}}
    empty = frame(replace(view, truth=np.zeros_like(truth)), structure_colours(CLASSES))["overlap"][0]
    assert empty == {"dice": [None] * 4, "mean": None, "extra": {"1": 4, "3": 1}}


def test_what_is_not_labelled_is_grey_and_counts_nowhere() -> None:
    truth = np.array([[0, 1, 1, -1], [0, 0, 2, -1]])
    answer = np.array([[0, 1, 1, 1], [0, 0, 2, 3]])
    colours = structure_colours(CLASSES)
    view = View(
        clean=np.zeros((1, 2, 4), np.uint8),
        changes=np.zeros((1, 1, 2, 4), np.int8),
        largest=np.zeros(1, np.float32),
        truth=truth,
        answers=answer[None],
    )
    told = frame(view, colours)
    assert told["unlabelled"]
    assert told["overlap"][0] == {"dice": [None, 1000, 1000, None], "mean": 1.0, "extra": {}}
    shown = np.asarray(decoded(told["truth"]).convert("RGBA"))
    assert ["#" + bytes(pixel).hex() for pixel in shown[:, 3, :3]] == [UNLABELLED] * 2
    assert (shown[:, 3, 3] == 255).all()
    in_figure = coloured(truth, colours)
    assert to_hex(in_figure[0, 3]) == UNLABELLED
    assert to_hex(in_figure[0, 1]) == colours[1]
    assert not frame(replace(view, truth=answer), colours)["unlabelled"]


def test_regions_have_the_colour_of_the_class_that_sets_them_apart() -> None:
    colours = structure_colours(CLASSES)
    regions = {"all": (1, 2, 3), "inner": (2, 3), "stem": (3,)}
    assert region_colours(colours, regions) == colours
    assert region_colours(colours, {"stem": (3,), "all": (1, 2, 3)}) == (colours[0], colours[3], colours[1])
    truth = np.array([[0, 1, 2, 3]])
    view = View(
        clean=np.zeros((1, 1, 4), np.uint8),
        changes=np.zeros((1, 1, 1, 4), np.int8),
        largest=np.zeros(1, np.float32),
        truth=truth,
        answers=np.array([[[0, 2, 1, 3]]]),
    )
    assert frame(view, colours, regions)["overlap"][0]["dice"] == [None, 1000, 500, 1000]


@given(seed=st.integers(0, 10**6))
@hypothesis.settings(max_examples=25, deadline=None)
def test_a_slice_a_scan_the_tables_and_validation_have_one_dice(seed: int) -> None:
    """A scan of a single slice, where each of them could differ, with structures that only one map has."""
    truth, answer = np.random.default_rng(seed).integers(0, 4, (2, 2, 2))
    true, shown = (np.bincount(each.ravel(), minlength=4) for each in (truth, answer))
    both = np.bincount(truth[truth == answer], minlength=4)
    counts = dict(zip(CLASSES, zip(true.tolist(), shown.tolist(), both.tolist(), strict=True), strict=True))
    results = segmentation(lambda cell, scan, structure: counts[structure], {"p": ["s"]}, structures=CLASSES)
    scan = {"scan_id": "s", "why": "", "cases": [], "frames": [Frame(0, "slice 0")]}
    of_scan = index(facts([CLEAN]) | {"scans": [scan]}, results)["scans"][0]["scores"][0]
    view = View(
        clean=np.zeros((1, 2, 2), np.uint8),
        changes=np.zeros((1, 1, 2, 2), np.int8),
        largest=np.zeros(1, np.float32),
        truth=truth,
        answers=answer[None],
    )
    assert of_scan == frame(view, structure_colours(CLASSES))["overlap"][0]
    whole = torch.from_numpy(np.stack([true, shown, both], 1)[None])
    validated = score(whole, ["p"], Task.SEGMENTATION)
    chosen = scan_scores(results.rows, Task.SEGMENTATION, CLASSES[0])
    if of_scan["mean"] is None:
        assert validated is None
        assert chosen.is_empty()
        assert results.panel.undefined == 1
    else:
        table = float(results.panel.cells[Cell("a", "clean")].totals.item())
        assert [of_scan["mean"], validated, chosen["score"].item()] == pytest.approx([table] * 3, abs=1e-6)


def volume() -> View:
    draws = np.random.default_rng(1)
    truth = draws.integers(0, 4, (2, 5, 6))
    changes = np.zeros((2, 1, 2, 5, 6), np.int8)
    changes[1, :, 1] = 3
    return View(
        clean=draws.integers(0, 256, (1, 2, 5, 6), dtype=np.uint8),
        changes=changes,
        largest=np.array([0, 0.125], np.float32),
        truth=truth,
        answers=np.stack([truth, (truth + 1) % 4]).astype(np.uint16),
    )


def test_a_volume_is_shown_along_each_axis() -> None:
    frames = frames_of([{"position": 0}], Task.SEGMENTATION, (2, 5, 6), "SPL")
    assert [each.name for each in frames[:3]] == ["axial 0", "axial 1", "coronal 0"]
    assert {plane: sum(each.plane == plane for each in frames) for plane in ("coronal", "sagittal")} == {
        "coronal": 5,
        "sagittal": 6,
    }
    first, second = (frame(each.of(volume()), structure_colours(CLASSES)) for each in frames[:2])
    assert (first["changes"], first["largest"]) == ([None, None], [0.0, 0.125])
    assert [change is None for change in second["changes"]] == [True, False]
    assert first["overlap"][0]["dice"][1:] == [1000, 1000, 1000]
    np.testing.assert_array_equal(np.asarray(decoded(second["clean"])), volume().clean[0, 1])


def test_planes_of_a_volume_look_as_its_slices_would() -> None:
    """Coronal ones from behind to the front, sagittal ones from left to right, both with the crown up."""
    seen, clean = volume(), volume().clean[0]  # up, back, left
    frames = {each.name: each for each in frames_of([{"position": 0}], Task.SEGMENTATION, (2, 5, 6), "SPL")}
    np.testing.assert_array_equal(frames["coronal 1"].of(seen).clean[0], clean[::-1, 3])
    np.testing.assert_array_equal(frames["sagittal 1"].of(seen).clean[0], clean[::-1, :, 4])
    np.testing.assert_array_equal(frames["coronal 1"].of(seen).answers, seen.answers[:, ::-1, 3])
    np.testing.assert_array_equal(frames["sagittal 1"].of(seen).truth, seen.truth[::-1, :, 4])
    np.testing.assert_array_equal(frames["coronal 1"].of(seen).changes, seen.changes[:, :, ::-1, 3])
    turned = {each.name: each for each in frames_of([{"position": 0}], Task.SEGMENTATION, (5, 6, 2), "ARS")}
    arrays = {name: getattr(seen, name) for name in ("clean", "changes", "truth", "answers")}
    other = replace(  # front, right, up
        seen,
        **{name: np.moveaxis(array[..., ::-1, ::-1], -3, -1) for name, array in arrays.items()},
    )
    np.testing.assert_array_equal(turned["axial 1"].of(other).clean, frames["axial 1"].of(seen).clean)
    np.testing.assert_array_equal(turned["coronal 4"].of(other).clean, frames["coronal 4"].of(seen).clean)


@pytest.mark.parametrize(
    ("axes", "shape", "spacing"), [("SPL", (2, 5, 6), (4, 1, 2)), ("ARS", (5, 6, 2), (1, 2, 4))]
)
def test_planes_have_the_proportions_of_their_spacing(
    axes: str, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    """Voxels are 4 mm high, 1 mm from front to back, and 2 mm wide."""
    frames = frames_of([{"position": 0}], Task.SEGMENTATION, shape, axes, spacing)
    assert {each.plane: each.tall for each in frames} == {"axial": 0.5, "coronal": 2.0, "sagittal": 4.0}


def test_slices_have_the_proportions_of_their_spacing() -> None:
    (one,) = frames_of([{"position": 0}], Task.SEGMENTATION, (8, 8), None, (3.0, 1.5))
    assert one.tall == 2
    (unknown,) = frames_of([{"position": 0}], Task.SEGMENTATION, (8, 8), None, None)
    assert unknown.tall == 1


def test_a_classified_volume_keeps_its_answer_in_every_slice() -> None:
    photo = replace(volume(), truth=np.array(1), answers=np.array([[0.25, 0.75], [1, 0]]))
    frames = frames_of([{"position": 0}], Task.CLASSIFICATION, (2, 5, 6), None)
    assert [frame(each.of(photo), ())["answers"] for each in frames[:2]] == 2 * [[[0.25, 0.75], [1, 0]]]
    assert dict.fromkeys(each.plane for each in frames) == dict.fromkeys(
        ["first axis", "second axis", "third axis"]
    )


def test_frames_have_names() -> None:
    cases = [{"position": 3}, {"position": 9}]

    def names(*wanted: Any) -> list[str]:
        return [each.name for each in frames_of(*wanted)]

    assert names(cases, Task.SEGMENTATION, (8, 8), None) == ["slice 3", "slice 9"]
    assert names(cases[:1], Task.CLASSIFICATION, (8, 8), None) == [""]
    patches = names(cases, Task.SEGMENTATION, (1, 2, 2), "SPL")
    assert patches[:4] == ["patch 3, axial 0", "patch 9, axial 0", "patch 3, coronal 0", "patch 3, coronal 1"]


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (140, [[0, 1, 2, 3, 4], [0, 1]]),
        (139, [[0, 1, 3, 4], [0, 1]]),
        (119, [[0, 2, 4], [0, 1]]),
        (99, [[0, 4], [0, 1]]),
        (79, [[2], [1]]),
        (39, [[2]]),
        (19, []),
    ],
)
def test_what_is_too_much_is_thinned_out_evenly(room: int, kept: list[list[int]]) -> None:
    assert fitting([5, 2], lambda scan, place: 20, room) == kept


def test_frames_that_cannot_fit_are_not_even_made() -> None:
    made: set[tuple[int, int]] = set()

    def size(scan: int, place: int) -> int:
        made.add((scan, place))
        return 100 - abs(place - 50)

    kept = fitting([101, 101], size, 1000)
    assert sum(size(scan, place) for scan, places in enumerate(kept) for place in places) <= 1000
    assert [len(places) for places in kept] == [7, 7]
    assert len(made) < 30


def facts(sets: list[dict[str, object]], seeds: tuple[int, ...] = (0,)) -> dict[str, object]:
    targets = [{"name": name, "seed": seed} for name in "ab" for seed in seeds]
    pairs = [[place, target] for place in range(len(sets)) for target in range(len(targets))]
    return {"sets": sets, "targets": targets, "pairs": pairs}


def one_set(perturbation: str, role: str, source: str, seed: int) -> dict[str, object]:
    return {"perturbation": perturbation, "role": role, "source": source, "source_seed": seed}


CLEAN = one_set("clean", "clean", "", 0)


def overlap(thousandths: int) -> dict[str, object]:
    """Two structures with the same Dice."""
    return {"dice": [None, thousandths, thousandths], "mean": thousandths / 1000, "extra": {}}


def test_scores_are_those_of_the_rows() -> None:
    results = segmentation(
        lambda cell, scan, structure: (10, 10, 5 if cell.source else 10),
        {f"p{i}": [f"s{i}"] for i in range(3)},
    )
    scan = {"scan_id": "s1", "why": "typical", "cases": [], "frames": [Frame(0, "slice 3")]}
    told = facts([CLEAN, one_set("dag_a", "transfer", "b", 1), one_set("dag_a", "whitebox", "b", 1)])
    told["pairs"] = [[0, 0], [1, 1], [2, 1], [2, 0]]
    shown = index(told | {"scans": [scan]}, results)
    assert shown["scans"] == [
        {"id": "s1", "why": "typical", "truth": [], "frames": ["slice 3"], "planes": [], "tall": [1.0]}
        | {"scores": [overlap(1000), overlap(500), overlap(500), None]}
    ]
    assert [each["source"] for each in shown["sets"]] == ["", "b", "b (white-box)"]


def test_probabilities_and_seeds() -> None:
    results = classification(lambda *_: True, {"p0": 2}, seeds=2)
    rows = results.rows.with_columns(probabilities=pl.lit(pl.Series([[0.25, 0.75]])).first())
    scan = {"scan_id": "p0-1", "why": "", "cases": [{"label": 1}], "frames": [Frame(0, "")]}
    sets = [CLEAN, *(one_set("fgsm", "transfer", "a", seed) for seed in (1, 2))]
    shown = index(facts(sets, (0, 1)) | {"scans": [scan]}, replace(results, predictions=rows))
    assert shown["targets"] == ["a, seed 0", "a, seed 1", "b, seed 0", "b, seed 1"]
    assert [each["source"] for each in shown["sets"]] == ["", "a, seed 1", "a, seed 2"]
    assert shown["scans"][0]["truth"] == ["malignant"]
    assert shown["scans"][0]["scores"] == 8 * [0.75] + 4 * [None]  # no attack was crafted on seed 2


def test_a_run_of_before_there_was_an_explorer_has_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    results = classification(lambda *_: True, {"p0": 2})
    assert not folder.exists(*EXPLORED)
    assert read_explorer(folder, results, 10**6) is None
