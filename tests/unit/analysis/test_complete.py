from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.errors import RunError

PATIENTS = {"p1": 2, "p2": 3}


@pytest.fixture(scope="module")
def photos():
    return made_rows.classification(lambda cell, patient, image: image == 0, PATIENTS)


@pytest.fixture(scope="module")
def brains():
    return made_rows.segmentation(
        lambda cell, scan, structure: (10, 8, 4), {"p1": ["s1", "s2"], "p2": ["s3"]}
    )


def without(results, *predicates: pl.Expr):
    """The study without the rows for which all predicates hold."""
    return results.restricted(~pl.all_horizontal(*predicates))


def test_complete_rows_pass(photos, brains):
    assert len(photos.panel.cells) == len(brains.panel.cells) == 3 + 2 * 2 * 9 + 3


def test_missing_cases_of_a_cell_are_named(photos):
    cell = (pl.col("target") == "b", pl.col("perturbation") == "fgsm", pl.col("source") == "c")
    broken = without(photos, *cell, pl.col("patient_id") == "p2")
    with pytest.raises(
        RunError, match=r"fgsm from c on b .* lacks 3 of 5 rows: case_id p2-0, p2-1, p2-2\. Run the study"
    ):
        _ = broken.panel


def test_missing_clean_cases_are_named(photos):
    broken = without(
        photos, pl.col("perturbation") == "clean", pl.col("case_id") == "p1-1", pl.col("target") == "a"
    )
    with pytest.raises(RunError, match=r"same cases; clean on a .*: case_id p1-1\. Run the study"):
        _ = broken.panel


def test_a_missing_cell_is_named(photos):
    cell = (pl.col("target") == "b", pl.col("perturbation") == "deepfool", pl.col("source") == "c")
    with pytest.raises(
        RunError, match=r"missing: deepfool from c on b \(target_seed 0, source_seed 1\)\. Run the study"
    ):
        _ = without(photos, *cell).panel


def test_a_long_list_of_missing_cells_is_cut(photos):
    with pytest.raises(RunError, match=r"missing: deepfool from a on a .* and 6 more\. Run the study again"):
        _ = without(photos, pl.col("perturbation") == "deepfool").panel


def test_matched_noise_must_be_there_for_every_source_or_for_none(photos):
    noise = pl.col("perturbation").str.contains("@")
    _ = without(photos, noise).panel
    with pytest.raises(RunError, match=r"gaussian@fgsm from a on c"):
        _ = without(photos, noise, pl.col("target") == "c", pl.col("source") == "a").panel


def test_a_network_without_clean_images_is_named(photos):
    with pytest.raises(RunError, match=r"score on clean images; missing: b\."):
        _ = without(photos, pl.col("perturbation") == "clean", pl.col("target") == "b").panel
    with pytest.raises(RunError, match=r"score on clean images; missing: d\."):
        _ = replace(photos, models=("a", "d")).panel


def test_repeated_cases_are_refused(photos):
    twice = photos.predictions.vstack(
        photos.predictions.filter(case_id="p1-0", perturbation="clean", target="a")
    )
    with pytest.raises(RunError, match=r"clean on a .* case_id 'p1-0' was evaluated more than once"):
        _ = replace(photos, predictions=twice).panel


def test_scans_whose_evaluated_slices_differ_are_refused(brains):
    fewer = pl.col("n_true") - (pl.col("perturbation") == "dag_a").cast(pl.Int64) * (
        pl.col("scan_id") == "s2"
    )
    with pytest.raises(RunError, match=r"scan 's2' has 9 to 10 pixels of 'background' in the truth"):
        _ = replace(brains, overlaps=brains.overlaps.with_columns(n_true=fewer)).panel


def test_no_attack_at_all_is_said(photos):
    with pytest.raises(RunError, match="No images of fgsm, deepfool were evaluated"):
        _ = without(photos, pl.col("source") != "").panel


def test_no_rows_at_all_is_said(photos):
    with pytest.raises(RunError, match=r"results/predictions\.parquet holds no rows"):
        _ = replace(photos, predictions=None).panel
