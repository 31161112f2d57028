"""Mistakes that a study names, and what mistakes cost."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import made_rows
from medrobust import stats
from medrobust.analysis.endpoints import endpoint_pairs, endpoint_rates
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.rng import generator
from medrobust.study.endpoints import endpoints

MISSED = {"name": "missed", "truth": "malignant", "not": "malignant"}
ALARM = {"name": "alarm", "truth": ["benign"], "predicted": "malignant"}


def photos(settings):
    """Two images a patient, benign and malignant; mistakes get more frequent under attack."""

    def right(cell, patient, image):
        level = {"a": 0.8, "b": 0.6, "c": 0.6}[cell.target] if cell.source else 0.95
        return bool(generator(3, *map(str, cell), patient, str(image)).random() < level - 0.2 * image)

    patients = {f"p{number:02}": 2 for number in range(30)}
    return made_rows.classification(right, patients, settings=settings)


def test_rates_are_those_of_the_images_that_the_mistake_may_happen_to():
    results = photos(replace(made_rows.SETTINGS, endpoints=(MISSED, ALARM)))
    table = endpoint_rates(results)
    rows = results.predictions.filter(perturbation="clean", target="a").sort("patient_id")
    for name, label in (("missed", 1), ("alarm", 0)):
        found = table.filter(endpoint=name, model="a").row(0, named=True)
        wrong = rows.filter(label=label).select(pl.col("prediction") != label).to_series().to_numpy()
        wanted = stats.accuracy_interval(wrong, range(30))
        assert (found["clean"], found["clean_low"], found["clean_high"]) == pytest.approx(wanted)
        assert (found["n_cases"], found["n_patients"]) == (30, 30)
        assert found["adversarial"] > found["clean"]
        more = 100 * (found["adversarial"] - found["clean"])
        assert found["extra_points_low"] < found["extra_points"] == pytest.approx(more)


def test_pairs_are_tested_on_the_same_patients():
    results = photos(replace(made_rows.SETTINGS, endpoints=(MISSED,)))
    rows = results.predictions.filter(pl.col("label") == 1, pl.col("role") == "transfer")
    attacked = rows.filter(pl.col("perturbation").is_in(["fgsm", "deepfool"]))
    wrong = (
        attacked.group_by("target", "patient_id").agg((pl.col("prediction") != 1).mean()).sort("patient_id")
    )
    first, second = (wrong.filter(target=name)["prediction"].to_numpy() for name in "ab")
    row = endpoint_pairs(results).filter(condition="adversarial", first="a", second="b").row(0, named=True)
    wanted = stats.compare_paired(first, second, range(30), per_case=True)
    assert (row["difference"], row["difference_low"], row["difference_high"]) == pytest.approx(
        (wanted.difference, *wanted.interval)
    )
    assert row["p"] == pytest.approx(wanted.p, abs=0.02), "signs are drawn: other draws"
    assert row["p_holm"] >= row["p"]


def test_costs_add_up_and_what_is_not_named_costs_1():
    results = photos(replace(made_rows.SETTINGS, costs={"malignant": {"benign": 10}}))
    found = endpoint_rates(results).filter(model="b").row(0, named=True)
    rows = results.predictions.filter(perturbation="clean", target="b").with_columns(
        cost=pl.when(pl.col("label") == pl.col("prediction")).then(0).otherwise(1 + 9 * pl.col("label"))
    )
    assert (found["endpoint"], found["n_cases"]) == ("mean cost", 60)
    assert found["clean"] == pytest.approx(rows["cost"].mean())
    assert found["clean_low"] < found["clean"] < found["clean_high"] < 10


def test_scans_have_volumes_and_lesions_that_are_missed_whole():
    shown = {"s0": (100, 90, 80), "s1": (100, 150, 90), "s2": (50, 0, 0), "s3": (0, 7, 0)}

    def counts(cell, scan, structure):
        return shown[scan] if structure == "left" else (100, 100, 100)

    asked = (
        {"name": "volume", "structure": "left", "volume_error": 0.2},
        {"name": "gone", "structure": "left", "missed": True},
    )
    results = made_rows.segmentation(
        counts,
        {"p0": ["s0", "s1"], "p1": ["s2"], "p2": ["s3"]},
        settings=replace(made_rows.SETTINGS, endpoints=asked),
    )
    table = endpoint_rates(results).filter(model="a")
    assert table["clean"].to_list() == pytest.approx([0.75, 0.5]), "scans, then patients; none without it"
    assert table.select("n_cases", "n_patients").rows() == [(3, 2), (3, 2)]
    assert set(endpoint_pairs(results)["p"]) == {1.0}, "the networks do not differ"


def test_without_endpoints_there_are_no_rows():
    assert endpoint_rates(photos(made_rows.SETTINGS)).is_empty()
    assert endpoint_pairs(photos(made_rows.SETTINGS)).is_empty()


SEGMENTATION, MULTILABEL = Task.SEGMENTATION, Task.MULTILABEL


@pytest.mark.parametrize(
    ("given", "task", "says"),
    [
        ({"name": "x", "truth": "melanom", "not": "mel"}, Task.CLASSIFICATION, "Did you mean 'melanoma'"),
        ({"name": "x", "truth": "nevus"}, Task.CLASSIFICATION, "one of not, predicted, such as"),
        ({"name": "x", "truth": "nevus", "predicted": "nevus"}, Task.CLASSIFICATION, "no mistake"),
        ({"name": "x", "truth": "nevus", "not": ["melanoma"]}, Task.CLASSIFICATION, "must name nevus too"),
        ({"name": "x", "truth": "MELANOMA", "not": "nevus"}, Task.CLASSIFICATION, "Did you mean 'melanoma'"),
        ({"truth": "nevus", "not": "nevus"}, Task.CLASSIFICATION, "has a name"),
        ({"name": "x", "trut": "nevus", "not": "nevus"}, Task.CLASSIFICATION, "no key 'trut'. Did you mean"),
        ({"name": "x", "truth": 3, "not": "nevus"}, Task.CLASSIFICATION, "a name or a list of names; got 3"),
        ({"name": "x", "truth": "nevus", "not": "melanoma"}, MULTILABEL, "the one finding of `truth`"),
        ({"name": "x", "structure": "nevos", "missed": True}, SEGMENTATION, "Unknown structure 'nevos'"),
        ({"name": "x", "structure": "nevus", "missed": False}, SEGMENTATION, "missed: must be true"),
        ({"name": "x", "structure": "nevus", "volume_error": -1}, SEGMENTATION, "at least 0; got -1"),
        ({"name": "x", "structure": "none", "missed": True}, SEGMENTATION, "Unknown structure 'none'"),
    ],
)
def test_what_cannot_be_counted_is_refused_before_any_work(given, task, says):
    with pytest.raises(StudyError, match=says):
        endpoints([given], {}, task, ("none", "nevus", "melanoma"))


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ({"nevus": {"melanom": 1}}, "Did you mean 'melanoma'"),
        ({"nevus": {"melanoma": "much"}}, "must be a cost, at least 0; got 'much'"),
        ({"nevus": {"nevus": 1}}, "a right answer costs nothing"),
    ],
)
def test_costs_that_make_no_sense_are_refused(costs, says):
    with pytest.raises(StudyError, match=says):
        endpoints([], costs, Task.CLASSIFICATION, ("nevus", "melanoma"))
    with pytest.raises(StudyError, match="one class; this study is one of segmentation"):
        endpoints([], costs, Task.SEGMENTATION)


def test_names_are_given_once():
    with pytest.raises(StudyError, match="the name 'missed' is taken"):
        endpoints([MISSED, MISSED], {}, Task.CLASSIFICATION)


def test_findings_are_missed_one_by_one():
    given = {"name": "missed effusion", "truth": "Effusion", "not": "Effusion"}
    (endpoint,) = endpoints([given], {}, Task.MULTILABEL, ("Mass", "Effusion"))
    assert endpoint.about == ("Effusion",)
    assert endpoint.score.of(np.array([0, 1, 0])).tolist() == [True, False, True]
