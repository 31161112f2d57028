"""Several runs on the same data: what is refused, what is said, and the numbers behind it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

import made_rows
from medrobust.analysis.across import OTHER, SAME, comparison_tables, conclude
from medrobust.analysis.comparable import ComparedRun, comparable, limits, warnings
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell
from medrobust.analysis.tables import table1
from medrobust.errors import RunError
from medrobust.rng import generator
from medrobust.stats.intervals import mean
from medrobust.stats.significance import holm, sign_flip_test
from medrobust.storage.schemas import SELFTEST
from medrobust.study.analysis import Attack, Ladder, Settings

STUDY: dict[str, Any] = {
    "seed": 0,
    "support": "auto",
    "surrogates": {"seeds": [1], "data": "same"},
    "crafting": {"autocast": False},
    "analysis": {"confidence": 0.95},
    "noise": {"name": "rician", "label": "rician"},
    "perturbations": [
        {"name": "dag_a", "label": "dag_a", "step": 0.0625},
        {"name": "dag_b", "label": "dag_b", "step": 0.0625},
    ],
}
PARTS = ("train", "test")


def record(models: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, Any]:
    networks = {
        f"{model}-{role}-s{seed}": {"name": model, "role": role, "seed": seed, "fold": None}
        for model in models
        for role, seed in (("target", 0), ("surrogate", 1))
    }
    data = {"name": "brains", "fingerprint": "5e4d" * 16, "facts": {"spacing": "2 mm"}, "classes": [*classes]}
    return {"data": data, "networks": networks, "versions": {"medrobust": "0.1.0", "torch": "2.9"}}


def run(name: str, results: Results, study: Mapping[str, Any] = STUDY, **weights: str) -> ComparedRun:
    """A run; weights are unknown unless given, by the names of networks' folders with `_` for `-`."""
    split = pl.DataFrame({"patient_id": ["t1", *results.panel.patients]}).with_columns(
        part=pl.when(pl.col("patient_id") == "t1").then(pl.lit(PARTS[0])).otherwise(pl.lit(PARTS[1]))
    )
    recorded = replace(results, record=record(results.models, results.classes))
    known = {folder.replace("_", "-"): sha for folder, sha in weights.items()}
    return ComparedRun(name, recorded, study, split, known)


def brains(
    dice: Mapping[str, float],
    *,
    clean: float = 0.9,
    patients: int = 10,
    spread: float = 0.02,
    seed: int = 5,
    **options: Any,
) -> Results:
    """Networks that lose what `dice` says under attack; every patient has its own difficulty."""

    def counts(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
        rng = generator(seed, *map(str, cell), scan, structure)
        level = dice[cell.target] if cell.source and "@" not in cell.perturbation else clean
        return 10_000, 10_000, int(10_000 * np.clip(level + rng.normal(0, spread), 0, 1))

    names = {f"p{number:02}": [f"s{number:02}"] for number in range(patients)}
    return made_rows.segmentation(
        counts, names, structures=("background", "left"), models=tuple(dice), **options
    )


def compared(*runs: ComparedRun) -> tuple[str, ...]:
    return conclude(comparable(runs)).sentences


def trained(given: ComparedRun, training: dict[str, Any]) -> ComparedRun:
    """The run, its networks trained so, and nothing else known of them."""
    networks = {
        folder: {**each, "network": {"input": {}}, "training": training}
        for folder, each in given.results.record["networks"].items()
    }
    return replace(
        given, results=replace(given.results, record={**given.results.record, "networks": networks})
    )


def test_a_defended_network_has_its_twin_in_another_run() -> None:
    defence = {"adversarial": {"method": "fast", "eps": 2 / 255}}
    old = trained(run("old", brains({"a": 0.6})), {"epochs": 3})
    new = trained(run("new", brains({"a": 0.7}, clean=0.8, seed=6)), {"epochs": 3, **defence})
    runs = comparable([old, new])
    found = conclude(runs)
    assert set(found.price.select("model", "twin").rows()) == {("a of new", "a of old")}
    assert found.price["condition"].to_list() == [
        "clean",
        "matched noise",
        "transferred attacks",
        "white box",
    ]
    gains = dict(found.price.select("condition", "gain_points").iter_rows())
    for condition, name in (("clean", "clean"), ("transferred attacks", "adversarial")):
        of_pair = found.differences.filter(condition=name)["difference_in_points"].item()
        assert gains[condition] == pytest.approx(of_pair)
    assert gains["clean"] < 0 < gains["transferred attacks"]
    assert "a of new (trained with fast, eps 2/255) beside its twin a of old" in found.sentences[-1]
    assert "price" in comparison_tables(runs, found)
    other = trained(new, {"epochs": 4, **defence})
    assert conclude(comparable([old, other])).price.is_empty()


class TestLadder:
    """Rungs of both runs: `dag_b`, transferred and on the network itself."""

    def pair(self, *rungs: tuple[str, ...]) -> tuple[ComparedRun, ...]:
        attacks = (Attack("dag_b", beyond_paper=True), Attack("dag_a"))
        results = [brains({"a": dice}, seed=seed, attacks=attacks) for dice, seed in ((0.6, 5), (0.7, 6))]
        return tuple(
            run(name, replace(each, ladder=Ladder(2 / 255, labels) if labels else None))
            for name, each, labels in zip(("old", "new"), results, rungs, strict=True)
        )

    def test_every_rung_is_compared_and_tested_in_a_family_of_its_own(self) -> None:
        old, new = runs = comparable(self.pair(("dag_b",), ("dag_b",)))
        found = conclude(runs)
        rungs = found.differences.filter(condition="rung")
        assert rungs["perturbation"].to_list() == ["transferred, mean", "white box"]
        for row, whitebox in zip(rungs.iter_rows(named=True), (False, True), strict=True):
            means = [
                each.results.panel.cells[Cell("a", "dag_b", "a", whitebox)].totals for each in (new, old)
            ]
            assert row["first_score"] == pytest.approx(means[0].mean())
            assert row["difference_in_points"] == pytest.approx(100 * (means[0] - means[1]).mean())
        assert rungs["p_holm"].to_list() == pytest.approx(holm(rungs["p"].to_numpy()))
        assert (
            f"On the ladder, within 2/255: transferred, mean {rungs['difference_in_points'][0]:+.1f} points"
            in found.sentences[0]
        )
        assert f"; white box {rungs['difference_in_points'][1]:+.1f} points [" in found.sentences[0]
        table = comparison_tables(runs, found)["threats"].rows
        assert set(table["target"]) == {"a of old", "a of new"}
        assert table.filter(target="a of new", rung="white box")["score"].item() == pytest.approx(
            rungs["first_score"][1]
        )
        assert found.pairs.equals(conclude(comparable(self.pair((), ()))).pairs)

    @pytest.mark.parametrize("without", ["old", "new"])
    def test_where_one_run_has_no_ladder_it_is_said_that_no_rung_is_compared(self, without: str) -> None:
        given = self.pair(*(() if name == without else ("dag_b",) for name in ("old", "new")))
        runs = comparable(given, ["dag_a"])
        found = conclude(runs)
        assert found.differences.filter(condition="rung").is_empty()
        assert "threats" not in comparison_tables(runs, found)
        assert "On the ladder" not in " ".join(found.sentences)
        have = {name: "no ladder" if name == without else "within 2/255" for name in ("old", "new")}
        said = f"Of the threat-model ladder (old: {have['old']}; new: {have['new']}) no attack is compared"
        assert f"{said}, so no rung is." in limits(given, runs)
        warnings(runs)

    def test_rungs_are_of_the_attacks_that_are_compared(self) -> None:
        given = self.pair(("dag_a", "dag_b"), ("dag_a", "dag_b"))
        runs = comparable(given, ["dag_b"])
        rungs = conclude(runs).differences.filter(condition="rung")
        assert rungs["perturbation"].to_list() == ["transferred, mean", "white box"]
        transferred = runs[1].results.panel.cells[Cell("a", "dag_b", "a")].totals
        assert rungs["first_score"][0] == pytest.approx(transferred.mean())
        assert any("Not all attacks of the threat-model ladders" in each for each in limits(given, runs))
        assert not any("ladder" in each for each in limits(given, comparable(given)))


class TestSentences:
    def test_more_robust(self) -> None:
        sentences = compared(run("old", brains({"a": 0.6})), run("new", brains({"a": 0.7}, seed=6)))
        assert sentences == (
            "a of new is more robust than a of old against these transferred attacks, for these trained"
            " weights: mean adversarial score +11.2 points [+9.6, +12.9], p = 0.002 (Holm)."
            " By the drop from the clean score too: -10.9 points [-13.3, -8.5]."
            " On clean images +0.3 points [-1.2, +1.8]: not distinguishable, p = 0.670 (Holm).",
        )

    def test_less_robust_and_worse_on_clean_images(self) -> None:
        old, new = brains({"a": 0.7}), brains({"a": 0.6}, clean=0.8, seed=6)
        (sentence,) = compared(run("old", old), run("new", new))
        assert sentence.startswith("a of new is less robust than a of old against these transferred attacks")
        assert "mean adversarial score -8.8 points [-10.4, -7.1], p = 0.002 (Holm)" in sentence
        assert "On clean images -9.7 points [-11.2, -8.2]: worse" in sentence
        assert sentence.endswith(": worse, p = 0.002 (Holm).")

    def test_the_order_by_drops_may_be_another(self) -> None:
        old, new = brains({"a": 0.6}, clean=0.7), brains({"a": 0.65}, clean=0.9, seed=6)
        (sentence,) = compared(run("old", old), run("new", new))
        other_way = "By the drop from the clean score the order is reversed: +14.1 points [+11.7, +16.5]."
        assert other_way in sentence
        assert sentence.endswith(": better, p = 0.002 (Holm).")

    def test_drops_may_be_alike(self) -> None:
        old, new = brains({"a": 0.6}, clean=0.7), brains({"a": 0.8}, clean=0.9, seed=6)
        (sentence,) = compared(run("old", old), run("new", new))
        assert "The drops from the clean score do not differ clearly: -0." in sentence

    def test_not_distinguishable(self) -> None:
        old, new = brains({"a": 0.6}, spread=0.1), brains({"a": 0.6}, spread=0.1, seed=6)
        assert compared(run("old", old), run("new", new)) == (
            "a of new and a of old are not distinguishable under attack: +6.1 points [-2.1, +14.4],"
            " p = 0.131 (Holm). Detecting a difference of 2 points with 80 % power takes about 262 patients."
            " On clean images +0.8 points [-5.7, +7.3]: not distinguishable, p = 0.789 (Holm).",
        )

    def test_equally_good_on_clean_images(self) -> None:
        old, new = (brains({"a": 0.6}, patients=30, spread=0.002, seed=seed) for seed in (5, 6))
        (sentence,) = compared(run("old", old), run("new", new))
        assert "equally good (TOST within 2 points, p = 0.042, Holm)" in sentence

    def test_too_few_patients(self) -> None:
        old, new = brains({"a": 0.6}, patients=4), brains({"a": 0.8}, patients=4, seed=6)
        first, second = compared(run("old", old), run("new", new))
        assert first == (
            "Too few patients to tell the same network in two runs apart: with 4 patients and 1 pair no"
            " outcome of the exact test could be significant; at least 6 are needed."
        )
        assert second == (
            "a of new against a of old under attack: +20.3 points [+15.5, +25.1], no verdict."
            " On clean images +1.7 points [-1.5, +4.9]: too few patients for a test."
        )

    def test_not_ranked(self) -> None:
        old, new = brains({"a": 0.6}), brains({"a": 0.0}, clean=0.0, spread=0.0)
        (sentence,) = compared(run("old", old), run("new", new))
        assert sentence.startswith(
            "a of new and a of old are not ranked: a clean score does not exceed that of always answering"
        )

    def test_a_score_that_is_undefined(self) -> None:
        """There is no area under the curve where all photographs are of one class."""
        settings = replace(made_rows.SETTINGS, score="auroc")
        photos = [
            made_rows.classification(
                lambda *_: True, {f"p{number}": 1 for number in range(8)}, models=("a",), settings=settings
            )
            for _ in range(2)
        ]
        assert compared(run("old", photos[0]), run("new", photos[1])) == (
            "a of new and a of old are not ranked: their score is undefined. On clean images, too, the score"
            " is undefined.",
        )

    def test_the_same_trained_network_is_no_pair(self) -> None:
        old = run("old", brains({"a": 0.6}), a_target_s0="1f")
        for weights, same in (({"a_target_s0": "1f"}, True), ({"a_target_s0": "2e"}, False), ({}, False)):
            new = run("new", brains({"a": 0.7}, seed=6), **weights)
            found = conclude(comparable([old, new]))
            assert (found.outcome == "the same networks") is same
            assert (
                "a of new is the same trained network as a of old (same weights)" in found.sentences[0]
            ) is same
            assert found.pairs.is_empty() is same


@pytest.fixture(scope="module")
def runs() -> tuple[ComparedRun, ...]:
    old = run("old", brains({"a": 0.6, "b": 0.65}, spread=0.1))
    return comparable([old, run("new", brains({"a": 0.7, "b": 0.65}, spread=0.1, seed=6))])


class TestNumbers:
    def test_differences_are_paired_over_patients(self, runs: tuple[ComparedRun, ...]) -> None:
        old, new = runs
        found = conclude(runs)
        cells = [Cell("a", attack, source) for attack in ("dag_a", "dag_b") for source in "ab"]
        totals = [np.mean([each.results.panel.cells[cell].totals for cell in cells], 0) for each in runs]
        wanted = mean(100 * (totals[1] - totals[0])).interval(0.95)
        columns = ["difference_in_points", "difference_in_points_low", "difference_in_points_high"]
        row = found.pairs.filter(first="a of new", second="a of old")
        np.testing.assert_allclose(row.select(columns).row(0), wanted, rtol=1e-12)
        assert row["p"].item() == sign_flip_test(totals[1] - totals[0], 500, generator(0))
        averaged = found.differences.filter(first="a of new", second="a of old", condition="adversarial")
        assert averaged.select(*columns, "p", "p_holm").rows() == row.select(*columns, "p", "p_holm").rows()
        scores = comparison_tables(runs, found)["scores"].rows
        assert scores.select("model", "run").rows() == [
            ("a", "old"),
            ("a", "new"),
            ("b", "old"),
            ("b", "new"),
        ]
        assert scores.filter(run="old").drop("run").equals(table1(old.results))
        clean = found.differences.filter(first="b of new", second="b of old", condition="clean")
        values = [table1(each.results).filter(model="b")["clean"].item() for each in (new, old)]
        assert clean.select("first_score", "second_score").row(0) == pytest.approx(values)

    def test_holm_is_within_kind_of_pair_and_condition(self, runs: tuple[ComparedRun, ...]) -> None:
        found = conclude(runs)
        assert found.pairs["kind"].to_list() == [SAME] * 2 + [OTHER] * 2
        families = found.differences.group_by("kind", "condition").len()
        assert dict(families.filter(kind=SAME).select("condition", "len").iter_rows()) == {
            "clean": 2, "noise": 2, "adversarial": 2, "attack": 4, "white-box": 2,
        }  # fmt: skip
        for _, family in [*found.differences.group_by("kind", "condition"), *found.pairs.group_by("kind")]:
            np.testing.assert_allclose(family["p_holm"], holm(family["p"].to_numpy()))

    def test_nothing_depends_on_what_runs_are_called(self, runs: tuple[ComparedRun, ...]) -> None:
        first, second = conclude(runs), conclude([replace(each, name=f"x {each.name}") for each in runs])
        assert first.differences.drop("first", "second").equals(second.differences.drop("first", "second"))

    def test_later_runs_are_compared_with_every_earlier_one(self) -> None:
        runs = comparable([run(name, brains({"a": 0.6}, seed=number)) for number, name in enumerate("xyz")])
        pairs = conclude(runs).pairs.select("first", "second").rows()
        assert pairs == [("a of y", "a of x"), ("a of z", "a of x"), ("a of z", "a of y")]

    def test_photographs(self) -> None:
        def right(least: int) -> Callable[[Cell, str, int], bool]:
            return lambda cell, patient, image: not cell.source or int(patient[1:]) >= least

        patients = {f"p{number:02}": 2 for number in range(20)}
        results = [made_rows.classification(right(least), patients, models=("a",)) for least in (15, 5)]
        study = STUDY | {
            "perturbations": [{"name": name, "label": name} for name in ("fgsm", "deepfool")],
            "noise": {"name": "gaussian", "label": "gaussian"},
        }
        found = conclude(comparable([run(n, r, study) for n, r in zip(("old", "new"), results, strict=True)]))
        assert found.outcome == "different"
        row = found.pairs.row(0, named=True)
        assert row["difference_in_points"] == pytest.approx(50.0)
        assert row["better"] == "a of new"

    def test_resampled_intervals_are_those_of_the_first_run(self) -> None:
        settings = Settings(resamples=500, interval="percentile", confidence=0.8)
        first, second = brains({"a": 0.6}, settings=settings), brains({"a": 0.7}, seed=6)
        limited = comparable([run("old", first), run("new", second)])
        row = conclude(limited).pairs.row(0, named=True)
        old, new = (each.results.panel.mean(each.results.attack_cells("a")) for each in limited)
        assert old is not None
        assert new is not None
        draws = 10 * first.panel.resampled(np.stack([new.totals - old.totals]))[0]
        bounds = [row[f"difference_in_points_{end}"] for end in ("low", "high")]
        np.testing.assert_allclose(bounds, np.quantile(draws, [0.1, 0.9]))

    def test_a_pair_has_one_p_value(self) -> None:
        old, new = (brains({"a": 0.6}, patients=20, spread=0.1, seed=seed) for seed in (5, 6))
        found = conclude(comparable([run("old", old), run("new", new)]))
        mean = found.differences.filter(condition="adversarial")["p"].item()
        assert 0.01 < mean == found.pairs["p"].item() < 1


class TestRefusals:
    OLD = run("old", brains({"a": 0.6}))

    def changed(self, **data: Any) -> ComparedRun:
        results = self.OLD.results
        data = {**results.record["data"], **data}
        return replace(
            self.OLD, name="new", results=replace(results, record={**results.record, "data": data})
        )

    def refused(self, other: ComparedRun, *lines: str) -> None:
        with pytest.raises(RunError) as caught:
            comparable([self.OLD, other])
        message = str(caught.value)
        assert message.startswith("These runs cannot be compared:\n")
        for line in lines:
            assert f"\n  {line}" in message

    def test_other_data_and_why(self) -> None:
        other = self.changed(fingerprint="77aa", facts={"spacing": "1 mm"})
        self.refused(
            other,
            f"fingerprint of images and labels: {'5e4d' * 10}… in old, 77aa in new",
            "data, spacing: 2 mm in old, 1 mm in new",
        )

    def test_another_data_set(self) -> None:
        self.refused(self.changed(name="heads"), "data set: brains in old, heads in new")

    def test_another_task(self) -> None:
        photos = made_rows.classification(lambda *_: True, {"p00": 2}, models=("a",))
        self.refused(
            run("new", photos),
            "task: segmentation in old, classification in new",
            "classes: background, left in old, benign, malignant in new",
        )

    def test_another_unit(self) -> None:
        results = replace(self.OLD.results, unit="image")
        self.refused(replace(self.OLD, name="new", results=results), "unit: patient in old, image in new")

    def test_other_test_patients(self) -> None:
        fewer = self.OLD.results.restricted(pl.col("patient_id") > "p03")
        fewer = replace(fewer, crafted=fewer.crafted.filter(pl.col("patient_id") > "p03"))
        self.refused(
            replace(self.OLD, name="new", results=fewer),
            "test patients: only old has p00, p01, p02 and 1 more",
        )

    def test_other_cases(self) -> None:
        crafted = self.OLD.results.crafted.with_columns(pl.col("case_id").replace({"s01-0": "s01-9"}))
        self.refused(
            replace(self.OLD, name="new", results=replace(self.OLD.results, crafted=crafted)),
            "evaluated cases: only old has s01-0; only new has s01-9",
        )

    def test_another_truth(self) -> None:
        rows = self.OLD.results.rows
        other = rows.with_columns(
            n_true=pl.when(pl.col("scan_id") == "s02").then(9_000).otherwise(pl.col("n_true"))
        )
        self.refused(
            replace(self.OLD, name="new", results=replace(self.OLD.results, overlaps=other)),
            "truth: s02 differs between old and new",
        )

    def test_other_parameters_all_at_once(self) -> None:
        attacks = [{**STUDY["perturbations"][0], "step": 0.05, "steps": {"ssim": 0.98}}]
        study = {
            **STUDY,
            "support": "image",
            "perturbations": attacks,
            "noise": {"name": "rician", "label": "rician", "sd": 0.1},
        }
        self.refused(
            replace(self.OLD, name="new", study=study),
            "support: auto in old, image in new",
            "dag_a, step: 0.0625 in old, 0.05 in new",
            "dag_a, steps: not given in old, ssim 0.98 in new",
            "rician, sd: not given in old, 0.1 in new",
        )

    def test_what_differs_can_be_left_out(self) -> None:
        study = {
            **STUDY,
            "perturbations": [{**STUDY["perturbations"][0], "step": 0.05}, STUDY["perturbations"][1]],
        }
        other = replace(self.OLD, name="new", study=study)
        with pytest.raises(RunError, match="or name what is alike with --perturbation"):
            comparable([self.OLD, other])
        runs = comparable([self.OLD, other], ["dag_b", "rician"])
        assert [attack.label for attack in runs[1].results.attacks] == ["dag_b"]
        assert "Not compared, and left out of the attacks of old: dag_a." in limits([self.OLD, other], runs)

    def test_attacks_on_fewer_cases_are_not_compared(self) -> None:
        attacks = (Attack("dag_a"), Attack("dag_b", cases=3))
        old = replace(self.OLD, results=replace(self.OLD.results, attacks=attacks).parted())
        runs = comparable([old, replace(old, name="new")])
        assert [attack.label for attack in runs[0].results.attacks] == ["dag_a"]
        assert "Not compared, and left out of the attacks of old: dag_b." in limits([old, *runs[1:]], runs)
        with pytest.raises(RunError, match=r"--perturbation: Unknown label .* 'dag_b'"):
            comparable([old, replace(old, name="new")], ["dag_b"])

    def test_unknown_labels_and_no_attack(self) -> None:
        other = replace(self.OLD, name="new")
        with pytest.raises(RunError, match=r"--perturbation: Unknown label .* 'dag_x'\. Did you mean 'dag_"):
            comparable([self.OLD, other], ["dag_x"])
        with pytest.raises(
            RunError, match=r"no attack is compared\. old has dag_a, dag_b; new has dag_a, dag_b"
        ):
            comparable([self.OLD, other], ["rician"])


class TestLimits:
    def said(self, *given: ComparedRun) -> str:
        return "\n".join(limits(given, comparable(given)))

    def test_other_sources_attacks_seeds_and_surrogates(self) -> None:
        old = run("old", brains({"a": 0.6, "b": 0.6}), a_surrogate_s1="1f")
        study = {
            **STUDY,
            "seed": 3,
            "perturbations": STUDY["perturbations"][:1],
            "crafting": {"autocast": True},
        }
        results = brains({"a": 0.6}, seed=6, attacks=(Attack("dag_a"),))
        text = self.said(old, run("new", results, study, a_surrogate_s1="1f"))
        for sentence in (
            "Not compared, and left out of the attacks of old: dag_b.",
            "Sources of attacks differ (old: a, b; new: a); scores are over those of all runs: a.",
            "Crafted on the same trained surrogates in old and new: a.",
            "Different seed of the study (old: 0; new: 3): ",
            "Different reduced precision (old: False; new: True): ",
            "over the same 10 patients in all runs, paired",
        ):
            assert sentence in text

    def test_scores_are_over_the_sources_that_all_runs_have(self) -> None:
        old, new = brains({"a": 0.6, "b": 0.6}, spread=0.1), brains({"a": 0.6}, spread=0.1, seed=6)
        runs = comparable([run("old", old), run("new", new)])
        cells = [Cell("a", attack, "a") for attack in ("dag_a", "dag_b")]
        means = [np.mean([each.results.panel.cells[cell].totals for cell in cells]) for each in runs]
        row = conclude(runs).pairs.filter(first="a of new", second="a of old").row(0, named=True)
        assert row["difference_in_points"] == pytest.approx(100 * (means[1] - means[0]))

    def test_sources_without_a_common_name(self) -> None:
        runs = [run("old", brains({"a": 0.6})), run("new", brains({"c": 0.7}, seed=6))]
        assert "The sources of the attacks have no name in common (old: a; new: c)" in self.said(*runs)
        row = conclude(comparable(runs)).pairs.row(0, named=True)
        assert (row["first"], row["kind"], row["verdict"]) == ("c of new", OTHER, "ranked")
        assert row["difference_in_points"] == pytest.approx(10, abs=1.5)

    def test_other_versions(self) -> None:
        old, new = run("old", brains({"a": 0.6})), run("new", brains({"a": 0.6}, seed=6))
        assert "versions" not in self.said(old, new)
        changed = {**new.results.record, "versions": {"medrobust": "0.1.0", "torch": "2.10"}}
        new = replace(new, results=replace(new.results, record=changed))
        assert "Different versions (torch 2.9, 2.10): numbers may differ in" in self.said(old, new)

    def test_unknown_surrogates_are_taken_as_others(self) -> None:
        runs = [run("old", brains({"a": 0.6})), run("new", brains({"a": 0.6}))]
        assert "Crafted on surrogates of their own in old and new: a." in self.said(*runs)

    def test_no_shared_noise_is_no_noise_score(self) -> None:
        other = {**STUDY, "noise": {"name": "gaussian", "label": "gaussian"}}
        runs = [run("old", brains({"a": 0.6})), run("new", brains({"a": 0.6}, noise=("gaussian",)), other)]
        assert "The runs share no noise, so there is no noise score." in self.said(*runs)
        assert "noise" not in conclude(comparable(runs)).differences["condition"].to_list()

    def test_other_training_patients_and_folds(self) -> None:
        old = run("old", brains({"a": 0.6}))
        split = pl.DataFrame({"patient_id": ["t1", "t2"], "part": ["train", "train"]})
        results = brains({"a": 0.6}, seed=6)
        folded = results.rows.with_columns(fold=pl.col("patient_id").str.tail(1).cast(pl.Int64) % 2)
        new = replace(run("new", replace(results, overlaps=folded)), split=split)
        text = self.said(old, new)
        assert "Training patients differ (old: 1; new: 2; in common: 1)" in text
        assert "Folds (old: none; new: 2)" in text

    def test_an_attack_that_failed_its_self_test_in_one_run_is_left_out_in_all(self) -> None:
        failed = pl.DataFrame(
            [{"perturbation": "dag_a", "source": "a", "source_seed": 1, "check": "noise", "passed": False}],
            schema_overrides=SELFTEST.schema,
        )
        failed = pl.concat([pl.DataFrame(schema=SELFTEST.schema), failed], how="diagonal")
        old = run("old", brains({"a": 0.6}))
        new = run("new", replace(brains({"a": 0.7}, seed=6), selftests=failed))
        runs = comparable([old, new])
        assert "failed its self-tests there in a run: dag_a from a." in "\n".join(limits([old, new], runs))
        totals = [each.results.panel.cells[Cell("a", "dag_b", "a")].totals for each in runs]
        row = conclude(runs).pairs.row(0, named=True)
        assert row["difference_in_points"] == pytest.approx(100 * (totals[1] - totals[0]).mean())

    def test_every_attack_failed(self) -> None:
        lines = [
            {"perturbation": label, "source": "a", "source_seed": 1, "check": "noise", "passed": False}
            for label in ("dag_a", "dag_b")
        ]
        failed = pl.concat([pl.DataFrame(schema=SELFTEST.schema), pl.DataFrame(lines)], how="diagonal")
        old, new = run("old", brains({"a": 0.6})), run("new", brains({"a": 0.6}, seed=6))
        runs = comparable([replace(old, results=replace(old.results, selftests=failed)), new])
        found = conclude(runs)
        assert found.outcome == "not ranked"
        assert "no attack passed its self-tests" in found.sentences[0]

    def test_warnings_name_their_run(self) -> None:
        old, new = run("old", brains({"a": 0.6})), run("new", brains({"a": 0.6}, seed=6))
        harmless = new.results.crafted.with_columns(fooled_source=pl.lit(0.0))
        runs = comparable([old, replace(new, results=replace(new.results, crafted=harmless))])
        assert [warning.partition(" fooled")[0] for warning in warnings(runs)] == ["new: dag_a", "new: dag_b"]
