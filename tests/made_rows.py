"""Rows of small studies, made up, for tests of the analysis."""

from collections.abc import Callable, Iterable

import polars as pl

from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell
from medrobust.core import Task
from medrobust.study.analysis import Attack, Settings

MODELS = ("a", "b", "c")
ATTACKS = (Attack("fgsm"), Attack("deepfool"))
SETTINGS = Settings(resamples=500)
Outcome = Callable[[Cell, str, int], bool]
Overlap = Callable[[Cell, str, str], tuple[int, int, int]]


def grid(models: Iterable[str], attacks: Iterable[str], noise: Iterable[str]) -> list[Cell]:
    """Clean, every attack and every matched noise of every target, and the white-box cells of the first
    attack."""
    models, attacks, noise = list(models), list(attacks), list(noise)
    perturbations = [*attacks, *(f"{kind}@{attack}" for attack in attacks for kind in noise)]
    cells = [Cell(model, "clean") for model in models]
    cells += [Cell(model, name, source) for model in models for name in perturbations for source in models]
    return cells + [Cell(model, attack, model, whitebox=True) for model in models for attack in attacks[:1]]


def _keys(cell: Cell, target_seed: int = 0, source_seed: int = 1) -> dict[str, object]:
    role = "whitebox" if cell.whitebox else "transfer" if cell.source else "clean"
    return {
        "perturbation": cell.perturbation,
        "role": role,
        "source": cell.source,
        "target": cell.target,
        "source_seed": source_seed if cell.source else 0,
        "target_seed": target_seed,
        "fold": None,
    }


def predictions(
    cells: Iterable[Cell], patients: dict[str, int], right: Outcome, seeds: int = 1
) -> pl.DataFrame:
    """A row per cell and image; images of a patient are numbered, classes alternate, wrong is the other
    class."""
    rows = []
    for cell in cells:
        for seed in range(seeds):
            for patient, images in patients.items():
                for image in range(images):
                    label = image % 2
                    hit = (
                        right(cell, patient, image) if seeds == 1 else right(cell, f"{patient}/{seed}", image)
                    )
                    case = f"{patient}-{image}"
                    rows.append(
                        _keys(cell, target_seed=seed)
                        | {"case_id": case, "scan_id": case, "patient_id": patient, "label": label}
                        | {"prediction": label if hit else 1 - label}
                        | {"probabilities": [0.9, 0.1] if (label == 0) == hit else [0.1, 0.9]}
                    )
    return pl.DataFrame(rows, schema_overrides={"fold": pl.Int64})


def overlaps(
    cells: Iterable[Cell], scans: dict[str, list[str]], structures: Iterable[str], counts: Overlap
) -> pl.DataFrame:
    """A row per cell, scan and structure; `scans` names the scans of each patient."""
    rows = []
    structures = list(structures)
    for cell in cells:
        for patient, names in scans.items():
            for scan in names:
                for structure in structures:
                    n_true, n_pred, n_both = counts(cell, scan, structure)
                    rows.append(
                        _keys(cell)
                        | {"scan_id": scan, "patient_id": patient, "structure": structure}
                        | {"n_true": n_true, "n_pred": n_pred, "n_both": n_both}
                    )
    return pl.DataFrame(rows, schema_overrides={"fold": pl.Int64})


def crafted(cells: Iterable[Cell], cases: dict[str, str], **values: object) -> pl.DataFrame:
    """A row per crafted image; `cases` names the patient of each case. Values are the same for all unless
    given."""
    defaults: dict[str, object] = {
        "mse": 0.001,
        "l0": 100.0,
        "l2": 1.0,
        "linf": 0.01,
        "ssim": 0.98,
        "ssim_image": 0.99,
        "strength": 0.0,
        "steps": 1,
        "outcome": "crafted",
        "already_wrong": 0.0,
        "fooled_source": 1.0,
        "n_active": 10,
    }
    origins = {(cell.perturbation, cell.source, cell.whitebox): cell for cell in cells if cell.source}
    rows = [
        {name: value for name, value in _keys(cell).items() if name not in ("target", "target_seed")}
        | {"case_id": case, "scan_id": case, "patient_id": patient}
        | defaults
        | values
        for cell in origins.values()
        for case, patient in cases.items()
    ]
    return pl.DataFrame(rows, schema_overrides={"fold": pl.Int64})


def classification(
    right: Outcome,
    patients: dict[str, int],
    *,
    models: tuple[str, ...] = MODELS,
    attacks: tuple[Attack, ...] = ATTACKS,
    noise: tuple[str, ...] = ("gaussian",),
    seeds: int = 1,
    settings: Settings = SETTINGS,
) -> Results:
    """A study of classification with every cell."""
    cells = grid(models, [attack.label for attack in attacks], noise)
    cases = {f"{patient}-{image}": patient for patient, images in patients.items() for image in range(images)}
    return Results(
        task=Task.CLASSIFICATION,
        unit="patient",
        classes=("benign", "malignant"),
        models=models,
        attacks=attacks,
        noise=noise,
        crafted=crafted(cells, cases),
        predictions=predictions(cells, patients, right, seeds),
        settings=settings,
    )


def segmentation(
    counts: Overlap,
    scans: dict[str, list[str]],
    *,
    structures: tuple[str, ...] = ("background", "left", "right"),
    models: tuple[str, ...] = MODELS,
    attacks: tuple[Attack, ...] = (Attack("dag_a"), Attack("dag_b")),
    noise: tuple[str, ...] = ("rician",),
    settings: Settings = SETTINGS,
) -> Results:
    """A study of segmentation with every cell."""
    cells = grid(models, [attack.label for attack in attacks], noise)
    cases = {f"{scan}-{z}": patient for patient, names in scans.items() for scan in names for z in range(4)}
    return Results(
        task=Task.SEGMENTATION,
        unit="patient",
        classes=structures,
        models=models,
        attacks=attacks,
        noise=noise,
        crafted=crafted(cells, cases),
        overlaps=overlaps(cells, scans, structures, counts),
        settings=settings,
    )
