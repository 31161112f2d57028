"""What only segmentation has: scores and volumes of structures, and what is predicted where nothing is.

Dice is taken of the structures that a scan has. What is predicted elsewhere lowers it only if the scan has
the structure somewhere; all of it is in `false_positives`, as a volume.

Every table averages structures within the scan, then scans within the patient, then over the sources that all
targets face and over seeds; undefined numbers are left out.
"""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from medrobust.analysis.results import Results
from medrobust.analysis.scores import CELL, CLEAN, PER_SEED, SEEDS, Cell, means, scan_scores, with_whitebox
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.core import Task
from medrobust.metrics.catalogue import SCORES
from medrobust.metrics.scores import hd95_of_sums, nsd_of_sums, volume_error
from medrobust.stats.intervals import mean

CONDITION = ("target", "perturbation", "structure")
MM3_PER_ML = 1000.0

MEASURES = ("absent_volume", "empty_painted", "empty_volume")
COUNTS = ("n_absent", "n_empty", "n_cases")
_SCAN = (*PER_SEED, "scan_id")


def structures(results: Results) -> pl.DataFrame:
    """Dice per target, perturbation and structure.

    Returns:
        `target, perturbation, structure, score, low, high, n_patients` (patients in whose truth the structure
        is present; without any the score is null); `volume_error`: the mean over those patients of
        (predicted - true) / true, so that -1 is a structure that is missed altogether; and
        `false_positive_pixels` and `false_positive_ml`: the mean number and volume of pixels predicted in a
        scan that does not have the structure, null where all have it, the volume also where the data do not
        say how large a pixel is.

    Raises:
        RunError: The study is not one of segmentation.
    """
    results.require(Task.SEGMENTATION, "Only segmentation has structures")
    rows = results.shared_rows.filter(pl.col("structure") != results.classes[0])
    scans = scan_scores(rows, results.classes[0], SCORES["dice"])
    errors = volume_error(scans["n_true"].to_numpy(), scans["n_pred"].to_numpy())
    by_patient = means(
        scans.with_columns(volume_error=pl.Series(errors)).filter(pl.col("score").is_not_nan()),
        ("score", "volume_error"),
        (*CONDITION, "source", *SEEDS, "patient_id"),
        (*CONDITION, "patient_id"),
    )
    lines: list[Line] = []
    for key, part in by_patient.partition_by(CONDITION, as_dict=True, maintain_order=True).items():
        dice = mean(part["score"].to_numpy()).fraction_interval(results.settings.confidence)
        counts = {"n_patients": part.height, "volume_error": part["volume_error"].to_numpy().mean()}
        lines.append(dict(zip(CONDITION, key, strict=True)) | with_bounds({"score": dice}) | counts)
    table = frame(lines, *CONDITION, "score", "low", "high", "n_patients", "volume_error")
    every = rows.select(CONDITION).unique()
    shown = _shown_where_absent(rows, pixel_volumes(results))
    table = every.join(table, on=CONDITION, how="left").join(shown, on=CONDITION, how="left")
    return results.ordered(table.with_columns(pl.col("n_patients").fill_null(0)))


def _shown_where_absent(rows: pl.DataFrame, volumes: pl.DataFrame | None) -> pl.DataFrame:
    keys = (*CONDITION, "source", *SEEDS, "scan_id")
    absent = (
        rows.group_by(keys).agg(pl.col("n_true", "n_pred").sum()).filter(pl.col("n_true") == 0).sort(keys)
    )
    ml = pl.lit(None, pl.Float64)
    if volumes is not None:
        absent = absent.join(volumes, on="scan_id", how="left", maintain_order="left")
        ml = pl.col("n_pred") * pl.col("ml")
    return absent.group_by(CONDITION).agg(
        false_positive_pixels=pl.col("n_pred").mean(), false_positive_ml=ml.mean()
    )


def pixel_volumes(results: Results) -> pl.DataFrame | None:
    """`scan_id, ml`: the volume of a pixel in every scan; None unless it is known for all."""
    if results.empty_cases is None:
        return None
    known = results.empty_cases.select("scan_id", ml=pl.col("pixel_mm3") / MM3_PER_ML).unique("scan_id")
    return None if known.is_empty() or known["ml"].has_nulls() else known


def worst_structures(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of `structures` with the lowest Dice of each target and perturbation."""
    scored = table.filter(pl.col("score").is_not_null())
    lowest = pl.col("score") == pl.col("score").min().over("target", "perturbation")
    return scored.filter(lowest).unique(("target", "perturbation"), keep="first", maintain_order=True)


_FRACTIONS: Mapping[str, tuple[pl.Expr, pl.Expr]] = {
    # Of scans and structures: no case has the structure in both maps, so there is nothing to measure.
    "hd95_undefined": (pl.col("hd95").is_null().sum(), pl.len()),
    # Of cases with the structure: it is not predicted.
    "missed": (pl.col("n_missed").sum(), (pl.col("n_both") + pl.col("n_missed")).sum()),
    # Of cases in which the structure is predicted: it is not there.
    "added": (pl.col("n_added").sum(), (pl.col("n_both") + pl.col("n_added")).sum()),
}


def surfaces(results: Results, *, structures: bool = False) -> pl.DataFrame:
    """Boundaries per target and perturbation.

    A structure counts in a scan if and only if the truth has it there, as for Dice. NSD is then defined, 0 if
    the structure is not predicted. HD95 is a mean over the cases of a scan that have the structure in truth
    and prediction; without any it is undefined, and counted in `hd95_undefined`.

    Args:
        results: The study.
        structures: Whether to give a row per structure.

    Returns:
        `target, perturbation`, `structure` if asked for; `nsd` in [0, 1] and `hd95`, with intervals over
        patients; `n_patients`, patients with a defined NSD; `hd95_undefined`, `missed` and `added`, in
        [0, 1]; `tolerance` of the NSD and the `unit` of both. Empty without rows of boundaries.
    """
    keys = CONDITION if structures else CONDITION[:2]
    names = (*keys, *bounded("nsd", "hd95"), "n_patients", *_FRACTIONS, "tolerance", "unit")
    if results.surfaces is None or results.surfaces.is_empty():
        return frame([], *names)
    scans, confidence = _boundaries(results), results.settings.confidence
    measured = results.surfaces.select("tolerance", "unit").row(0, named=True)
    by_patient = means(
        scans,
        ("nsd", "hd95"),
        (*keys, "source", *SEEDS, "patient_id", "scan_id"),
        (*keys, "source", *SEEDS, "patient_id"),
        (*keys, "patient_id"),
    )
    lines: list[Line] = []
    for key, part in by_patient.partition_by(keys, as_dict=True, maintain_order=True).items():
        of_nsd, of_hd95 = (mean(part[column].drop_nulls().to_numpy()) for column in ("nsd", "hd95"))
        values = {
            "nsd": of_nsd.fraction_interval(confidence),
            "hd95": of_hd95.positive_interval(confidence),
        }
        counts = {"n_patients": part.height, **measured}
        lines.append(dict(zip(keys, key, strict=True)) | with_bounds(values) | counts)
    table = frame(lines, *(name for name in names if name not in _FRACTIONS))
    fractions = scans.group_by(keys).agg(**{name: part / whole for name, (part, whole) in _FRACTIONS.items()})
    return results.ordered(table.join(fractions, on=list(keys)).select(names).fill_nan(None))


def _boundaries(results: Results) -> pl.DataFrame:
    """NSD and HD95 of every structure in the truth of a scan; sorted, so no mean depends on row order."""
    assert results.surfaces is not None
    shown = (pl.col("source").is_in(["", *results.sources]), pl.col("structure") != results.classes[0])
    rows = results.surfaces.filter(*shown).sort(*CONDITION, "source", *SEEDS, "patient_id", "scan_id")
    boundary, within, distance, both, missed = (
        rows[name].to_numpy() for name in ("n_boundary", "n_within", "hd95_sum", "n_both", "n_missed")
    )
    nsd = pl.Series(nsd_of_sums(boundary, within, both + missed), nan_to_null=True)
    hd95 = pl.Series(hd95_of_sums(distance, both), nan_to_null=True)
    return rows.with_columns(nsd=nsd, hd95=hd95).filter(pl.col("nsd").is_not_null())


def structure_overview(results: Results, dice: pl.DataFrame, boundaries: pl.DataFrame) -> pl.DataFrame:
    """Dice, boundaries and volume of every structure: clean, and under the attack that harms a network most.

    Args:
        results: The study.
        dice: From `structures`.
        boundaries: From `surfaces`, with a row per structure.

    Returns:
        `target, perturbation` (clean, then the `worst_attack`), `structure`; `dice`, `nsd` and `hd95` with
        intervals; `volume_error`, `n_patients`, `tolerance` and `unit` as in the two tables. Empty without
        rows of boundaries.
    """
    shown = [(model, name) for model in results.models for name in (CLEAN, worst_attack(results, model))]
    wanted = pl.DataFrame(shown, schema=dict.fromkeys(CONDITION[:2], pl.String), orient="row")
    scores = dice.rename({"score": "dice", "low": "dice_low", "high": "dice_high"})
    measured = boundaries.select(*CONDITION, *bounded("nsd", "hd95"), "tolerance", "unit")
    names = (
        *CONDITION,
        *bounded("dice", "nsd", "hd95"),
        *("volume_error", "n_patients", "tolerance", "unit"),
    )
    return (
        wanted.join(scores, on=CONDITION[:2], maintain_order="left_right")
        .join(measured, on=CONDITION, maintain_order="left")
        .select(names)
    )


def worst_attack(results: Results, model: str) -> str | None:
    """Label of the averaged attack under which a target has its worst mean score; None if it faced none."""
    panel = results.panel
    scores = {label: panel.value(panel.mean(results.cells(model, [label]))) for label in results.averaged}
    known = {label: panel.score.sign * value for label, value in scores.items() if not math.isnan(value)}
    return min(known, key=known.__getitem__, default=None)


def false_positives(results: Results) -> pl.DataFrame:
    """Clean, noise and adversarial false positives of each network, averaged as the scores of Table 1 are.

    A scan without an absent structure, or without a case that has no label, has no such number and is left
    out of the mean.

    Returns:
        A row per network and condition: `model, condition` (clean, noise, adversarial); `absent_volume`, the
        volume predicted in a scan of structures that it does not have; `empty_painted`, the fraction of the
        evaluated cases without any label in which a structure is predicted; `empty_volume`, the volume
        predicted in all of these of a scan; `unit` of the volumes, "ml", or "pixels" if the data do not say
        how large one is; `n_absent`, the number of absent structures, summed over scans; `n_empty`, how many
        of the `n_cases` evaluated cases have no label, both null in older runs.

    Raises:
        RunError: The study is not one of segmentation.
    """
    results.require(Task.SEGMENTATION, "Only segmentation shows structures")
    scans = _false_positives_of_scans(results)
    of_seeds = means(scans, MEASURES, _SCAN, PER_SEED)
    known = pl.when(pl.col(COUNTS).count() > 0)
    of_cells = scans.group_by(*CELL, *SEEDS).agg(known.then(pl.col(COUNTS).sum()))
    counts = of_cells.select(pl.col(COUNTS).max()).row(0, named=True)  # all cells have the same
    shared = {"unit": "pixels" if pixel_volumes(results) is None else "ml", **counts}
    lines = []
    for model in results.models:
        for condition, cells in results.condition_cells(model).items():
            lines.append({"model": model, "condition": condition} | _over_patients(of_seeds, cells) | shared)
    return frame(lines, "model", "condition", *MEASURES, "unit", *COUNTS)


def _over_patients(of_seeds: pl.DataFrame, cells: Sequence[Cell]) -> dict[str, float | None]:
    types = dict(zip(CELL, (pl.String, pl.String, pl.String, pl.Boolean), strict=True))
    wanted = of_seeds.join(pl.DataFrame(cells, schema=types, orient="row"), on=CELL, how="semi")
    patients = means(wanted, MEASURES, (*CELL, "patient_id"), ("patient_id",))
    return patients.select(pl.col(MEASURES).mean()).row(0, named=True)


def _false_positives_of_scans(results: Results) -> pl.DataFrame:
    """What is predicted in every scan of every cell, of structures that it lacks and in unlabelled cases.

    Sorted, so that no mean depends on the order of the rows.
    """
    lacking = pl.col("n_true") == 0
    absent = (
        with_whitebox(results.rows)
        .filter(pl.col("structure") != results.classes[0])
        .group_by(_SCAN)
        .agg(n_pixels=pl.col("n_pred").filter(lacking).sum(), n_absent=lacking.sum())
    )
    scans = _with_volume(absent, results, "absent_volume").with_columns(
        absent_volume=pl.when(pl.col("n_absent") > 0).then(pl.col("absent_volume"))
    )
    if results.empty_cases is None:
        unknown = (pl.lit(None, pl.Int64).alias(name) for name in (*MEASURES[1:], *COUNTS[1:]))
        return scans.with_columns(unknown).sort(_SCAN)
    has_any = pl.when(pl.col("n_empty") > 0)
    empty = _with_volume(with_whitebox(results.empty_cases), results, "empty_volume").with_columns(
        empty_painted=has_any.then(pl.col("n_painted") / pl.col("n_empty")),
        empty_volume=has_any.then(pl.col("empty_volume")),
    )
    return scans.join(empty.select(*_SCAN, *MEASURES[1:], *COUNTS[1:]), on=_SCAN, how="left").sort(_SCAN)


def _with_volume(scans: pl.DataFrame, results: Results, name: str) -> pl.DataFrame:
    """`n_pixels` of scans as a volume: in ml, or as they are if the data do not say how large one is."""
    volumes = pixel_volumes(results)
    if volumes is None:
        return scans.with_columns(pl.col("n_pixels").cast(pl.Float64).alias(name))
    return scans.join(volumes, on="scan_id").with_columns((pl.col("n_pixels") * pl.col("ml")).alias(name))
