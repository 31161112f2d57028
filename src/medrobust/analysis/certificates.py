"""What is certain of the smoothed networks up to each radius, beside what an attack on them finds there."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from scipy import stats

from medrobust.analysis.results import Results
from medrobust.analysis.scores import SEEDS, Cell, Panel, means, panel_of, scan_scores
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.errors import Remark
from medrobust.metrics.catalogue import SCORES, Score
from medrobust.stats.intervals import Estimate, mean, ratio
from medrobust.study.analysis import PRIMARY

BOUNDED_BELOW = ("dice", "iou", "accuracy", "balanced_accuracy")
"""Scores that no answer of what is not certain can bring below that of the worst case in the rows."""

CHANCE = 0.001
"""Probability that true certificates have more contradictions than chance may give."""

CERTIFICATES = (
    *("model", "measure", "sigma", "training_sigma", "radius", "tau"),
    *bounded("network", "smoothed", "certified", "attacked", "abstained"),
    *("n_contradicted", "n_by_chance", "n_cases", "n_patients"),
)
STRUCTURES = ("target", "structure", "radius", *bounded("certified", "attacked", "abstained"), "n_patients")


def certified_score(results: Results) -> Score:
    """The score of the study, or where its worst case is not in the rows that of the task."""
    score = results.score
    return (
        score
        if SCORES.get(score.name) == score and score.name in BOUNDED_BELOW
        else SCORES[PRIMARY[results.task]]
    )


def certified_panel(results: Results) -> Panel | None:
    """Scores of every patient in `certified_cell` and its like; None without certificates."""
    rows = results.certificates
    if rows is None or rows.is_empty() or results.smoothing is None:
        return None
    return panel_of(certified_score(results), results.settings, _as_cells(rows), results.classes[0])


def certified_cell(model: str, radius: float, condition: str = "certified") -> Cell:
    """What is certified of a network up to a radius, or of another condition of the rows, in the panel."""
    return Cell(model, f"{condition}@{radius}")


def certificates(results: Results) -> pl.DataFrame:
    """Certified score of every smoothed network against the radius.

    Returns:
        A row per network and radius: `model`; `measure`, the score; `sigma` of the noise, and
        `training_sigma`, that of the noise which the network was trained with (0: none, null: unknown);
        `radius`, an L2 norm; `tau`, the probability that pixels had to exceed (null for images). At radius 0
        the scores of the `network` itself and of the `smoothed` one. `certified`: the score that no change
        up to the radius can bring the smoothed network below; `attacked`: that under attack at the radius;
        `abstained`: the fraction of images, or of pixels, without a certificate. With intervals over
        patients, seeds averaged within the patient. `n_contradicted`: images of which the attack found what
        a certificate rules out, and `n_by_chance`, what the errors of both allow; `n_cases, n_patients`.
        Empty without certificates.
    """
    rows, asked, panel = results.certificates, results.smoothing, certified_panel(results)
    if rows is None or asked is None or panel is None:
        return frame([], *CERTIFICATES)
    score = panel.score
    lines: list[Line] = []
    for model in results.models:
        for radius, own in _by_radius(rows.filter(target=model)):
            names = [("certified", radius), ("attacked", radius)]
            names += [("network", 0.0), ("smoothed", 0.0)] if radius == 0 else []
            cells = {name: certified_cell(model, at, name) for name, at in names}
            values = {
                name: panel.estimate(panel.cells[cell]) for name, cell in cells.items() if cell in panel.cells
            }
            values["abstained"] = _abstained(results, own)
            attacked = own.filter(condition="attacked")
            lines.append(
                {"model": model, "measure": score.heading, "radius": radius, "tau": _tau(results, radius)}
                | {"sigma": asked["sigma"], "training_sigma": training_sigma(results, model)}
                | with_bounds(values)
                | _contradictions(attacked, asked["alpha"])
                | {"n_cases": _n_cases(own), "n_patients": len(panel.patients)}
            )
    return frame(lines, *CERTIFICATES)


def certificate_structures(results: Results) -> pl.DataFrame:
    """The same for every structure, in Dice.

    Returns:
        `target, structure, radius`, `certified` and `attacked` Dice, `abstained`, the fraction of the
        structure's true pixels without a certificate, with intervals over patients; `n_patients` in whose
        truth it is. Empty without certificates of label maps.
    """
    rows = results.certificates
    if rows is None or rows.is_empty() or not results.task.has_maps:
        return frame([], *STRUCTURES)
    scans = scan_scores(_as_cells(rows), results.classes[0], SCORES["dice"])
    answered = _as_cells(rows).rename({"n_both": "n_right", "n_answered": "n_both"})
    without = 1 - answered["n_both"] / answered["n_true"]
    answered = answered.with_columns(abstained=without).select(
        "target", "perturbation", *SEEDS, "scan_id", "structure", "abstained"
    )
    keys = ["target", "perturbation", *SEEDS, "scan_id", "structure"]
    known = scans.filter(pl.col("score").is_not_nan()).join(answered, on=keys, maintain_order="left")
    by_patient = means(
        known,
        ("score", "abstained"),
        ("target", "perturbation", "structure", *SEEDS, "patient_id"),
        ("target", "perturbation", "structure", "patient_id"),
    )
    confidence, lines = results.settings.confidence, list[Line]()
    for model in results.models:
        for structure in results.structures[1:]:
            for radius, _ in _by_radius(rows.filter(target=model)):
                values: dict[str, Estimate] = {}
                for condition in ("certified", "attacked"):
                    own = by_patient.filter(
                        target=model, structure=structure, perturbation=f"{condition}@{radius}"
                    )
                    if own.height:
                        values[condition] = mean(own["score"].to_numpy()).fraction_interval(confidence)
                    if own.height and condition == "certified":
                        values["abstained"] = mean(own["abstained"].to_numpy()).fraction_interval(confidence)
                        n_patients = own.height
                if values:
                    names = {"target": model, "structure": structure, "radius": radius}
                    lines.append(names | with_bounds(values) | {"n_patients": n_patients})
    return frame(lines, *STRUCTURES)


def certificate_remarks(table: pl.DataFrame) -> Iterator[Remark]:
    """Certificates that an attack contradicts, and networks that were not trained with the noise."""
    for row in table.filter(pl.col("n_contradicted") > pl.col("n_by_chance")).iter_rows(named=True):
        yield Remark(
            "certificates",
            f"CONTRADICTION: of {row['model']} the attack at radius {row['radius']:.4g} found what a "
            f"certificate rules out on {row['n_contradicted']} images, and chance explains "
            f"{row['n_by_chance']}. The certificates of this network must not be used: it does not answer "
            "the same for the same image, or this is an error of medrobust. Please report it.",
        )
    unknown = table.filter(pl.col("training_sigma").is_null())["model"].unique(maintain_order=True)
    if len(unknown):
        yield Remark(
            "certificates",
            f"Whether {', '.join(unknown)} saw noise in training is not known here. Smoothed with noise that "
            "it has not seen, a network may abstain or err for that reason alone.",
        )
    for row in table.filter(pl.col("training_sigma").is_not_null(), radius=0.0).iter_rows(named=True):
        if abs(row["training_sigma"] - row["sigma"]) > 1e-6:
            how = (
                f"noise of sigma {row['training_sigma']:.4g}"
                if row["training_sigma"]
                else "no Gaussian noise"
            )
            yield Remark(
                "certificates",
                f"{row['model']} was trained with {how} and smoothed with sigma {row['sigma']:.4g}. Under "
                "noise that it has not seen a network usually abstains or errs more often.",
            )


def training_sigma(results: Results, model: str) -> float | None:
    """Standard deviation of the Gaussian noise that a network was trained with; 0: none, None: unknown."""
    for network in results.record["networks"].values():
        if network["name"] == model and network["role"] == "target":
            if "training" not in network:
                return None
            augment = network["training"].get("augment")
            return float(augment.get("gaussian") or 0.0) if isinstance(augment, Mapping) else 0.0
    return None


def _as_cells(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as panels take them: a condition and its radius is a perturbation."""
    return rows.with_columns(
        perturbation=pl.format("{}@{}", "condition", "radius"),
        source=pl.lit(""),
        source_seed=pl.lit(0, pl.Int64),
        role=pl.lit("clean"),
    )


def _by_radius(rows: pl.DataFrame) -> Iterator[tuple[float, pl.DataFrame]]:
    for (radius,), own in rows.sort("radius").group_by("radius", maintain_order=True):
        assert isinstance(radius, float)
        yield radius, own


def _abstained(results: Results, rows: pl.DataFrame) -> Estimate:
    """Fraction without a certificate: of images, or of the pixels of a scan, averaged within the patient."""
    certified = rows.filter(condition="certified")
    if results.task.has_maps:
        scans = certified.unique((*SEEDS[:1], "scan_id")).with_columns(
            value=pl.col("n_abstained") / pl.col("n_pixels")
        )
        of_patients = scans.group_by("patient_id").agg(pl.col("value").mean()).sort("patient_id")
        return mean(of_patients["value"].to_numpy()).fraction_interval(results.settings.confidence)
    seeds = certified["target_seed"].n_unique()
    wide = certified.group_by("patient_id").agg(
        without=(pl.col("prediction") < 0).sum() / seeds, images=pl.len() / seeds
    )
    without, images = (wide.sort("patient_id")[name].to_numpy() for name in ("without", "images"))
    return ratio(without, images).fraction_interval(results.settings.confidence)


def _contradictions(attacked: pl.DataFrame, alpha: float) -> dict[str, int | None]:
    """Images whose certificates the attack contradicts, and how many chance may give.

    A certificate is false, and the test of the attack errs, with a probability of at most alpha each.
    """
    if attacked.is_empty():
        return {"n_contradicted": None, "n_by_chance": None}
    if "contradicted" in attacked.columns:
        seen, images = int(attacked["contradicted"].sum()), attacked.height
    else:
        scans = attacked.unique(("target_seed", "scan_id"))
        seen, images = int(scans["n_contradicted"].sum()), int(scans["n_cases"].sum())
    return {"n_contradicted": seen, "n_by_chance": int(stats.binom.isf(CHANCE, images, 2 * alpha))}


def _n_cases(rows: pl.DataFrame) -> int:
    certified = rows.filter(condition="certified")
    if "case_id" in certified.columns:
        return certified["case_id"].n_unique()
    return int(certified.unique("scan_id")["n_cases"].sum())


def _tau(results: Results, radius: float) -> float | None:
    asked: Mapping[str, Any] | None = results.smoothing
    return float(stats.norm.cdf(radius / asked["sigma"])) if asked and results.task.has_maps else None
