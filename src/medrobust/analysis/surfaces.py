"""How well boundaries of structures are met: normalised surface distance and 95 % Hausdorff distance."""

import math
from collections.abc import Sequence

import polars as pl

from medrobust.analysis.patients import SEEDS
from medrobust.analysis.results import Results
from medrobust.analysis.structures import CONDITION, ordered
from medrobust.analysis.tables import bounded, frame, with_bounds
from medrobust.metrics.surfaces import SUMS, hd95_of_sums, nsd_of_sums
from medrobust.stats.intervals import mean

_SHARES = {
    # Of scans and structures: no case has the structure in both maps, so that there is nothing to measure.
    "hd95_undefined": (pl.col("hd95").is_null().sum(), pl.len()),
    # Of cases with the structure: nothing of it is shown.
    "missed": (pl.col("n_missed").sum(), (pl.col("n_both") + pl.col("n_missed")).sum()),
    # Of cases in which the structure is shown: it is not there.
    "added": (pl.col("n_added").sum(), (pl.col("n_both") + pl.col("n_added")).sum()),
}


def surfaces(results: Results, *, structures: bool = False) -> pl.DataFrame:
    """Boundaries per target and perturbation, averaged over the sources that all targets face.

    A structure counts in a scan if and only if the truth has it there, as for Dice. NSD is then defined: 0
    where nothing of the structure is shown. HD95 is a mean over the cases of a scan in which both have the
    structure; without any it is undefined, is left out, and is counted in `hd95_undefined`.

    Args:
        results: The study.
        structures: A row per structure; else a mean over structures, then scans.

    Returns:
        `target, perturbation`, `structure` where asked for; `nsd` in [0, 1] and `hd95`, with intervals over
        patients; `n_patients`, patients with a defined NSD; `hd95_undefined`, `missed` and `added`, shares in
        [0, 1]; `tolerance` of the NSD and the `unit` of both. Empty for classification and where the run has
        no rows of boundaries.
    """
    keys = CONDITION if structures else CONDITION[:2]
    shares = dict.fromkeys(_SHARES, pl.Float64)
    schema = dict.fromkeys(keys, pl.String) | bounded("nsd", "hd95") | {"n_patients": pl.Int64} | shares
    schema |= {"tolerance": pl.Float64, "unit": pl.String}
    if results.surfaces is None or results.surfaces.is_empty():
        return frame([], schema)
    scans = _of_scans(results)
    by_patient = _by_patient(scans, keys)
    shared = scans.group_by(keys).agg(**{name: part / whole for name, (part, whole) in _SHARES.items()})
    measured = dict(results.surfaces.select("tolerance", "unit").row(0, named=True))
    confidence = results.settings.confidence
    lines = [
        dict(zip(keys, key, strict=True)) | _line(part, confidence) | measured
        for key, part in by_patient.partition_by(keys, as_dict=True, maintain_order=True).items()
    ]
    table = frame(lines, {name: kind for name, kind in schema.items() if name not in shares})
    return ordered(table.join(shared, on=list(keys)).select(*schema).fill_nan(None), results, keys)


def _of_scans(results: Results) -> pl.DataFrame:
    """NSD and HD95 of every structure in the truth of a scan; sorted, so no mean depends on row order."""
    assert results.surfaces is not None
    shown = (pl.col("source").is_in(["", *results.sources]), pl.col("structure") != results.classes[0])
    rows = results.surfaces.filter(*shown).sort(*CONDITION, "source", *SEEDS, "patient_id", "scan_id")
    sums = {name: rows[name].to_numpy() for name in SUMS}
    scores = {
        "nsd": nsd_of_sums(sums["n_boundary"], sums["n_within"], sums["n_both"] + sums["n_missed"]),
        "hd95": hd95_of_sums(sums["hd95_sum"], sums["n_both"]),
    }
    named = {name: pl.Series(values, nan_to_null=True) for name, values in scores.items()}
    return rows.with_columns(**named).filter(pl.col("nsd").is_not_null())


def _by_patient(scans: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Structures to a scan, scans to a patient, then over sources and seeds; undefined ones left out."""
    means = [pl.col("nsd").mean(), pl.col("hd95").mean()]
    for finer in (
        ("source", *SEEDS, "patient_id", "scan_id"),
        ("source", *SEEDS, "patient_id"),
        ("patient_id",),
    ):
        scans = scans.group_by(*keys, *finer, maintain_order=True).agg(means)
    return scans


def _line(part: pl.DataFrame, confidence: float) -> dict[str, float]:
    shares, distances = (mean(part[column].drop_nulls().to_numpy()) for column in ("nsd", "hd95"))
    values = {
        "nsd": shares.share_interval(confidence),
        "hd95": distances.interval(confidence).clipped(0.0, math.inf),
    }
    return with_bounds(values) | {"n_patients": part.height}
