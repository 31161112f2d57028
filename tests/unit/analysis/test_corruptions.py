"""Tables and sentences of corruptions, from made rows."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis import corruptions, tables
from medrobust.analysis.scores import Cell
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator
from medrobust.study.analysis import ORIENTATION, Corruption

MODELS = ("a", "b", "c")
PATIENTS = {f"p{number:02d}": 6 for number in range(12)}
NOISE = tuple(Corruption(f"noise-{step}", "noise", step, 0.1 * step, preset="p") for step in (1, 2, 3))
BLUR = tuple(Corruption(f"blur-{step}", "blur", step, float(step), preset="p") for step in (1, 2))
FLIP = (Corruption("flip", ORIENTATION, None, moves=True),)
EVERY = (*reversed(NOISE), *BLUR, *FLIP)
RIGHT = {
    "clean": 0.9,
    "noise-1": 0.8,
    "noise-2": 0.7,
    "noise-3": 0.5,
    "blur-1": 0.85,
    "blur-2": 0.6,
    "flip": 0.1,
}


def outcome(cell: Cell, patient: str, image: int) -> bool:
    fraction = RIGHT.get(cell.perturbation, 0.4)
    if cell.target == "b":  # better on clean images, worse on all others
        fraction += 0.1 if cell.perturbation == "clean" else -0.25
    # The same draw for all, so that a higher fraction is never wrong where a lower one is right.
    return bool(generator(0, patient, image).random() < fraction)


@pytest.fixture(scope="module")
def results():
    plain = made_rows.classification(outcome, PATIENTS)
    cells = [Cell(model, each.label) for model in MODELS for each in EVERY]
    rows = made_rows.predictions(cells, PATIENTS, outcome).with_columns(role=pl.lit("corruption"))
    return replace(
        plain, predictions=pl.concat([plain.predictions, rows], how="diagonal_relaxed"), corruptions=EVERY
    )


def corrupted(results):
    return corruptions.corruption_tables(results)["corruptions"]


def accuracy(results, model, label):
    rows = results.every_row.filter(pl.col("target") == model, pl.col("perturbation") == label)
    return rows.select((pl.col("label") == pl.col("prediction")).mean()).item()


def test_every_severity_of_every_family_and_network(results):
    table = corruptions.levels(results)
    assert table.select("target", "perturbation").rows() == [
        (model, each.label) for model in MODELS for each in (*NOISE, *BLUR, *FLIP)
    ]
    for row in table.iter_rows(named=True):
        assert row["score"] == pytest.approx(accuracy(results, row["target"], row["perturbation"]))
        assert row["low"] <= row["score"] <= row["high"]
        lost = accuracy(results, row["target"], "clean") - row["score"]
        assert row["drop_points"] == pytest.approx(100 * lost)


def test_families_count_the_same_and_so_do_their_severities(results):
    summary = {row["model"]: row for row in corrupted(results).iter_rows(named=True)}
    for model in MODELS:
        noise = sum(accuracy(results, model, each.label) for each in NOISE) / 3
        blur = sum(accuracy(results, model, each.label) for each in BLUR) / 2
        assert summary[model]["corrupted"] == pytest.approx((noise + blur) / 2)
        assert summary[model]["worst"] == pytest.approx(min(noise, blur))


def test_wrong_orientations_are_in_no_mean(results):
    without = replace(results, corruptions=(*NOISE, *BLUR))
    columns = list(corruptions.SUMMARY)
    assert_frame_equal(corrupted(results).select(columns), corrupted(without).select(columns))
    assert ORIENTATION in corruptions.by_family(results)["family"]
    assert set(corruptions.by_family(results).filter(family=ORIENTATION)["degradation"]) == {None}


def test_errors_are_relative_to_the_first_network_or_the_one_named(results):
    table = corrupted(results)
    assert table.filter(model="a").select("be", "relative_be", "baseline").row(0) == pytest.approx(
        (1.0, 1.0, "a")
    )
    named = replace(results, settings=replace(results.settings, baseline="b"))
    assert corrupted(named).filter(model="b")["be"].item() == pytest.approx(1)
    assert corrupted(named).filter(model="a")["be"].item() < 1


def test_alexnet_is_the_baseline_where_it_was_measured(results):
    record = {"data": {"name": "medmnist", "facts": {"dataset": "dermamnist"}, "shape": [224, 224]}}
    published = tuple(each._replace(family="pixelate", preset="medmnist-c-derma") for each in NOISE)
    measured = replace(results, corruptions=published, record=record)
    name, errors = corruptions.baseline_of(measured)
    assert name == "MedMNIST-C's AlexNet"
    assert (errors["pixelate"], errors["clean"]) == pytest.approx((0.51051, 0.39858), abs=1e-5)
    small = replace(measured, record={"data": {**record["data"], "shape": [128, 128]}})
    assert corruptions.baseline_of(small)[0] == "a"
    other = replace(measured, corruptions=tuple(each._replace(preset="imagenet-c") for each in published))
    assert corruptions.baseline_of(other)[0] == "a"


def test_other_tables_do_not_know_of_corruptions(results):
    plain = replace(
        results, corruptions=(), predictions=results.predictions.filter(pl.col("role") != "corruption")
    )
    for table in (tables.table1, tables.table2, tables.noise_table, tables.by_patient):
        assert_frame_equal(table(results), table(plain))
    assert corrupted(plain).is_empty()
    assert corruptions.levels(plain).is_empty()
    assert corruptions.corruption_pairs(plain).is_empty()
    assert not [each for each in verdict(plain).sentences if "orruption" in each]


def test_pairs_are_a_family_of_their_own(results):
    table = corruptions.corruption_pairs(results)
    rows = {(row["first"], row["second"]): row for row in table.iter_rows(named=True)}
    assert rows["a", "b"]["verdict"] == "ranked"
    assert rows["a", "b"]["better"] == "a"
    assert rows["a", "b"]["clean_difference"] < 0  # b is better on clean images
    assert rows["a", "c"]["verdict"] == "not distinguishable"
    assert rows["a", "c"]["difference"] == pytest.approx(0)
    assert rows["a", "b"]["p_holm"] >= rows["a", "b"]["p"]
    said = " ".join(verdict(results).sentences)
    assert "a is more robust than b to these corruptions: mean accuracy +0.2" in said
    assert "Under corruptions these cannot be distinguished: a and c." in said


def test_what_moves_is_compared_with_clean_images_at_the_same_pixels(results):
    moved = Corruption("shift-1", "shift", 1.0, 8.0, "mm", moves=True)
    cells = [Cell(model, label) for model in MODELS for label in ("shift-1", "clean@shift-1")]

    def right(cell, patient, image):
        return bool(generator(1, patient, image).random() < (0.6 if cell.perturbation == "shift-1" else 0.7))

    rows = made_rows.predictions(cells, PATIENTS, right).with_columns(role=pl.lit("corruption"))
    both = replace(
        results,
        corruptions=(moved,),
        predictions=pl.concat([results.predictions.filter(pl.col("role") != "corruption"), rows]),
    )
    row = corruptions.levels(both).row(0, named=True)
    assert row["reference"] == pytest.approx(accuracy(both, "a", "clean@shift-1"))
    assert row["drop_points"] == pytest.approx(100 * (row["reference"] - row["score"]))
    assert row["ssim"] is None
    assert corrupted(both)["clean"][0] == pytest.approx(accuracy(both, "a", "clean"))


def test_what_a_network_was_trained_on_is_in_no_mean_of_any_network(results):
    trained = tuple(each._replace(trained_on=("b",)) if each.family == "noise" else each for each in EVERY)
    seen = replace(results, corruptions=trained)
    without = replace(results, corruptions=(*BLUR, *FLIP))
    assert_frame_equal(corrupted(seen), corrupted(without))
    assert_frame_equal(corruptions.corruption_pairs(seen), corruptions.corruption_pairs(without))
    families = corruptions.by_family(seen)
    assert families.filter(family="noise").select("trained_on").to_series().unique().to_list() == ["b"]
    assert families.filter(family="blur")["trained_on"].null_count() == len(MODELS)
    (told, means, *_) = corruptions.corruption_sentences(seen, corruptions.corruption_tables(seen), None)
    assert told.endswith("because some were trained on them: noise (b).")
    assert means.startswith("Corruptions (1 family) take")


def test_networks_trained_on_every_family_are_not_compared_under_corruptions(results):
    seen = replace(results, corruptions=tuple(each._replace(trained_on=("a", "b")) for each in NOISE))
    assert corruptions.corruption_pairs(seen).is_empty()
    (told,) = corruptions.corruption_sentences(seen, corruptions.corruption_tables(seen), None)
    assert told.endswith("noise (a, b). None is left, so networks are not compared under corruptions.")
