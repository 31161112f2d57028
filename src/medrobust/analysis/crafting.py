"""What the attacks and the matched noise did, as measured when they were crafted."""

import polars as pl

from medrobust.analysis.patients import CLEAN, RIGHT
from medrobust.analysis.results import Results
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.perturbations.selftest import CHECKS
from medrobust.storage.schemas import SELFTEST

_IMAGE = ("source", "source_seed", "fold", "role", "case_id")
OUTCOMES = ("crafted", "kept_clean", "failed", "dropped")


def success(results: Results) -> pl.DataFrame:
    """What each attack did to its own source, per attack, source and role.

    Returns:
        `perturbation, source, role, n_images`; `fooled` (classification: share of images that the source
        gets wrong;
        segmentation: mean share of pixels with target != truth that are shown as the target),
            `fooled_of_right` (classification: the same among images that it gets right when clean);
            `already_wrong` (share of images, or of pixels); means `ssim`, `ssim_image`, `mse`, `l0`, `linf`,
            mean and median of `l2`; `psnr`, the mean in dB over the images that were changed at all (of the
            others it is infinite), null without any; median `steps`; numbers of images by outcome;
            `n_inactive`, images with nothing to attack.
    """
    labels = [attack.label for attack in results.attacks]
    right = pl.col("already_wrong") == 0
    fooled_of_right = pl.col("fooled_source").filter(right).mean()
    table = (
        results.crafted.filter(pl.col("perturbation").is_in(labels))
        .group_by("perturbation", "source", "role")
        .agg(
            pl.len().cast(pl.Int64).alias("n_images"),
            pl.col("fooled_source").mean().alias("fooled"),
            (fooled_of_right if results.task is Task.CLASSIFICATION else pl.lit(None, pl.Float64)).alias(
                "fooled_of_right"
            ),
            pl.col("already_wrong", "ssim", "ssim_image", "mse").mean(),
            (-10 * pl.col("mse").filter(pl.col("mse") > 0).log10()).mean().alias("psnr"),
            pl.col("l0").mean(),
            pl.col("l2").mean().alias("l2_mean"),
            pl.col("l2").median().alias("l2_median"),
            pl.col("linf").mean(),
            pl.col("steps").median(),
            *(
                (pl.col("outcome") == outcome).sum().cast(pl.Int64).alias(f"n_{outcome}")
                for outcome in OUTCOMES
            ),
            (pl.col("n_active") == 0).sum().cast(pl.Int64).alias("n_inactive"),
        )
    )
    return _ordered(table, labels, results).fill_nan(None)


def budgets(results: Results) -> pl.DataFrame:
    """Budgets that were solved for an SSIM on validation cases, and the SSIM that they give on test cases.

    Returns:
        `perturbation, source, source_seed, role`, with folds `fold`, `parameter, value, ssim_wanted,
        ssim_reached` (mean over the test cases), `n_images`; empty where the study gives every budget as a
        number.
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
        .agg(
            pl.col("strength").first().alias("value"),
            pl.col("ssim").mean().alias("ssim_reached"),
            pl.len().cast(pl.Int64).alias("n_images"),
        )
        .select(*keys, "parameter", "value", "ssim_wanted", "ssim_reached", "n_images")
    )
    return _ordered(table, [attack.label for attack in solved], results)


def matching(results: Results) -> pl.DataFrame:
    """How well the matched noise has the SSIM of its attack, per noise, source and role.

    Returns:
        `perturbation, source, role, n_images, ssim_noise, ssim_attack` (means over the support),
        `largest_gap`, and `n_missed`: images beyond the tolerance max(0.05 (1 - SSIM), 1e-5), whose
        strength could not be found.
    """
    labels = {
        f"{noise}@{attack.label}": attack.label for attack in results.attacks for noise in results.noise
    }
    attacked = results.crafted.select("perturbation", *_IMAGE, ssim_attack="ssim")
    gap = (pl.col("ssim") - pl.col("ssim_attack")).abs()
    # Rounded to far below the tolerance, so that a match exactly at its edge is not a miss of one last bit.
    missed = gap > pl.max_horizontal(0.05 * (1 - pl.col("ssim_attack")), 1e-5) + 1e-9
    table = (
        results.crafted.filter(pl.col("perturbation").is_in(list(labels)))
        .with_columns(attack=pl.col("perturbation").replace_strict(labels, return_dtype=pl.String))
        .join(attacked, left_on=["attack", *_IMAGE], right_on=["perturbation", *_IMAGE], nulls_equal=True)
        .group_by("perturbation", "source", "role")
        .agg(
            pl.len().cast(pl.Int64).alias("n_images"),
            pl.col("ssim").mean().alias("ssim_noise"),
            pl.col("ssim_attack").mean(),
            gap.max().alias("largest_gap"),
            missed.sum().cast(pl.Int64).alias("n_missed"),
        )
    )
    return _ordered(table, list(labels), results).fill_nan(None)


def selftests(results: Results) -> pl.DataFrame:
    """What the self-tests of the attacks saw.

    Returns:
        `perturbation, source, source_seed, check, passed` (null: did not apply, or could not tell), `value`,
        `seen`, `cases` (the part of the split that the images are from), `n_images`; empty where attacks were
        not tested.
    """
    rows = pl.DataFrame(schema=SELFTEST.schema) if results.selftests is None else results.selftests
    order = pl.col("check").replace_strict({name: place for place, name in enumerate(CHECKS)}, default=None)
    labels = [attack.label for attack in results.attacks]
    return _ordered(rows.drop("fold").sort(order), labels, results)


def transfer_rate(results: Results) -> pl.DataFrame:
    """Share of images fooled among those that the source and every target get right when clean.

    Unlike Table 2 it cannot be moved by what networks get wrong anyway. The images are the same for all
    targets of an attack and source. A case counts where it is right for all seeds.

    Returns:
        `target, perturbation, source, rate, n_cases`; rate null without such cases.

    Raises:
        RunError: The study is not one of classification.
    """
    if results.task is not Task.CLASSIFICATION:
        raise RunError("Transfer rates are of images that turn wrong; this study is one of segmentation.")
    rows = results.rows.filter(pl.col("role") != "whitebox").with_columns(wrong=~RIGHT)
    labels = [attack.label for attack in results.attacks]
    right = rows.filter(pl.col("perturbation") == CLEAN).group_by("case_id").agg(pl.col("wrong").any())
    both = (
        results.crafted.filter(pl.col("perturbation").is_in(labels), pl.col("role") != "whitebox")
        .group_by("perturbation", "source", "case_id")
        .agg(source_right=(pl.col("already_wrong") == 0).all())
    )
    attacked = rows.filter(pl.col("perturbation").is_in(labels), pl.col("source").is_in(results.sources))
    usable = both.filter("source_right").join(
        right.filter(~pl.col("wrong")).select("case_id"), on="case_id", how="semi"
    )
    table = (
        attacked.with_columns(
            usable=pl.struct("perturbation", "source", "case_id").is_in(
                usable.select(pl.struct("perturbation", "source", "case_id")).to_series().implode()
            )
        )
        .group_by("target", "perturbation", "source")
        .agg(
            rate=pl.col("wrong").filter("usable").mean(),
            n_cases=pl.col("case_id").filter("usable").n_unique().cast(pl.Int64),
        )
    )
    return _ordered(table, labels, results)


def _ordered(table: pl.DataFrame, perturbations: list[str], results: Results) -> pl.DataFrame:
    """Perturbations and networks in the order of the study."""
    ranks = [
        pl.col(column).replace_strict({name: place for place, name in enumerate(names)}, default=len(names))
        for column, names in (
            ("target", results.models),
            ("perturbation", perturbations),
            ("source", results.models),
        )
        if column in table.columns
    ]
    rest = [column for column in ("source", "source_seed", "fold", "role") if column in table.columns]
    return table.sort(*ranks, *rest, maintain_order=True)
