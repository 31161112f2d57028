"""Attacks on fewer cases than the study, from made rows."""

from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis.comparisons import noise_control, pairs
from medrobust.analysis.fewer import fewer_cases, fewer_sentences
from medrobust.analysis.tables import table1, table2, whitebox_table
from medrobust.rng import generator
from medrobust.stats.significance import holm
from medrobust.study.analysis import Attack

PATIENTS = {f"p{number:02d}": 6 for number in range(14)}
FEW = ("slow", "slower")
ATTACKS = (Attack("slow", cases=28), Attack("fgsm"), Attack("slower", beyond_paper=True, cases=28))
LEVELS = {"clean": 0.9, "fgsm": 0.5, "slow": 0.3, "slower": 0.4}


def right(cell, patient, image):
    level = LEVELS.get(cell.perturbation, 0.7) - {"a": 0.0, "b": 0.1, "c": 0.2}[cell.target]
    return bool(generator(3, *map(str, cell), patient, image).random() < level)


@pytest.fixture(scope="module")
def results():
    whole = made_rows.classification(right, PATIENTS, attacks=ATTACKS)
    of_few = pl.col("perturbation").str.split("@").list.last().is_in(FEW)
    first_two = pl.col("case_id").str.ends_with("-0") | pl.col("case_id").str.ends_with("-1")
    kept = ~of_few | first_two
    return replace(
        whole, predictions=whole.predictions.filter(kept), crafted=whole.crafted.filter(kept)
    ).parted()


def test_they_change_nothing_else(results):
    alone = made_rows.classification(right, PATIENTS, attacks=(Attack("fgsm"),))
    for table in (table1, table2, noise_control, pairs):
        assert table(results).equals(table(alone))
    assert whitebox_table(results).is_empty()  # the only one is of an attack on fewer cases
    assert fewer_cases(alone).is_empty()
    assert fewer_sentences(alone) == []


def test_each_is_compared_on_its_own_cases(results):
    table = fewer_cases(results)
    assert table.select("target", "perturbation", "setting").rows() == [
        (model, *each)
        for model in "abc"
        for each in (("slow", "transferred"), ("slow", "white box"), ("slower", "transferred"))
    ]
    assert set(table["n_cases"]) == {28}
    assert set(table["n_patients"]) == {14}
    (part,) = results.fewer
    rows = part.rows.with_columns(right=pl.col("label") == pl.col("prediction"))
    for row in table.rows(named=True):
        role = {"transferred": "transfer", "white box": "whitebox"}[row["setting"]]
        shown = rows.filter(target=row["target"])
        clean, noise, attacked = (
            shown.filter(perturbation=name, role=role)["right"].mean()
            if name != "clean"
            else shown.filter(perturbation=name)["right"].mean()
            for name in ("clean", f"gaussian@{row['perturbation']}", row["perturbation"])
        )
        assert row["clean"] == pytest.approx(clean)
        assert row["attacked"] == pytest.approx(attacked)
        assert row["drop_points"] == pytest.approx(100 * (clean - attacked))
        assert row["drop_points_low"] < row["drop_points"] < row["drop_points_high"]
        if row["setting"] == "transferred":
            assert row["noise"] == pytest.approx(noise)
            assert row["extra_drop_points"] == pytest.approx(100 * (noise - attacked))
        else:  # noise is matched to transferred attacks
            assert row["noise"] is row["extra_drop_points"] is row["p"] is None


def test_those_beyond_the_paper_are_tested_too_in_one_family(results):
    tested = fewer_cases(results).filter(setting="transferred")
    assert tested["p"].null_count() == 0
    assert tested["p_holm"].to_list() == pytest.approx(list(holm(tested["p"].to_numpy())))


def test_the_verdict_says_which(results):
    (told,) = fewer_sentences(results)
    assert told.startswith("Crafted on fewer than the study's 84 cases, hence in no average, test between ")
    assert "ranking: slow, slower: 28. " in told
