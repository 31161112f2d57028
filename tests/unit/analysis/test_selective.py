"""Whether confidence warns of mistakes, in a study: clean it does, under attack it does not."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

import made_rows
from medrobust.analysis.selective import (
    AREAS,
    Given,
    _answered,
    _area,
    _difference,
    _estimate,
    confidence_sentences,
    risk_coverage,
    selective,
    selective_pairs,
)
from medrobust.analysis.verdict import verdict
from medrobust.errors import RunError
from medrobust.metrics.selective import aurc, excess_aurc, selective_risk
from medrobust.rng import generator
from medrobust.stats import accuracy_interval
from medrobust.stats.intervals import wilson


def photos(warns, patients=40, images=2, level=0.7, **options):
    """Networks whose confidence in mistakes is lower in cells that `warns` names."""

    def right(cell, patient, image):
        return bool(generator(5, *map(str, cell), patient, str(image)).random() < level)

    names = {f"p{number:02}": images for number in range(patients)}
    results = made_rows.classification(right, names, **options)
    rows = results.predictions
    told = (rows["label"] != rows["prediction"]).to_numpy() & np.array(
        [warns(target, source) for target, source in rows.select("target", "source").iter_rows()]
    )
    sure = np.round(0.95 - 0.3 * told + generator(5, "confidence").uniform(-0.12, 0.05, rows.height), 2)
    first = np.where(rows["prediction"].to_numpy() == 0, sure, 1 - sure)
    probabilities = pl.Series(np.stack([first, 1 - first], 1).tolist())
    return replace(results, predictions=rows.with_columns(probabilities=probabilities))


@pytest.fixture(scope="module")
def results():
    return photos(lambda target, source: not source or target == "c")


def answers(results, **which):
    rows = results.predictions.filter(role="transfer" if "source" in which else "clean", **which)
    return (
        (rows["label"] != rows["prediction"]).to_numpy(),
        np.array(rows["probabilities"].to_list()).max(1),
        rows["patient_id"].to_numpy(),
    )


def test_numbers_are_means_over_the_cells(results):
    table = selective(results)
    row = table.filter(target="a", perturbation="fgsm").row(0, named=True)
    cells = [answers(results, target="a", perturbation="fgsm", source=source)[:2] for source in "abc"]
    wanted = np.mean([roc_auc_score(wrong, -sure) for wrong, sure in cells])
    assert row["failure_auroc"] == pytest.approx(wanted)
    assert row["aurc"] == pytest.approx(np.mean([aurc(*each) for each in cells]))
    assert row["excess_aurc"] == pytest.approx(np.mean([excess_aurc(*each) for each in cells]))
    assert row["risk_80"] == pytest.approx(np.mean([selective_risk(*each, 0.8) for each in cells]))
    assert (row["n_undefined"], row["n_cases"], row["n_patients"]) == (0, 80, 40)
    for name in ("failure_auroc", "aurc", "risk", "risk_90", "risk_80"):
        assert 0 <= row[f"{name}_low"] < row[name] < row[f"{name}_high"] <= 1
    clean = table.filter(target="a", perturbation="clean").row(0, named=True)
    wrong, _, patients = answers(results, target="a", perturbation="clean")
    assert tuple(clean[f"risk{end}"] for end in ("", "_low", "_high")) == pytest.approx(
        accuracy_interval(wrong, patients)
    )
    assert clean["risk_80"] < clean["risk_90"] < clean["risk"], "the clean ones are told"


def test_pairs_are_differences_of_the_same_patients(results):
    table, pairs = selective(results), selective_pairs(results)
    clean = {row["target"]: row for row in table.filter(perturbation="clean").iter_rows(named=True)}
    row = pairs.filter(condition="clean", first="a", second="b").row(0, named=True)
    for name in ("failure_auroc", "aurc"):
        assert row[f"{name}_difference"] == pytest.approx(clean["a"][name] - clean["b"][name])
        assert row[f"{name}_difference_low"] < row[f"{name}_difference"] < row[f"{name}_difference_high"]
    attacked = pairs.filter(condition="adversarial", first="a", second="c").row(0, named=True)
    assert attacked["failure_auroc_difference_high"] < 0, "only c warns under attack"
    assert attacked["aurc_difference_low"] > 0


def test_pairs_are_compared_where_both_were_attacked(results):
    """As where every network is attacked from the others: a and c share only what comes from b."""
    rows = results.predictions.filter(pl.col("source") != pl.col("target"))
    pairs = selective_pairs(replace(results, predictions=rows)).filter(condition="adversarial", first="a")
    assert pairs["failure_auroc_difference"].null_count() == 0
    wanted = {
        name: np.mean(
            [
                roc_auc_score(wrong, -sure)
                for attack in ("fgsm", "deepfool")
                for wrong, sure, _ in [answers(results, target=name, perturbation=attack, source="b")]
            ]
        )
        for name in "ac"
    }
    found = pairs.filter(second="c")["failure_auroc_difference"].item()
    assert found == pytest.approx(wanted["a"] - wanted["c"])


def test_the_verdict_names_networks_whose_confidence_falls_silent(results):
    (sentence,) = confidence_sentences(results)
    assert sentence in verdict(results).sentences
    assert "(chance: 0.5) is a 0." in sentence
    assert "; b 0." in sentence
    assert "c 0." not in sentence
    assert confidence_sentences(photos(lambda target, source: True)) == []
    assert confidence_sentences(photos(lambda target, source: False)) == [], "it never warned"


def test_curves_end_at_the_risk_of_all(results):
    curve = risk_coverage(results).filter(condition="clean", model="a")
    assert curve["coverage"].to_list() == pytest.approx([n / 20 for n in range(1, 21)])
    risk = selective(results).filter(target="a", perturbation="clean")["risk"].item()
    assert curve["risk"][-1] == pytest.approx(risk)
    assert curve["risk"][15] == pytest.approx(
        selective(results).filter(target="a", perturbation="clean")["risk_80"].item()
    )


def test_cells_that_are_all_right_are_counted_and_few_mistakes_have_no_interval():
    table = selective(photos(lambda target, source: True, level=1.0))
    assert set(table["n_undefined"]) == {1, 3}
    assert table["failure_auroc"].null_count() == table["aurc"].null_count() == table.height
    assert set(table["risk_80"]) == {0}
    assert table["risk_80_high"].min() > 0
    few = selective(photos(lambda target, source: True, level=0.98)).filter(perturbation="clean")
    assert few["failure_auroc"].null_count() < few.height
    assert few["failure_auroc_low"].null_count() == few["aurc_low"].null_count() == few.height


def test_label_maps_have_none():
    study = made_rows.segmentation(lambda *cell: (5, 5, 5), {"p0": ["s0"], "p1": ["s1"]})
    with pytest.raises(RunError, match="Confidence is stored for images as a whole"):
        selective(study)
    assert confidence_sentences(study) == []


# How often the intervals hold the truth: answers of which a rate is wrong, with confidence lower by `shift`.


def answered_photos(rng, patients, images, rate, shift):
    """Right and wrong answers; those of a patient, and their confidences, are alike if there are several."""
    common = rng.normal(size=(2, patients, 1)) * np.sqrt(0.5 * (images > 1))
    own = rng.normal(size=(2, patients, images)) * np.sqrt(1 - 0.5 * (images > 1))
    ease, sure = (common + own).reshape(2, -1)
    wrong = ease < stats.norm.ppf(rate)
    return Given(wrong, sure - shift * wrong, np.repeat(np.arange(patients), images))


@cache
def truth(name, rate, shift):
    given = answered_photos(generator(0, "truth"), 200_000, 1, rate, shift)
    return AREAS[name][0](given.wrong, given.confidence)


@pytest.mark.slow
@pytest.mark.parametrize("name", AREAS)
@pytest.mark.parametrize(("rate", "shift"), [(0.05, 2.0), (0.1, 1.0), (0.3, 0.0), (0.3, 1.0), (0.7, 0.5)])
@pytest.mark.parametrize("patients", [12, 20, 50, 200])
@pytest.mark.parametrize("images", [1, 3])
def test_intervals_of_areas_hold_the_truth(name, rate, shift, patients, images):
    rng, held = generator(0, "selective", name, str(patients)), []
    for _ in range(600):
        given = answered_photos(rng, patients, images, rate, shift)
        low, high = _estimate(_area([given], name), name, 0.95)[1:]
        if not np.isnan(low):
            held.append(low <= truth(name, rate, shift) <= high)
    assert len(held) < 60 or np.mean(held) >= 0.93 - 1.5 * np.sqrt(0.93 * 0.07 / len(held))


@pytest.mark.slow
@pytest.mark.parametrize("name", AREAS)
@pytest.mark.parametrize(("rate", "shift"), [(0.1, 1.0), (0.3, 1.0)])
@pytest.mark.parametrize("patients", [12, 20, 50, 200])
def test_intervals_of_differences_hold_the_truth(name, rate, shift, patients):
    """Two networks of which one tells its mistakes, the other does not."""
    rng, held = generator(0, "differences", name, str(patients)), []
    wanted = truth(name, rate, shift) - truth(name, rate, 0.0)
    for _ in range(600):
        first = _area([answered_photos(rng, patients, 1, rate, shift)], name)
        second = _area([answered_photos(rng, patients, 1, rate, 0.0)], name)
        low, high = _difference(first, second, 0.95)[1:]
        if not np.isnan(low):
            held.append(low <= wanted <= high)
    assert len(held) < 60 or np.mean(held) >= 0.93 - 1.5 * np.sqrt(0.93 * 0.07 / len(held))


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "shift"), [(0.1, 1.0), (0.3, 0.0), (0.7, 0.5)])
@pytest.mark.parametrize("patients", [12, 50, 200])
@pytest.mark.parametrize("images", [1, 3])
def test_intervals_of_risks_hold_the_truth(rate, shift, patients, images):
    rng = generator(0, "risks", str(patients))
    given = answered_photos(generator(0, "truth"), 200_000, 1, rate, shift)
    wanted = selective_risk(given.wrong, given.confidence, 0.8)
    held = []
    for _ in range(600):
        each = answered_photos(rng, patients, images, rate, shift)
        _, low, high = wilson(*_answered([each], 0.8), 0.95)
        held.append(low <= wanted <= high)
    assert np.mean(held) >= 0.93 - 1.5 * np.sqrt(0.93 * 0.07 / 600)
