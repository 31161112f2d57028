from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis.classes import transfer_rate
from medrobust.analysis.crafting import budgets, matching, success
from medrobust.errors import RunError
from medrobust.study.analysis import Attack

PATIENTS = {"p1": 2, "p2": 2}


@pytest.fixture(scope="module")
def photos():
    return made_rows.classification(lambda cell, patient, image: cell.perturbation == "clean", PATIENTS)


def one(results, **where):
    """Crafted rows of one perturbation and source, in order of their cases, and the others."""
    chosen = pl.all_horizontal(*(pl.col(name) == value for name, value in where.items()))
    return results.crafted.filter(chosen).sort("case_id"), results.crafted.filter(~chosen)


def test_success_counts_what_each_attack_did(photos):
    rows, others = one(photos, perturbation="fgsm", source="b", role="transfer")
    rows = rows.with_columns(
        fooled_source=pl.Series([1.0, 1.0, 0.0, 1.0]),
        already_wrong=pl.Series([0.0, 0.0, 0.0, 1.0]),
        l2=pl.Series([1.0, 2.0, 3.0, 10.0]),
        l0=pl.Series([100.0, 200.0, 0.0, 0.0]),
        linf=pl.Series([0.1, 0.3, 0.0, 0.0]),
        mse=pl.Series([1e-2, 1e-4, 0.0, 0.0]),
        outcome=pl.Series(["crafted", "crafted", "failed", "kept_clean"]),
        n_active=pl.Series([0, 1, 1, 1]),
        ssim=pl.Series([0.9, 0.9, 1.0, 1.0]),
    )
    table = success(replace(photos, crafted=others.vstack(rows)))
    assert table.height == 2 * 3 + 3
    row = table.filter(perturbation="fgsm", source="b", role="transfer").row(0, named=True)
    assert row["n_images"] == 4
    assert row["fooled"] == pytest.approx(0.75)
    assert row["fooled_of_right"] == pytest.approx(2 / 3)
    assert row["already_wrong"] == pytest.approx(0.25)
    assert (row["l2_mean"], row["l2_median"]) == (4.0, 2.5)
    assert (row["l0"], row["linf"]) == (75.0, pytest.approx(0.1))
    assert row["psnr"] == pytest.approx(30)  # of the two images that were changed: 20 and 40 dB
    assert [row[f"n_{name}"] for name in ("crafted", "failed", "kept_clean", "dropped", "inactive")] == [
        2,
        1,
        1,
        0,
        1,
    ]
    assert row["ssim"] == pytest.approx(0.95)


def test_images_that_no_attack_changed_have_no_psnr(photos):
    untouched = replace(photos, crafted=photos.crafted.with_columns(mse=pl.lit(0.0)))
    assert success(untouched)["psnr"].null_count() == success(untouched).height


def test_success_names_attacks_and_sources_in_the_order_of_the_study(photos):
    table = success(photos)
    assert table["perturbation"].unique(maintain_order=True).to_list() == ["fgsm", "deepfool"]
    assert table.filter(perturbation="deepfool")["source"].to_list() == ["a", "b", "c"]


def test_solved_budgets_stand_beside_the_ssim_that_they_give(photos):
    rows, others = one(photos, perturbation="fgsm", source="b", role="transfer")
    rows = rows.with_columns(strength=pl.lit(0.0086), ssim=pl.Series([0.96, 0.98, 0.97, 0.97]))
    attacks = (Attack("fgsm", budget="eps", ssim=0.98), Attack("deepfool"))
    table = budgets(replace(photos, attacks=attacks, crafted=others.vstack(rows)))
    assert table["perturbation"].unique().to_list() == ["fgsm"]
    assert table.select("source", "role").rows() == [
        (source, role) for source in "abc" for role in ("transfer", "whitebox")
    ]
    row = table.filter(source="b", role="transfer").row(0, named=True)
    assert row["ssim_reached"] == pytest.approx(0.97)
    assert {name: row[name] for name in ("parameter", "value", "ssim_wanted", "n_images", "source_seed")} == {
        "parameter": "eps",
        "value": 0.0086,
        "ssim_wanted": 0.98,
        "n_images": 4,
        "source_seed": 1,
    }


def test_a_study_that_solves_no_budget_has_none(photos):
    table = budgets(photos)
    assert table.height == 0
    assert table.columns[4:8] == ["parameter", "value", "ssim_wanted", "ssim_reached"]


def test_matched_noise_is_held_against_its_own_attack(photos):
    attack, others = one(photos, perturbation="fgsm", source="a", role="transfer")
    noise, others = one(replace(photos, crafted=others), perturbation="gaussian@fgsm", source="a")
    attack = attack.with_columns(ssim=pl.Series([0.98, 0.98, 1.0, 0.9999]))
    # Tolerances: .001, .001, 1e-5, 1e-5.
    noise = noise.with_columns(ssim=pl.Series([0.9809, 0.9811, 1.0, 0.99992]))
    table = matching(replace(photos, crafted=pl.concat([others, attack, noise])))
    row = table.filter(perturbation="gaussian@fgsm", source="a").row(0, named=True)
    assert row["n_images"] == 4
    assert row["n_missed"] == 2
    assert row["largest_gap"] == pytest.approx(0.0011)
    assert table.filter(perturbation="gaussian@deepfool")["n_missed"].sum() == 0


def test_transfer_is_counted_where_the_source_and_all_targets_are_right():
    def right(cell, patient, image):
        if cell.perturbation == "clean":
            return not (cell.target == "c" and (patient, image) == ("p2", 1))
        return cell.target == "a" and image == 0

    photos = made_rows.classification(right, PATIENTS)
    rows, others = one(photos, perturbation="fgsm", source="b", role="transfer")
    rows = rows.with_columns(already_wrong=pl.Series([1.0, 0.0, 0.0, 0.0]))
    table = transfer_rate(replace(photos, crafted=others.vstack(rows)))
    # From b: p1-0 is out (source), p2-1 is out (target c); left are p1-1 and p2-0. From a: p1-0, p1-1, p2-0.
    assert table.filter(target="a", perturbation="fgsm", source="b").row(0)[3:] == (0.5, 2)
    assert table.filter(target="b", perturbation="fgsm", source="b").row(0)[3:] == (1.0, 2)
    assert table.filter(target="a", perturbation="fgsm", source="a").row(0)[3:] == (pytest.approx(1 / 3), 3)
    assert table.height == 18


def test_transfer_rates_without_usable_cases_are_null():
    photos = made_rows.classification(lambda cell, patient, image: False, PATIENTS)
    table = transfer_rate(photos)
    assert table["rate"].null_count() == table.height == 18
    assert table["n_cases"].sum() == 0


def test_transfer_rates_are_of_classification():
    brains = made_rows.segmentation(lambda cell, scan, structure: (5, 5, 5), {"p1": ["s1"]})
    with pytest.raises(RunError, match="images that turn wrong"):
        transfer_rate(brains)
    assert success(brains)["fooled_of_right"].null_count() == 9
