import polars as pl
import pytest

import made_rows
from medrobust.analysis.classes import classes
from medrobust.analysis.tables import table2
from medrobust.errors import RunError


def test_each_class_is_counted_over_patients_and_sources() -> None:
    def right(cell, patient, image):
        wrong = cell.perturbation == "fgsm" and cell.source == "b" and patient == "p1" and image % 2
        return not wrong

    results = made_rows.classification(right, {"p1": 4, "p2": 2, "p3": 2})
    table = classes(results)
    assert table["perturbation"].unique(maintain_order=True).to_list() == [
        *("clean", "gaussian@fgsm", "gaussian@deepfool", "fgsm", "deepfool")
    ]
    assert table.height == 3 * 5 * 2
    one = {"target": "a", "perturbation": "fgsm"}
    benign = table.row(by_predicate=_is(**one, **{"class": "benign"}), named=True)
    assert (benign["score"], benign["n_cases"], benign["n_patients"]) == (1.0, 4, 3)
    malignant = table.row(by_predicate=_is(**one, **{"class": "malignant"}), named=True)
    # Three sources; one of them is wrong on both malignant images of p1: 4 of 6, 3 of 3, 3 of 3.
    assert malignant["score"] == pytest.approx(10 / 12)
    assert malignant["low"] < 10 / 12 < malignant["high"]
    assert table.filter(pl.col("perturbation") != "fgsm")["score"].to_list() == [1.0] * 24


def _is(**values: str) -> pl.Expr:
    return pl.all_horizontal(pl.col(name) == value for name, value in values.items())


def test_a_study_of_one_class_has_the_intervals_of_table_2() -> None:
    hits = dict(zip("abcdefgh", (1, 1, 0, 1, 1, 0, 1, 1), strict=True))
    results = made_rows.classification(
        lambda cell, patient, image: bool(hits[patient]), dict.fromkeys(hits, 1), models=("net",)
    )
    own, cells = classes(results), table2(results)
    for attack in ("fgsm", "deepfool"):
        (row,), (cell,) = (frame.filter(perturbation=attack).rows(named=True) for frame in (own, cells))
        for name in ("score", "low", "high", "n_cases", "n_patients"):
            assert row[name] == pytest.approx(cell[name])


def test_a_few_right_answers_prove_little() -> None:
    table = classes(made_rows.classification(lambda *_: True, {"p1": 1, "p2": 1, "p3": 1}))
    assert table["high"].to_list() == [1.0] * table.height
    assert table["low"].max() < 0.5


def test_segmentation_has_no_class_per_image() -> None:
    results = made_rows.segmentation(lambda *_: (1, 1, 1), {"p1": ["s1"]})
    with pytest.raises(RunError, match="Only classification has a class per image"):
        classes(results)
