"""False positives: what is painted where the truth has nothing, as a volume, beside Table 1."""

from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis import tables
from medrobust.analysis.export import all_tables
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell
from medrobust.analysis.structures import MEASURES, false_positives, structures
from medrobust.analysis.verdict import verdict
from medrobust.errors import RunError
from medrobust.rng import generator
from medrobust.storage.schemas import EMPTY_CASES

SCANS = {"p1": ["p1-first", "p1-second"], "p2": ["p2-first"], "p3": ["p3-first"]}
MODELS = ("honest", "painter")
CASES, EMPTY = 8, {"p1-first": 2, "p1-second": 4, "p2-first": 2, "p3-first": 0}
MM3 = {"p1-first": 8.0, "p1-second": 8.0, "p2-first": 4.0, "p3-first": 8.0}
ORGAN = 500
"""Pixels of the organ that the painter puts into every case without a label."""


def paints(cell: Cell) -> bool:
    """Whether a network puts an organ into cases without a label: the other one does under attack."""
    return cell.target == "painter" or cell.perturbation.startswith("dag")


def overlap(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
    """Perfect where there is something; what is painted into the other cases is of the absent structure."""
    if structure == "right":
        return 0, ORGAN * EMPTY[scan] if paints(cell) else 0, 0
    return 1000, 1000, 1000


def study(volumes: dict[str, float] | None = MM3, *, kept: bool = True) -> Results:
    results = made_rows.segmentation(overlap, SCANS, models=MODELS)
    if not kept:
        return results
    origin = [name for name in EMPTY_CASES.schema if name in results.overlaps.columns]
    cells = results.overlaps.filter(pl.col("structure") == "left", pl.col("role") != "whitebox")
    rows = []
    for row in cells.select(origin).iter_rows(named=True):
        scan = row["scan_id"]
        painted = EMPTY[scan] if paints(Cell(row["target"], row["perturbation"], row["source"])) else 0
        numbers = {
            "n_cases": CASES,
            "n_empty": EMPTY[scan],
            "n_painted": painted,
            "n_pixels": ORGAN * painted,
        }
        rows.append(row | numbers | {"pixel_mm3": volumes and volumes[scan]})
    return replace(results, empty_cases=pl.DataFrame(rows, schema=EMPTY_CASES.schema))


def row_of(table: pl.DataFrame, model: str, condition: str) -> dict:
    return table.filter(model=model, condition=condition).row(0, named=True)


def test_a_network_that_paints_an_organ_into_every_empty_slice_is_seen_though_its_dice_is_1() -> None:
    results = study()
    assert tables.table1(results)["clean"].to_list() == [1.0, 1.0]
    table = false_positives(results)
    assert table.columns[2:5] == list(MEASURES)
    clean, noise, attacked = (row_of(table, "painter", name) for name in ("clean", "noise", "adversarial"))
    assert clean == noise | {"condition": "clean"} == attacked | {"condition": "clean"}
    assert clean["empty_painted"] == 1.0
    # Scans are averaged within a patient; the third has no case without a label.
    ml = {scan: ORGAN * EMPTY[scan] * MM3[scan] / 1000 for scan in EMPTY}
    first = (ml["p1-first"] + ml["p1-second"]) / 2
    assert clean["empty_volume"] == pytest.approx((first + ml["p2-first"]) / 2)
    assert clean["absent_volume"] == pytest.approx((first + ml["p2-first"] + 0) / 3)
    assert clean["unit"] == "ml"
    assert (clean["n_absent"], clean["n_empty"], clean["n_cases"]) == (4, 8, 32)


def test_an_honest_network_paints_under_attack_only() -> None:
    table = false_positives(study())
    for condition, share in (("clean", 0.0), ("noise", 0.0), ("adversarial", 1.0)):
        row = row_of(table, "honest", condition)
        assert row["empty_painted"] == share
        assert (row["empty_volume"] > 0) == (row["absent_volume"] > 0) == (share > 0)


def test_dice_falls_where_the_painted_structure_is_elsewhere_in_the_scan() -> None:
    def elsewhere(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
        return 1000, 1000 + overlap(cell, scan, "right")[1], 1000

    results = made_rows.segmentation(elsewhere, SCANS, models=MODELS)
    honest, painter = tables.table1(results)["clean"]
    dices = {scan: 2000 / (2000 + ORGAN * EMPTY[scan]) for scan in EMPTY}
    expected = ((dices["p1-first"] + dices["p1-second"]) / 2 + dices["p2-first"] + dices["p3-first"]) / 3
    assert (honest, painter) == (1.0, pytest.approx(expected))
    assert row_of(false_positives(results), "painter", "clean")["absent_volume"] is None


@pytest.mark.parametrize("volumes", [None, {**MM3, "p3-first": None}])
def test_without_the_size_of_every_pixel_volumes_are_in_pixels(volumes: dict[str, float] | None) -> None:
    results = study(volumes)
    row = row_of(false_positives(results), "painter", "clean")
    assert row["unit"] == "pixels"
    assert row["empty_volume"] == pytest.approx((3 * ORGAN + 2 * ORGAN) / 2)
    assert structures(results)["false_positive_ml"].null_count() == structures(results).height


def test_no_bit_changes_from_one_time_to_the_next() -> None:
    def counts(cell: Cell, scan: str, structure: str) -> tuple[int, int, int]:
        return 0, int(generator(0, *map(str, cell), scan).integers(0, 997)), 0

    scans = {f"p{number}": [f"s{number}-{scan}" for scan in range(3)] for number in range(60)}
    results = made_rows.segmentation(counts, scans)
    first = false_positives(results)
    assert all(false_positives(results).equals(first) for _ in range(4))


def test_a_run_of_before_there_were_counts_says_what_it_can() -> None:
    table = false_positives(study(kept=False))
    row = row_of(table, "painter", "adversarial")
    assert row["absent_volume"] == pytest.approx((3 * ORGAN + 2 * ORGAN + 0) / 3)
    assert (row["unit"], row["n_absent"]) == ("pixels", 4)
    unknown = ("empty_painted", "empty_volume", "n_empty", "n_cases")
    assert all(table[name].null_count() == table.height for name in unknown)


def test_what_scans_do_not_lack_is_undefined_and_not_0() -> None:
    full = made_rows.segmentation(lambda cell, scan, structure: (10, 12, 9), SCANS, models=MODELS)
    table = false_positives(full)
    assert all(table[name].null_count() == table.height for name in MEASURES)
    assert table["n_absent"].unique().to_list() == [0]


def test_a_structure_that_is_absent_has_its_false_positives_as_a_volume() -> None:
    row = (
        structures(study())
        .filter(target="painter", perturbation="clean", structure="right")
        .row(0, named=True)
    )
    assert row["false_positive_pixels"] == pytest.approx(ORGAN * sum(EMPTY.values()) / 4)
    assert row["false_positive_ml"] == pytest.approx(
        sum(ORGAN * EMPTY[scan] * MM3[scan] / 1000 for scan in EMPTY) / 4
    )


def test_rounded_and_whitebox_cells_do_not_enter() -> None:
    results = study()
    rounded = results.overlaps.filter(pl.col("perturbation") == "dag_a").with_columns(
        perturbation=pl.lit("dag_a~12bit"), n_pred=10 * pl.col("n_pred"), n_both=pl.col("n_both")
    )
    more = replace(results, overlaps=pl.concat([results.overlaps, rounded]))
    assert false_positives(more).equals(false_positives(results))


def test_it_is_a_table_of_segmentation_only() -> None:
    brains = study()
    assert "false_positives" in all_tables(brains, verdict(brains))
    photos = made_rows.classification(lambda *_: True, {"p1": 2, "p2": 2})
    assert "false_positives" not in all_tables(photos, verdict(photos))
    with pytest.raises(RunError, match="Only segmentation shows structures"):
        false_positives(photos)
