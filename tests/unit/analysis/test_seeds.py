from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis import tables
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell
from medrobust.analysis.seeds import architectures, by_seed, enough_seeds, seeds_needed
from medrobust.analysis.verdict import verdict
from medrobust.errors import RunError
from medrobust.rng import generator

PATIENTS = {f"p{number:02}": 2 for number in range(30)}


def trained(spread: dict[str, float], target_seeds: int = 3) -> Results:
    """A study whose surrogates were trained twice; trainings of a target differ by `spread`."""

    def right(cell: Cell, patient: str, image: int) -> bool:
        level = {"a": 0.8, "b": 0.5}[cell.target] if cell.perturbation != "clean" else 0.95
        seed = patient.rpartition("/")[2]
        level += spread[cell.target] * generator(8, cell.target, seed).uniform(-1, 1)
        return bool(generator(9, *map(str, cell), patient, image).random() < level)

    results = made_rows.classification(right, PATIENTS, models=("a", "b"), noise=(), seeds=target_seeds)
    other = results.predictions.filter(pl.col("source") != "").with_columns(source_seed=pl.lit(2, pl.Int64))
    return replace(results, predictions=results.predictions.vstack(other))


@pytest.fixture(scope="module")
def steady():
    return trained({"a": 0.0, "b": 0.0})


def test_every_training_has_its_scores(steady):
    table = by_seed(steady)
    assert table.select("model", "target_seed").rows() == [
        (model, seed) for model in "ab" for seed in range(3)
    ]
    rows = steady.predictions.filter(pl.col("role") == "transfer", target="b", target_seed=1)
    assert table["adversarial"][4] == pytest.approx((rows["label"] == rows["prediction"]).mean())
    means = table.group_by("model", maintain_order=True).agg(pl.col("adversarial").mean())["adversarial"]
    assert means.to_list() == pytest.approx(tables.table1(steady)["adversarial"].to_list())


def test_architectures_are_compared_over_trainings_and_patients(steady):
    row = architectures(steady).row(0, named=True)
    a, b = tables.table1(steady)["adversarial"]
    assert row["difference"] == pytest.approx(a - b)
    assert 0 < row["difference_low"] < row["difference"] < row["difference_high"]
    assert any(
        "Across trainings as well as patients a stays ahead of b" in text
        for text in verdict(steady).sentences
    )


def test_trainings_that_differ_widen_the_interval(steady):
    unsteady = architectures(trained({"a": 0.0, "b": 0.45})).row(0, named=True)
    calm = architectures(steady).row(0, named=True)
    width, calm_width = (row["difference_high"] - row["difference_low"] for row in (unsteady, calm))
    assert width > 1.5 * calm_width


def test_surrogates_of_every_source_vary_by_themselves(steady):
    """Network a's first surrogate and b's second one are harder for a: seed by seed they even out."""
    harder = (pl.col("source") == "a") == (pl.col("source_seed") == 1)
    lost = (pl.col("role") == "transfer") & (pl.col("target") == "a") & harder
    wrong = pl.when(lost).then(1 - pl.col("label")).otherwise(pl.col("prediction"))
    uneven = replace(steady, predictions=steady.predictions.with_columns(prediction=wrong))
    width, calm_width = (
        row["difference_high"] - row["difference_low"]
        for row in (architectures(each).row(0, named=True) for each in (uneven, steady))
    )
    assert width > 3 * calm_width


def test_a_single_source_takes_a_third_surrogate(steady):
    one = steady.restricted(pl.col("source").is_in(["", "a"]))
    assert seeds_needed(one) == (3, 3)
    assert not enough_seeds(one)
    assert any("at least 3 target and 3 surrogate seeds" in text for text in verdict(one).sentences)


def test_two_trainings_say_nothing_about_architectures():
    few = trained({"a": 0.0, "b": 0.0}, target_seeds=2)
    assert not enough_seeds(few)
    assert architectures(few).is_empty()
    assert any("at least 3 target and 2 surrogate seeds" in text for text in verdict(few).sentences)


def test_a_missing_pair_of_seeds_is_refused(steady):
    one = (pl.col("target_seed") == 2) & (pl.col("source_seed") == 2) & (pl.col("source") == "b")
    broken = steady.restricted(~(one & (pl.col("perturbation") == "fgsm") & (pl.col("target") == "a")))
    with pytest.raises(RunError, match=r"fgsm from b on a \(target_seed 2, source_seed 2\)"):
        _ = broken.panel


def test_what_does_not_vary_has_no_interval():
    never = made_rows.classification(lambda *_: False, PATIENTS, models=("a", "b"), noise=(), seeds=3)
    other = never.predictions.filter(pl.col("source") != "").with_columns(source_seed=pl.lit(2, pl.Int64))
    row = architectures(replace(never, predictions=never.predictions.vstack(other))).row(0, named=True)
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (0.0, None, None)
