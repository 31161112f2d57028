"""Tables of certificates from rows that are known."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from made_rows import classification
from medrobust.analysis.certificates import (
    certificate_remarks,
    certificate_structures,
    certificates,
    certified_score,
)
from medrobust.analysis.results import Results
from medrobust.core import Task
from medrobust.metrics.catalogue import SCORES
from medrobust.stats import accuracy_interval
from medrobust.storage import frame_of
from medrobust.storage.schemas import CERTIFICATES
from medrobust.study.analysis import Settings

ASKED = {"sigma": 0.2, "draws": 1000, "alpha": 0.001}


def results(rows: list[dict[str, Any]], task: Task = Task.CLASSIFICATION, **training: Any) -> Results:
    made = classification(lambda *_: True, {f"p{n}": 1 for n in range(4)}, models=("a",))
    network = {"name": "a", "role": "target", **training}
    frame = frame_of(CERTIFICATES[task], rows)
    classes = ("ground", "disk", "square") if task.has_maps else made.classes
    return replace(
        made,
        task=task,
        classes=classes,
        certificates=frame,
        smoothing=ASKED,
        record={"networks": {"a": network}},
    )


def image_rows(*, contradicted: int = 0) -> list[dict[str, Any]]:
    """Eight patients, two trainings: images 0 to 5 are right, 0 to 3 certified, 6 certified but wrong."""
    rows = []
    for seed in (0, 1):
        for image in range(8):
            right, sure = image < 6, image < 4 or image == 6
            answer = int(not right)
            said = [("network", 0.0, answer), ("smoothed", 0.0, answer), ("certified", 0.0, answer)]
            said += [("certified", 0.1, answer if sure else -1), ("attacked", 0.1, 0 if image < 5 else 1)]
            rows += [
                {"target": "a", "target_seed": seed, "fold": None, "condition": condition, "radius": radius}
                | {"case_id": f"c{image}", "scan_id": f"c{image}", "patient_id": f"p{image}", "label": 0}
                | {"prediction": prediction, "largest_radius": 0.1 if condition == "certified" else None}
                | {"contradicted": condition == "attacked" and image < contradicted}
                for condition, radius, prediction in said
            ]
    return rows


def test_scores_are_those_of_the_images_with_intervals_over_patients() -> None:
    table = certificates(results(image_rows(), training={"augment": True}))
    clean, far = table.iter_rows(named=True)
    assert (clean["network"], clean["smoothed"], clean["certified"], clean["attacked"]) == (
        0.75,
        0.75,
        0.75,
        None,
    )
    assert (far["certified"], far["attacked"], far["network"]) == (0.5, 0.625, None)
    assert (far["abstained"], far["tau"], far["n_cases"], far["n_patients"]) == (3 / 8, None, 8, 8)
    right = accuracy_interval([1, 1, 1, 1, 0, 0, 0, 0], [f"p{n}" for n in range(8)])
    assert far["certified_low"] <= right.low + 1e-9  # both trainings count
    assert (clean["sigma"], clean["training_sigma"]) == (0.2, 0.0)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"training": {"augment": {"gaussian": 0.2}}}, ""),
        (
            {"training": {"augment": {"gaussian": 0.1}}},
            "a was trained with noise of sigma 0.1 and smoothed with",
        ),
        (
            {"training": {"augment": {"rotation": 10}}},
            "a was trained with no Gaussian noise and smoothed with",
        ),
        (
            {"training": {"augment": False}},
            "a was trained with no Gaussian noise and smoothed with sigma 0.2",
        ),
        ({}, "Whether a saw noise in training is not known here"),
    ],
)
def test_training_without_that_noise_is_said(training: dict[str, Any], said: str) -> None:
    remarks = [
        remark.sentence for remark in certificate_remarks(certificates(results(image_rows(), **training)))
    ]
    assert [sentence.startswith(said) for sentence in remarks] == [True] * bool(said)


def test_contradictions_are_loud_unless_chance_allows_them() -> None:
    trained = {"training": {"augment": {"gaussian": 0.2}}}
    allowed = certificates(results(image_rows(), **trained))["n_by_chance"][1]
    assert allowed == 1  # of 16 images, each false with 0.002
    assert certificates(results(image_rows(contradicted=0), **trained))["n_contradicted"][1] == 0
    table = certificates(results(image_rows(contradicted=2), **trained))
    assert table["n_contradicted"][1] == 4
    (remark,) = certificate_remarks(table)
    assert remark.sentence.startswith("CONTRADICTION: of a the attack at radius 0.1 found")
    assert remark.about == "certificates"


def map_rows() -> list[dict[str, Any]]:
    """Two patients with a scan each; a disk of 10 pixels, 8 of them certified right; 4 outside abstain."""
    return [
        {"target": "a", "target_seed": 0, "fold": None, "condition": condition, "radius": radius}
        | {"scan_id": f"s{patient}", "patient_id": f"p{patient}", "structure": structure}
        | {"n_true": 10, "n_pred": n_pred, "n_both": n_both, "n_answered": answered}
        | {"n_pixels": 100, "n_abstained": abstained, "n_cases": 3, "n_contradicted": 0}
        for patient in (0, 1)
        for structure in ("ground", "disk")
        for condition, radius, n_pred, n_both, answered, abstained in (
            *(("network", 0.0, 10, 10, 10, 0), ("smoothed", 0.0, 10, 9, 10, 0)),
            *(("certified", 0.0, 10, 9, 10, 0), ("certified", 0.1, 12, 8, 8, 6)),
            ("attacked", 0.1, 10, 9, 10, 0),
        )
    ]


def test_dice_of_maps_is_that_of_the_worst_case() -> None:
    found = results(map_rows(), Task.SEGMENTATION)
    far = certificates(found).row(1, named=True)
    assert far["certified"] == pytest.approx(16 / 22)
    assert (far["attacked"], far["abstained"], far["n_cases"]) == (pytest.approx(0.9), pytest.approx(0.06), 6)
    assert far["tau"] == pytest.approx(0.6915, abs=1e-4)  # Phi(0.5)
    structures = certificate_structures(found)
    assert structures["structure"].to_list() == ["disk", "disk"]
    far = structures.row(1, named=True)
    assert (far["certified"], far["attacked"]) == (pytest.approx(16 / 22), pytest.approx(0.9))
    assert (far["abstained"], far["n_patients"]) == (pytest.approx(0.2), 2)


def test_scores_without_a_worst_case_give_way_to_that_of_the_task() -> None:
    of = {"auroc": "accuracy", "balanced_accuracy": "balanced_accuracy", "kappa": "accuracy"}
    for asked, taken in of.items():
        found = replace(results(image_rows()), settings=Settings(score=asked))
        assert certified_score(found) == SCORES[taken]
    assert certificates(replace(results(image_rows()), certificates=None)).height == 0
    assert certificates(results(image_rows()))["measure"].unique().to_list() == ["accuracy"]


def test_no_table_without_rows() -> None:
    empty = replace(results([]), smoothing=None)
    assert certificates(empty).is_empty()
    assert certificate_structures(empty).is_empty()
    assert isinstance(certificates(empty), pl.DataFrame)
