"""Rows: parts become one sorted table, whatever their order; the columns are fixed."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.errors import RunError
from medrobust.storage import RunFolder, compact, frame_of, read_results, read_rows, schemas, write_rows
from medrobust.storage.schemas import CRAFTED, EMBEDDINGS, OVERLAPS, PREDICTIONS, TIMING, Table

DESIGN = {
    "crafted": """perturbation source source_seed fold case_id scan_id patient_id mse l0 l2 linf ssim
        ssim_image strength steps outcome role already_wrong fooled_source n_active""",
    "predictions": """perturbation role source target source_seed target_seed fold case_id scan_id patient_id
        label prediction probabilities""",
    "overlaps": """perturbation role source target source_seed target_seed fold scan_id patient_id structure
        n_true n_pred n_both""",
}


def prediction(case: str, **changes: Any) -> dict[str, Any]:
    row = {
        "perturbation": "fgsm",
        "role": "transfer",
        "source": "a",
        "target": "b",
        "source_seed": 1,
        "target_seed": 0,
        "fold": None,
        "case_id": case,
        "scan_id": case,
        "patient_id": "p",
        "label": 1,
        "prediction": 0,
        "probabilities": [0.75, 0.25],
    }
    return row | changes


@pytest.mark.parametrize("table", [CRAFTED, PREDICTIONS, OVERLAPS], ids=lambda table: table.name)
def test_columns_are_the_fixed_interface(table: Table) -> None:
    assert list(table.schema) == DESIGN[table.name].split()


@pytest.mark.parametrize(
    "table", [CRAFTED, PREDICTIONS, OVERLAPS, EMBEDDINGS, TIMING], ids=lambda table: table.name
)
def test_a_table_without_rows_has_its_columns(tmp_path: Path, table: Table) -> None:
    folder = RunFolder(tmp_path)
    compact(folder, table, [])
    assert read_results(folder, table).schema == pl.Schema(table.schema)
    assert frame_of(table, []).schema == pl.Schema(table.schema)
    assert set(table.keys) <= set(table.schema)


@settings(max_examples=25, deadline=None)
@given(st.permutations([f"case{i}" for i in range(6)]), st.integers(1, 6))
def test_the_table_does_not_depend_on_the_order_of_the_work(order: list[str], size: int) -> None:
    def content(cases: list[str], size: int) -> bytes:
        folder = RunFolder(f"memory://{uuid4().hex}")
        parts = [("parts", f"{start}.parquet") for start in range(0, len(cases), size)]
        for start, part in zip(range(0, len(cases), size), parts, strict=True):
            rows = [prediction(case) for case in cases[start : start + size]]
            write_rows(folder, frame_of(PREDICTIONS, rows), *part)
        compact(folder, PREDICTIONS, parts)
        return folder.read_bytes("results", "predictions.parquet")

    assert content(order, size) == content(sorted(order), 6)


def test_values_come_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [prediction("b", fold=2), prediction("a")]
    write_rows(folder, frame_of(PREDICTIONS, rows), "p.parquet")
    assert read_rows(folder, PREDICTIONS, "p.parquet").to_dicts() == rows
    compact(folder, PREDICTIONS, [("p.parquet",)])
    assert read_results(folder, PREDICTIONS)["case_id"].to_list() == ["a", "b"]


def test_the_same_row_twice_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_rows(folder, frame_of(PREDICTIONS, [prediction("a"), prediction("a", prediction=1)]), "p.parquet")
    with pytest.raises(
        RunError, match=r"results/predictions.parquet would hold the same row twice: .*'case_id': 'a'"
    ):
        compact(folder, PREDICTIONS, [("p.parquet",)])


def test_cells_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    folder, parts = RunFolder(tmp_path), []
    for number, (target, case) in enumerate([("two", "a"), ("one", "b"), ("two", "c"), ("one", "d")]):
        parts.append((target, f"{number}.parquet"))
        write_rows(folder, frame_of(PREDICTIONS, [prediction(case, target=target)]), *parts[-1])
    compact(folder, PREDICTIONS, sorted(parts, reverse=True))
    rows = read_results(folder, PREDICTIONS).select("target", "case_id").rows()
    assert rows == [("one", "b"), ("one", "d"), ("two", "a"), ("two", "c")]
    with pytest.raises(RunError, match="would hold the same row twice"):  # a cell that is there two times
        compact(folder, PREDICTIONS, [*sorted(parts), parts[0]])


def test_wrong_columns_are_refused(tmp_path: Path) -> None:
    row = prediction("a")
    del row["fold"]
    with pytest.raises(
        ValueError, match=r"rows of 'predictions' need exactly its columns; .*\['fold', 'more'\]"
    ):
        frame_of(PREDICTIONS, [row | {"more": 1}])
    folder = RunFolder(tmp_path)
    write_rows(folder, pl.DataFrame({"a": [1]}), "p.parquet")
    with pytest.raises(
        RunError, match=r"does not have the columns of 'predictions'; it was written by another"
    ):
        read_rows(folder, PREDICTIONS, "p.parquet")


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_bytes(b"PAR1 and nothing more", "p.parquet")
    with pytest.raises(RunError, match=r"p.parquet is damaged .*only this file is made again"):
        read_rows(folder, PREDICTIONS, "p.parquet")


def test_every_table_is_listed_here() -> None:
    every = [*vars(schemas).values(), *schemas.SCORED.values(), *schemas.WHOLE_TEST.values()]
    tables = {value.name for value in every if isinstance(value, Table)}
    assert tables == {
        *("crafted", "predictions", "overlaps", "embeddings", "selftest", "timing", "surfaces", "attributes"),
        *("whole_test_predictions", "whole_test_overlaps", "empty_cases"),
    }
