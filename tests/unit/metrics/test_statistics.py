import math
import statistics as plain
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from medrobust.metrics.bootstrap import bca, bootstrap_t, percentile, resampled_sums, share_first
from medrobust.metrics.significance import (
    equivalence_test,
    holm,
    patients_for_significance,
    patients_needed,
    ranks_interval,
    sign_flip_test,
    smallest_p,
)
from medrobust.metrics.statistics import (
    Ratio,
    accuracy_difference,
    mean,
    mean_of_ratios,
    ratio,
    t_quantile,
    wilson,
)
from medrobust.rng import generator

scores = st.lists(st.floats(0, 1), min_size=2, max_size=30)
clusters = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 8)).map(lambda pair: (min(pair), pair[1])), min_size=2
)


def totals(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    right, images = zip(*pairs, strict=True)
    return np.array(right, dtype=float), np.array(images, dtype=float)


# t intervals and ratios


def test_t_quantiles_are_those_of_printed_tables():
    assert t_quantile(0.95, 5) == pytest.approx(2.5706, abs=1e-4)
    assert t_quantile(0.99, 10) == pytest.approx(3.1693, abs=1e-4)
    assert math.isnan(t_quantile(0.95, 0))


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\)"):
        t_quantile(confidence, 5)


@given(scores)
def test_t_interval_is_the_textbook_one(values):
    estimate = mean(np.array(values)).interval(0.95)
    half = t_quantile(0.95, len(values) - 1) * plain.stdev(values) / math.sqrt(len(values))
    assert estimate.value == pytest.approx(plain.fmean(values))
    assert estimate.high - estimate.value == pytest.approx(half, abs=1e-9)
    assert estimate.value - estimate.low == pytest.approx(half, abs=1e-9)


@given(scores)
def test_the_interval_of_a_share_holds_it_within_0_and_1_and_does_not_care_which_way_it_is_counted(values):
    right, wrong = (mean(shares).share_interval(0.95) for shares in (np.array(values), 1 - np.array(values)))
    assert 0 <= right.low <= right.value <= right.high <= 1
    assert right.low == pytest.approx(1 - wrong.high, abs=1e-9)
    assert right.high == pytest.approx(1 - wrong.low, abs=1e-9)


def test_the_interval_of_a_share_is_that_of_its_log_odds():
    low, high = mean(np.array([0.7, 0.9, 0.8])).share_interval(0.95)[1:]
    half = 4.302653 * (0.1 / math.sqrt(3)) / (0.8 * 0.2)  # t of 2 degrees of freedom, delta method
    assert math.log(low / (1 - low)) == pytest.approx(math.log(4) - half, abs=1e-6)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(4) + half, abs=1e-6)


def test_the_interval_of_a_share_is_the_plain_one_where_patients_hardly_differ():
    values = 0.8 + np.array([-2e-4, 1e-4, 0, 1e-4])
    plainly, share = mean(values).interval(0.95), mean(values).share_interval(0.95)
    assert share == pytest.approx(plainly, abs=1e-6)
    assert mean(np.ones(4)).share_interval(0.95) == (1, 1, 1)


def test_one_patient_has_a_value_and_no_interval():
    one = mean(np.array([0.7]))
    for estimate in (
        one.interval(0.95),
        one.share_interval(0.95),
        wilson(np.array([7.0]), np.array([10.0]), 0.95),
    ):
        assert estimate.value == pytest.approx(0.7)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    assert math.isnan(accuracy_difference(np.array([1.0]), np.array([2.0]), np.array([2.0])).error)


def test_nothing_gives_nothing():
    assert math.isnan(ratio(np.array([]), np.array([])).value)
    assert math.isnan(ratio(np.array([0.0, 0.0]), np.array([0.0, 0.0])).value)
    assert math.isnan(mean_of_ratios(np.zeros((2, 3)), np.zeros((2, 3))).value)


@given(clusters, st.randoms())
def test_estimates_do_not_depend_on_the_order_of_patients(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    for function in (
        lambda x, m: ratio(x, m)[:2],
        lambda x, m: wilson(x, m, 0.95),
        lambda x, m: accuracy_difference(x, m, m)[:2],
    ):
        np.testing.assert_allclose(
            function(*totals(pairs)), function(*totals(shuffled)), rtol=1e-9, atol=1e-12
        )


def test_error_of_a_ratio_is_close_to_that_of_the_jackknife():
    rng = generator(0, "jackknife")
    y = rng.uniform(0.5, 1, 40)
    x = y * rng.uniform(0, 1, 40)
    left_out = (x.sum() - x) / (y.sum() - y)
    jackknife = math.sqrt(39 / 40 * np.sum((left_out - left_out.mean()) ** 2))
    assert ratio(x, y).error == pytest.approx(jackknife, rel=0.02)


def test_balanced_accuracy_of_one_class_is_the_accuracy_with_the_same_error():
    right, images = totals([(1, 3), (2, 2), (0, 1), (4, 6)])
    one = mean_of_ratios(right[:, None], images[:, None])
    assert one == pytest.approx(ratio(right, images))


def test_error_of_balanced_accuracy_of_single_images_is_that_of_independent_recalls():
    # One image per patient: 3 of 4 right in the first class, 2 of 10 in the second.
    first = np.array([1.0] * 4 + [0.0] * 10)
    hit = np.array([1.0] * 3 + [0.0] + [1.0] * 2 + [0.0] * 8)
    images = np.stack([first, 1 - first], axis=1)
    value, error, _ = mean_of_ratios(images * hit[:, None], images)
    assert value == pytest.approx((0.75 + 0.2) / 2)
    variance = (0.75 * 0.25 / 4 + 0.2 * 0.8 / 10) / 4
    assert error == pytest.approx(math.sqrt(variance * 14 / 13))


def test_balanced_accuracy_leaves_out_classes_without_images():
    right, images = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    assert mean_of_ratios(right, images).value == pytest.approx(0.5)


# Wilson


def test_wilson_of_many_independent_images_is_the_textbook_interval():
    right = np.array([1.0] * 700 + [0.0] * 300)
    estimate = wilson(right, np.ones(1000), 0.95)
    # Wilson 1927 with z = 1.96, n = 1000, p = .7; t(999) is 1.9623.
    assert estimate.low == pytest.approx(0.6709, abs=2e-4)
    assert estimate.high == pytest.approx(0.7276, abs=2e-4)


def test_images_of_one_patient_count_as_little_as_they_are_alike():
    alike = wilson(np.array([10.0, 0.0] * 10), np.full(20, 10.0), 0.95)
    mixed = wilson(np.array([5.0, 5.0] * 10), np.full(20, 10.0), 0.95)
    single = wilson(np.array([1.0, 0.0] * 10), np.ones(20), 0.95)
    assert alike.high - alike.low == pytest.approx(single.high - single.low)
    assert mixed.high - mixed.low < 0.5 * (alike.high - alike.low)


def test_patients_more_alike_than_chance_count_no_more_than_independent_images():
    estimate = wilson(np.full(20, 5.0), np.full(20, 10.0), 0.95)
    t2 = t_quantile(0.95, 19) ** 2
    half = math.sqrt(t2 * (0.25 / 200 + t2 / (4 * 200**2))) / (1 + t2 / 200)
    assert estimate == pytest.approx((0.5, 0.5 - half, 0.5 + half))


def test_all_right_counts_patients_not_images():
    sizes = np.array([1.0, 4.0, 2.0])
    n = 7 / (21 / 7)
    t2 = t_quantile(0.95, 2) ** 2
    estimate = wilson(sizes, sizes, 0.95)
    assert estimate.low == pytest.approx(n / (n + t2))
    assert estimate.high == 1.0


@given(clusters)
def test_wilson_lies_in_0_to_1_encloses_the_value_and_mirrors(pairs):
    right, images = totals(pairs)
    estimate, mirrored = wilson(right, images, 0.95), wilson(images - right, images, 0.95)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert mirrored.low == pytest.approx(1 - estimate.high, abs=1e-9)
    assert mirrored.high == pytest.approx(1 - estimate.low, abs=1e-9)


# Paired differences of accuracies


def test_difference_of_single_images_is_bonett_and_price():
    # 50 images: 8 lost, 3 gained.
    x = np.array([1.0] * 8 + [-1.0] * 3 + [0.0] * 39)
    value, error, freedom = accuracy_difference(x, np.ones(50), np.ones(50))
    lost, gained = 9 / 52, 4 / 52
    assert value == pytest.approx(lost - gained)
    assert freedom == 49
    variance = (lost + gained - (lost - gained) ** 2) / 52
    # n / (n - 1) of the patients, which Bonett and Price, with z for t, do not have.
    assert error == pytest.approx(math.sqrt(variance * 50 / 49), rel=1e-6)


def test_nothing_changed_still_has_an_interval():
    nothing = np.zeros(50)
    estimate = accuracy_difference(nothing, np.ones(50), np.ones(50)).interval(0.95)
    assert estimate.low == pytest.approx(-estimate.high)
    assert 0.05 < estimate.high < 0.06


@given(clusters, clusters)
def test_difference_changes_its_sign_with_the_order(first, second):
    n = min(len(first), len(second))
    right, images = totals(first[:n])
    x = right - np.minimum(totals(second[:n])[0], images)
    one, other = accuracy_difference(x, images, images), accuracy_difference(-x, images, images)
    assert one.value == pytest.approx(-other.value, abs=1e-12)
    assert one.error == pytest.approx(other.error)


# Tests


def brute_force(differences: list[float]) -> float:
    observed = abs(sum(differences)) - 1e-9
    patterns = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(total >= observed for total in patterns) / len(patterns)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=10))
def test_sign_flips_are_counted_exactly(differences):
    p = sign_flip_test(np.array(differences, dtype=float), 10, generator(0))
    assert p == pytest.approx(brute_force(differences))


def test_thousands_of_patients_are_sampled():
    """2 to the power of 5,000 is no float."""
    rng = generator(0)
    assert sign_flip_test(rng.normal(0.2, 1.0, 5000), 999, rng) == 0.001
    assert sign_flip_test(np.resize([1.0, -1.0], 5000), 999, rng) > 0.9
    assert smallest_p(5000, 999) == 0.001


def test_smallest_p_values_are_reached():
    ahead = np.linspace(0.1, 1, 7)
    assert sign_flip_test(ahead, 10, generator(0)) == smallest_p(7, 10) == 2 / 2**7
    assert sign_flip_test(np.ones(100), 999, generator(0)) == smallest_p(100, 999) == 1 / 1000
    assert sign_flip_test(np.zeros(30), 99, generator(0)) == 1.0


def test_sampled_signs_agree_with_counted_ones():
    rng = generator(1, "signs")
    differences = rng.normal(0.4, 1, 16)
    exact = sign_flip_test(differences, 10, generator(0))
    # Zeros change no total but make it too many patterns to count.
    sampled = sign_flip_test(np.concatenate([differences, np.zeros(4)]), 20_000, generator(0))
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    assert sampled == sign_flip_test(np.concatenate([differences, np.zeros(4)]), 20_000, generator(0))


def test_holm_of_a_worked_example():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values, random):
    p = np.array(p_values)
    adjusted = holm(p)
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(1, p * p.size) + 1e-12)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)
    order = np.array(random.sample(range(p.size), p.size))
    np.testing.assert_allclose(holm(p[order]), adjusted[order])


@given(st.floats(-0.1, 0.1), st.floats(1e-4, 0.1), st.integers(2, 40))
def test_equivalence_is_a_90_percent_interval_inside_the_margin(value, error, freedom):
    interval = Ratio(value, error, freedom).interval(0.9)
    edge = min(interval.low + 0.05, 0.05 - interval.high)
    assume(abs(edge) > 1e-9)
    assert (equivalence_test(Ratio(value, error, freedom), 0.05) <= 0.05) == (edge > 0)


def test_equivalence_at_its_edges():
    assert equivalence_test(Ratio(0.0, 0.0, 5), 0.02) == 0.0
    assert equivalence_test(Ratio(0.03, 0.0, 5), 0.02) == 1.0
    assert math.isnan(equivalence_test(Ratio(0.0, math.nan, 0), 0.02))
    with pytest.raises(ValueError, match="margin must be above 0"):
        equivalence_test(Ratio(0.0, 0.1, 5), 0)


def test_patients_needed_is_the_textbook_number():
    # A paired t test of d = 0.5 needs 34 pairs for 80 % power at .05 (Cohen 1988; G*Power gives 34).
    assert patients_needed(1.0, 0.5, 0.05) == 34
    assert patients_needed(0.0, 0.02, 0.05) == 2
    assert patients_needed(math.nan, 0.02, 0.05) is None


@pytest.mark.parametrize(("tests", "patients"), [(1, 6), (3, 7), (10, 9)])
def test_fewest_patients_that_can_be_significant(tests, patients):
    assert patients_for_significance(0.05, tests) == patients
    assert smallest_p(patients, 10_000) <= 0.05 / tests < smallest_p(patients - 1, 10_000)


def test_ranks_that_the_tests_leave_open():
    better = np.zeros((3, 3), dtype=bool)
    assert ranks_interval(better) == [(1, 3), (1, 3), (1, 3)]
    better[0, 2] = True
    assert ranks_interval(better) == [(1, 2), (1, 3), (2, 3)]


# Bootstrap


def bootstrapped(function, x, resamples, rng, y=None):
    """An interval of `sum(x) / sum(y)`, y being 1 unless told otherwise."""
    y = np.ones_like(x) if y is None else y
    products = [x * x, x * y, y * y] if function is bootstrap_t else []
    drawn_x, drawn_y, *drawn = resampled_sums(np.stack([x, y, *products]), resamples, rng)
    return function(x, y, drawn_x, drawn_y, *([np.stack(drawn)] if drawn else []), 0.95)


def test_resampled_sums_are_those_of_patients_drawn_with_replacement():
    one_hot = np.eye(7)
    counts = resampled_sums(one_hot, 4000, generator(0, "boot"))
    np.testing.assert_array_equal(counts.sum(0), np.full(4000, 7.0))
    # Each count is binomial(7, 1/7); two of them have the covariance -1/7.
    np.testing.assert_allclose(counts.mean(1), 1.0, atol=0.06)
    np.testing.assert_allclose(np.cov(counts), np.eye(7) - 1 / 7, atol=0.08)


def test_all_numbers_share_the_resamples_and_chunks_change_none(monkeypatch):
    values = generator(0, "values").uniform(0, 1, (3, 60))
    together = resampled_sums(values, 500, generator(0, "boot"))
    monkeypatch.setattr("medrobust.metrics.bootstrap._CHUNK", 60 * 7)
    alone = [resampled_sums(row[None], 500, generator(0, "boot"))[0] for row in values]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_percentile_bounds_are_quantiles_of_the_resampled_means():
    values = generator(0, "values").uniform(0, 1, 60)
    estimate = bootstrapped(percentile, values, 4000, generator(0, "boot"))
    half = 1.96 * values.std() / math.sqrt(60)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.01)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.01)
    draws = resampled_sums(values[None], 4000, generator(0, "boot"))[0] / 60
    assert estimate[1:] == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


@pytest.mark.parametrize(
    ("function", "method"), [(percentile, "percentile"), (bca, "BCa")], ids=["percentile", "bca"]
)
def test_bootstraps_agree_with_scipy(function, method):
    values = generator(0, "skewed").exponential(1, 40)
    ours = bootstrapped(function, values, 20_000, generator(0))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(0)
    )
    assert ours[1:] == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_bca_leans_towards_the_long_tail():
    values = generator(0, "skewed").exponential(1, 40)
    plainly = bootstrapped(percentile, values, 4000, generator(0))
    corrected = bootstrapped(bca, values, 4000, generator(0))
    assert corrected.low > plainly.low
    assert corrected.high > plainly.high


def test_bootstrap_t_divides_every_deviation_by_its_own_error():
    x, y = generator(0, "x").exponential(1, (2, 30))
    rng = generator(0, "boot")
    counts = resampled_sums(np.eye(30), 2000, rng)
    value = x.sum() / y.sum()

    def error(times):
        residuals = times * (x - (times @ x) / (times @ y) * y) ** 2
        return math.sqrt(residuals.sum()) / (times @ y)

    t = [((times @ x) / (times @ y) - value) / error(times) for times in counts.T]
    low, high = np.quantile(t, [0.025, 0.975])
    ours = bootstrapped(bootstrap_t, x, 2000, generator(0, "boot"), y)
    scale = error(np.ones(30))
    assert ours == pytest.approx((value, value - high * scale, value - low * scale))


@pytest.mark.parametrize("function", [percentile, bca, bootstrap_t])
def test_bootstrap_of_patients_that_are_alike_has_no_width_and_of_one_no_bounds(function):
    assert bootstrapped(function, np.full(5, 0.5), 200, generator(0)) == pytest.approx((0.5, 0.5, 0.5))
    assert math.isnan(bootstrapped(function, np.array([0.5]), 200, generator(0)).low)


def test_shares_of_coming_first():
    same = np.tile(generator(0, "first").uniform(0, 1, 25), (2, 1))
    drawn = resampled_sums(same, 300, generator(0))
    np.testing.assert_allclose(share_first(drawn), [0.5, 0.5])
    np.testing.assert_array_equal(share_first(np.stack([drawn[0] + 1, drawn[1]])), [1, 0])
