"""Price and gain of defences, from made rows."""

from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis.comparisons import Network
from medrobust.analysis.defences import (
    Twins,
    overfitted,
    overfitting,
    price,
    price_sentences,
    twins_of,
)
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator
from medrobust.study.analysis import Attack, Corruption, Ladder

PATIENTS = {f"p{number:02d}": 8 for number in range(14)}
JPEG, NOISE = Corruption("jpeg-1", "jpeg", 1.0), Corruption("noise-1", "noise", 1.0, trained_on=("b",))
ADVERSARIAL = {"method": "fast", "eps": 2 / 255, "steps": 1, "step": 0.01, "beta": None, "support": "auto"}
FAMILIES = {"affine": True, "corruptions": [{"name": "noise", "severity": [1]}], "gaussian": None}


def made_of(name: str, training: dict[str, object], **network: object) -> dict[str, object]:
    spec = {"architecture": "unet", "parameters": {"width": 4}, "input": {"size": None}, **network}
    usual = {"epochs": 3, "augment": True, **training}
    return {"name": name, "role": "target", "seed": 0, "fold": None, "network": spec, "training": usual}


NETWORKS = {
    "a-target-s0": made_of("a", {}),
    "b-target-s0": made_of("b", {"adversarial": ADVERSARIAL, "augment": FAMILIES}),
    "c-target-s0": made_of("c", {}, parameters={"width": 8}),
}


def right(cell, patient, image):
    fraction = {"clean": 0.9, "jpeg-1": 0.6, "noise-1": 0.6}.get(cell.perturbation, 0.3)
    if cell.whitebox:
        fraction = 0.1
    if cell.target == "b":
        fraction += -0.1 if cell.perturbation == "clean" else 0.4
    return bool(generator(0, patient, image).random() < fraction)


@pytest.fixture(scope="module")
def results():
    plain = made_rows.classification(right, PATIENTS)
    cells = [made_rows.Cell(model, each.label) for model in "abc" for each in (JPEG, NOISE)]
    rows = made_rows.predictions(cells, PATIENTS, right).with_columns(role=pl.lit("corruption"))
    every = pl.concat([plain.predictions, rows], how="diagonal_relaxed")
    record = {"networks": NETWORKS}
    return replace(plain, predictions=every, corruptions=(JPEG, NOISE), record=record)


def networks(results):
    return [Network(results, model, model) for model in results.models]


def test_twins_differ_in_the_defence_only(results):
    (found,) = twins_of(networks(results))
    assert (found.defended.name, found.plain.name) == ("b", "a")
    assert found.defence == "trained with fast, eps 2/255; trained on noise"


@pytest.mark.parametrize(
    "other",
    [
        made_of("b", {"adversarial": ADVERSARIAL, "epochs": 4}),
        made_of("b", {"adversarial": ADVERSARIAL}, parameters={"width": 5}),
        made_of("b", {"augment": False}),
    ],
)
def test_what_differs_otherwise_is_no_twin(results, other):
    record = {"networks": {**NETWORKS, "b-target-s0": other}}
    assert twins_of(networks(replace(results, record=record))) == []
    assert twins_of(networks(replace(results, record={}))) == []


def test_a_purifier_is_a_defence(results):
    purifier = {"name": "jpeg", "quality": 50, "revision": 1}
    purified = made_of("b", {}, input={"size": None, "purifier": purifier})
    (found,) = twins_of(networks(replace(results, record={"networks": NETWORKS | {"b-target-s0": purified}})))
    assert (found.defended.name, found.plain.name) == ("b", "a")
    assert found.defence == "purifier jpeg, quality 50"
    (told,) = price_sentences(price([found]), "accuracy")
    assert "is an upper bound: it counts only as far as an attack by scores" in told


def test_price_and_gain_are_paired_differences_of_scores(results):
    table = price(twins_of(networks(results)))
    assert set(table["model"]) == {"b"}
    conditions = ["clean", "matched noise", "transferred attacks", "white box", "corruptions"]
    assert table["condition"].to_list() == conditions
    rows = results.every_row.with_columns(right=pl.col("label") == pl.col("prediction"))

    def accuracy(target, *keys):
        return rows.filter(pl.col("target") == target, *keys)["right"].mean()

    keys = {
        "clean": [pl.col("perturbation") == "clean"],
        "transferred attacks": [pl.col("role") == "transfer", ~pl.col("perturbation").str.contains("@")],
        "white box": [pl.col("role") == "whitebox"],
        "corruptions": [pl.col("perturbation") == "jpeg-1"],  # b was trained on the other
    }
    for row in table.iter_rows(named=True):
        if row["condition"] in keys:
            one, other = (accuracy(target, *keys[row["condition"]]) for target in "ba")
            assert (row["score"], row["twin_score"]) == pytest.approx((one, other))
            assert row["gain_points"] == pytest.approx(100 * (one - other))
            assert row["gain_points_low"] <= row["gain_points"] <= row["gain_points_high"]
    assert table.filter(condition="clean")["gain_points"].item() < 0


def test_the_worst_case_is_each_networks_own_of_the_ladder_attacks_that_both_faced(results):
    def of(target, label):
        return made_rows.Cell(target, label, target, whitebox=True)

    shares = {("a", "weights"): 0.5, ("a", "scores"): 0.2, ("b", "weights"): 0.4, ("b", "scores"): 0.6}
    outcome = dict(zip(("a", "b"), ("scores", "weights"), strict=True))

    def answers(cell, patient, image):
        share = shares.get((cell.target, cell.perturbation), 0.0)
        return bool(generator(1, patient, image).random() < share)

    cells = [of(*each) for each in shares] + [of("a", "only-a")]
    rows = made_rows.predictions(cells, PATIENTS, answers)
    labels = ("weights", "scores", "only-a")
    attacks = (*results.attacks, *(Attack(label, crafted_on="targets") for label in labels))
    every = pl.concat([results.predictions, rows], how="diagonal_relaxed")
    climbed = replace(results, predictions=every, attacks=attacks, ladder=Ladder(2 / 255, labels))
    before, after = (price(twins_of(networks(each))) for each in (results, climbed))
    assert after.filter(pl.col("condition") != "worst case").equals(before)
    (row,) = after.filter(condition="worst case").rows(named=True)
    assert row["worst_of"] == "weights, scores"
    twin, own = (
        every.filter(target=target, perturbation=label).select(pl.col("label") == pl.col("prediction"))
        for target, label in outcome.items()
    )
    assert (row["twin_score"], row["score"]) == pytest.approx((twin["label"].mean(), own["label"].mean()))
    assert "in the worst case of the ladder (weights, scores)" in price_sentences(after, "accuracy")[0]


def test_certified_scores_are_compared_where_both_are_smoothed_alike(results):
    def answers(cell, patient, image):
        return bool(generator(2, patient, image).random() < {"a": 0.3, "b": 0.8}[cell.target])

    cells = [made_rows.Cell(model, "certified") for model in "ab"]
    rows = pl.concat(
        made_rows.predictions(cells, PATIENTS, answers).with_columns(
            condition=pl.lit("certified"), radius=pl.lit(radius)
        )
        for radius in (0.0, 0.25)
    )
    certified = replace(results, certificates=rows, smoothing={"sigma": 0.5, "radii": (0.25,)})
    defended, plain = (Network(certified, model, model) for model in "ba")
    table = price([Twins(defended, plain, "noise")])
    assert "in the score certified at L2 0.25." in price_sentences(table, "accuracy")[0]
    (row,) = table.filter(condition="certified, L2 0.25").rows(named=True)
    assert row["twin_score"] < 0.45 < 0.65 < row["score"]
    assert row["gain_points"] == pytest.approx(100 * (row["score"] - row["twin_score"]))
    assert row["gain_points_low"] > 0
    other = Network(replace(certified, smoothing={"sigma": 0.25, "radii": (0.25,)}), "a", "a")
    assert not price([Twins(defended, other, "noise")])["condition"].str.contains("certified").any()


def test_the_verdict_has_a_sentence_of_price_and_gain(results):
    (told,) = price_sentences(price(twins_of(networks(results))), "accuracy")
    assert told.startswith(
        "b (trained with fast, eps 2/255; trained on noise) beside its twin a, gain in points of"
    )
    assert "on clean images; " in told
    where = "under matched noise, under transferred attacks, under the worst attack in the white box"
    assert told.endswith(f"The gain is clear {where}, under corruptions.")  # nothing is said of purifiers
    assert told in verdict(results).sentences


OVERFITTED = (
    "b (target, seed 0) has overfitted to single steps: trained with fast, it keeps a score of {one:.2f} "
    "under FGSM on a few validation cases, and {several:.2f} under PGD"
)
NOT_LEARNED = (
    "b (target, seed 0) has not learned its defence: trained with fast, it keeps a score of {several:.2f} "
    "under PGD with the budget of its training on a few validation cases ({one:.2f} under FGSM)."
)


@pytest.mark.parametrize(
    ("one", "several", "says"),
    [
        (0.8, 0.1, OVERFITTED),
        (0.8, 0.02, OVERFITTED),
        (0.8, 0.7, None),
        (0.8, 0.45, None),
        (0.15, 0.05, None),
        (0.15, 0.0, NOT_LEARNED),
        (None, None, None),
    ],
)
def test_catastrophic_overfitting_is_noticed_of_the_network_that_is_used(results, one, several, says):
    # The curve is of the networks before batch-norm statistics were estimated again: none of these is used.
    on_the_way = [{"epoch": epoch, "one_step": 0.9, "several_steps": 0.1} for epoch in (1, 2)]
    card = {
        "curve": on_the_way,
        "best_epoch": 2,
        "identity": {"regime": {"adversarial": ADVERSARIAL}},
        "one_step": one,
        "several_steps": several,
    }
    table = overfitting(replace(results, cards={"b-target-s0": card}))
    assert table.select("model", "epoch", "budget").rows() == [("b", 2, pytest.approx(2 / 255))]
    found = list(overfitted(table))
    assert [each.about for each in found] == ["price"] * (says is not None)
    if says is not None:
        assert found[0].sentence.startswith(says.format(one=one, several=several))


def test_no_network_is_said_to_be_overfitted_without_adversarial_training(results):
    assert overfitting(results).is_empty()
