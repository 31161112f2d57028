import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import made_rows
from made_rows import MODELS
from medrobust.analysis import tables
from medrobust.analysis.classes import balanced_table
from medrobust.analysis.scores import Cell
from medrobust.analysis.structures import structures, worst_structures
from medrobust.errors import RunError
from medrobust.rng import generator
from medrobust.stats.intervals import mean, wilson
from medrobust.study.analysis import Attack, Settings

PATIENTS = {"p1": 3, "p2": 1, "p3": 2, "p4": 4}
SCANS = {"p1": ["p1-first", "p1-second"], "p2": ["p2-first"], "p3": ["p3-first"]}

NUMBERS = ("clean", "noise", "adversarial", "drop_points", "drop_percent")


def coin(cell: Cell, patient: str, image: int) -> bool:
    """Clean images are right three times of four, all others every second time."""
    chance = 0.75 if cell.perturbation == "clean" else 0.5
    return bool(generator(7, *map(str, cell), patient, image).random() < chance)


def overlap(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
    """Random counts; "right" is absent from the truth of the second scan but shown in it."""
    rng = generator(3, *map(str, cell), scan, structure)
    n_true = int(generator(3, scan, structure).integers(50, 90))
    n_pred = int(rng.integers(1, 90))
    if structure == "right" and scan == "p1-second":
        return 0, n_pred, 0
    return n_true, n_pred, int(rng.integers(0, min(n_true, n_pred) + 1))


@pytest.fixture(scope="module")
def photos():
    return made_rows.classification(coin, PATIENTS)


@pytest.fixture(scope="module")
def brains():
    return made_rows.segmentation(overlap, SCANS)


def dice_by_hand(cell: Cell) -> list[float]:
    """Dice of each patient, with loops."""
    patients = []
    for scans in SCANS.values():
        of_scans = []
        for scan in scans:
            values = []
            for structure in ("left", "right"):
                n_true, n_pred, n_both = overlap(cell, scan, structure)
                if n_true:
                    values.append(2 * n_both / (n_true + n_pred))
            of_scans.append(sum(values) / len(values))
        patients.append(sum(of_scans) / len(of_scans))
    return patients


def test_segmentation_cells_are_means_over_structures_scans_and_patients(brains):
    for row in tables.table2(brains).iter_rows(named=True):
        by_hand = dice_by_hand(Cell(row["target"], row["perturbation"], row["source"]))
        expected = mean(np.array(by_hand)).fraction_interval(0.95)
        assert (row["score"], row["low"], row["high"]) == pytest.approx(tuple(expected))
        assert (row["n_cases"], row["n_patients"]) == (16, 3)


def test_classification_cells_are_plain_means_over_images(photos):
    for row in tables.table2(photos).iter_rows(named=True):
        cell = Cell(row["target"], row["perturbation"], row["source"])
        right = [
            sum(coin(cell, patient, image) for image in range(number)) for patient, number in PATIENTS.items()
        ]
        expected = wilson(np.array(right, dtype=float), np.array([*PATIENTS.values()], dtype=float), 0.95)
        assert row["score"] == pytest.approx(sum(right) / 10)
        assert (row["low"], row["high"]) == pytest.approx(expected[1:])
        assert (row["n_cases"], row["n_patients"]) == (10, 4)


def test_an_average_of_accuracies_counts_every_outcome_and_takes_patients_as_clusters(photos):
    rows = photos.predictions.filter(role="transfer", target="a").filter(
        ~pl.col("perturbation").str.contains("@")
    )
    hits = rows.group_by("patient_id").agg(
        (pl.col("label") == pl.col("prediction")).sum().alias("right"), pl.len()
    )
    expected = wilson(hits["right"].to_numpy().astype(float), hits["len"].to_numpy().astype(float), 0.95)
    row = tables.table1(photos).row(0, named=True)
    assert hits["len"].sum() == 60
    assert (row["adversarial"], row["adversarial_low"], row["adversarial_high"]) == pytest.approx(expected)


@pytest.mark.parametrize("study", ["photos", "brains"])
def test_tables_name_every_cell_in_the_order_of_the_study(study, request):
    results = request.getfixturevalue(study)
    labels = [attack.label for attack in results.attacks]
    kind = results.noise[0]
    cells = list(itertools.product(MODELS, labels, MODELS))
    assert tables.table2(results).select("target", "perturbation", "source").rows() == cells
    matched = [(target, f"{kind}@{label}", source) for target, label, source in cells]
    assert tables.noise_table(results).select("target", "perturbation", "source").rows() == matched
    whitebox = tables.whitebox_table(results).select("target", "perturbation", "source").rows()
    assert whitebox == [(model, labels[0], model) for model in MODELS]
    assert tables.table2(results).columns == list(tables.TABLE2)


@pytest.mark.parametrize("study", ["photos", "brains"])
def test_table_1_is_made_of_the_means_of_table_2_and_of_the_noise_table(study, request):
    results = request.getfixturevalue(study)
    adversarial = tables.table2(results).group_by("target").agg(pl.col("score").mean())
    noise = tables.noise_table(results).group_by("target").agg(pl.col("score").mean())
    for row in tables.table1(results).iter_rows(named=True):
        assert row["adversarial"] == pytest.approx(dict(adversarial.iter_rows())[row["model"]])
        assert row["noise"] == pytest.approx(dict(noise.iter_rows())[row["model"]])
        assert row["drop_points"] == pytest.approx(100 * (row["clean"] - row["adversarial"]))
        assert row["drop_percent"] == pytest.approx(row["drop_points"] / row["clean"])
        for name in NUMBERS:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_whitebox_cells_enter_no_average(photos):
    spoiled = photos.predictions.with_columns(
        prediction=pl.when(pl.col("role") == "whitebox").then(1 - pl.col("label")).otherwise("prediction")
    )
    other = replace(photos, predictions=spoiled)
    assert_frame_equal(tables.table1(other), tables.table1(photos))
    assert tables.whitebox_table(other)["score"].to_list() == [0.0] * 3


def test_attacks_beyond_the_paper_stand_in_table_2_and_enter_no_average(photos):
    beyond = replace(photos, attacks=(Attack("fgsm"), Attack("deepfool", beyond_paper=True)))
    assert tables.table2(beyond).height == 18
    of_fgsm = tables.table2(photos).filter(perturbation="fgsm").group_by("target", maintain_order=True)
    means = of_fgsm.agg(pl.col("score").mean())["score"].to_list()
    assert tables.table1(beyond)["adversarial"].to_list() == pytest.approx(means)
    assert tables.table1(photos)["adversarial"].to_list() != pytest.approx(means)
    only = replace(photos, attacks=tuple(Attack(label, beyond_paper=True) for label in ("fgsm", "deepfool")))
    assert_frame_equal(tables.table1(only), tables.table1(photos))


def test_averages_run_over_sources_that_all_targets_face(photos):
    rows = photos.predictions.filter((pl.col("target") != "b") | (pl.col("source") != "c"))
    partly = replace(photos, predictions=rows)
    assert partly.sources == ("a", "b")
    assert partly.other_sources == ("c",)
    assert tables.table2(partly)["source"].unique().sort().to_list() == ["a", "b"]
    assert tables.other_sources_table(partly).select("target", "source").unique().sort("target").rows() == [
        ("a", "c"),
        ("c", "c"),
    ]
    kept = tables.table2(photos).filter(pl.col("source") != "c", target="a")["score"].mean()
    assert tables.table1(partly)["adversarial"][0] == pytest.approx(kept)


def test_off_diagonal_leaves_out_the_own_architecture(photos):
    others = tables.table2(photos).filter(pl.col("source") != "a", target="a")["score"].mean()
    table = tables.off_diagonal(photos)
    assert table["adversarial"][0] == pytest.approx(others)
    assert table["note"].unique().to_list() == ["not on identical images"]
    same = replace(photos, architectures={"a": "unet", "b": "unet", "c": "unet"})
    assert tables.off_diagonal(same)["adversarial"].to_list() == [None] * 3


def test_noise_of_fixed_strength_stands_in_for_matched_noise(photos):
    fixed = photos.predictions.filter(~pl.col("perturbation").str.contains("@")).vstack(
        photos.predictions.filter(pl.col("perturbation") == "clean").with_columns(
            perturbation=pl.lit("gaussian"), role=pl.lit("transfer"), prediction=pl.col("label")
        )
    )
    results = replace(photos, predictions=fixed)
    assert tables.table1(results)["noise"].to_list() == [1.0] * 3
    assert tables.noise_table(results).select("perturbation", "source").unique().rows() == [("gaussian", "")]


def test_without_noise_its_score_is_null(photos):
    quiet = photos.predictions.filter(~pl.col("perturbation").str.contains("@"))
    table = tables.table1(replace(photos, predictions=quiet, noise=()))
    assert table["noise"].null_count() == table["noise_low"].null_count() == 3
    assert table["adversarial"].null_count() == 0


def test_rounded_rows_are_a_table_1_of_their_own(photos):
    rounded = photos.predictions.filter(pl.col("source") != "").with_columns(
        perturbation=pl.col("perturbation") + "~8bit", prediction=pl.col("label")
    )
    results = replace(photos, predictions=photos.predictions.vstack(rounded))
    assert_frame_equal(tables.table1(results), tables.table1(photos))
    table = tables.rounded(results)
    assert table["rounding"].to_list() == ["8bit"] * 3
    assert table["adversarial"].to_list() == [1.0] * 3
    assert table["clean"].to_list() == tables.table1(photos)["clean"].to_list()
    assert tables.rounded(photos).is_empty()


def test_seeds_are_averaged_within_the_patient():
    two = made_rows.classification(coin, PATIENTS, seeds=2)
    images = [(patient, image) for patient, number in PATIENTS.items() for image in range(number)]
    by_seed = [sum(coin(Cell("a", "clean"), f"{p}/{seed}", i) for p, i in images) / 10 for seed in range(2)]
    assert tables.table1(two)["clean"][0] == pytest.approx(sum(by_seed) / 2)
    assert tables.table2(two)["n_cases"].unique().to_list() == [10]


def test_scans_with_dropped_cases_are_left_out_of_the_conditional_table_only(photos):
    assert tables.conditional_table(photos).is_empty()
    here = (pl.col("case_id") == "p1-0") & (pl.col("perturbation") == "fgsm") & (pl.col("source") == "b")
    outcome = pl.when(here).then(pl.lit("dropped")).otherwise("outcome")
    dropping = replace(photos, crafted=photos.crafted.with_columns(outcome=outcome))
    assert_frame_equal(tables.table1(dropping), tables.table1(photos))
    table = tables.conditional_table(dropping)
    assert table["n_cases"].unique().to_list() == [9]
    rest = photos.restricted(pl.col("case_id") != "p1-0")
    assert_frame_equal(table, tables.table2(rest))
    everything = replace(photos, crafted=photos.crafted.with_columns(outcome=pl.lit("dropped")))
    assert tables.conditional_table(everything).is_empty()


def test_patients_in_a_table_average_to_table_1(brains, photos):
    for results in (brains, photos):
        table = tables.by_patient(results).filter(model="b")
        weighted = np.average(table["adversarial"], weights=table["images"])
        assert weighted == pytest.approx(tables.table1(results)["adversarial"][1])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_tables_do_not_depend_on_the_order_of_rows(photos, brains, seed):
    shuffled = replace(photos, predictions=photos.predictions.sample(fraction=1, shuffle=True, seed=seed))
    assert_frame_equal(tables.table1(shuffled), tables.table1(photos), check_exact=True)
    shuffled = replace(brains, overlaps=brains.overlaps.sample(fraction=1, shuffle=True, seed=seed))
    assert_frame_equal(tables.table1(shuffled), tables.table1(brains), check_exact=True)
    assert_frame_equal(structures(shuffled), structures(brains), check_exact=True)


@pytest.mark.parametrize("interval", ["percentile", "bca", "bootstrap-t"])
@pytest.mark.parametrize("study", ["photos", "brains"])
def test_bootstraps_keep_the_values_and_repeat(study, interval, request):
    results = request.getfixturevalue(study)
    other = replace(results, settings=Settings(resamples=300, interval=interval))
    assert_frame_equal(tables.table1(other).select(NUMBERS), tables.table1(results).select(NUMBERS))
    assert_frame_equal(tables.table1(other), tables.table1(other), check_exact=True)
    assert not tables.table1(other)["clean_low"].equals(tables.table1(results)["clean_low"])


# Structures


def test_volume_errors_are_means_over_sources_then_patients(brains):
    row = structures(brains).row(
        by_predicate=(pl.col("target") == "b")
        & (pl.col("perturbation") == "dag_a")
        & (pl.col("structure") == "left"),
        named=True,
    )
    patients = []
    for scans in SCANS.values():
        counts = [overlap(Cell("b", "dag_a", source), scan, "left") for source in MODELS for scan in scans]
        patients.append(np.mean([n_pred / n_true - 1 for n_true, n_pred, _ in counts]))
    assert row["volume_error"] == pytest.approx(np.mean(patients))


def test_the_worst_structure_has_the_lowest_dice_of_its_target_and_perturbation(brains):
    table = structures(brains)
    worst = worst_structures(table)
    assert worst.select("target", "perturbation").is_unique().all()
    for row in worst.iter_rows(named=True):
        same = table.filter(target=row["target"], perturbation=row["perturbation"])
        assert row["score"] == same["score"].min()
    assert worst.height == table.select("target", "perturbation").n_unique()


def test_dice_of_a_structure_leaves_out_scans_without_it(brains):
    row = structures(brains).row(
        by_predicate=(pl.col("target") == "b")
        & (pl.col("perturbation") == "dag_a")
        & (pl.col("structure") == "right"),
        named=True,
    )
    values = []
    for scan in ("p1-first", "p2-first", "p3-first"):
        of_sources = []
        for source in MODELS:
            n_true, n_pred, n_both = overlap(Cell("b", "dag_a", source), scan, "right")
            of_sources.append(2 * n_both / (n_true + n_pred))
        values.append(sum(of_sources) / 3)
    shown = [overlap(Cell("b", "dag_a", source), "p1-second", "right")[1] for source in MODELS]
    assert row["score"] == pytest.approx(sum(values) / 3)
    assert row["n_patients"] == 3
    assert row["false_positive_pixels"] == pytest.approx(sum(shown) / 3)


def test_structures_come_in_the_order_of_the_study_without_background(brains):
    table = structures(brains)
    assert table["structure"].unique(maintain_order=True).to_list() == ["left", "right"]
    order = ["clean", "rician@dag_a", "rician@dag_b", "dag_a", "dag_b"]
    assert table["perturbation"].unique(maintain_order=True).to_list() == order
    assert table.filter(structure="left")["false_positive_pixels"].null_count() == 15


def test_a_patient_without_any_structure_is_left_out_and_counted():
    def absent(cell, scan, structure):
        return (0, 5, 0) if scan == "p2-first" else overlap(cell, scan, structure)

    panel = made_rows.segmentation(absent, SCANS).panel
    assert panel.patients == ("p1", "p3")
    assert panel.undefined == 1


# Balanced accuracy


def test_balanced_accuracy_stands_beside_accuracy(photos):
    table = balanced_table(photos)
    assert table.height == 3 * (1 + 6 + 6)
    rows = photos.predictions.filter(target="a", perturbation="fgsm", source="b")
    recalls = [(rows.filter(label=label)["prediction"] == label).mean() for label in (0, 1)]
    row = table.filter(target="a", perturbation="fgsm", source="b").row(0, named=True)
    assert row["balanced_accuracy"] == pytest.approx(sum(recalls) / 2)
    assert row["accuracy"] == pytest.approx((rows["label"] == rows["prediction"]).mean())


@pytest.mark.parametrize(("function", "study"), [(balanced_table, "brains"), (structures, "photos")])
def test_tables_of_the_other_task_are_refused(function, study, request):
    with pytest.raises(RunError, match="this study is one of"):
        function(request.getfixturevalue(study))
