"""How often the images of each class are classified right."""

import polars as pl

from medrobust.analysis.patients import RIGHT
from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.stats.intervals import wilson

_CONDITION = ("target", "perturbation", "label")


def classes(results: Results) -> pl.DataFrame:
    """Share of right answers per target, perturbation and class, over the sources that all targets face.

    Returns:
        `target, perturbation, class, score, low, high` (`statistics.wilson`), `n_cases` and
        `n_patients` of the class. Classes without a case are left out.

    Raises:
        RunError: The study is not one of classification.
    """
    if results.task is not Task.CLASSIFICATION:
        raise RunError("Only classification has a class per image; this study is one of segmentation.")
    shown = results.perturbations
    by_patient = (
        results.shared_rows.filter(pl.col("perturbation").is_in(shown))
        .group_by(*_CONDITION, "patient_id")
        .agg(
            right=RIGHT.sum(),
            answers=pl.len(),
            cases=pl.col("case_id").n_unique(),
        )
        .sort("patient_id")
        .partition_by(_CONDITION, as_dict=True)
    )
    lines = [
        _line(by_patient[target, perturbation, label], results)
        | {"target": target, "perturbation": perturbation, "class": name}
        for target in results.models
        for perturbation in shown
        for label, name in enumerate(results.classes)
        if (target, perturbation, label) in by_patient
    ]
    names = dict.fromkeys(("target", "perturbation", "class"), pl.String)
    numbers = dict.fromkeys(("score", "low", "high"), pl.Float64)
    return frame(lines, names | numbers | {"n_cases": pl.Int64, "n_patients": pl.Int64})


def _line(patients: pl.DataFrame, results: Results) -> dict[str, float]:
    right, answers = (patients[name].to_numpy().astype(float) for name in ("right", "answers"))
    value, low, high = wilson(right, answers, results.settings.confidence)
    cases = int(patients["cases"].sum())
    return {"score": value, "low": low, "high": high, "n_cases": cases, "n_patients": patients.height}
