"""Every structure by every measure, clean and under the worst attack."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import made_rows
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell
from medrobust.analysis.structures import structure_overview, structures, surfaces, worst_attack
from medrobust.storage.schemas import SURFACES
from medrobust.study.analysis import Attack

SCANS = {"p1": ["s1"], "p2": ["s2"], "p3": ["s3"]}
WORST = {"a": "dag_b", "b": "dag_a", "c": "dag_b"}


def overlap(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
    """The attacks of `WORST` do the most harm, white-box attacks and the point of a curve even more."""
    if cell.whitebox or cell.perturbation == "dag_b/2":
        return 20, 20, 0
    shared = 18 if cell.perturbation == "clean" else 5 if cell.perturbation == WORST[cell.target] else 10
    return 20, 20 + (structure == "left"), shared - int(scan[1])


@pytest.fixture
def brains() -> Results:
    point = Attack("dag_b/2", curve="dag_b", value=0.5)
    results = made_rows.segmentation(overlap, SCANS, attacks=(Attack("dag_a"), Attack("dag_b"), point))
    rows = results.overlaps.filter(pl.col("role") != "whitebox").select(
        *(name for name in SURFACES.schema if name in results.overlaps.columns and name != "n_both"),
        n_boundary=pl.lit(40),
        n_within=pl.col("n_both"),
        hd95_sum=3.0 * pl.int_range(pl.len()) / pl.len(),
        n_both=pl.lit(2),
        n_missed=pl.lit(0),
        n_added=pl.lit(0),
        tolerance=pl.lit(2.0),
        unit=pl.lit("mm"),
    )
    return replace(results, surfaces=rows.select(SURFACES.schema.keys()).cast(dict(SURFACES.schema)))


def test_rows_are_clean_and_the_worst_attack_of_each_network(brains: Results) -> None:
    table = structure_overview(brains, structures(brains), surfaces(brains, structures=True))
    assert table.select("target", "perturbation", "structure").rows() == [
        (target, perturbation, structure)
        for target in made_rows.MODELS
        for perturbation in ("clean", WORST[target])
        for structure in ("left", "right")
    ]
    assert {target: worst_attack(brains, target) for target in made_rows.MODELS} == WORST


def test_numbers_are_those_of_the_tables_of_dice_and_of_boundaries(brains: Results) -> None:
    dice, boundaries = structures(brains), surfaces(brains, structures=True)
    for row in structure_overview(brains, dice, boundaries).iter_rows(named=True):
        keys = [pl.col(name) == row[name] for name in ("target", "perturbation", "structure")]
        of_dice, of_boundaries = (table.filter(*keys).row(0, named=True) for table in (dice, boundaries))
        assert row["dice"] == of_dice["score"]
        assert (row["dice_low"], row["dice_high"]) == (of_dice["low"], of_dice["high"])
        assert row["volume_error"] == of_dice["volume_error"]
        for name in ("nsd", "nsd_low", "nsd_high", "hd95", "hd95_low", "hd95_high", "tolerance", "unit"):
            assert row[name] == of_boundaries[name]


def test_without_boundaries_it_is_empty(brains: Results) -> None:
    old = replace(brains, surfaces=None)
    full = structure_overview(brains, structures(brains), surfaces(brains, structures=True))
    empty = structure_overview(old, structures(old), surfaces(old, structures=True))
    assert_frame_equal(empty, full.clear())


def test_without_an_attack_rows_are_clean(brains: Results) -> None:
    clean = replace(brains, attacks=())
    assert worst_attack(clean, "a") is None
    table = structure_overview(clean, structures(clean), surfaces(clean, structures=True))
    assert table["perturbation"].unique().to_list() == ["clean"]
