"""Tests that swap networks within patients and compute scores anew, against doing just that."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import rankdata

import made_rows
from medrobust.analysis.comparisons import pairs
from medrobust.analysis.scores import Cell
from medrobust.metrics.scores import auroc, auroc_swaps, balanced_accuracy, kappa_swaps, quadratic_kappa
from medrobust.rng import generator
from medrobust.stats.significance import sign_flip_test, swap_test


def drawn(seed, patients=6, images=3, classes=3, level=1.0):
    """Labels, probabilities of two networks (rounded, so that some are equal), and the patients."""
    rng = generator(seed, "swaps")
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, patients * images - classes)])
    easy = level * np.eye(classes)[labels] + rng.normal(0, 0.5, (labels.size, classes))
    one, two = (np.exp(easy + rng.normal(0, 0.7, easy.shape)) for _ in range(2))
    probabilities = [(each / each.sum(1, keepdims=True)).round(1) for each in (one, two)]
    return labels, *probabilities, rng.permutation(np.repeat(np.arange(patients), images))


def anew(score, labels, one, two, patients, signs):
    """The difference between two scores after a swap, computed from the swapped answers."""
    kept = (signs[patients] > 0).reshape(-1, *[1] * (one.ndim - 1))
    return score(labels, np.where(kept, one, two)) - score(labels, np.where(kept, two, one))


def every(patients):
    return np.array(list(product([1.0, -1.0], repeat=patients)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 3])
def test_auroc_of_swapped_ranks(seed, classes):
    labels, *given, patients = drawn(seed, classes=classes)
    one, two = (rankdata(each, axis=0) for each in given)
    wanted = [anew(auroc, labels, one, two, patients, signs) for signs in every(6)]
    np.testing.assert_allclose(auroc_swaps(labels, *given, patients)(every(6)), wanted, atol=1e-12)
    scaled = auroc_swaps(labels, given[0], 0.2 * given[1] ** 3, patients)(every(6))
    np.testing.assert_allclose(scaled, wanted, atol=1e-12, err_msg="the scale of probabilities matters")


@pytest.mark.parametrize("seed", range(3))
def test_kappa_of_swapped_predictions(seed):
    labels, *given, patients = drawn(seed)
    one, two = (each.argmax(1) for each in given)
    wanted = [anew(quadratic_kappa, labels, one, two, patients, signs) for signs in every(6)]
    np.testing.assert_allclose(kappa_swaps(labels, one, two, patients)(every(6)), wanted, atol=1e-12)


def test_p_is_that_of_all_swaps_and_of_drawn_ones():
    labels, *given, patients = drawn(1, patients=10, level=0.5)
    one, two = (each.argmax(1) for each in given)
    differences = kappa_swaps(labels, one, two, patients)
    wanted = np.abs([anew(quadratic_kappa, labels, one, two, patients, signs) for signs in every(10)])
    p = swap_test(differences, 10, 0, generator(0))
    assert p == np.mean(wanted >= wanted[0] - 1e-12)

    many = drawn(2, patients=30, level=0.5)
    whole = auroc_swaps(*many)
    totals = whole(np.eye(30) * 2 - 1) + whole(np.ones((1, 30)))
    p = swap_test(whole, 30, 20_000, generator(0))
    assert p == pytest.approx(sign_flip_test(totals / 2, 20_000, generator(0)), abs=0.015)
    assert swap_test(lambda signs: signs.sum(1), 30, 99, generator(0)) == 0.01, "never 0"


def test_balanced_accuracy_is_a_sum_whose_signs_are_swaps():
    """Each image has the weight N / (k N_c), whichever network answers."""
    labels, *given, patients = drawn(0)
    one, two = (each.argmax(1) for each in given)
    weights = 1 / (np.bincount(labels)[labels] * 3)
    parts = np.bincount(patients, weights * ((one == labels) * 1.0 - (two == labels)))
    wanted = [anew(balanced_accuracy, labels, one, two, patients, signs) for signs in every(6)]
    np.testing.assert_allclose(every(6) @ parts, wanted, atol=1e-12)


@pytest.mark.parametrize("name", ["auroc", "kappa"])
def test_pairs_of_a_study_are_tested_by_swaps_of_all_cells(name):
    def right(cell, patient, image):
        level = {"a": 0.8, "b": 0.6}[cell.target] if cell.source else 0.95
        return bool(generator(3, *map(str, cell), patient, str(image)).random() < level)

    results = made_rows.classification(
        right,
        {f"p{number}": 3 for number in range(8)},
        models=("a", "b"),
        settings=made_rows.Settings(score=name),
    )
    row = pairs(results).row(0, named=True)
    score = {"auroc": lambda labels, ranks: auroc(labels, ranks), "kappa": quadratic_kappa}[name]
    total = np.zeros(2**8)
    for attack, source in product(("fgsm", "deepfool"), "ab"):
        rows = results.predictions.filter(perturbation=attack, source=source, role="transfer").sort("case_id")
        one, two = (rows.filter(target=target) for target in "ab")
        patients = np.unique(one["patient_id"].to_numpy(), return_inverse=True)[1]
        given = [
            rankdata(np.array(each["probabilities"].to_list()), axis=0)
            if name == "auroc"
            else each["prediction"].to_numpy()
            for each in (one, two)
        ]
        labels = one["label"].to_numpy()
        total += [anew(score, labels, *given, patients, signs) for signs in every(8)]
    assert row["p"] == np.mean(np.abs(total) >= abs(total[0]) - 1e-12)
    assert Cell("a", "fgsm", "a") in results.panel.cells


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auroc", "kappa"])
@pytest.mark.parametrize("patients", [8, 12, 50])
def test_swaps_err_no_more_than_they_say(name, patients):
    """Two networks that are equally good; one is far surer of itself, which no area sees."""
    rng, found = generator(0, "size", name), []
    for seed in range(1500):
        labels, one, two, whose = drawn(10 + seed, patients=patients, images=2, level=0.7)
        if name == "auroc":
            differences = auroc_swaps(labels, one, two**4, whose)
        else:
            differences = kappa_swaps(labels, one.argmax(1), two.argmax(1), whose)
        found.append(swap_test(differences, patients, 400, rng) <= 0.05)
    assert np.mean(found) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(found))
