"""The threat-model ladder, from made rows: what stands on each rung, the choice, tests and sentences."""

import re
from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis.corruptions import corruption_tables
from medrobust.analysis.remarks import _unchosen as unchosen
from medrobust.analysis.scores import Cell
from medrobust.analysis.threats import (
    RUNGS,
    strongest_transfer,
    threat_pairs,
    threat_sentences,
    threats,
    transfer_candidates,
    weak_rungs,
)
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator
from medrobust.study.analysis import Attack, Ladder

MODELS = made_rows.MODELS
PATIENTS = {f"p{number:02d}": 6 for number in range(14)}
TRANSFERRED = (Attack("mi", beyond_paper=True), Attack("strong", beyond_paper=True))
DIRECT = (
    Attack("square", beyond_paper=True, needs="scores", crafted_on="targets"),
    Attack("apgd", beyond_paper=True, crafted_on="targets"),
    Attack("worst", beyond_paper=True, crafted_on="targets"),
)
ATTACKS = (Attack("fgsm"), *TRANSFERRED, *DIRECT)
LADDER = Ladder(2 / 255, tuple(each.label for each in ATTACKS[1:]), ("signs",))
RIGHT = {"clean": 0.95, "signs": 0.9, "mi": 0.7, "strong": 0.5, "square": 0.3, "apgd": 0.2, "worst": 0.1}


def outcome(cell: Cell, patient: str, image: int) -> bool:
    fraction = RIGHT.get(cell.perturbation, 0.8)
    if cell.target == "b":  # far better than the others under transferred attacks, far worse in the white box
        fraction += {"mi": 0.25, "strong": 0.45, "apgd": -0.2, "worst": -0.1}.get(cell.perturbation, 0)
    if cell.target == "a" and cell.perturbation in ("worst", "apgd"):
        fraction += 0.7
    if cell.source == "c" and cell.perturbation in ("mi", "strong"):
        fraction -= 0.1
    return bool(generator(0, patient, image).random() < fraction)


def on_validation(cell: Cell, patient: str, image: int) -> bool:
    """On validation cases another source looks strongest than on test cases, and for `b` another attack."""
    chosen = {"a": ("strong", "b"), "b": ("mi", "a"), "c": ("strong", "c")}[cell.target]
    fraction = 0.2 if (cell.perturbation, cell.source) == chosen else 0.6
    return bool(generator(1, patient, image).random() < fraction)


@pytest.fixture(scope="module")
def results():
    labels = [each.label for each in (ATTACKS[0], *TRANSFERRED)]
    cells = made_rows.grid(MODELS, labels, ("gaussian",))
    direct = [Cell(model, each.label, model, whitebox=True) for model in MODELS for each in DIRECT]
    noise = [Cell(model, "signs") for model in MODELS]
    rows = made_rows.predictions([*cells, *direct], PATIENTS, outcome)
    fixed = made_rows.predictions(noise, PATIENTS, outcome).with_columns(role=pl.lit("noise"))
    seen = [cell for cell in cells if cell.perturbation in ("mi", "strong") and not cell.whitebox]
    plain = made_rows.classification(outcome, PATIENTS, attacks=ATTACKS[:1])
    return replace(
        plain,
        attacks=ATTACKS,
        predictions=pl.concat([rows, fixed]),
        validation=made_rows.predictions(seen, {f"v{number}": 5 for number in range(8)}, on_validation),
        ladder=LADDER,
    )


def accuracy(results, target, label, source=None, role=None):
    keep = [pl.col("target") == target, pl.col("perturbation") == label]
    keep += [pl.col("source") == source] if source else []
    keep += [pl.col("role") == role] if role else []
    return results.rows.filter(*keep).select((pl.col("label") == pl.col("prediction")).mean()).item()


def rungs(results):
    return threats(results, corruption_tables(results)["corruptions"])


def test_every_rung_has_the_score_of_what_stands_for_it(results):
    table = rungs(results)
    assert table.filter(target="a")["rung"].to_list() == [
        *(rung for rung in RUNGS if rung != "decisions only"),
        "matched noise",
    ]
    rows = {(row["target"], row["rung"]): row for row in table.iter_rows(named=True)}
    for model in MODELS:
        mi, strong = (accuracy(results, model, label, role="transfer") for label in ("mi", "strong"))
        wanted = {
            "clean": accuracy(results, model, "clean"),
            "random noise": accuracy(results, model, "signs"),
            "transferred, mean": (mi + strong) / 2,
            "scores only": accuracy(results, model, "square", role="whitebox"),
            "white box": min(accuracy(results, model, label, role="whitebox") for label in ("apgd", "worst")),
        }
        for rung, score in wanted.items():
            row = rows[model, rung]
            assert row["score"] == pytest.approx(score)
            assert row["low"] <= row["score"] <= row["high"]
            if rung != "clean":
                assert row["drop_points"] == pytest.approx(100 * (wanted["clean"] - score))
    assert rows["a", "white box"]["bound"] == "L∞ ≤ 2/255"
    assert rows["a", "matched noise"]["bound"] == "SSIM of the transferred attacks"
    assert rows["a", "matched noise"]["perturbation"] == "mean of 6"


def test_the_strongest_transfer_is_chosen_on_validation_cases_and_scored_on_test_cases(results):
    table = {row["target"]: row for row in strongest_transfer(results).iter_rows(named=True)}
    assert [(row["perturbation"], row["source"]) for row in table.values()] == [
        ("strong", "b"),
        ("mi", "a"),
        ("strong", "c"),
    ]
    row = table["b"]
    assert row["score"] == pytest.approx(accuracy(results, "b", "mi", "a"))
    lowest = min(accuracy(results, "b", label, source) for label in ("mi", "strong") for source in MODELS)
    assert row["score"] > lowest  # the lowest on test cases was not chosen
    seen = results.validation.filter(pl.col("target") == "b", pl.col("perturbation") == "mi", source="a")
    assert row["validation"] == pytest.approx(
        seen.select((pl.col("label") == pl.col("prediction")).mean()).item()
    )
    mean = sum(accuracy(results, "a", label, role="transfer") for label in ("mi", "strong")) / 2
    assert table["a"]["average"] == pytest.approx(mean)
    assert table["a"]["beyond_average_points"] == pytest.approx(100 * (mean - table["a"]["score"]))
    assert table["a"]["adversarial"] == pytest.approx(accuracy(results, "a", "fgsm", role="transfer"))
    assert transfer_candidates(results).height == 3 * 2 * 3


def test_folds_are_scored_apart_before_they_are_averaged(results):
    first = results.validation.with_columns(fold=pl.lit(0, pl.Int64))
    second = first.filter(pl.col("patient_id") == "v1").with_columns(fold=pl.lit(1, pl.Int64))
    folded = replace(results, validation=pl.concat([first, second]))
    cell = Cell("a", "strong", "b")
    alone = [replace(results, validation=rows).on_validation[cell] for rows in (first, second)]
    assert folded.on_validation[cell] == pytest.approx(sum(alone) / 2)


def test_networks_that_change_places_are_told_by_tests_of_a_family_of_their_own(results):
    pairs = threat_pairs(results)
    assert pairs.height == 6 * 3
    assert (pairs["p_holm"] >= pairs["p"]).all()
    ahead = {(row["rung"], row["first"], row["second"]): row["better"] for row in pairs.iter_rows(named=True)}
    assert ahead["transferred, mean", "a", "b"] == "b"
    assert ahead["white box", "a", "b"] == "a"
    assert ahead["clean", "a", "b"] is None
    transfer, white, order = threat_sentences(results)
    assert transfer.startswith(
        "Against an attacker without the weights, who changes no entry by more than 2/255"
    )
    assert "under the strongest of them, chosen on 8 validation patients, a 0." in transfer
    assert "(strong from b)" in transfer
    assert "white box, the same budget" in white
    assert order.startswith("Networks change places from rung to rung, in 18 comparisons (Holm")
    assert "b is ahead of a" in order
    assert "behind by" in order
    assert set(verdict(results).sentences) >= {transfer, white, order}


def test_of_a_network_without_a_white_box_the_highest_rung_is_told(results):
    shut = pl.col("target").is_in(["b", "c"]) & pl.col("perturbation").is_in(["apgd", "worst"])
    boxes = replace(results, predictions=results.predictions.filter(~shut))
    _, white, scores, _ = threat_sentences(boxes)
    assert re.search(r"weights \(white box, the same budget\) it is a 0\.\d+\. To withstand", white)
    assert re.search(r"answers \(scores only, the same budget\) it is b 0\.\d+, c 0\.\d+\.$", scores)
    told = threat_sentences(replace(boxes, ladder=LADDER._replace(attacks=("square",))))[0]
    assert re.match(r"Against one who .* \(scores only, at most 2/255 an entry\) accuracy is a 0", told)
    assert "Clean it is a 0." in told
    assert "To withstand" not in told


def test_where_no_order_is_clear_none_is_said_to_change(results):
    alike = replace(
        results,
        predictions=made_rows.predictions(
            made_rows.grid(MODELS, ["fgsm", "mi", "strong"], ["gaussian"]),
            PATIENTS,
            lambda cell, patient, image: image < 4,
        ),
        validation=None,
        attacks=ATTACKS[:3],
        ladder=Ladder(2 / 255, ("mi", "strong")),
    )
    *_, order = threat_sentences(alike)
    assert order.startswith("On no rung can networks be told apart")
    few = replace(alike, predictions=alike.predictions.filter(pl.col("patient_id").is_in(["p01", "p02"])))
    *_, order = threat_sentences(few)
    assert order.startswith("Too few patients to say whether networks change places")


def test_a_rung_that_knows_less_and_takes_more_is_remarked(results):
    (remark,) = weak_rungs(rungs(results).filter(target="a"))
    assert remark.about == "ladder"
    assert "a: 'scores only' takes" in remark.sentence
    assert "more than 'white box'" in remark.sentence
    assert not [*weak_rungs(rungs(results).filter(target="c"))]


def test_without_validation_cases_the_strongest_is_not_chosen_and_the_report_says_so(results):
    without = replace(results, validation=results.validation.head(0))
    assert strongest_transfer(without).is_empty()
    assert "transferred, strongest" not in rungs(without)["rung"]
    (remark,) = unchosen(rungs(without))
    assert "chosen on validation cases" in remark.sentence
    assert not [*unchosen(rungs(results))]


def test_rungs_enter_no_average(results):
    assert results.averaged == ("fgsm",)
    # As of several findings, of which the paper has none.
    others = replace(results, attacks=tuple(each._replace(beyond_paper=False) for each in ATTACKS))
    assert others.averaged == ("fgsm",)


def test_without_a_ladder_there_is_nothing():
    plain = made_rows.classification(outcome, {"p": 2})
    for table in (rungs, threat_pairs, strongest_transfer, transfer_candidates):
        assert table(plain).is_empty()
    assert threat_sentences(plain) == []
