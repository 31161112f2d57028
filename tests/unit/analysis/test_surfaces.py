"""Tables of boundaries: what they are means over, and what is left out and counted."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis.results import Results
from medrobust.analysis.structures import surfaces
from medrobust.storage.schemas import SURFACES

SCANS = {"p1": ["p1-first", "p1-second"], "p2": ["p2-first"], "p3": ["p3-first"]}
ABSENT = ("p1-second", "right")


@pytest.fixture
def brains() -> Results:
    """Three patients; "right" is absent from one scan, and b shows nothing of it in p3."""
    results = made_rows.segmentation(lambda cell, scan, structure: (10, 10, 5), SCANS)
    rows = []
    overlaps = results.overlaps.filter(pl.col("role") != "whitebox")
    for place, row in enumerate(overlaps.drop("n_true", "n_pred", "n_both").iter_rows(named=True)):
        missed = row["target"] == "b" and row["scan_id"] == "p3-first" and row["structure"] == "right"
        both = 0 if missed or (row["scan_id"], row["structure"]) == ABSENT else 3
        rows.append(
            row
            | {"n_boundary": 40, "n_within": 0 if both == 0 else 20 + place % 17, "hd95_sum": both * 1.5}
            | {"n_both": both, "n_missed": 4 if missed else 1 if both else 0, "n_added": 0 if both else 1}
            | {"tolerance": 2.0, "unit": "mm"}
        )
    return replace(results, surfaces=pl.DataFrame(rows, schema=SURFACES.schema))


def row_of(table: pl.DataFrame, **names: str) -> dict:
    return table.filter(**names).row(0, named=True)


def test_scores_are_means_over_structures_scans_sources_and_patients(brains: Results) -> None:
    row = row_of(surfaces(brains), target="a", perturbation="dag_a")
    patients = []
    for scans in SCANS.values():
        of_cells = []
        for source in made_rows.MODELS:
            of_scans = []
            for scan in scans:
                names = ["left"] if scan == ABSENT[0] else ["left", "right"]
                of_scans.append(
                    np.mean(
                        [
                            brains.surfaces.filter(
                                target="a", perturbation="dag_a", source=source, scan_id=scan, structure=name
                            )["n_within"].item()
                            / 40
                            for name in names
                        ]
                    )
                )
            of_cells.append(np.mean(of_scans))
        patients.append(np.mean(of_cells))
    assert row["nsd"] == pytest.approx(np.mean(patients))
    assert row["nsd_low"] < row["nsd"] < row["nsd_high"]
    assert row["hd95"] == pytest.approx(1.5)
    assert (row["n_patients"], row["hd95_undefined"], row["missed"]) == (3, 0.0, 0.25)
    assert (row["tolerance"], row["unit"]) == (2.0, "mm")


def test_a_structure_that_is_not_shown_has_nsd_0_and_no_hd95(brains: Results) -> None:
    table = surfaces(brains, structures=True)
    row = row_of(table, target="b", perturbation="dag_a", structure="right")
    others = [
        brains.surfaces.filter(
            target="b", perturbation="dag_a", structure="right", scan_id=f"{patient}-first"
        )["n_within"].mean()
        / 40
        for patient in ("p1", "p2")
    ]
    assert row["nsd"] == pytest.approx((sum(others) + 0) / 3)
    assert row["hd95"] == pytest.approx(1.5)
    assert row["n_patients"] == 3
    assert row["hd95_undefined"] == pytest.approx(1 / 3)
    assert row["missed"] == pytest.approx((1 + 1 + 4) / (4 + 4 + 4))


def test_hd95_that_nobody_has_is_null(brains: Results) -> None:
    gone = brains.surfaces.with_columns(
        n_both=0, n_missed=pl.col("n_both") + pl.col("n_missed"), n_within=0, hd95_sum=0.0
    )
    table = surfaces(replace(brains, surfaces=gone))
    assert table["hd95"].null_count() == table.height > 0
    assert table["nsd"].unique().to_list() == [0.0]
    assert table["hd95_undefined"].unique().to_list() == [1.0]


def test_tables_do_not_depend_on_the_order_of_rows(brains: Results) -> None:
    shuffled = replace(brains, surfaces=brains.surfaces.sample(fraction=1, shuffle=True, seed=1))
    assert_frame_equal(surfaces(shuffled), surfaces(brains), check_exact=True)
    assert surfaces(brains)["perturbation"].unique(maintain_order=True).to_list() == [
        *("clean", "rician@dag_a", "rician@dag_b", "dag_a", "dag_b")
    ]


@pytest.mark.parametrize("structures", [False, True])
def test_a_run_without_boundaries_has_an_empty_table(brains: Results, structures: bool) -> None:
    old = surfaces(replace(brains, surfaces=None), structures=structures)
    assert old.is_empty()
    assert old.columns == surfaces(brains, structures=structures).columns
