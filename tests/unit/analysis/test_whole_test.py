from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis.export import all_tables
from medrobust.analysis.scores import Cell
from medrobust.analysis.tables import whole_test_table
from medrobust.analysis.verdict import verdict
from medrobust.errors import RunError

CLEAN = [Cell(model, "clean") for model in made_rows.MODELS]
RECORD = {"cases": {"attacked": 4, "test": 9}, "networks": {}}


def first_right(cell, patient, image):
    return image == 0


@pytest.fixture(scope="module")
def photos():
    """Two images a patient are attacked; the whole test set has three more of p1 and another patient."""
    rows = made_rows.predictions(CLEAN, {"p1": 5, "p2": 2, "p3": 2}, first_right)
    results = made_rows.classification(first_right, {"p1": 2, "p2": 2})
    return replace(results, whole_test=rows, record=RECORD)


def test_every_network_is_scored_on_all_test_cases(photos):
    table = whole_test_table(photos)
    assert table["model"].to_list() == ["a", "b", "c"]
    assert table["clean"].to_list() == pytest.approx([3 / 9] * 3)
    # Right are all first images: class 0 has 5 cases, 3 of them first ones; class 1 none.
    assert table["balanced_accuracy"].to_list() == pytest.approx([0.3] * 3)
    assert table["clean_low"][0] < 3 / 9 < table["clean_high"][0]
    assert table.select("n_cases", "n_patients").unique().rows() == [(9, 3)]


def test_no_other_table_depends_on_it(photos):
    with_it = all_tables(photos, verdict(photos))
    alone = replace(photos, whole_test=None)
    without = all_tables(alone, verdict(alone))
    assert with_it.keys() == without.keys()
    for name in with_it.keys() - {"whole_test"}:
        assert_frame_equal(with_it[name].rows, without[name].rows)
    assert without["whole_test"].rows.height == 0


def test_dice_of_all_slices_has_no_balanced_accuracy():
    scans = {"p1": ["s1"], "p2": ["s2"]}
    structures = ("background", "left", "right")
    rows = made_rows.overlaps(CLEAN, scans, structures, lambda cell, scan, structure: (10, 10, 5))
    results = made_rows.segmentation(lambda cell, scan, structure: (10, 10, 9), scans)
    table = whole_test_table(replace(results, whole_test=rows, record=RECORD))
    assert table.columns == ["model", "clean", "clean_low", "clean_high", "n_cases", "n_patients"]
    assert table["clean"].to_list() == pytest.approx([0.5] * 3)


def test_a_study_of_all_test_cases_has_none(photos):
    for rows in (None, photos.whole_test.clear()):
        assert whole_test_table(replace(photos, whole_test=rows)).is_empty()


def test_networks_must_have_seen_the_same_cases(photos):
    some = photos.whole_test.filter((pl.col("target") != "b") | (pl.col("case_id") != "p1-4"))
    with pytest.raises(RunError, match=r"clean on b .* lacks 1 of 9 rows: case_id p1-4"):
        whole_test_table(replace(photos, whole_test=some))
