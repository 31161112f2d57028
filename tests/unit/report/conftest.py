"""A made-up study of each task, as realistic as its report needs it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from made_studies import told
from medrobust.core import Task
from medrobust.report import style
from medrobust.report.examples import Examples, example_rows
from medrobust.report.explorer import GREY, STEP, frame, overlap_of
from medrobust.report.page import render
from medrobust.report.plots import Projection, Words, draw
from medrobust.report.reading import ReportContext, threat_table
from medrobust.report.style import Picture, structure_colours
from medrobust.running.explorer import LEVELS, View

NETWORKS = {
    Task.CLASSIFICATION: ("inception_v3", "inception_v4", "mobilenet_v1"),
    Task.SEGMENTATION: ("segnet", "unet", "fc_densenet"),
}
ATTACKS = {
    Task.CLASSIFICATION: ("fgsm", "deepfool", "saliency_map"),
    Task.SEGMENTATION: ("dag_a", "dag_b", "dag_c"),
}
BUDGETS = {"fgsm": {"eps": 2 / 255}}
NOISE = {Task.CLASSIFICATION: "gaussian", Task.SEGMENTATION: "rician"}
CELLS = {  # the paper's Table 2: a row per target; nine cells, attack by attack
    Task.CLASSIFICATION: (
        (0.449, 0.548, 0.567, 0.729, 0.707, 0.664, 0.738, 0.701, 0.669),
        (0.429, 0.411, 0.451, 0.743, 0.768, 0.697, 0.735, 0.778, 0.683),
        (0.335, 0.275, 0.213, 0.726, 0.731, 0.672, 0.732, 0.735, 0.661),
    ),
    Task.SEGMENTATION: (
        (0.277, 0.272, 0.309, 0.397, 0.473, 0.428, 0.669, 0.702, 0.705),
        (0.248, 0.434, 0.258, 0.364, 0.434, 0.368, 0.636, 0.653, 0.677),
        (0.600, 0.528, 0.415, 0.749, 0.721, 0.563, 0.819, 0.791, 0.814),
    ),
}
CLEAN = {Task.CLASSIFICATION: (0.710, 0.810, 0.800), Task.SEGMENTATION: (0.842, 0.862, 0.861)}
NOISY = {Task.CLASSIFICATION: (0.693, 0.761, 0.647), Task.SEGMENTATION: (0.595, 0.759, 0.848)}
LESIONS = ("nevus", "melanoma", "basal cell carcinoma", "actinic keratosis", "intraepithelial carcinoma")
STRUCTURES = (
    "background",
    *(
        "left cerebral white matter",
        "left cerebral cortex",
        "right cerebral white matter",
        "right cerebral cortex",
    ),
    *("left thalamus", "right thalamus", "brain stem", "third ventricle"),
)


def table1(task: Task) -> pl.DataFrame:
    rows = []
    for name, clean, noise, cells in zip(NETWORKS[task], CLEAN[task], NOISY[task], CELLS[task], strict=True):
        adversarial = float(np.mean(cells))
        values = {"clean": (clean, 0.03), "noise": (noise, 0.035), "adversarial": (adversarial, 0.04)}
        values |= {"drop_points": (100 * (clean - adversarial), 3.1)}
        values |= {"drop_percent": (100 * (1 - adversarial / clean), 3.9)}
        row: dict[str, object] = {"model": name}
        for column, (value, half) in values.items():
            row |= {column: value, f"{column}_low": value - half, f"{column}_high": value + half}
        rows.append(row)
    return pl.DataFrame(rows)


def cells(task: Task, shift: float = 0.0, prefix: str = "") -> pl.DataFrame:
    rows = [
        {
            "target": target,
            "perturbation": prefix + attack,
            "source": source,
            "score": scores[3 * a + s] + shift,
            "low": scores[3 * a + s] + shift - 0.04,
            "high": scores[3 * a + s] + shift + 0.04,
            "n_cases": 240,
            "n_patients": 15,
        }
        for target, scores in zip(NETWORKS[task], CELLS[task], strict=True)
        for a, attack in enumerate(ATTACKS[task])
        for s, source in enumerate(NETWORKS[task])
    ]
    return pl.DataFrame(rows)


def tables(task: Task) -> dict[str, pl.DataFrame]:
    attacks, networks = ATTACKS[task], NETWORKS[task]
    own = cells(task, shift=-0.15).filter(
        pl.col("target") == pl.col("source"), pl.col("perturbation") == attacks[0]
    )
    found = {
        "table1": table1(task),
        "table2": cells(task),
        "noise": cells(task, shift=0.1, prefix=f"{NOISE[task]}@"),
        "whitebox": own,
        "pairs": pl.DataFrame(
            {
                "first": [networks[2], networks[2], networks[1]],
                "second": [networks[0], networks[1], networks[0]],
                "difference": [0.196, 0.214, -0.018],
                "difference_low": [0.15, 0.168, -0.06],
                "difference_high": [0.242, 0.26, 0.024],
                "p": [0.00006103515625, 0.00006103515625, 0.41],
                "p_holm": [0.00018, 0.00018, 0.41],
                "verdict": ["ranked", "ranked", "not distinguishable"],
                "better": [networks[2], networks[2], None],
                "drop_difference": [-17.7, -21.6, 3.8],
                "drop_difference_low": [-21.0, -25.1, -0.4],
                "drop_difference_high": [-14.4, -18.1, 8.0],
                "drops_agree": [True, True, True],
                "clean_difference": [0.09, -0.01, 0.1],
                "clean_difference_low": [0.04, -0.04, 0.06],
                "clean_difference_high": [0.14, 0.02, 0.14],
                "p_equal_holm": [0.9, 0.02, 0.9],
                "n_neutral_sources": [1, 1, 1],
                "equally_good": [False, True, False],
                "patients_needed": [14, 12, 61],
                "false_claim": [0.00002, 0.00002, 0.19],
                "clean_false_claim": [0.0002, 0.25, 0.00003],
                "patients_for_claim": [9, 9, 240],
            }
        ),
        "certificates": pl.DataFrame(
            [
                {
                    "model": name,
                    "measure": "accuracy" if task is Task.CLASSIFICATION else "Dice",
                    "radius": radius,
                }
                | {"tau": None if task is Task.CLASSIFICATION else 0.5 + radius}
                | {"sigma": 0.25, "training_sigma": 0.25}
                | {"network": 0.8 if radius == 0 else None, "network_low": 0.7, "network_high": 0.9}
                | {"smoothed": 0.75 if radius == 0 else None, "smoothed_low": 0.65, "smoothed_high": 0.85}
                | {"certified": 0.7 - radius, "certified_low": 0.6 - radius, "certified_high": 0.8 - radius}
                | {"attacked": 0.72 - radius / 2 if radius else None}
                | {"attacked_low": 0.6 if radius else None, "attacked_high": 0.8 if radius else None}
                | {"abstained": radius, "abstained_low": 0.0, "abstained_high": 0.4}
                | {"n_contradicted": 0, "n_by_chance": 1, "n_cases": 100, "n_patients": 15}
                for name in NETWORKS[task]
                for radius in (0.0, 0.125, 0.25)
            ]
        ),
        "rank_stability": pl.DataFrame(
            [
                {
                    "condition": condition,
                    "model": name,
                    "place": place + 1,
                    "frequency": 0.8 - 0.7 * (n != place),
                }
                for condition in ("clean", "adversarial")
                for n, name in enumerate(NETWORKS[task])
                for place in range(3)
            ]
        ),
        "risk_coverage": pl.DataFrame(
            [
                {"condition": condition, "model": name, "coverage": coverage, "risk": level * coverage}
                for condition, level in (("clean", 0.2), ("noise", 0.4), ("adversarial", 0.6))
                for name in networks
                for coverage in (0.5, 1.0)
            ]
        ),
        "ranking": pl.DataFrame(
            {
                "model": [networks[2], networks[0], networks[1]],
                "adversarial": [0.667, 0.47, 0.453],
                "rank_low": [1, 2, 2],
                "rank_high": [1, 3, 3],
                "share_first": [None, None, None],
                "above_majority": [True, True, True],
            },
            schema_overrides={"share_first": pl.Float64},
        ),
        "noise_control": pl.DataFrame(
            {
                "target": [networks[0]],
                "perturbation": [attacks[0]],
                "attacked": [0.286],
                "attacked_low": [0.25],
                "attacked_high": [0.32],
                "noise": [0.388],
                "noise_low": [0.35],
                "noise_high": [0.42],
                "extra_drop_points": [10.2],
                "extra_drop_points_low": [7.1],
                "extra_drop_points_high": [13.3],
                "p": [0.0002],
                "p_holm": [0.0018],
            }
        ),
        "patients": pl.DataFrame({"model": networks, "patient_id": ["1003"] * 3, "clean": [0.8] * 3}),
        "success": pl.DataFrame(
            {
                "perturbation": [attack for attack in attacks for _ in networks],
                "source": list(networks) * 3,
                "role": ["transfer"] * 9,
                "n_images": [240] * 9,
                "fooled": [0.81, 0.79, 0.84, 1.0, 1.0, 1.0, 0.78, 0.74, 0.81],
                "already_wrong": [0.2, 0.19, 0.29] * 3,
                "ssim": [0.981, 0.979, 0.984, 0.998, 0.997, 0.998, 0.989, 0.99, 0.991],
                "ssim_image": [0.99] * 9,
                "mse": [6.9e-4, 7.2e-4, 6.1e-4, 2.1e-5, 2.4e-5, 1.8e-5, 3.1e-4, 3.3e-4, 2.9e-4],
                "psnr": [31.6] * 9,
                "l0": [13068.0] * 9,
                "linf": [0.016] * 9,
                "l2_mean": [0.8] * 9,
                "l2_median": [0.7] * 9,
                "steps": [1.0, 1.0, 1.0, 3.0, 3.5, 3.0, 12.0, 11.0, 9.0],
                "n_crafted": [240] * 9,
            }
        ),
        "budgets": pl.DataFrame(
            {
                "perturbation": [attacks[0]] * 3,
                "source": networks,
                "source_seed": [1] * 3,
                "role": ["transfer"] * 3,
                "parameter": ["eps"] * 3,
                "value": [0.008624, 0.0079, 0.01],
                "ssim_wanted": [0.98] * 3,
                "ssim_reached": [0.9746, 0.981, 0.979],
                "n_images": [240] * 3,
            }
        ),
        "transfer_conditions": pl.DataFrame(
            {
                "target": networks,
                "source": [networks[0]] * 3,
                "same_architecture": [True, False, False],
                "same_pretraining": [None, False, True],
                "shared_training": [1.0, None, 0.25],
            },
        ),
        "rounded": table1(task).select(pl.lit("8bit").alias("rounding"), pl.all()),
        "other_sources": cells(task).clear(),
        "whole_test": pl.DataFrame(
            {"model": networks, "clean": CLEAN[task], "clean_low": [0.7] * 3, "clean_high": [0.9] * 3}
            | {"n_cases": [1275] * 3, "n_patients": [15] * 3}
        ),
    }
    if task is Task.SEGMENTATION:
        found["false_positives"] = pl.DataFrame(
            [
                {"model": name, "condition": condition, "absent_volume": None, "empty_painted": share}
                | {"empty_volume": 41.3 * share, "unit": "ml", "n_absent": 0, "n_empty": 38, "n_cases": 240}
                for name in networks
                for condition, share in (("clean", 0.0), ("noise", 0.105), ("adversarial", 1.0))
            ],
            schema_overrides={"absent_volume": pl.Float64},
        )
        found["structures"] = pl.DataFrame(
            [
                {
                    "target": target,
                    "perturbation": condition,
                    "structure": name,
                    "score": 0.8,
                    "low": 0.75,
                    "high": 0.85,
                    "n_patients": 15,
                }
                for target in networks
                for condition in ("clean", "rician@dag_a", *attacks, "dag_a~12bit")
                for name in STRUCTURES[1:]
            ]
        )
    else:
        found["embedding"] = pl.DataFrame(
            {
                "measure": ["displacement ratio", *["same-class neighbours"] * 3],
                "perturbation": ["fgsm / gaussian@fgsm", "clean", "gaussian@fgsm", "fgsm"],
                "value": [3.42, 0.79, 0.77, 0.41],
                "low": [2.9, 0.74, 0.72, 0.35],
                "high": [4.03, 0.84, 0.82, 0.47],
                "n_cases": [238, 240, 240, 240],
                "n_patients": [15] * 4,
            }
        )
    return found


def lesion_examples() -> Examples:
    draws = np.random.default_rng(3)
    rows, columns = np.mgrid[-1:1:72j, -1:1:72j]
    images = []
    for case in range(2):
        blob = 1 / (
            1
            + np.exp(
                14
                * (
                    np.hypot(rows * (1 + 0.3 * case), columns)
                    - 0.5
                    + 0.06 * np.sin(5 * np.arctan2(rows, columns))
                )
            )
        )
        skin, dark = np.array([0.9, 0.74, 0.66]), np.array([0.45, 0.25, 0.2]) * (1 - 0.3 * case)
        clean = (
            skin[:, None, None] * (1 - blob)
            + dark[:, None, None] * blob
            + draws.normal(0, 0.012, (3, 72, 72))
        )
        few = np.where(draws.random((72, 72)) < 0.004, -0.7, 0.0) * (blob > 0.5)
        shifts = [
            0,
            draws.normal(0, 0.03, clean.shape),
            0.02 * np.sign(draws.normal(size=clean.shape)),
            0.001 * np.roll(blob, 3) * draws.normal(size=clean.shape),
            few,
        ]
        images.append([np.clip(clean + shift, 0, 1) for shift in shifts])
    return Examples(
        target="inception_v3",
        source="inception_v3",
        classes=LESIONS,
        colours=structure_colours(LESIONS),
        columns=("clean", "gaussian@fgsm", "fgsm", "deepfool", "saliency_map"),
        case_ids=("ISIC_0024306", "ISIC_0031270"),
        images=np.array(images, np.float32),
        labels=np.array([1, 0]),
        predictions=np.array([[1, 1, 0, 2, 4], [0, 0, 1, 3, 0]]),
        probabilities=np.array([[0.97, 0.88, 0.99, 0.61, 0.83], [0.9, 0.86, 0.7, 0.55, 0.9]]),
    )


def brain_examples() -> Examples:
    draws = np.random.default_rng(4)
    rows, columns = np.mgrid[-1:1:96j, -1:1:112j]
    radius = np.hypot(rows / 0.85, columns / 0.8) + 0.04 * np.sin(9 * np.arctan2(rows, columns))
    right = columns > 0
    labels = np.zeros(radius.shape, np.int64)
    labels[radius < 1] = 2
    labels[radius < 0.8] = 1
    labels[(radius < 1) & right] += 2
    inner = np.hypot((rows - 0.1) / 0.25, (np.abs(columns) - 0.2) / 0.15) < 1
    labels[inner] = np.where(right, 6, 5)[inner]
    labels[(np.abs(columns) < 0.09) & (rows > 0.35) & (rows < 0.8)] = 7
    labels[(np.abs(columns) < 0.04) & (np.abs(rows) < 0.2)] = 8
    values = np.array([0, 0.85, 0.6, 0.85, 0.6, 0.7, 0.7, 0.78, 0.2])
    clean = np.clip(values[labels] + draws.normal(0, 0.03, labels.shape) * (labels > 0), 0, 1)
    smooth = np.sin(7 * rows) * np.cos(9 * columns) * (labels > 0)
    shifts = [
        0,
        np.abs(draws.normal(0, 0.05, labels.shape)) * (labels > 0),
        0.06 * smooth,
        0.02 * smooth,
        0.015 * np.roll(smooth, 9),
    ]
    gone, grown = (
        labels * (draws.random(labels.shape) > 0.4),
        np.where(np.roll(inner, 3, 0) | inner, np.where(right, 6, 5), labels),
    )
    spotted = np.where((draws.random(labels.shape) < 0.1) & (labels > 0), 7, labels)
    return Examples(
        target="fc_densenet",
        source="fc_densenet",
        classes=STRUCTURES,
        colours=structure_colours(STRUCTURES),
        columns=("clean", "rician@dag_a", "dag_a", "dag_b", "dag_c"),
        case_ids=("1003_3 slice 84",),
        images=np.array([[np.clip(clean + shift, 0, 1)[None] for shift in shifts]], np.float32),
        labels=labels[None],
        predictions=np.array([[labels, labels, gone, spotted, grown]]),
    )


def plane() -> Projection:
    draws = np.random.default_rng(5)
    centres = {0: (-14, 4), 1: (10, 12), 2: (4, -13)}
    frames = []
    for name, spread, pull in (("clean", 3.0, 0.0), ("gaussian@fgsm", 3.4, 0.05), ("fgsm", 4.0, 0.8)):
        for label, centre in centres.items():
            place = (
                np.array(centre) * (1 - pull)
                + np.array(centres[(label + 1) % 3]) * pull
                + draws.normal(0, spread, (60, 2))
            )
            frames.append(
                pl.DataFrame(
                    {"label": [label] * 60, "perturbation": [name] * 60, "x": place[:, 0], "y": place[:, 1]}
                )
            )
    return Projection(pl.concat(frames), "inception_v3", "fgsm", "gaussian@fgsm", LESIONS)


def study(task: Task) -> dict[str, object]:
    return {
        "task": str(task),
        "seed": 0,
        "data": {"name": "phantom_lesions" if task is Task.CLASSIFICATION else "malc2012"},
        "split": {"rule": "patient", "test": 0.5},
        "models": [
            {"name": name, "weights": "imagenet" if "inception" in name else "none"}
            for name in NETWORKS[task]
        ],
        "targets": {"seeds": [0]},
        "surrogates": {"seeds": [1], "data": "same", "models": None},
        "perturbations": [
            {
                "name": name,
                "label": name,
                "on_misclassified": "attack",
                "on_failure": "last",
                **BUDGETS.get(name, {}),
            }
            for name in ATTACKS[task]
        ],
        "noise": {"name": NOISE[task]},
        "certificates": {
            "sigma": 0.25,
            "draws": 1000,
            "selection": 100,
            "alpha": 0.001,
            "radii": [0.125, 0.25],
            "cases": 100,
            "attack_steps": 20,
            "attack_draws": 8,
        },
        "support": "auto",
        "crafting": {"quantise": True, "whitebox": True},
        "cases": {"per_patient": 16, "total": None},
        "analysis": {"resamples": 10000, "confidence": 0.95, "relevant_difference": 0.02},
    }


def networks(task: Task) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "network": name,
                "role": role,
                "seed": seed,
                "parameters": 3_412_000 + 1000 * seed,
                "epochs": 20,
                "validation_score": 0.81,
            }
            for name in NETWORKS[task]
            for role, seed in (("target", 0), ("surrogate", 1))
        ]
    )


def made_view(examples: Examples, case: int, targets: int) -> View:
    """What `examples` shows, as every target sees it; to the second one all images are as the clean one."""
    shown = examples.images[case]
    change = shown - shown[0]
    largest = np.abs(change).reshape(len(shown), -1).max(1)
    steps = np.where(largest > 0, largest, 1)[:, None, None, None]
    said = examples.predictions[case]
    if not examples.segmentation:
        said = 0.1 + 0.5 * np.eye(len(examples.classes))[said]
    answers = [
        said[place] if target != 1 else said[0] for place in range(len(shown)) for target in range(targets)
    ]
    return View(
        clean=np.rint(255 * shown[0]).astype(np.uint8),
        changes=np.rint(LEVELS * change / steps).astype(np.int8),
        largest=largest.astype(np.float32),
        truth=examples.labels[case],
        answers=np.stack(answers),
    )


def made_overlap(draws: np.random.Generator, classes: int) -> dict[str, Any]:
    """A scan that has all structures."""
    both = draws.integers(20, 90, classes)
    return overlap_of(np.full(classes, 100), np.full(classes, 100), both)


def made_explorer(task: Task) -> dict[str, Any]:
    """Two cases of two frames, under every column of the examples, crafted on one source."""
    segmentation = task is Task.SEGMENTATION
    examples = brain_examples() if segmentation else lesion_examples()
    targets = len(NETWORKS[task])
    pairs = [[place, target] for place in range(len(examples.columns)) for target in range(targets)]
    draws = np.random.default_rng(6)
    scores: list[Any] = [
        [made_overlap(draws, len(examples.classes)) for _ in pairs]
        if segmentation
        else draws.random(len(pairs)).round(4).tolist()
        for _ in range(2)
    ]
    frames = [
        [
            frame(made_view(examples, case % len(examples.case_ids), targets), examples.colours)
            for _ in range(2)
        ]
        for case in range(2)
    ]
    return {
        "index": {
            "segmentation": segmentation,
            "levels": {"grey": GREY, "step": STEP, "count": LEVELS},
            "classes": list(examples.classes),
            "colours": examples.colours if segmentation else [],
            "targets": list(NETWORKS[task]),
            "sets": [
                {"perturbation": name, "source": "" if name == "clean" else examples.source}
                for name in examples.columns
            ],
            "pairs": pairs,
            "scans": [
                {"id": f"case {case}", "why": why, "truth": [] if segmentation else [examples.classes[0]]}
                | {"frames": ["slice 3", "slice 9"], "planes": [], "tall": [1.0, 2.0], "scores": scores[case]}
                for case, why in enumerate(("hardest", "typical"))
            ],
        },
        "frames": frames,
        "left_out": "",
    }


@cache
def made_up(task: Task) -> ReportContext:
    found = tables(task)
    classification = task is Task.CLASSIFICATION
    words = (
        Words("accuracy", "95\u00a0%", "lesions")
        if classification
        else Words("Dice", "95\u00a0%", "patients")
    )
    drawings = draw(found, words, plane() if classification else None)
    drawn = [(name, drawing()) for name, drawing in drawings.items()]
    best, other = (NETWORKS[task][place] for place in ((0, 2) if classification else (2, 0)))
    return ReportContext(
        title=f"Robustness of 3 {task} networks on {study(task)['data']['name']}",
        task=task,
        unit="lesion" if classification else "patient",
        phantom=classification,
        confidence=0.95,
        outcome="ranked",
        verdict=(
            f"{best} is more robust than {other} against these transferred attacks, for these trained "
            "weights: mean adversarial score +0.196 [+0.150, +0.242], p < 0.001 (Holm).",
            "The other two cannot be distinguished under attack (p = 0.410, Holm). Detecting a difference of "
            "0.02 with 80 % power takes about 61 patients.",
            "Nothing follows for architectures in general: that needs 3 target and 2 surrogate seeds.",
        ),
        remarks=(),
        data={
            "data set": study(task)["data"]["name"],
            "classes": "5",
            "image size": "128 x 128",
            "intensity": "99.5th percentile clip",
        },
        split=pl.DataFrame(
            {"part": ["train", "validation", "test"], "n_patients": [12, 3, 15], "n_cases": [1020, 255, 1275]}
        ),
        networks=networks(task),
        attacks=pl.DataFrame(
            {
                "label": ATTACKS[task],
                "on_misclassified": ["attack"] * 3,
                "on_failure": ["last"] * 3,
                "parameters": ["eps = 0.0078", "steps = 50", "theta = 0.1, entries_per_step = 8"],
            }
        ),
        threats=threat_table(study(task), told(study(task)["perturbations"])),
        explorer=made_explorer(task),
        tables=found,
        pictures={name: Picture(style.svg(each.figure), each.alt, each.caption) for name, each in drawn},
        examples=example_rows(lesion_examples() if classification else brain_examples()),
        study=study(task),
        record={
            "versions": {"medrobust": "0.1.0", "python": "3.12.4", "torch": "2.14.1"},
            "commit": None,
            "device": "cpu",
            "threads": 2,
            "weights": {"unet-target-s0": "9f2c" * 16},
        },
    )


@pytest.fixture(scope="session", params=[Task.CLASSIFICATION, Task.SEGMENTATION])
def context(request: pytest.FixtureRequest) -> ReportContext:
    return made_up(request.param)


@pytest.fixture(scope="session")
def make_context() -> Callable[[Task], ReportContext]:
    return made_up


@pytest.fixture(scope="session")
def examples(context: ReportContext) -> Examples:
    return brain_examples() if context.task is Task.SEGMENTATION else lesion_examples()


@pytest.fixture(scope="session")
def report(context: ReportContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(context), encoding="utf-8")
    return path
