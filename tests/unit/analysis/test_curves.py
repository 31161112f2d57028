from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis import comparisons, tables
from medrobust.analysis.table import Table
from medrobust.analysis.tables import curve_table
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator
from medrobust.study.analysis import Attack

GRID = (
    Attack("fgsm"),
    Attack("pgd-2of255", beyond_paper=True, curve="pgd", value=2 / 255),
    Attack("pgd-0.5of255", beyond_paper=True, curve="pgd", value=0.5 / 255),
    Attack("fgsm-0.1", curve="fgsm", value=0.1),
)
PATIENTS = {"p1": 3, "p2": 2, "p3": 4}


def coin(cell, patient, image):
    return bool(generator(5, *map(str, cell), patient, image).random() < 0.6)


@pytest.fixture(scope="module")
def results():
    return made_rows.classification(coin, PATIENTS, attacks=GRID)


def test_every_curve_runs_from_clean_over_rising_budgets_for_every_target(results):
    rows = curve_table(results).select("curve", "target", "perturbation", "budget").rows()
    assert rows == [
        *(
            ("pgd", model, label, budget)
            for model in "abc"
            for label, budget in (("clean", 0.0), ("pgd-0.5of255", 0.5 / 255), ("pgd-2of255", 2 / 255))
        ),
        *(
            ("fgsm", model, label, budget)
            for model in "abc"
            for label, budget in (("clean", 0.0), ("fgsm-0.1", 0.1))
        ),
    ]


def test_points_are_means_over_sources_with_intervals(results):
    scores = {
        key: value
        for frame, name in ((tables.table2(results), ""), (tables.noise_table(results), "gaussian@"))
        for *key, value in frame.group_by("target", "perturbation").agg(pl.col("score").mean()).iter_rows()
        for key in [(key[0], name, key[1])]
    }
    clean = dict(tables.table1(results).select("model", "clean").iter_rows())
    for row in curve_table(results).iter_rows(named=True):
        target, label = row["target"], row["perturbation"]
        at_zero = label == "clean"
        assert row["score"] == pytest.approx(clean[target] if at_zero else scores[target, "", label])
        noise = clean[target] if at_zero else scores[target, "gaussian@", f"gaussian@{label}"]
        assert row["noise"] == pytest.approx(noise)
        assert row["low"] < row["score"] < row["high"]
        assert row["noise_low"] < row["noise"] < row["noise_high"]
        assert (row["n_cases"], row["n_patients"]) == (9, 3)


def test_without_matched_noise_there_is_no_noise_and_without_a_grid_no_curve(results):
    silent = replace(results.restricted(~pl.col("perturbation").str.contains("@")), noise=())
    assert curve_table(silent)["noise"].null_count() == curve_table(silent).height == 15
    assert curve_table(replace(results, attacks=GRID[:1])).is_empty()


def test_points_of_curves_enter_no_average_comparison_or_verdict(results):
    alone = replace(results, attacks=GRID[:1])
    assert results.averaged == ("fgsm",)
    assert_frame_equal(tables.table1(results), tables.table1(alone))
    assert_frame_equal(comparisons.noise_control(results), comparisons.noise_control(alone))
    assert verdict(results).sentences == verdict(alone).sentences
    assert tables.table2(results)["perturbation"].unique().len() == 4


def test_a_study_without_attacks_of_the_paper_averages_what_it_has(results):
    pgd = Attack("fgsm", beyond_paper=True)
    assert replace(results, attacks=(pgd, *GRID[1:])).averaged == ("fgsm",)
    assert replace(results, attacks=GRID[1:]).averaged == tuple(attack.label for attack in GRID[1:])


def test_budgets_keep_their_digits_in_files_for_people(results):
    budgets = Table.of("curve", curve_table(results)).select("budget").cells
    assert [row[0].text for row in budgets[:3]] == ["0", "0.5/255", "2/255"]
