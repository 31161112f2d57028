"""Probabilities of false claims, stability of ranks and patients for a claim, against simulations."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from medrobust import stats
from medrobust.rng import generator
from medrobust.stats.resampling import rank_agreement, rank_frequencies, resampled_sums
from medrobust.stats.significance import false_claim, patients_needed, sign_flip_test

DRAWS = 400_000


def test_of_means_it_is_that_of_draws_from_the_posterior():
    """Normal differences with a prior of 1 / variance: the variance is drawn first, then the mean."""
    rng = generator(0, "posterior of a mean")
    differences = rng.normal(0.01, 0.04, 15)
    variance = differences.var(ddof=1) * 14 / rng.chisquare(14, DRAWS)
    means = rng.normal(differences.mean(), np.sqrt(variance / 15))
    wrong = np.mean(np.sign(means) != np.sign(differences.mean()))
    assert false_claim(differences, outcomes=False) == pytest.approx(wrong, abs=0.003)


def test_of_means_it_is_the_published_formula():
    """From both standard deviations and their correlation, as Christodoulou et al. write it."""
    rng = generator(1, "formula")
    first = rng.beta(8, 2, 30)
    second = 0.7 * first + 0.3 * rng.beta(8, 2, 30) - 0.01
    s_1, s_2, r = first.std(ddof=1), second.std(ddof=1), np.corrcoef(first, second)[0, 1]
    ahead = math.sqrt(30) * (second.mean() - first.mean()) / math.sqrt(s_1**2 + s_2**2 - 2 * s_1 * s_2 * r)
    assert stats.false_claim(first, second, range(30)) == pytest.approx(reference.t.cdf(-abs(ahead), 29))


@pytest.mark.parametrize("counts", [(30, 9, 4, 7), (50, 3, 0, 1), (0, 12, 10, 0)])
def test_of_outcomes_it_is_that_of_draws_from_the_posterior(counts):
    """Both right, only the first, only the second, neither: a uniform prior on the four."""
    both, first_only, second_only, neither = counts
    first = np.array([True] * (both + first_only) + [False] * (second_only + neither))
    second = np.array([True] * both + [False] * first_only + [True] * second_only + [False] * neither)
    drawn = generator(2, "posterior of counts").dirichlet(np.array(counts) + 1, DRAWS)
    wrong = np.mean(drawn[:, 1] <= drawn[:, 2])
    found = stats.false_claim(first, second, range(first.size))
    assert found == pytest.approx(wrong, abs=0.003)
    assert stats.false_claim(second, first, range(first.size)) == found, "the better mean, whichever it is"


def test_alike_images_of_a_patient_count_once():
    first, second = np.array([1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 1, 1, 1], bool)
    single = stats.false_claim(first, second, range(6))
    tripled = stats.false_claim(np.repeat(first, 3), np.repeat(second, 3), np.repeat(range(6), 3))
    assert tripled == pytest.approx(single)
    assert false_claim(np.array([1.0, 1, 1, 0, -1, 0]) / 9, outcomes=True) == pytest.approx(single)
    assert single == pytest.approx(reference.beta(4, 2).cdf(0.5))


def test_what_does_not_vary_has_no_probability_and_what_does_not_differ_an_even_one():
    assert math.isnan(stats.false_claim([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], range(3)))
    assert math.isnan(stats.false_claim([0.9], [0.8], range(1)))
    assert stats.false_claim([True] * 5, [True] * 5, range(5)) == 0.5
    with pytest.raises(ValueError, match="both be booleans"):
        stats.false_claim([True], [0.5], range(1))


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 3])
def test_claims_are_false_as_often_as_said(images):
    """Studies whose truth is drawn from the prior: where p is said, a fraction p claims the wrong one."""
    rng = generator(3, "calibration")
    said, false = [], []
    for _ in range(20_000):
        chances = rng.dirichlet([1, 1, 1, 1])
        cells = np.repeat(rng.choice(4, 40, p=chances), images)
        first, second = np.isin(cells, [0, 1]), np.isin(cells, [0, 2])
        said.append(stats.false_claim(first, second, np.repeat(np.arange(40), images)))
        ahead = np.sign(float(first.sum()) - float(second.sum())) or rng.choice([-1, 1])
        false.append(ahead != np.sign(chances[1] - chances[2]))
    said, false = np.array(said), np.array(false)
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.5)):
        inside = (said > low) & (said <= high)
        assert false[inside].mean() == pytest.approx(said[inside].mean(), abs=0.03)


def test_ranks_are_as_stable_as_a_plain_bootstrap_says():
    """Every resample is ranked by SciPy, one after the other."""
    rng = generator(4, "ranks")
    common = rng.normal(0, 0.05, 25)
    scores = {
        name: 0.7 + 0.01 * place + common + rng.normal(0, 0.05, 25) for place, name in enumerate("abcd")
    }
    found = stats.rank_stability(scores, range(25), resamples=4000)
    table = np.stack(list(scores.values()))
    drawn = [table[:, rng.integers(0, 25, 25)].mean(1) for _ in range(4000)]
    ranks = np.stack([reference.rankdata(-each) for each in drawn])
    wanted = [[np.mean(ranks[:, place] == rank) for rank in range(1, 5)] for place in range(4)]
    assert np.array(list(found.frequencies.values())) == pytest.approx(np.array(wanted), abs=0.03)
    taus = [reference.kendalltau(table.mean(1), each).statistic for each in drawn]
    assert found.tau == pytest.approx((np.mean(taus), *np.quantile(taus, [0.025, 0.975])), abs=0.03)


def test_ties_share_their_ranks_and_have_the_tau_of_scipy():
    drawn = np.array([[3.0, 2, 1], [3, 1, 1], [1, 3, 1]])
    frequencies = rank_frequencies(drawn)
    assert frequencies[0] == pytest.approx(
        np.array([1 / 2 + 0 + 1 / 3, 1 / 2 + 1 + 1 / 3, 0 + 0 + 1 / 3]) / 3
    )
    assert frequencies.sum(0) == pytest.approx(1)
    assert frequencies.sum(1) == pytest.approx(1)
    totals = np.array([3.0, 2.0, 2.0])
    wanted = [reference.kendalltau(totals, each).statistic for each in drawn.T]
    assert rank_agreement(totals, drawn) == pytest.approx(wanted, nan_ok=True)


def test_patients_for_a_claim_are_those_that_the_test_needs():
    first, second = np.array([0.90, 0.81, 0.77, 0.90]), np.array([0.85, 0.80, 0.78, 0.85])
    difference = first - second
    needed = stats.patients_for_claim(first, second, range(4), alpha=0.05 / 3)
    assert needed == patients_needed(difference.std(ddof=1), difference.mean(), 0.05 / 3)
    assert stats.patients_for_claim(first, first, range(4)) is None
    assert stats.patients_for_claim(first, first - 0.1, range(4)) is None, "nothing varies"


@pytest.mark.slow
@pytest.mark.parametrize(("won", "lost"), [(0.05, 0.0), (0.06, 0.01), (0.1, 0.05), (0.3, 0.1)])
def test_so_many_patients_find_a_difference_of_outcomes_in_80_percent(won, lost):
    rng = generator(5, "power")
    needed = patients_needed(math.sqrt(won + lost - (won - lost) ** 2), won - lost, 0.05 / 3)
    assert needed is not None
    drawn = rng.choice([1.0, -1.0, 0.0], (2000, needed), p=[won, lost, 1 - won - lost])
    found = np.mean([sign_flip_test(each, 2000, rng) <= 0.05 / 3 for each in drawn])
    assert 0.74 < found < 0.88


def test_resamples_are_those_of_a_report():
    totals = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.5]])
    drawn = resampled_sums(totals, 300, generator(7, "resamples"))
    found = stats.rank_stability({"a": totals[0], "b": totals[1]}, range(3), resamples=300, seed=7)
    assert list(found.frequencies.values()) == rank_frequencies(drawn).tolist()
