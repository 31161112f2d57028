import math
import statistics as plain
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from medrobust.rng import generator
from medrobust.stats.intervals import (
    accuracy_difference,
    extremes_interval,
    fraction,
    mean,
    mean_of_ratios,
    ratio,
    t_quantile,
    wilson,
)
from medrobust.stats.resampling import bca, bootstrap_t, percentile, rank_frequencies, resampled_sums
from medrobust.stats.significance import (
    equivalence_test,
    holm,
    patients_for_equivalence,
    patients_for_significance,
    patients_needed,
    ranks_interval,
    sign_flip_test,
    smallest_p,
)

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
    estimate = mean(np.array(values)).t_interval(0.95)
    half = t_quantile(0.95, len(values) - 1) * plain.stdev(values) / math.sqrt(len(values))
    assert estimate.value == pytest.approx(plain.fmean(values))
    assert estimate.high - estimate.value == pytest.approx(half, abs=1e-9)
    assert estimate.value - estimate.low == pytest.approx(half, abs=1e-9)


@given(scores)
def test_the_interval_of_a_share_holds_it_within_0_and_1_and_does_not_care_which_way_it_is_counted(values):
    right, wrong = (
        mean(shares).fraction_interval(0.95) for shares in (np.array(values), 1 - np.array(values))
    )
    assert 0 <= right.low <= right.value <= right.high <= 1
    assert right.low == pytest.approx(1 - wrong.high, abs=1e-9)
    assert right.high == pytest.approx(1 - wrong.low, abs=1e-9)


def test_the_interval_of_a_share_is_that_of_its_log_odds():
    low, high = mean(np.array([0.7, 0.9, 0.8])).fraction_interval(0.95)[1:]
    half = 4.302653 * (0.1 / math.sqrt(3)) / (0.8 * 0.2)  # t of 2 degrees of freedom, delta method
    assert math.log(low / (1 - low)) == pytest.approx(math.log(4) - half, abs=1e-6)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(4) + half, abs=1e-6)


def test_the_interval_of_a_share_is_the_plain_one_where_patients_hardly_differ():
    values = 0.8 + np.array([-3e-4, 1e-4, 0, 2e-4])
    plainly, share = mean(values).interval(0.95), mean(values).fraction_interval(0.95)
    assert share == pytest.approx(plainly, abs=1e-6)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("patients", [2, 6, 100])
def test_patients_that_are_all_alike_have_an_interval(score, patients):
    same = mean(np.full(patients, score))
    for estimate, low, high in (
        (same.fraction_interval(0.95), 0, 1),
        (same.interval(0.95, largest=1.0), -1, 1),
    ):
        assert estimate.value == pytest.approx(score)
        assert low <= max(estimate.low, low) <= score + 1e-12
        assert score - 1e-12 <= min(estimate.high, high) <= high
        assert estimate.high - estimate.low > 0.5 / math.sqrt(patients) / 10
    assert math.isnan(same.interval(0.95).low), "what has no largest value has no interval"


def test_six_scores_of_0_are_as_six_wrong_answers():
    t2 = t_quantile(0.95, 5) ** 2
    assert mean(np.zeros(6)).fraction_interval(0.95) == pytest.approx((0, 0, t2 / (6 + t2)))
    assert wilson(np.zeros(6), np.ones(6), 0.95) == pytest.approx((0, 0, t2 / (6 + t2)))


def test_rounding_is_no_variance():
    values = 0.3 + 1e-16 * np.arange(6)
    exact = mean(np.full(6, 0.3))
    assert mean(values).fraction_interval(0.95) == pytest.approx(exact.fraction_interval(0.95))
    assert mean(values).interval(0.95, 1.0) == pytest.approx(exact.interval(0.95, 1.0))


def test_one_patient_in_six_that_is_not_wiped_out_says_little_of_how_many_are():
    """Nearly all alike is nearly no variance, however little the one differs."""
    for score in (1e-6, 0.01, 0.5):
        assert mean(np.array([0, 0, 0, 0, 0, score])).fraction_interval(0.95).high > 0.5


def test_the_interval_of_a_difference_leans_towards_the_tail_and_is_that_of_t_without_one():
    lost = mean(np.array([0.2] + [0.0, 0.001] * 14))
    plainly, wider = lost.t_interval(0.95), lost.interval(0.95, 1.0)
    assert wider.low == plainly.low
    assert wider.high > plainly.high + 0.005
    even = mean(np.linspace(-0.1, 0.1, 12))
    assert even.interval(0.95, 1.0) == pytest.approx(even.t_interval(0.95))


def test_the_interval_from_the_extremes_is_that_of_clopper_and_pearson():
    # Exact bounds of 2 of 10 (Clopper and Pearson 1934): .0252 to .5561; no gain was seen, none is possible.
    estimate = extremes_interval(np.array([0.1] * 2 + [0.0] * 8), 0.95)
    low, high = stats.binomtest(2, 10).proportion_ci(0.95)
    unseen = 0.1 * (1 - 0.025 ** (1 / 10))
    assert estimate.high == pytest.approx(0.1 * high)
    assert estimate.low == pytest.approx(0.02 - math.hypot(0.1 * (0.2 - low), unseen))
    opposite = extremes_interval(np.array([-0.1] * 2 + [0.0] * 8), 0.95)
    assert opposite == pytest.approx((-0.02, -estimate.high, -estimate.low))


def test_one_patient_has_a_value_and_no_interval():
    one = mean(np.array([0.7]))
    for estimate in (
        one.interval(0.95),
        one.fraction_interval(0.95),
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
    one, accuracy = mean_of_ratios(right[:, None], images[:, None]), ratio(right, images)
    assert one.value == accuracy.value
    spread = accuracy.value * (1 - accuracy.value)
    assert one.effective == pytest.approx(spread / accuracy.error**2)


def test_variance_of_balanced_accuracy_of_single_images_is_that_of_independent_recalls():
    # One image per patient: 3 of 4 right in the first class, 2 of 10 in the second.
    first = np.array([1.0] * 4 + [0.0] * 10)
    hit = np.array([1.0] * 3 + [0.0] + [1.0] * 2 + [0.0] * 8)
    images = np.stack([first, 1 - first], axis=1)
    value, effective, _ = mean_of_ratios(images * hit[:, None], images)
    assert value == pytest.approx((0.75 + 0.2) / 2)
    # Within 10 %: patients of a class who are nearly all alike count as more variable than they are.
    variance = (0.75 * 0.25 / 3 + 0.2 * 0.8 / 9) / 4
    assert value * (1 - value) / effective == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("sizes", [(24,), (6, 6, 6, 6)])
def test_balanced_accuracy_of_right_answers_only_is_as_sure_as_accuracy(sizes):
    images = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    balanced = mean_of_ratios(images, images).fraction_interval(0.95)
    assert balanced == pytest.approx(wilson(np.ones(24), np.ones(24), 0.95))
    assert balanced.low == pytest.approx(0.849, abs=5e-4)


def test_balanced_accuracy_is_as_sure_as_its_smallest_class_allows():
    images = np.repeat(np.eye(2), (1, 200), axis=0)
    one_of_a_class = mean_of_ratios(images, images).fraction_interval(0.95)
    assert one_of_a_class.low < 0.6
    even = np.repeat(np.eye(2), (100, 101), axis=0)
    assert mean_of_ratios(even, even).fraction_interval(0.95).low > 0.97


def test_balanced_accuracy_leaves_out_classes_without_images():
    right, images = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    assert mean_of_ratios(right, images).value == pytest.approx(0.5)


# Wilson's and Clopper and Pearson's


def test_wilson_of_many_independent_images_is_the_textbook_interval():
    right = np.array([1.0] * 700 + [0.0] * 300)
    estimate = wilson(right, np.ones(1000), 0.95)
    # Wilson 1927 with z = 1.96, n = 1000, p = .7; t(999) is 1.9623.
    assert estimate.low == pytest.approx(0.6709, abs=6e-4)
    assert estimate.high == pytest.approx(0.7276, abs=8e-4)


def test_an_accuracy_holds_what_clopper_and_pearson_hold():
    right = np.array([1.0] * 11 + [0.0])
    exact = stats.binomtest(11, 12).proportion_ci(0.95)
    estimate = wilson(right, np.ones(12), 0.95)
    assert estimate.high == pytest.approx(stats.beta.ppf(0.975, 12 * 11 / 12, 1), abs=0.02)
    assert estimate.high >= exact.high - 1e-3
    assert estimate.low < exact.low


def test_cells_that_agree_are_one_outcome_of_a_patient():
    """Of 50 photographs under nine attacks one is wrong under one attack."""
    right = np.array([9.0] * 49 + [8.0])
    nine, one = wilson(right, np.full(50, 9.0), 0.95), wilson(np.ones(50), np.ones(50), 0.95)
    assert nine.low < 0.95
    assert nine.high - nine.low > 0.7 * (one.high - one.low)
    assert nine == pytest.approx(fraction(right / 9, np.ones(50)).fraction_interval(0.95))


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
    assert estimate == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=0.003)


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
    value, error, freedom, _ = accuracy_difference(x, np.ones(50), np.ones(50))
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


@settings(max_examples=25)
@given(st.lists(st.floats(-0.1, 0.1), min_size=29, max_size=40), st.floats(0.01, 0.1))
def test_equivalence_is_a_90_percent_interval_inside_the_margin(values, margin):
    difference = mean(np.array(values))
    interval = extremes_interval(difference.linear, 0.9)
    edge = min(interval.low + margin, margin - interval.high)
    assume(abs(edge) > 1e-4)
    assert (equivalence_test(difference, margin) <= 0.05) == (edge > 0), "29 patients or more: .9^n is less"


def test_equivalence_needs_patients_enough_to_see_a_failure_of_one_in_ten():
    values = np.array([-1e-3, 1e-3] * 3000)
    for tests, fewest in ((1, 29), (3, 39), (10, 51)):
        assert patients_for_equivalence(0.05, tests) == fewest
        assert equivalence_test(mean(values[:fewest]), 0.02) == pytest.approx(0.9**fewest)
        assert 0.9**fewest <= 0.05 / tests < 0.9 ** (fewest - 1)
    assert equivalence_test(mean(values[:6]), 0.02) == 1.0
    assert 0 < equivalence_test(mean(values), 0.02) < 1e-200
    values = values[:30]
    assert equivalence_test(mean(values + 0.03), 0.02) == 1.0
    one_fails = np.array([0.2] + [0.0, 0.001] * 14)  # mean .007; one more would be .014, two .021
    assert equivalence_test(mean(one_fails), 0.02) > 0.05
    with pytest.raises(ValueError, match="margin must be above 0"):
        equivalence_test(mean(values), 0)


def test_scores_that_are_all_equal_are_not_equally_good_before_many_have_shown_it():
    """That all patients have a Dice of 0 for both networks says nothing of one in a hundred who may not."""
    assert equivalence_test(mean(np.zeros(100)), 0.02) > 0.05
    assert equivalence_test(mean(np.zeros(250)), 0.02) < 0.05
    assert equivalence_test(mean(np.zeros(6)), 0.02) == 1.0
    assert math.isnan(equivalence_test(mean(np.array([])), 0.02))


def test_a_hundred_photographs_that_agree_are_equally_good_to_within_5_points():
    changed = np.array([1.0, -1.0] + [0.0] * 98)
    alike = accuracy_difference(0 * changed, np.ones(100), np.ones(100))
    assert equivalence_test(alike, 0.05) < 0.05 < equivalence_test(alike, 0.02)
    assert equivalence_test(accuracy_difference(5 * changed, np.ones(100), np.ones(100)), 0.05) > 0.05


def test_patients_needed_is_the_textbook_number():
    # A paired t test of d = 0.5 needs 34 pairs for 80 % power at .05 (Cohen 1988; G*Power gives 34).
    assert patients_needed(1.0, 0.5, 0.05) == 34
    assert patients_needed(math.nan, 0.02, 0.05) is None
    assert patients_needed(0.0, 0.02, 0.05) is None, "a sample without variance tells nothing of it"
    assert patients_needed(1.0, 0.001, 0.01) > 10_000_000


@pytest.mark.parametrize("tests", [1, 3, 10, 45])
@pytest.mark.parametrize("effect", [1e6, 3.0, 2.0, 1.5])
def test_so_many_patients_as_are_needed_can_be_significant(tests, effect):
    needed = patients_needed(1.0, effect, 0.05 / tests)
    fewest = patients_for_significance(0.05, tests)
    assert needed >= fewest
    assert smallest_p(needed, 10_000) <= 0.05 / tests
    assert effect < 10 or needed == fewest


@pytest.mark.parametrize("effect", [2.5, 1.7, 1.3])
def test_the_sign_flips_have_the_power_that_patients_needed_promises(effect):
    needed = patients_needed(1.0, effect, 0.05 / 3)
    assert needed is not None
    rng = generator(0, "power", str(effect))
    found = [sign_flip_test(rng.normal(effect, 1, needed), 1, rng) <= 0.05 / 3 for _ in range(600)]
    assert np.mean(found) > 0.8 - 0.04


@given(st.lists(st.integers(-5, 5).filter(bool), min_size=2, max_size=8))
def test_a_studentised_statistic_orders_patterns_of_signs_as_the_total_does(differences):
    """Hence sign flips of t are the same test, and no cure for skewed differences."""
    sizes = np.abs(np.array(differences, float))
    flipped = np.array(list(product((1, -1), repeat=sizes.size))) * sizes
    t = flipped.mean(1) / np.sqrt((sizes @ sizes - sizes.size * flipped.mean(1) ** 2).clip(1e-12))
    order = np.argsort(flipped.sum(1), kind="stable")
    assert np.all(np.diff(t[order]) >= -1e-9)


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
    monkeypatch.setattr("medrobust.stats.resampling._CHUNK", 60 * 7)
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
    np.testing.assert_allclose(rank_frequencies(drawn)[:, 0], [0.5, 0.5])
    np.testing.assert_array_equal(rank_frequencies(np.stack([drawn[0] + 1, drawn[1]]))[:, 0], [1, 0])
