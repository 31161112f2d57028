"""What the attacks and the matched noise did, as measured when they were crafted."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import polars as pl

from medrobust.analysis.results import Results
from medrobust.analysis.table import frame
from medrobust.core import Part, Role
from medrobust.perturbations.selftest import CHECKS
from medrobust.storage.schemas import SELFTEST

_IMAGE = ("source", "source_seed", "fold", "role", "case_id")
OUTCOMES = ("crafted", "kept_clean", "failed", "dropped")


def success(results: Results) -> pl.DataFrame:
    """What each attack did to its own source, per attack, source and role.

    Returns:
        `perturbation, source, role, n_images`; `fooled` (classification: fraction of images that the source
        gets wrong; segmentation: mean fraction of pixels with target != truth that are shown as the target);
        `fooled_of_right` (not in segmentation: the same among images that it gets right when clean);
        `already_wrong` (fraction of images, or of pixels); means `ssim`, `ssim_image`, `mse`, `l0`, `linf`,
        mean and median of `l2`; `psnr`, the mean in dB over the images that were changed at all (it is
        infinite for the others), null without any; median `steps`; numbers of images by outcome;
        `n_inactive`, images with nothing to attack.
    """
    labels = results.attack_labels
    of_right = pl.lit(None, pl.Float64)
    if not results.task.has_maps:
        of_right = pl.col("fooled_source").filter(pl.col("already_wrong") == 0).mean()
    table = (
        results.crafted.filter(pl.col("perturbation").is_in(labels))
        .group_by("perturbation", "source", "role")
        .agg(
            n_images=pl.len(),
            fooled=pl.col("fooled_source").mean(),
            fooled_of_right=of_right,
            **{name: pl.col(name).mean() for name in ("already_wrong", "ssim", "ssim_image", "mse")},
            psnr=(-10 * pl.col("mse").filter(pl.col("mse") > 0).log10()).mean(),
            l0=pl.col("l0").mean(),
            l2_mean=pl.col("l2").mean(),
            l2_median=pl.col("l2").median(),
            linf=pl.col("linf").mean(),
            steps=pl.col("steps").median(),
            **{f"n_{outcome}": (pl.col("outcome") == outcome).sum() for outcome in OUTCOMES},
            n_inactive=(pl.col("n_active") == 0).sum(),
        )
    )
    return results.ordered(table, labels).fill_nan(None)


def budgets(results: Results) -> pl.DataFrame:
    """Budgets that were solved for an SSIM on validation cases, and the SSIM that they give on test cases.

    Returns:
        `perturbation, source, source_seed, role`, with folds `fold`, `parameter, value, ssim_wanted,
        ssim_reached` (mean over the test cases), `n_images`; empty if the study gives all budgets as numbers.
    """
    solved = [attack for attack in results.attacks if attack.budget]
    wanted = pl.DataFrame(
        [(attack.label, attack.budget, attack.ssim) for attack in solved],
        schema={"perturbation": pl.String, "parameter": pl.String, "ssim_wanted": pl.Float64},
        orient="row",
    )
    keys = ("perturbation", "source", "source_seed", "role", *(["fold"] if results.folds else []))
    table = (
        results.crafted.join(wanted, on="perturbation")
        .group_by(*keys, "parameter", "ssim_wanted")
        .agg(value=pl.col("strength").first(), ssim_reached=pl.col("ssim").mean(), n_images=pl.len())
        .select(*keys, "parameter", "value", "ssim_wanted", "ssim_reached", "n_images")
    )
    return results.ordered(table, [attack.label for attack in solved])


def matching(results: Results) -> pl.DataFrame:
    """How well the matched noise has the SSIM of its attack, per noise, source and role.

    Returns:
        `perturbation, source, role, n_images, ssim_noise, ssim_attack` (means over the support),
        `largest_gap`, and `n_missed`: images beyond the tolerance max(0.05 (1 - SSIM), 1e-5), for which no
        strength was found.
    """
    labels = {
        f"{noise}@{attack.label}": attack.label for attack in results.attacks for noise in results.noise
    }
    attacked = results.crafted.select("perturbation", *_IMAGE, ssim_attack="ssim")
    gap = (pl.col("ssim") - pl.col("ssim_attack")).abs()
    # 1e-9, far below the tolerance, keeps rounding from turning a match at its very edge into a miss.
    missed = gap > pl.max_horizontal(0.05 * (1 - pl.col("ssim_attack")), 1e-5) + 1e-9
    table = (
        results.crafted.filter(pl.col("perturbation").is_in(list(labels)))
        .with_columns(attack=pl.col("perturbation").replace_strict(labels, return_dtype=pl.String))
        .join(attacked, left_on=["attack", *_IMAGE], right_on=["perturbation", *_IMAGE], nulls_equal=True)
        .group_by("perturbation", "source", "role")
        .agg(
            n_images=pl.len(),
            ssim_noise=pl.col("ssim").mean(),
            ssim_attack=pl.col("ssim_attack").mean(),
            largest_gap=gap.max(),
            n_missed=missed.sum(),
        )
    )
    return results.ordered(table, list(labels)).fill_nan(None)


def selftests(results: Results) -> pl.DataFrame:
    """What the self-tests of the attacks saw.

    Returns:
        `perturbation, source, source_seed, check, passed` (null: did not apply, or could not tell), `value`,
        `seen`, `cases` (the part of the split that the images are from), `n_images`; empty if none were run.
    """
    rows = pl.DataFrame(schema=SELFTEST.schema) if results.selftests is None else results.selftests
    order = pl.col("check").replace_strict({name: place for place, name in enumerate(CHECKS)}, default=None)
    return results.ordered(rows.drop("fold").sort(order), results.attack_labels)


def transfer_conditions(results: Results) -> pl.DataFrame:
    """What every target overlaps with every source of its transferred attacks.

    Returns:
        `target, source, same_architecture, same_pretraining` (trained from the same weights; false if either
        started from random ones), `shared_training`: fraction of the source's training patients that the
        target was trained on too. Null if unknown, as for networks that were not trained here.
    """
    rows = []
    for model in results.models:
        faced = results.faced(model)
        for name in (*results.sources, *results.other_sources):
            if name in faced:
                # Seeds and folds differ in nothing that matters here.
                target, *_ = [*_recorded(results, model, Role.TARGET), {}]
                source, *_ = [*_recorded(results, name, Role.SURROGATE), {}]
                same = results.architecture(model) == results.architecture(name)
                rows.append(
                    {"target": model, "source": name, "same_architecture": same}
                    | {"same_pretraining": _same_pretraining(target, source)}
                    | {"shared_training": _shared_training(target, source)}
                )
    names = ("target", "source", "same_architecture", "same_pretraining", "shared_training")
    return frame(rows, *names)


def shared_between_folds(results: Results) -> float | None:
    """Mean fraction of the training patients that the targets of two folds have in common, in [0, 1].

    None without folds, and for networks that were not trained here.
    """
    targets = _recorded(results, results.models[0], Role.TARGET)
    overlaps = [_shared_training(first, second) for first, second in permutations(targets, 2)]
    known = [overlap for overlap in overlaps if overlap is not None]
    return sum(known) / len(known) if known else None


def _recorded(results: Results, name: str, role: Role) -> list[Mapping[str, Any]]:
    """What `record.json` says of each seed and fold of a network."""
    recorded = results.record.get("networks", {}).values()
    return [each for each in recorded if (each.get("name"), each.get("role")) == (name, role)]


def _same_pretraining(target: Mapping[str, Any], source: Mapping[str, Any]) -> bool | None:
    if "training" not in target or "training" not in source:
        return None
    first, second = (network["network"]["weights"] for network in (target, source))
    return bool(first == second != "none")


def _shared_training(target: Mapping[str, Any], source: Mapping[str, Any]) -> float | None:
    if "patients" not in target or "patients" not in source:
        return None
    of_target, of_source = (
        {patient for patient, part in network["patients"].items() if part == Part.TRAIN}
        for network in (target, source)
    )
    return len(of_target & of_source) / len(of_source)
