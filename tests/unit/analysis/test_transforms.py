"""Tables, sentences and remarks of transforms, from made rows."""

from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis import tables
from medrobust.analysis.scores import Cell
from medrobust.analysis.transforms import transform_sentences, transforms, weak_searches
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator
from medrobust.study.analysis import Transform

MODELS = ("a", "b", "c")
PATIENTS = {f"p{number:02d}": 6 for number in range(12)}
SEARCHES = ("random", "worst", "optimised")
COIL = tuple(Transform(f"coil_search-{each}", "coil_search", each, "of it") for each in SEARCHES)
PLACE = tuple(Transform(f"place_search-{each}", "place_search", each, "mm", moves=True) for each in SEARCHES)
EVERY = (*COIL, *PLACE)
RIGHT = {
    "clean": 0.9,
    **dict(zip((each.label for each in COIL), (0.85, 0.7, 0.4), strict=True)),
    **dict(zip((each.label for each in PLACE), (0.8, 0.5, 0.6), strict=True)),
}


def outcome(cell: Cell, patient: str, image: int) -> bool:
    # The same draw for all, so that a higher fraction is never wrong where a lower one is right.
    return bool(generator(0, patient, image).random() < RIGHT.get(cell.perturbation, 0.3))


@pytest.fixture(scope="module")
def results():
    plain = made_rows.classification(outcome, PATIENTS)
    cells = [
        Cell(model, each.label, model)
        for model in MODELS
        for each in EVERY
        if (model, each.label) != ("c", "coil_search-optimised")  # it has no gradient
    ]
    rows = made_rows.predictions(cells, PATIENTS, outcome).with_columns(role=pl.lit("transform"))
    return replace(
        plain, predictions=pl.concat([plain.predictions, rows], how="diagonal_relaxed"), transforms=EVERY
    )


def accuracy(results, model, label):
    rows = results.every_row.filter(pl.col("target") == model, pl.col("perturbation") == label)
    return rows.select((pl.col("label") == pl.col("prediction")).mean()).item()


def test_every_search_of_every_family_and_network(results):
    table = transforms(results)
    assert table.select("target", "perturbation").rows() == [
        (model, each.label)
        for model in MODELS
        for each in EVERY
        if (model, each.label) != ("c", "coil_search-optimised")
    ]
    for row in table.iter_rows(named=True):
        score = accuracy(results, row["target"], row["perturbation"])
        clean, drawn = (
            accuracy(results, row["target"], label) for label in ("clean", f"{row['family']}-random")
        )
        assert row["score"] == pytest.approx(score)
        assert row["low"] <= row["score"] <= row["high"]
        assert row["drop_points"] == pytest.approx(100 * (clean - score))
        if row["search"] == "random":
            assert row["beyond_random_points"] is None
        else:
            assert row["beyond_random_points"] == pytest.approx(100 * (drawn - score))
            assert row["beyond_random_points_low"] <= row["beyond_random_points"]


def test_the_worst_case_stands_beside_the_average_one(results):
    lost = {row["perturbation"]: row["drop_points"] for row in transforms(results).rows(named=True)[:6]}
    (sentence,) = transform_sentences(transforms(results))
    worst, drawn = lost["coil_search-optimised"], lost["coil_search-random"]
    assert f"coil {worst:.1f} points of a ({drawn:.1f} drawn at random); " in sentence
    assert "place" in sentence  # of c
    assert sentence in verdict(results).sentences


def test_an_optimised_search_that_is_weaker_is_said(results):
    said = [remark.sentence for remark in weak_searches(transforms(results))]
    assert len(said) == 3
    assert all(each.startswith("place_search: on ") for each in said)
    assert "less than the worst of as many draws" in said[0]


def test_they_are_in_no_other_table(results):
    without = replace(
        results, predictions=results.predictions.filter(pl.col("role") != "transform"), transforms=()
    )
    assert tables.table1(results).equals(tables.table1(without))
    assert tables.table2(results).equals(tables.table2(without))
    assert verdict(results).pairs.equals(verdict(without).pairs)
    assert transforms(without).is_empty()
    assert transform_sentences(transforms(without)) == []
