from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis.smallest import POINTS, budget_strength, smallest, smallest_curve
from medrobust.report.plots import Words, draw
from medrobust.study.analysis import Attack

PATIENTS = {f"p{number}": 1 for number in range(4)}
ATTACKS = (
    Attack("fmn", norm="inf", minimal=True),
    Attack("other", norm="inf", minimal=True),
    Attack("pgd", norm="inf"),
)


def results(**columns):
    """One network; by attack the size at which each of four images was fooled (None: not)."""
    made = made_rows.classification(lambda *_: True, PATIENTS, models=("a",), attacks=ATTACKS, noise=())
    rows = made.crafted.filter(role="transfer").sort("perturbation", "case_id")
    sizes = [size for label in ("fmn", "other", "pgd") for size in columns[label]]
    rows = rows.with_columns(
        linf=pl.Series([0.0 if size is None else size for size in sizes]),
        fooled_source=pl.Series([0.0 if size is None else 1.0 for size in sizes]),
        already_wrong=pl.Series([1.0 if size == 0 else 0.0 for size in sizes]),
        strength=pl.Series([0.3] * len(sizes)),
    )
    return replace(made, crafted=rows)


FOUND = {"fmn": [0.0, 0.1, 0.2, 0.4], "other": [0.0, 0.2, 0.2, None], "pgd": [0.0, 0.3, None, None]}


def test_optimality_is_the_area_saved_of_what_the_best_saves():
    table = smallest(results(**FOUND))
    fmn, other = table.sort("perturbation").iter_rows(named=True)
    assert fmn["optimality"] == pytest.approx(1)
    assert fmn["largest_size"] == pytest.approx(0.4)
    assert fmn["mean_size"] == pytest.approx(0.7 / 4)
    assert fmn["median_size"] == pytest.approx(0.15)
    # 1 - (area - best area) / (clean accuracy * largest - best area), as AttackBench has it
    assert other["optimality"] == pytest.approx(1 - (0.8 / 4 - 0.7 / 4) / (0.75 * 0.4 - 0.7 / 4))
    assert other["fooled"] == pytest.approx(0.75)
    assert other["optimality_low"] <= other["optimality"] <= other["optimality_high"] <= 1
    assert (fmn["n_images"], fmn["n_patients"]) == (4, 4)


def test_an_attack_with_a_budget_counts_among_the_best():
    better = FOUND | {"pgd": [0.0, 0.05, None, None]}
    table = smallest(results(**better)).filter(perturbation="fmn")
    assert table["optimality"].item() < 1


def test_the_curve_counts_images_up_to_each_size():
    curve = smallest_curve(results(**FOUND)).filter(perturbation="fmn")
    assert curve.height == POINTS
    assert curve["size"].to_list() == pytest.approx([0.05 * place for place in range(POINTS)])
    assert curve["fooled"].to_list() == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 1]
    assert (curve["fooled_low"] <= curve["fooled"]).all()


def test_attacks_with_a_budget_stand_beside_the_worst_within_it():
    (row,) = budget_strength(results(**FOUND)).iter_rows(named=True)
    assert (row["perturbation"], row["budget"]) == ("pgd", 0.3)
    assert (row["fooled"], row["fooled_by_any"]) == (0.5, 0.75)
    assert row["missed_points"] == pytest.approx(25)


def test_there_is_a_picture_for_each_norm():
    found = results(**FOUND)
    tables = {
        "table1": pl.DataFrame(schema={"model": pl.String}),
        "table2": pl.DataFrame(schema={"perturbation": pl.String}),
        "smallest_curve": smallest_curve(found),
    }
    plots = draw(tables, Words.of(found), None)
    assert "L∞" in plots["smallest_linf"]().caption
    assert "smallest_l2" not in plots


def test_without_such_attacks_all_is_empty():
    none = made_rows.classification(lambda *_: True, PATIENTS)
    for table in (smallest, smallest_curve, budget_strength):
        assert table(none).is_empty()
