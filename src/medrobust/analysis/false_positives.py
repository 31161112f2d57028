"""What networks show where nothing is: structures that a scan does not have, and cases without any label.

Dice is taken of the structures that a scan has. What is painted besides lowers it only where the structure is
elsewhere in the scan; all of it stands here, as a volume.
"""

from collections.abc import Sequence

import polars as pl

from medrobust.analysis.patients import CELL, SEEDS, Cell, by_seed, with_whitebox
from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.core import Task
from medrobust.errors import RunError

MEASURES = ("absent_volume", "empty_painted", "empty_volume")
COUNTS = ("n_absent", "n_empty", "n_cases")
MM3_PER_ML = 1000.0
_SCAN = (*CELL, *SEEDS, "patient_id", "scan_id")


def false_positives(results: Results) -> pl.DataFrame:
    """Clean, noise and adversarial false positives of each network, averaged as the scores of Table 1 are.

    A scan without an absent structure, or without a case that has no label, has no such number and is left
    out of the mean.

    Returns:
        A row per network and condition: `model, condition` (clean, noise, adversarial); `absent_volume`, what
        a scan shows of the structures that it does not have; `empty_painted`, the share in [0, 1] of the
        evaluated cases without any label in which a structure is shown; `empty_volume`, what a scan shows in
        all of these; `unit` of the volumes, "ml", or "pixels" of data that do not say how large one is;
        `n_absent`, how many structures scans do not have; `n_empty`, how many of the `n_cases` evaluated ones
        have no label, both null in runs of before there were counts of them.

    Raises:
        RunError: The study is not one of segmentation.
    """
    if results.task is not Task.SEGMENTATION:
        raise RunError("Only segmentation shows structures; this study is one of classification.")
    scans = _scans(results)
    of_seeds = by_seed(scans, *MEASURES)
    known = pl.when(pl.col(COUNTS).count() > 0)
    of_cells = scans.group_by(*CELL, *SEEDS).agg(known.then(pl.col(COUNTS).sum()))
    counts = of_cells.select(pl.col(COUNTS).max()).row(0, named=True)  # all cells have the same
    shared = {"unit": "pixels" if pixel_volumes(results) is None else "ml", **counts}
    rows = []
    for model in results.models:
        conditions = {
            "clean": [results.clean_cell(model)],
            "noise": results.noise_cells(model, results.averaged),
            "adversarial": results.attack_cells(model),
        }
        for condition, cells in conditions.items():
            rows.append({"model": model, "condition": condition} | _over_patients(of_seeds, cells) | shared)
    names = dict.fromkeys(("model", "condition"), pl.String)
    numbers = dict.fromkeys(MEASURES, pl.Float64)
    return frame(rows, names | numbers | {"unit": pl.String} | dict.fromkeys(COUNTS, pl.Int64))


def pixel_volumes(results: Results) -> pl.DataFrame | None:
    """`scan_id, ml`: the volume of a pixel of every scan; None where it is not known of all."""
    if results.empty_cases is None:
        return None
    known = results.empty_cases.select("scan_id", ml=pl.col("pixel_mm3") / MM3_PER_ML).unique("scan_id")
    return None if known.is_empty() or known["ml"].has_nulls() else known


def _scans(results: Results) -> pl.DataFrame:
    """What every scan of every cell shows of structures that it lacks, and in its cases without any label."""
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
        return scans.with_columns(pl.lit(None, pl.Int64).alias(name) for name in (*MEASURES[1:], *COUNTS[1:]))
    has_any = pl.when(pl.col("n_empty") > 0)
    empty = _with_volume(with_whitebox(results.empty_cases), results, "empty_volume").with_columns(
        empty_painted=has_any.then(pl.col("n_painted") / pl.col("n_empty")),
        empty_volume=has_any.then(pl.col("empty_volume")),
    )
    return scans.join(empty.select(*_SCAN, *MEASURES[1:], *COUNTS[1:]), on=_SCAN, how="left").sort(_SCAN)


def _with_volume(scans: pl.DataFrame, results: Results, name: str) -> pl.DataFrame:
    """`n_pixels` of scans as a volume: in ml, or as they are where the data do not say how large one is."""
    volumes = pixel_volumes(results)
    if volumes is None:
        return scans.with_columns(pl.col("n_pixels").cast(pl.Float64).alias(name))
    return scans.join(volumes, on="scan_id").with_columns((pl.col("n_pixels") * pl.col("ml")).alias(name))


def _over_patients(of_seeds: pl.DataFrame, cells: Sequence[Cell]) -> dict[str, float | None]:
    """Means over seeds, then over cells within each patient, then over patients."""
    names = dict(zip(CELL, (pl.String, pl.String, pl.String, pl.Boolean), strict=True))
    wanted = pl.DataFrame(cells, schema=names, orient="row")
    means = of_seeds.join(wanted, on=CELL, how="semi")
    for keys in ((*CELL, "patient_id"), ("patient_id",)):
        means = means.group_by(keys, maintain_order=True).agg(pl.col(MEASURES).mean())
    return means.select(pl.col(MEASURES).mean()).row(0, named=True)
