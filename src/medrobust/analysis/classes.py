"""What only labels of whole images have: scores by class or finding, further ones, how attacks transfer.

Functions raise RunError for a study whose labels are others than they need.
"""

import math
from collections.abc import Callable, Mapping
from itertools import product

import polars as pl

from medrobust.analysis.results import Results
from medrobust.analysis.scores import CELL, CLEAN, RIGHT, TRAINING, matrix_of, panel_of, with_whitebox
from medrobust.analysis.table import bounded, frame, with_bounds
from medrobust.core import Task
from medrobust.metrics.scores import Labels, Probabilities, auroc, brier, confidence_when_wrong, ece, f1
from medrobust.stats.intervals import wilson
from medrobust.storage.schemas import SCORED

QUALITIES: Mapping[str, Callable[[Labels, Probabilities], float]] = {
    "macro_f1": lambda labels, probabilities: f1(labels, probabilities.argmax(1)),
    "macro_auroc": auroc,
    "brier": brier,
    "calibration_error": ece,
    "confidence_when_wrong": confidence_when_wrong,
}
OF_DECISIONS = ("macro_f1",)
CELLS = ("target", "perturbation", "source")


def balanced_table(results: Results) -> pl.DataFrame:
    """Accuracy and balanced accuracy of every cell of Table 2, of clean images and of noise.

    Returns:
        `target, perturbation, source`, and `accuracy` and `balanced_accuracy` with `_low` and `_high`.
        Classes without a case are left out.
    """
    results.refuse_maps("Balanced accuracy needs images with classes")
    panels = {"accuracy": results.accuracy_panel, "balanced_accuracy": results.balanced_panel}
    lines = (
        cell.names | with_bounds({name: panel.estimate(panel.cells[cell]) for name, panel in panels.items()})
        for cell in results.shown_cells
    )
    return frame(lines, *CELLS, *bounded("accuracy", "balanced_accuracy"))


def classes(results: Results) -> pl.DataFrame:
    """Fraction of right answers per target, perturbation and class, over the sources that all targets face.

    Returns:
        `target, perturbation, class, score, low, high` (`wilson`), `n_cases` and `n_patients` of the class.
        Classes without a case are left out.
    """
    results.require(Task.CLASSIFICATION, "Only classification has a class per image")
    shown, keys = results.perturbations, ("target", "perturbation", "label")
    by_patient = (
        results.shared_rows.filter(pl.col("perturbation").is_in(shown))
        .group_by(*keys, "patient_id")
        .agg(right=RIGHT.sum(), answers=pl.len(), cases=pl.col("case_id").n_unique())
        .sort("patient_id")
        .partition_by(keys, as_dict=True)
    )
    lines = []
    for target, perturbation, label in product(results.models, shown, range(len(results.classes))):
        patients = by_patient.get((target, perturbation, label))
        if patients is None:
            continue
        right, answers = (patients[each].to_numpy().astype(float) for each in ("right", "answers"))
        score = with_bounds({"score": wilson(right, answers, results.settings.confidence)})
        counts = {"n_cases": int(patients["cases"].sum()), "n_patients": patients.height}
        names = {"target": target, "perturbation": perturbation, "class": results.classes[label]}
        lines.append(names | score | counts)
    return frame(lines, "target", "perturbation", "class", "score", "low", "high", "n_cases", "n_patients")


def findings(results: Results) -> pl.DataFrame:
    """The primary score of every finding per target and perturbation, over the sources that all targets face.

    Returns:
        `target, perturbation, finding, score, low, high`, as in Table 2 for the finding alone; `n_present`
        and `n_cases`, images that show it and in which it is known, and `n_patients`.
    """
    results.require(Task.MULTILABEL, "Only networks for several labels at once have findings")
    lines = []
    by_finding = results.rows.partition_by("finding", as_dict=True)
    for name in (name for name in results.classes if (name,) in by_finding):
        rows = by_finding[(name,)]
        cases = rows.unique("case_id")
        panel = panel_of(results.score, results.settings, rows, results.classes[0])
        counts = {
            "n_present": int(cases["label"].sum()),
            "n_cases": cases.height,
            "n_patients": len(panel.patients),
        }
        for target, perturbation in product(results.models, results.perturbations):
            cells = results.cells(target, [perturbation], ["", *results.sources])
            scores = panel.mean(cell for cell in cells if cell in panel.cells)
            if scores is not None:
                names = {"target": target, "perturbation": perturbation, "finding": name}
                lines.append(names | with_bounds({"score": panel.estimate(scores)}) | counts)
    columns = ("score", "low", "high", "n_present", "n_cases", "n_patients")
    return results.ordered(frame(lines, "target", "perturbation", "finding", *columns))


def quality_table(results: Results) -> pl.DataFrame:
    """Further scores of every cell of Table 2, of clean images and of noise, without intervals.

    They are means over seeds, and over findings, each a classification into absent and present. Of networks
    that say only what they decide, those that are not of decisions are null.

    Returns:
        `target, perturbation, source` and a column per score in `QUALITIES`.
    """
    results.refuse_maps("These scores need labels of whole images")
    each = [*TRAINING, *({"finding"} & {*results.rows.columns})]
    parts = with_whitebox(results.rows).sort(*CELL, *each, "case_id").partition_by(CELL, as_dict=True)
    lines = []
    for cell in results.shown_cells:
        values = _qualities(parts[cell].partition_by(each))
        if cell.target not in results.confident:
            values = {name: values[name] if name in OF_DECISIONS else math.nan for name in values}
        lines.append(cell.names | values)
    return frame(lines, *CELLS, *QUALITIES)


def _qualities(parts: list[pl.DataFrame]) -> dict[str, float]:
    """The means over parts of a cell."""
    answers = [(one["label"].to_numpy(), matrix_of(one["probabilities"])) for one in parts]
    return {
        name: _mean_defined([score(labels, probabilities) for labels, probabilities in answers])
        for name, score in QUALITIES.items()
    }


def _mean_defined(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def transfer_rate(results: Results) -> pl.DataFrame:
    """Fraction of images fooled among those that the source and every target get right when clean.

    Unlike Table 2 it is not affected by what networks get wrong anyway. The images are the same for all
    targets of an attack and source. A case must be right for all seeds. With several findings it is the
    fraction of those findings turned that are attacked and that every target gets right when clean, in images
    of which the source gets all attacked findings right.

    Returns:
        `target, perturbation, source, rate, n_cases`; rate null without such cases.
    """
    results.refuse_maps("Transfer rates are of images that turn wrong")
    item = [*SCORED[results.task].items]
    key, labels = ("perturbation", "source", "case_id"), results.attack_labels
    rows = results.rows.filter(pl.col("role") != "whitebox").with_columns(wrong=~RIGHT)
    wrong_when_clean = rows.filter(pl.col("perturbation") == CLEAN, "wrong").select(item)
    usable = (
        results.crafted.filter(pl.col("perturbation").is_in(labels), pl.col("role") != "whitebox")
        .group_by(key)
        .agg(usable=(pl.col("already_wrong") == 0).all())
    )
    attacked = [
        (pl.col("perturbation") == attack.label)
        & (True if attack.finding is None else pl.col("finding") == results.name_of(attack.finding))
        for attack in results.attacks
    ]
    table = (
        rows.filter(pl.any_horizontal(attacked), pl.col("source").is_in(results.sources))
        .join(usable, on=key, how="left")
        .join(wrong_when_clean.unique().with_columns(lost=True), on=item, how="left")
        .with_columns(pl.col("usable").fill_null(value=False) & pl.col("lost").is_null())
        .group_by(CELLS)
        .agg(
            rate=pl.col("wrong").filter("usable").mean(),
            n_cases=pl.col("case_id").filter("usable").n_unique(),
        )
    )
    return results.ordered(table, labels)
