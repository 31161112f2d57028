import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import made_rows
from medrobust.analysis.comparisons import (
    RANKED,
    TIED,
    TOO_FEW,
    UNRANKED,
    above_majority,
    noise_control,
    pairs,
)
from medrobust.analysis.export import all_tables
from medrobust.analysis.scores import Cell
from medrobust.analysis.tables import by_patient, table1, table2
from medrobust.analysis.verdict import verdict
from medrobust.rng import generator
from medrobust.stats.intervals import mean
from medrobust.stats.significance import holm, sign_flip_test
from medrobust.storage.schemas import SELFTEST
from medrobust.study.analysis import Settings

DICE = {"a": 0.8, "b": 0.6, "c": 0.6}
"""Dice of each network under attack."""


def brains(patients: int, spread: float = 0.05, dice: dict[str, float] = DICE, **options):
    """Networks that do equally well on clean images and lose what `dice` says under attack."""

    def counts(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
        rng = generator(5, *map(str, cell), scan, structure)
        level = dice[cell.target] if cell.source and "@" not in cell.perturbation else 0.9
        return 10_000, 10_000, int(10_000 * np.clip(level + rng.normal(0, spread), 0, 1))

    names = {f"p{number:02}": [f"s{number:02}"] for number in range(patients)}
    return made_rows.segmentation(
        counts, names, structures=("background", "left"), models=tuple(dice), **options
    )


def photos(right, patients: int = 40, **options):
    return made_rows.classification(right, {f"p{number:02}": 2 for number in range(patients)}, **options)


def test_clear_differences_are_ranked_and_worded_with_their_limits():
    results = brains(12)
    found = verdict(results)
    assert (found.outcome, found.best) == (RANKED, "a")
    assert found.pairs["verdict"].to_list() == [RANKED, RANKED, TIED]
    assert found.pairs["better"].to_list() == ["a", "a", None]
    text = " ".join(found.sentences)
    assert "a is more robust than b against these transferred attacks, for these trained weights" in text
    assert "b and c cannot be distinguished under attack" in text
    assert "Nothing follows for architectures" in text
    assert "over 12 patients; intervals are not adjusted" in text
    ranks = found.ranking.select("model", "rank_low", "rank_high").rows()
    assert ranks[0] == ("a", 1, 1)
    assert set(ranks[1:]) == {("b", 2, 3), ("c", 2, 3)}
    assert found.ranking["share_first"].null_count() == 3, "hidden below 20 patients"


def test_the_sentence_is_about_the_better_network_whichever_comes_first():
    found = verdict(brains(8, spread=0.01, dice={"a": 0.6, "b": 0.8}))
    assert found.best == "b"
    numbers = re.search(r"b is more robust than a .* Dice (\S+) \[(\S+), (\S+)\]", found.sentences[0])
    value, low, high = map(float, numbers.groups())
    assert 0.18 < low < value < high < 0.22


def test_p_values_are_sign_flips_of_patients_adjusted_by_holm():
    results = brains(9, spread=0.15)
    scores = {
        model: rows["adversarial"].to_numpy() for (model,), rows in by_patient(results).group_by("model")
    }
    table = pairs(results)
    p = [
        sign_flip_test(scores[i] - scores[j], 1, generator(0))
        for i, j in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert table["p"].to_list() == pytest.approx(p)
    assert table["p_holm"].to_list() == pytest.approx(list(holm(np.array(p))))
    expected = mean(scores["a"] - scores["b"]).interval(0.95)
    assert table.select("difference", "difference_low", "difference_high").row(0) == pytest.approx(expected)


def test_six_patients_are_too_few_for_three_networks_and_seven_are_needed():
    found = verdict(brains(6, spread=0.0))
    assert found.outcome == TOO_FEW
    assert found.pairs["better"].null_count() == 3
    assert any("at least 7 are needed" in sentence for sentence in found.sentences)
    assert verdict(brains(7, spread=0.001)).outcome == RANKED
    two = {"a": 0.8, "b": 0.6}
    assert verdict(brains(6, spread=0.001, dice=two)).outcome == RANKED


def test_networks_no_better_than_the_majority_class_are_not_ranked():
    def right(cell, patient, image):
        # Half of the images are of either class: c is right on exactly half.
        return image == 0 if cell.target == "c" else cell.perturbation == "clean" or cell.target == "a"

    results = photos(right)
    assert above_majority(results) == {"a": True, "b": True, "c": False}
    found = verdict(results)
    assert found.pairs["verdict"].to_list() == [RANKED, UNRANKED, UNRANKED]
    assert found.ranking.filter(model="c").select("rank_low", "rank_high", "share_first").row(0) == (
        None,
        None,
        None,
    )
    assert found.ranking.filter(model="a")["share_first"].item() == 1.0
    assert any(sentence.endswith("majority class: c.") for sentence in found.sentences)
    assert found.best is None


def test_orders_by_score_and_by_drop_that_differ_are_said():
    def counts(cell, scan, structure):
        attacked = {"a": 7000, "b": 6500}
        clean = {"a": 9500, "b": 7000}
        rng = generator(1, *map(str, cell), scan)
        level = attacked[cell.target] if cell.source and "@" not in cell.perturbation else clean[cell.target]
        return 10_000, 10_000, level + int(rng.integers(-50, 50))

    results = made_rows.segmentation(counts, {f"p{n}": [f"s{n}"] for n in range(10)}, models=("a", "b"))
    found = verdict(results)
    assert found.best == "a"
    assert found.pairs["drops_agree"].item() is False
    assert found.pairs["drop_difference"].item() == pytest.approx(20, abs=0.5)
    assert any("By the drop from the clean score, b comes first" in sentence for sentence in found.sentences)


def test_equally_good_on_clean_is_said_only_by_an_equivalence_test():
    alike = pairs(brains(45, spread=0.001))
    assert alike["equally_good"].to_list() == [True] * 3
    assert alike["p_equal_holm"].to_list() == pytest.approx(holm(alike["p_equal"].to_numpy()).tolist())
    assert pairs(brains(45, spread=0.3))["equally_good"].to_list() == [False] * 3
    assert any("equally good on clean images" in text for text in verdict(brains(45, spread=0.001)).sentences)


def test_equality_is_adjusted_for_the_number_of_pairs():
    found = pairs(brains(45, spread=0.03))
    between = found.filter(pl.col("p_equal") <= 0.05, pl.col("p_equal_holm") > 0.05)
    assert between.height
    assert not between["equally_good"].any()


def test_few_patients_have_an_interval_and_no_verdict_on_equality():
    found = verdict(brains(38, spread=0.001))
    assert found.pairs["equally_good"].to_list() == [None] * 3
    (said,) = (text for text in found.sentences if "Differences on clean images" in text)
    row = found.pairs.row(0, named=True)
    assert (
        f"a - b {row['clean_difference']:+.3f} [{row['clean_difference_low']:+.3f},"
        f" {row['clean_difference_high']:+.3f}]" in said
    )
    assert "that takes at least 39 patients" in said
    assert not any("equally good" in text for text in found.sentences)


@pytest.mark.parametrize("dice", [0.0, 1.0])
def test_six_patients_that_are_all_alike_are_not_called_equally_good(dice):
    def counts(cell, scan, structure):
        return 1000, 1000, int(1000 * dice)

    results = made_rows.segmentation(counts, {f"p{n}": [f"s{n}"] for n in range(6)}, models=("a", "b"))
    found = verdict(results)
    assert found.pairs["equally_good"].to_list() == [None]
    assert (
        found.pairs["clean_difference_low"].item() < -0.3 < 0.3 < found.pairs["clean_difference_high"].item()
    )
    assert found.pairs["patients_needed"].item() is None


def sound_intervals(results) -> int:
    """How many intervals all tables have; their bounds are apart and enclose the value."""
    counted = 0
    for name, made in all_tables(results, verdict(results)).items():
        table = made.rows
        for column in table.columns:
            low, high = ("low", "high") if column == "score" else (f"{column}_low", f"{column}_high")
            if low in table.columns:
                known = table.filter(pl.col(low).is_not_null())
                counted += known.height
                assert (known[low] < known[high]).all(), (name, column)
                assert (known[low] <= known[column] + 1e-9).all(), (name, column)
                assert (known[column] <= known[high] + 1e-9).all(), (name, column)
                if column in ("score", "clean", "adversarial", "accuracy", "balanced_accuracy"):
                    assert known[low].is_between(0, 1).all(), (name, column)
                    assert known[high].is_between(0, 1).all(), (name, column)
    return counted


@pytest.mark.parametrize("interval", ["default", "percentile", "bca", "bootstrap-t"])
@pytest.mark.parametrize("score", [0, 1, 2], ids=["never", "always", "only clean"])
@pytest.mark.parametrize("task", ["photos", "brains"])
def test_no_interval_of_any_table_has_no_width(task, score, interval):
    """All alike, in every cell: bounds are apart or there are none, and enclose the value."""
    settings = Settings(resamples=100, interval=interval)

    def hit(cell):
        return [False, True, not cell.source][score]

    if task == "photos":
        results = photos(lambda cell, patient, image: hit(cell), 6, settings=settings)
    else:
        names = {f"p{number}": [f"s{number}"] for number in range(6)}
        results = made_rows.segmentation(lambda cell, *_: (9, 9, 9 * hit(cell)), names, settings=settings)
    assert sound_intervals(results) > 20


@pytest.mark.parametrize("interval", ["default", "percentile", "bca", "bootstrap-t"])
@pytest.mark.parametrize(
    ("patients", "right_of_ten"),
    [
        (6, lambda cell, scan: 5 if cell.source else 1),
        (6, lambda cell, scan: 10 * ((cell.target == "a") == (not cell.source))),
        (2, lambda cell, scan: 10 * (scan == "s0")),
    ],
    ids=["gain of four times the clean score", "one loses all, one gains all", "resamples without an error"],
)
def test_bounds_enclose_what_is_larger_than_a_score(patients, right_of_ten, interval):
    names = {f"p{number}": [f"s{number}"] for number in range(patients)}
    results = made_rows.segmentation(
        lambda cell, scan, _: (10, 10, right_of_ten(cell, scan)),
        names,
        models=("a", "b"),
        settings=Settings(resamples=100, interval=interval),
    )
    assert sound_intervals(results) > 20
    drops = table1(results)
    assert drops["drop_percent"].is_null().equals(drops["drop_percent_low"].is_null())
    assert drops["drop_percent_low"].is_null().equals(drops["drop_percent_high"].is_null())
    assert pairs(results)["drop_difference_low"].is_not_null().all()


def test_patients_needed_are_never_fewer_than_could_be_significant():
    found = verdict(brains(8, spread=1e-3, dice={"a": 0.8, "b": 0.8, "c": 0.8}))
    assert found.outcome == TIED
    assert found.pairs["patients_needed"].to_list() == [7] * 3  # 2 / 2^7 <= .05 / 3 < 2 / 2^6


def test_many_pairs_can_be_significant_though_few_patterns_of_signs_are_asked_for():
    """With 17 patients patterns are drawn; 100 of them could never give p <= .05 / 28."""
    dice = {name: 0.2 + 0.1 * place for place, name in enumerate("abcdefgh")}
    found = verdict(brains(17, spread=0.01, dice=dice, settings=Settings(resamples=100)))
    assert found.outcome == RANKED
    assert found.pairs["verdict"].to_list() == [RANKED] * 28


def test_the_margin_is_that_of_the_task_unless_the_study_has_one():
    assert (brains(6).relevant_difference, photos(lambda *_: True, 6).relevant_difference) == (0.02, 0.05)
    own = brains(6, settings=Settings(relevant_difference=0.1))
    assert own.relevant_difference == 0.1


def test_neutral_sources_are_of_neither_architecture():
    table = pairs(brains(8))
    assert table["n_neutral_sources"].to_list() == [1, 1, 1]
    results = brains(8, dice={"a": 0.8, "b": 0.6})
    assert pairs(results)["n_neutral_sources"].item() == 0
    assert pairs(results)["neutral_difference"].item() is None


def test_attacks_are_held_against_their_own_noise():
    def counts(cell, scan, structure):
        rng = generator(2, *map(str, cell), scan)
        level = 0.5 if cell.perturbation == "dag_a" else 0.8
        return 10_000, 10_000, int(10_000 * (level + rng.normal(0, 0.02)))

    results = made_rows.segmentation(counts, {f"p{n}": [f"s{n}"] for n in range(8)})
    table = noise_control(results)
    assert table.select("target", "perturbation").rows() == [
        (m, p) for m in "abc" for p in ("dag_a", "dag_b")
    ]
    harder = table.filter(perturbation="dag_a")
    assert harder["extra_drop_points"].to_list() == pytest.approx([30] * 3, abs=1.5)
    assert (harder["extra_drop_points_low"] > 0).all()
    assert (harder["p"] == 2 / 2**8).all()
    assert table["p_holm"].to_list() == pytest.approx(list(holm(table["p"].to_numpy())))
    assert (table["p_holm"] >= table["p"]).all()


def test_without_noise_there_is_no_control():
    results = brains(8)
    quiet = replace(results.restricted(~pl.col("perturbation").str.contains("@")), noise=())
    assert noise_control(quiet).is_empty()


def test_units_that_are_not_patients_and_seeds_are_named():
    lesions = replace(photos(lambda cell, patient, image: image == 0 or cell.target == "a"), unit="lesion")
    text = " ".join(verdict(lesions).sentences)
    assert "over 40 lesions" in text
    assert "the unit is the lesion, so intervals may be too narrow" in text


def test_agreement_of_orders_needs_five_networks():
    levels = {"a": 0.8, "b": 0.75, "c": 0.7, "d": 0.65, "e": 0.6}
    tau = verdict(brains(5, dice=levels)).kendall_tau
    assert tau is not None
    assert -1 <= tau <= 1
    assert verdict(brains(5)).kendall_tau is None


def test_one_network_and_one_patient_are_no_error():
    alone = verdict(brains(8, dice={"a": 0.8}))
    assert alone.pairs.is_empty()
    assert alone.best is None
    single = verdict(brains(1))
    assert single.outcome == TOO_FEW
    assert single.pairs["difference_low"].null_count() == 3


def test_sampling_depends_on_the_seed_of_the_study_only():
    results = photos(
        lambda cell, patient, image: generator(1, *map(str, cell), patient, image).random() < 0.7
    )
    again = photos(lambda cell, patient, image: generator(1, *map(str, cell), patient, image).random() < 0.7)
    assert pairs(results)["p"].to_list() == pairs(again)["p"].to_list()
    other = replace(results, settings=Settings(resamples=500, seed=1))
    assert pairs(other)["p"].to_list() != pairs(results)["p"].to_list()


def selftests(*failed):
    """Rows of self-tests: everything passes but these attacks on these sources."""
    rows = [
        {"perturbation": attack, "source": source, "source_seed": 1, "fold": None, "check": check}
        | {"passed": None if check == "chance" else (attack, source) not in failed, "value": 0.5}
        | {"seen": "It is so.", "cases": "validation", "n_images": 8}
        for attack in ("dag_a", "dag_b")
        for source in "abc"
        for check in ("noise", "chance")
    ]
    return pl.DataFrame(rows, schema=SELFTEST.schema)


def biased(cell, scan, structure):
    """Network b is hit by one column only, by which it would come last."""
    rng = generator(4, *map(str, cell), scan)
    level = 9000 if not cell.source else 2000 if cell[:3] == ("b", "dag_a", "c") else 7000
    level += {"a": 0, "b": 200, "c": 400}[cell.target] if cell.source else 0
    return 10_000, 10_000, level + int(rng.integers(-20, 20))


def test_columns_of_attacks_that_fail_their_self_tests_are_left_out_of_the_verdict_only():
    sound = made_rows.segmentation(biased, {f"p{n:02}": [f"s{n}"] for n in range(12)})
    flagged = replace(sound, selftests=selftests(("dag_a", "c")))
    assert verdict(replace(sound, selftests=selftests())).sentences == verdict(sound).sentences
    before, after = verdict(sound), verdict(flagged)
    assert before.ranking["model"].to_list() == ["c", "a", "b"]
    assert after.ranking["model"].to_list() == ["c", "b", "a"]
    assert after.pairs.filter(first="a", second="b")["better"].item() == "b"
    (said,) = [sentence for sentence in after.sentences if sentence.startswith("Left out")]
    assert said.endswith("failed its self-tests: dag_a from c. Tables 1 and 2 include them.")
    assert table1(flagged).equals(table1(sound))
    assert table2(flagged).equals(table2(sound))


def test_nothing_is_ranked_where_every_attack_fails_its_self_tests():
    every = [(attack, source) for attack in ("dag_a", "dag_b") for source in "abc"]
    results = made_rows.segmentation(biased, {f"p{n:02}": [f"s{n}"] for n in range(12)})
    failed = replace(results, selftests=selftests(*every))
    found = verdict(failed)
    assert found.outcome == UNRANKED
    assert found.best is None
    assert found.pairs["verdict"].to_list() == [UNRANKED] * 3
    assert any("None is left, so nothing is ranked." in sentence for sentence in found.sentences)
    assert not any("noise of the same similarity" in sentence for sentence in found.sentences)
    assert found.ranking["rank_low"].to_list() == found.ranking["rank_high"].to_list() == [None] * 3
    tables = {name: table.rows for name, table in all_tables(failed, found).items()}
    assert tables["table1"].height == 3
    assert tables["plane"]["adversarial"].to_list() == [None] * 3
    assert tables["plane"]["on_front"].to_list() == [False] * 3
