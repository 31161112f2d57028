import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_rows
from medrobust.analysis.comparisons import on_front, plane
from medrobust.analysis.tables import table1
from medrobust.rng import generator

SCANS = {f"p{number}": [f"p{number}-scan"] for number in range(8)}


def overlap(cell, scan, structure):
    """Networks a, b, c do ever worse; so does every one under attack."""
    lost = "abc".index(cell.target) * 8 + (cell.perturbation != "clean") * 10
    hit = 80 - lost - int(generator(1, *map(str, cell), scan, structure).integers(0, 8))
    return 100, 100, hit


@pytest.fixture(scope="module")
def results():
    return made_rows.segmentation(overlap, SCANS)


def test_scores_are_those_of_table_1(results):
    ours, theirs = plane(results), table1(results)
    for name in ("clean", "adversarial"):
        assert ours[name].to_list() == pytest.approx(theirs[name].to_list())


def test_covariance_is_that_of_the_means_over_patients(results):
    pairs = np.stack([results.clean("b").totals, results.panel.mean(results.judged_cells("b")).totals])
    expected = np.cov(pairs) / 8
    row = plane(results).row(1, named=True)
    assert row["var_clean"] == pytest.approx(expected[0, 0])
    assert row["var_adversarial"] == pytest.approx(expected[1, 1])
    assert row["covariance"] == pytest.approx(expected[0, 1])


def test_the_region_holds_the_true_means_as_often_as_it_says():
    """Hotelling's region of two correlated normal means, 2,000 studies of 8 patients."""
    from medrobust.analysis.comparisons import _hotelling

    rng = generator(0, "region")
    draws = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (2000, 8))
    means = draws.mean(1)
    centred = draws - means[:, None]
    covariances = np.einsum("spi,spj->sij", centred, centred) / 7 / 8
    distances = np.einsum("si,sij,sj->s", means, np.linalg.inv(covariances), means)
    assert np.mean(distances <= _hotelling(8, 0.95)) == pytest.approx(0.95, abs=0.015)


def test_two_patients_have_no_region():
    two = made_rows.segmentation(overlap, {name: SCANS[name] for name in ("p0", "p1")})
    assert plane(two)["scale"].null_count() == 3


def test_the_front_of_networks_that_beat_each_other_in_both(results):
    assert plane(results)["on_front"].to_list() == [True, False, False]


@given(
    scores=st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, float("nan")])] * 2), min_size=1, max_size=6)
)
def test_the_front_is_what_nobody_beats(scores):
    expected = [
        not any(np.isnan(one))
        and not any(
            other[0] >= one[0] and other[1] >= one[1] and other != one for other in scores if other == other
        )
        for one in scores
    ]
    assert on_front(np.array(scores)).tolist() == expected


def test_a_score_that_does_not_vary_has_no_region():
    wiped_out = made_rows.segmentation(lambda cell, scan, structure: (100, 100, 0), SCANS)
    table = plane(wiped_out)
    assert table["scale"].null_count() == 3
    assert table["adversarial"].to_list() == [0.0] * 3
