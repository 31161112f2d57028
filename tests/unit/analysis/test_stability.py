"""Claims and the order of networks in a study: the same numbers as from plain vectors."""

import re

import numpy as np
import pytest

import made_rows
from medrobust import stats
from medrobust.analysis.stability import order_agreement, rank_stability
from medrobust.analysis.tables import by_patient
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator


def close_networks(patients: int, **options):
    """Dice of networks of which a is a little better under attack than b, and that than c."""

    def counts(cell, scan, structure):
        rng = generator(11, *map(str, cell), scan, structure)
        level = {"a": 0.62, "b": 0.61, "c": 0.55}[cell.target] if cell.source else 0.9
        return 10_000, 10_000, int(10_000 * np.clip(level + rng.normal(0, 0.08), 0, 1))

    scans = {f"p{number:02}": [f"s{number:02}"] for number in range(patients)}
    return made_rows.segmentation(counts, scans, structures=("background", "left"), **options)


def vectors(results, condition):
    rows = by_patient(results)
    return {model: rows.filter(model=model)[condition].to_numpy() for model in results.models}


@pytest.fixture(scope="module")
def results():
    return close_networks(24)


def test_claims_of_pairs_are_those_of_two_vectors(results):
    found = verdict(results)
    attacked, clean = vectors(results, "adversarial"), vectors(results, "clean")
    for row in found.pairs.iter_rows(named=True):
        first, second = row["first"], row["second"]
        both = attacked[first], attacked[second], range(24)
        assert row["false_claim"] == pytest.approx(stats.false_claim(*both))
        assert row["patients_for_claim"] == stats.patients_for_claim(*both, alpha=0.05 / 3)
        assert row["clean_false_claim"] == pytest.approx(
            stats.false_claim(clean[first], clean[second], range(24))
        )
    unsupported = found.pairs.filter(found.pairs["false_claim"] > 0.05)
    (sentence,) = (each for each in found.sentences if "superiority would be false" in each)
    assert f"above 5 % in {unsupported.height} of 3 pairs" in sentence
    assert re.search(r"a over b \d+ %", sentence)


def test_a_claim_that_holds_needs_no_sentence():
    found = verdict(close_networks(60, models=("a", "c")))
    assert found.pairs["false_claim"].item() < 0.05
    assert "superiority would be false" not in " ".join(found.sentences)


def test_ranks_and_their_agreement_are_those_of_vectors(results):
    table, agreement = rank_stability(results), order_agreement(results)
    for condition in ("clean", "adversarial"):
        wanted = stats.rank_stability(vectors(results, condition), range(24), resamples=500)
        for (model,), rows in table.filter(condition=condition).group_by("model"):
            assert rows["frequency"].to_list() == pytest.approx(wanted.frequencies[str(model)])
        row = agreement.filter(condition=condition).row(0, named=True)
        assert (row["tau"], row["tau_low"], row["tau_high"]) == pytest.approx(wanted.tau)
        assert row["same_order"] <= min(max(each) for each in wanted.frequencies.values())
    assert table.filter(condition="adversarial")["model"].unique(maintain_order=True).to_list() == [
        "a",
        "b",
        "c",
    ]


def test_with_few_patients_nothing_is_said_of_ranks():
    few = close_networks(12)
    assert rank_stability(few).is_empty()
    assert order_agreement(few).is_empty()
    assert order_agreement(close_networks(24, models=("a", "b"))).is_empty(), "two networks have one pair"
