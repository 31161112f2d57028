"""How often intervals hold the true value and tests err, by simulation of clustered data.

The figures stand in docstrings and in docs/statistics.md.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from medrobust.metrics.scores import auroc, auroc_without, quadratic_kappa
from medrobust.rng import generator
from medrobust.stats.intervals import (
    Estimate,
    accuracy_difference,
    components_interval,
    extremes_interval,
    mean,
    mean_of_ratios,
    ratio,
    wilson,
)
from medrobust.stats.significance import equivalence_test, holm, sign_flip_test

REPEATS = 5000


def coverage(draw: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    """Share of simulated studies whose interval holds the truth."""
    rng = generator(0, "coverage")
    intervals = [draw(rng) for _ in range(REPEATS)]
    return float(np.mean([estimate.low <= truth <= estimate.high for estimate in intervals]))


def photos(
    rng: np.random.Generator, patients: int, clean: float, lost: float, gained: float
) -> tuple[np.ndarray, ...]:
    """Images, right ones, and right ones lost, of patients with about three alike images each."""
    images = np.maximum(1, rng.geometric(1 / 3, patients))
    ease = rng.beta(4 * clean, 4 * (1 - clean), patients)
    right = rng.binomial(images, ease)
    drop = rng.binomial(right, lost) - rng.binomial(images - right, gained)
    return images.astype(float), right.astype(float), drop.astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 12, 50])
def test_dice_and_its_relative_drop(patients):
    def dice(rng):
        return mean(rng.beta(16, 4, patients)).fraction_interval(0.95)

    def drop(rng):
        clean = rng.beta(16, 4, patients)
        return ratio(clean * rng.beta(2, 2, patients), clean).interval(0.95)

    assert 0.93 < coverage(dice, 0.8) < 0.965
    assert 0.925 < coverage(drop, 0.5) < 0.965


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "accuracy"), [(12, 0.8), (30, 0.8), (50, 0.97), (100, 0.9)])
def test_accuracy(patients, accuracy):
    def draw(rng):
        images, right, _ = photos(rng, patients, accuracy, 0.3, 0.0)
        return wilson(right, images, 0.95)

    assert 0.93 < coverage(draw, accuracy) < 0.995


@pytest.mark.slow
@pytest.mark.parametrize("relative", [False, True], ids=["points", "percent"])
@pytest.mark.parametrize(
    ("patients", "clean", "lost", "gained"),
    [
        (12, 0.8, 0.3, 0.1),
        (30, 0.8, 0.3, 0.1),
        (30, 0.97, 0.02, 0.02),
        (100, 0.9, 0.0, 0.02),
        (100, 0.7, 0.7, 0.0),
    ],
)
def test_drop_of_accuracy(patients, clean, lost, gained, relative):
    def draw(rng):
        images, right, drop = photos(rng, patients, clean, lost, gained)
        return accuracy_difference(drop, right if relative else images, images).interval(0.95)

    truth = clean * lost - (1 - clean) * gained
    assert coverage(draw, truth / clean if relative else truth) > 0.93


@pytest.mark.slow
def test_plain_errors_fail_where_few_images_change():
    def draw(rng):
        images, _, drop = photos(rng, 30, 0.97, 0.02, 0.02)
        return ratio(drop, images).t_interval(0.95)

    assert coverage(draw, 0.97 * 0.02 - 0.03 * 0.02) < 0.85


# What the protocol promises of its default intervals: at least .91 with few patients, .93 to .98 from 50 on.


def promised(found: float, patients: int) -> bool:
    return found >= 0.91 if patients <= 20 else 0.93 <= found <= 0.98


def normal(rng: np.random.Generator, patients: int) -> np.ndarray:
    return rng.normal(0.8, 0.05, patients)


def skewed(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Dice with a tail of failures, skewness -1."""
    return rng.beta(12, 2, patients)


def with_long_tail(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Dice with a longer tail, skewness -1.4."""
    return rng.beta(7, 1, patients)


def broken(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Dice under an attack that few patients withstand, skewness 1.4."""
    return rng.beta(1, 7, patients)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [5, 10, 20, 50, 100])
@pytest.mark.parametrize(
    ("dice", "truth"),
    [(normal, 0.8), (skewed, 6 / 7), (with_long_tail, 7 / 8), (broken, 1 / 8)],
    ids=["normal", "skewed", "long tail", "broken"],
)
def test_default_interval_of_dice(dice, truth, patients):
    found = coverage(lambda rng: mean(dice(rng, patients)).fraction_interval(0.95), truth)
    assert promised(found, patients), found


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 12, 27, 50])
@pytest.mark.parametrize(("spread", "least"), [(0.3, 0.93), (0.5, 0.93), (0.8, 0.905)])
def test_surface_distances(patients, spread, least):
    """Millimetres of a lognormal distribution, whose skewness is .9, 1.8 and 3.7."""
    found = coverage(
        lambda rng: mean(rng.lognormal(1.5, spread, patients)).positive_interval(0.95),
        float(np.exp(1.5 + spread**2 / 2)),
    )
    assert least <= found <= 0.965, found


# Scores at the edge, where a sample may show no variance at all.


def wiped_out(share: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Dice of 0 in a share of the patients, .8 in the others."""
    return lambda rng, patients: np.where(rng.random(patients) < share, 0.0, rng.normal(0.8, 0.05, patients))


@pytest.mark.parametrize("share", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("patients", [6, 12, 27])
def test_structures_that_most_patients_lose(share, patients):
    rng = generator(0, "wiped out", str(share), str(patients))
    dice = wiped_out(share)
    held = [
        low <= 0.8 * (1 - share) <= high
        for _, low, high in (mean(dice(rng, patients)).fraction_interval(0.95) for _ in range(600))
    ]
    assert np.mean(held) >= 0.93


def agreeing_cells(
    rng: np.random.Generator, patients: int, accuracy: float, images: int = 1, alike: float = 0.9
) -> tuple[np.ndarray, np.ndarray]:
    """Right outcomes and outcomes of photographs under nine attacks that agree on most of them."""
    of_patients = rng.normal(size=(patients, 1, 1)) if images > 1 else 0.0
    weight = 0.5 if images > 1 else 1.0
    of_images = rng.normal(size=(patients, images, 1))
    latent = np.sqrt(1 - weight) * of_patients + np.sqrt(weight) * of_images
    cells = np.sqrt(alike) * latent + np.sqrt(1 - alike) * rng.normal(size=(patients, images, 9))
    right = (cells < stats.norm.ppf(accuracy)).sum((1, 2))
    return right.astype(float), np.full(patients, 9.0 * images)


@pytest.mark.parametrize(("patients", "accuracy"), [(12, 0.9), (50, 0.97), (100, 0.99)])
def test_average_accuracy_over_cells_that_agree(patients, accuracy):
    rng = generator(0, "cells", str(patients))
    held = [
        low <= accuracy <= high
        for _, low, high in (wilson(*agreeing_cells(rng, patients, accuracy), 0.95) for _ in range(600))
    ]
    assert np.mean(held) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 12, 20, 50, 100])
@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("alike", [0.5, 0.9, 1.0])
def test_average_accuracy_holds_in_all_studies(patients, accuracy, images, alike):
    found = coverage(
        lambda rng: wilson(*agreeing_cells(rng, patients, accuracy, images, alike), 0.95), accuracy
    )
    assert found >= 0.93, found


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 8, 12, 20, 50, 100])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95])
def test_dice_holds_where_structures_are_wiped_out(share, patients):
    dice = wiped_out(share)
    found = coverage(lambda rng: mean(dice(rng, patients)).fraction_interval(0.95), 0.8 * (1 - share))
    assert found >= 0.93, found


CLASSES = [(24, 24), (5, 5, 5, 5), (12, 12, 12, 12), (3, 30), (1, 5, 20), (2, 3, 5, 10, 20, 30, 80)]


def balanced_coverage(sizes: tuple[int, ...], recalls: np.ndarray, repeats: int) -> float:
    label = np.repeat(np.arange(len(sizes)), sizes)
    outcomes = np.eye(len(sizes))[label]
    rng = generator(0, "balanced", str(sizes))
    held = 0
    for _ in range(repeats):
        right = rng.random(label.size) < recalls[label]
        estimate = mean_of_ratios(outcomes * right[:, None], outcomes).fraction_interval(0.95)
        held += estimate.low <= recalls.mean() <= estimate.high
    return held / repeats


@pytest.mark.parametrize("sizes", [(12, 12, 12, 12), (2, 3, 5, 10, 20, 30, 80)])
def test_balanced_accuracy_near_1(sizes):
    assert balanced_coverage(sizes, np.full(len(sizes), 0.97), 400) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("sizes", CLASSES)
@pytest.mark.parametrize("recall", [0.5, 0.7, 0.9, 0.97, 0.99, "rising", "falling"])
def test_balanced_accuracy_holds_in_all_studies(sizes, recall):
    between = np.linspace(0.4, 0.98, len(sizes))
    recalls = {"rising": between, "falling": between[::-1]}.get(recall, np.full(len(sizes), recall))
    assert balanced_coverage(sizes, recalls.astype(float), REPEATS) >= 0.93


@pytest.mark.slow
def test_the_plain_t_interval_misses_the_tail():
    found = coverage(lambda rng: mean(with_long_tail(rng, 5)).t_interval(0.95), 7 / 8)
    assert found < 0.91, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accuracies", "images"), [((0.9, 0.8, 0.95), (5, 20, 50)), ((0.6, 0.5, 0.7), (10, 10, 30))]
)
def test_balanced_accuracy(accuracies, images):
    label = np.repeat(np.arange(3), images)
    outcomes = np.eye(3)[label]

    def draw(rng):
        right = rng.random(label.size) < np.array(accuracies)[label]
        return mean_of_ratios(outcomes * right[:, None], outcomes).fraction_interval(0.95)

    assert coverage(draw, float(np.mean(accuracies))) > 0.92


@pytest.mark.slow
@pytest.mark.parametrize("patients", [5, 10, 20, 50, 100])
@pytest.mark.parametrize("accuracy", [0.6, 0.9, 0.97])
@pytest.mark.parametrize("images", [1.0, 2.6])
def test_default_interval_of_accuracy(images, accuracy, patients):
    """Images of a patient are alike: the patient's own accuracy is drawn first."""

    def draw(rng):
        number = np.ones(patients, int) if images == 1 else rng.geometric(1 / images, patients)
        ease = rng.beta(4 * accuracy, 4 * (1 - accuracy), patients)
        return wilson(rng.binomial(number, ease).astype(float), number.astype(float), 0.95)

    assert coverage(draw, accuracy) >= 0.93


def error_rate(draw: Callable[[np.random.Generator], float], level: float = 0.05) -> tuple[float, float]:
    """Share of simulated studies with p at most `level`, and two standard errors above it."""
    rng = generator(0, "type I")
    rate = float(np.mean([draw(rng) <= level for _ in range(REPEATS)]))
    return rate, level + 2 * np.sqrt(level * (1 - level) / REPEATS)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 12, 50])
@pytest.mark.parametrize("clustered", [False, True], ids=["dice", "photos"])
def test_sign_flips_err_no_more_than_they_say(clustered, patients):
    """Two networks that are equally good on the same patients."""

    def draw(rng):
        if clustered:
            _, right, _ = photos(rng, patients, 0.8, 0, 0)
            difference = rng.binomial(right.astype(int), 0.5) * 2.0 - right
        else:
            difference = skewed(rng, patients) - skewed(rng, patients)
        return sign_flip_test(difference, 500, rng)

    rate, most = error_rate(draw)
    assert rate <= most


@pytest.mark.slow
def test_a_family_of_pairs_errs_no_more_than_it_says():
    """Three networks that are equally good: any pair called different is an error."""

    def draw(rng):
        common = rng.normal(0, 1, 12)
        scores = [common + rng.normal(0, 1, 12) for _ in range(3)]
        p_values = [sign_flip_test(scores[i] - scores[j], 500, rng) for i, j in ((0, 1), (0, 2), (1, 2))]
        return float(holm(np.array(p_values)).min())

    rate, most = error_rate(draw)
    assert rate <= most


# Networks that differ by exactly the margin: how seldom they are called equal, whatever the distribution.


def one_in_ten_fails(rng: np.random.Generator, patients: int) -> np.ndarray:
    return 0.2 * (rng.random(patients) < 0.1) + rng.normal(0, 0.005, patients)


def gamma_tail(rng: np.random.Generator, patients: int) -> np.ndarray:
    """Differences of skewness 2.8 about 0.02."""
    return 0.04 * rng.gamma(0.5, 1, patients)


def even(rng: np.random.Generator, patients: int) -> np.ndarray:
    return rng.normal(0.02, 0.03, patients)


MARGINAL = pytest.mark.parametrize("differences", [even, gamma_tail, one_in_ten_fails])


def called_equal(differences: Callable[..., np.ndarray], patients: int, repeats: int, shift: float = 0.0):
    rng = generator(0, "equal", differences.__name__, str(patients))
    found = [equivalence_test(mean(differences(rng, patients) + shift), 0.02) for _ in range(repeats)]
    return float(np.mean(np.array(found) <= 0.05))


@MARGINAL
@pytest.mark.parametrize("patients", [29, 60])
def test_networks_that_differ_by_the_margin_are_seldom_called_equal(differences, patients):
    assert called_equal(differences, patients, 400) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.slow
@MARGINAL
@pytest.mark.parametrize("patients", [29, 50, 100, 200])
def test_networks_that_differ_by_the_margin_are_called_equal_as_rarely_as_promised(differences, patients):
    assert called_equal(differences, patients, 4000) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "fewest"), [(29, 0.75), (50, 0.95)])
def test_networks_that_do_not_differ_are_called_equal(patients, fewest):
    assert called_equal(even, patients, 1000, shift=-0.02) >= fewest


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "gained"), [(0.05, 0.0), (0.06, 0.01), (0.1, 0.05)])
@pytest.mark.parametrize("patients", [50, 100, 200])
def test_accuracies_that_differ_by_the_margin_are_seldom_called_equal(lost, gained, patients):
    def draw(rng):
        u = rng.random(patients)
        change = (u < lost) * 1.0 - ((u >= lost) & (u < lost + gained))
        return equivalence_test(accuracy_difference(change, np.ones(patients), np.ones(patients)), 0.05)

    rate, most = error_rate(draw)
    assert rate <= most


@pytest.mark.slow
def test_no_test_sees_a_failure_rarer_than_its_patients_show():
    """What is promised, is promised of one in ten: one in twenty, losing .4, is not seen by 29."""
    rng = generator(0, "rare")
    unseen = [equivalence_test(mean(0.4 * (rng.random(29) < 0.05)), 0.02) <= 0.05 for _ in range(500)]
    noisy = [
        equivalence_test(mean(0.4 * (rng.random(29) < 0.05) + rng.normal(0, 0.005, 29)), 0.02) <= 0.05
        for _ in range(500)
    ]
    assert np.mean(unseen) == 0, "that nothing differs at all is another matter"
    assert 0.15 < np.mean(noisy) < 0.3


@pytest.mark.slow
def test_attack_minus_noise_errs_no_more_than_it_says():
    """Family 2 where the attack does just what noise does: images of a patient are alike."""

    def draw(rng):
        images, _, _ = photos(rng, 15, 0.8, 0, 0)
        ease = rng.beta(4, 2, 15)
        attacked, noisy = (rng.binomial(images.astype(int), ease) for _ in range(2))
        return sign_flip_test((noisy - attacked).astype(float), 500, rng)

    rate, most = error_rate(draw)
    assert rate <= most


@pytest.mark.slow
@pytest.mark.parametrize("patients", [12, 27, 100])
@pytest.mark.parametrize(
    ("targets", "sources", "surrogates"), [(3, 2, 2), (3, 3, 2), (3, 1, 3), (3, 3, 3), (5, 3, 3)]
)
@pytest.mark.parametrize("spread", [(0.02, 0.01), (0.02, 0.0), (0.0, 0.0), (0.01, 0.05), (0.0, 0.1)], ids=str)
def test_differences_of_architectures_with_the_fewest_trainings(
    patients, targets, sources, surrogates, spread
):
    """Trainings and surrogates differ by `spread`, patients by .05, and each answer by .03."""

    def draw(rng):
        def scores():
            return (
                rng.normal(0, spread[0], (targets, 1, 1, 1))
                + rng.normal(0, spread[1], (sources, surrogates, 1))
                + rng.normal(0, 0.05, patients)
                + rng.normal(0, 0.03, (targets, sources, surrogates, patients))
            )

        one, other = scores(), scores()
        of_sources = (one - other).mean((0, 3)) / sources
        parts = [
            mean(one.mean((1, 2, 3))),
            mean(other.mean((1, 2, 3))),
            *map(mean, of_sources),
            mean((one - other).mean((0, 1, 2))),
        ]
        return components_interval(parts[-1].value, [(each.error**2, each.freedom) for each in parts], 0.95)

    assert coverage(draw, 0.0) >= (0.93 if sources > 1 else 0.92)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [12, 20, 50, 150])
@pytest.mark.parametrize("noise", [0.25, 0.5, 1.0, 3.0])
def test_kappa(patients, noise):
    """Grades with limits at -.5, .5 and 1.2, given with some error."""

    def grades(rng, n):
        severity = rng.normal(size=n)
        limits = np.array([-0.5, 0.5, 1.2])
        return np.digitize(severity, limits), np.digitize(severity + noise * rng.normal(size=n), limits)

    truth = quadratic_kappa(*grades(generator(0, "truth"), 500_000))

    def draw(rng):
        labels, given = grades(rng, patients)
        whole = quadratic_kappa(labels, given)
        rest = ~np.eye(patients, dtype=bool)
        left = np.array([quadratic_kappa(labels[each], given[each]) for each in rest])
        left = np.where(np.isnan(left), whole, left)
        share = (1 + whole + (patients - 1) * (left.mean() - left)) / 2
        low, high = mean(share).fraction_interval(0.95)[1:]
        return Estimate(whole, 2 * low - 1, 2 * high - 1)

    rng = generator(0, "kappa", str(patients))
    held = [low <= truth <= high for _, low, high in (draw(rng) for _ in range(500))]
    assert np.mean(held) >= 0.93 - 1.5 * np.sqrt(0.93 * 0.07 / 500)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [12, 20, 50, 150])
@pytest.mark.parametrize("shares", [(0.7, 0.3), (0.9, 0.1), (0.6, 0.3, 0.1)])
@pytest.mark.parametrize("apart", [1.2, 2.5])
def test_auroc(patients, shares, apart):
    """Classes of these shares; all of them occur."""
    classes = len(shares)

    def images(rng, n):
        labels = np.concatenate([np.arange(classes), rng.choice(classes, n - classes, p=shares)])
        odds = np.exp(rng.normal(size=(n, classes)) + apart * np.eye(classes)[labels])
        return labels, odds / odds.sum(1, keepdims=True)

    truth, rng, held = auroc(*images(generator(0, "truth"), 200_000)), generator(0, "auroc"), []
    for _ in range(500):
        labels, probabilities = images(rng, patients)
        whole = auroc(labels, probabilities)
        left = auroc_without(labels, probabilities, np.arange(patients))
        left = np.where(np.isnan(left), np.nanmean(left), left)
        _, low, high = mean(whole + (patients - 1) * (left.mean() - left)).fraction_interval(0.95)
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.93 - 1.5 * np.sqrt(0.93 * 0.07 / 500)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [12, 20, 50, 100])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_costs_of_which_few_are_large(patients, rate):
    """A right answer costs nothing, most mistakes 1, one in five 20: fractions of the largest cost."""

    def draw(rng):
        wrong = rng.random(patients) < rate
        costs = wrong * np.where(rng.random(patients) < 0.2, 1.0, 0.05)
        found, rare = mean(costs).fraction_interval(0.95), extremes_interval(costs, 0.95, 1.0)
        return Estimate(found.value, min(found.low, rare.low), max(found.high, rare.high))

    assert coverage(draw, rate * (0.2 + 0.8 * 0.05)) >= 0.93
