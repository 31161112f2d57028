"""Spread between patients and between trainings."""

import numpy as np
import polars as pl
import pytest

import made_rows
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell
from medrobust.analysis.seeds import variance
from medrobust.analysis.tables import by_patient
from medrobust.rng import generator

PATIENTS = {f"p{number}": 4 for number in range(12)}


def trained(target_seeds: int, source_seeds: int) -> Results:
    def right(cell: Cell, patient: str, image: int) -> bool:
        return bool(generator(5, *map(str, cell), patient, image).random() < 0.7)

    results = made_rows.classification(right, PATIENTS, models=("a", "b"), seeds=target_seeds)
    crafted = pl.col("source") != ""
    rows = [results.predictions]
    for seed in range(2, source_seeds + 1):
        turned = results.predictions.filter(crafted).with_columns(
            source_seed=pl.lit(seed, pl.Int64),
            prediction=(pl.col("prediction") + pl.col("case_id").str.slice(1, 1).cast(pl.Int64) // seed) % 2,
        )
        rows.append(turned)
    return Results(**{**vars(results), "predictions": pl.concat(rows)})


@pytest.fixture(scope="module")
def results() -> Results:
    return trained(3, 4)


def row_of(table: pl.DataFrame, condition: str) -> dict:
    return table.row(by_predicate=(pl.col("model") == "b") & (pl.col("condition") == condition), named=True)


def test_spread_between_patients_is_that_of_their_scores(results: Results) -> None:
    patients = by_patient(results).filter(model="b")
    for condition in ("clean", "noise", "adversarial"):
        row = row_of(variance(results), condition)
        assert row["sd_patients"] == pytest.approx(np.std(patients[condition].to_numpy(), ddof=1))
        assert row["n_patients"] == 12


def test_spread_between_trainings_is_that_of_their_means(results: Results) -> None:
    rows = results.predictions.filter(pl.col("role") == "transfer", target="b").filter(
        pl.col("perturbation").is_in(["fgsm", "deepfool"])
    )
    right = (pl.col("label") == pl.col("prediction")).mean()
    row = row_of(variance(results), "adversarial")
    for column, name, number in (("target_seed", "targets", 3), ("source_seed", "surrogates", 4)):
        means = rows.group_by(column).agg(right.alias("mean"))["mean"].to_numpy()
        assert row[f"n_{name}"] == len(means) == number
        assert row[f"sd_{name}"] == pytest.approx(np.std(means, ddof=1))
    clean = row_of(variance(results), "clean")
    assert (clean["n_surrogates"], clean["sd_surrogates"]) == (0, None)


def test_two_trainings_show_no_variance() -> None:
    row = row_of(variance(trained(2, 1)), "adversarial")
    assert (row["n_targets"], row["n_surrogates"]) == (2, 1)
    assert row["sd_targets"] is row["sd_surrogates"] is None
    assert row["sd_patients"] > 0
