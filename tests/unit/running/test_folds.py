"""A study in which every patient is tested once, from the split to the tables."""

import io
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from rich.console import Console

import medrobust as mr
from medrobust.api.studies import plan
from medrobust.core import Part

STUDY = {
    "task": "segmentation",
    "data": {"name": "phantom_brains", "subjects": 5, "spacing": 4.0},
    "split": {"folds": 2, "validation": 0.4},
    "models": [{"name": "unet", "width": 4, "levels": 2}],
    "training": {"epochs": 1, "slices_per_scan": 4},
    "perturbations": [{"name": "dag_a", "steps": 1}, {"name": "fgsm", "eps": {"ssim": 0.98}}],
    "cases": {"per_patient": 2},
    "crafting": {"selftest": False},
    "analysis": {"resamples": 100},
}


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("folds")
    return SimpleNamespace(folder=folder, run=mr.run(STUDY, folder, device="cpu"))


def test_every_patient_has_a_score_in_every_cell(folds: SimpleNamespace) -> None:
    patients = {f"brain{number:03d}" for number in range(5)}
    assert set(folds.run.results.panel.patients) == patients
    assert folds.run.table2()["n_patients"].unique().to_list() == [5]
    assert folds.run.table2()["n_cases"].unique().to_list() == [10]


def test_a_plan_tells_the_jobs_of_different_folds_apart(tmp_path: Path) -> None:
    noise = {"name": "random_signs", "eps": "1/255"}
    study = STUDY | {"perturbations": [*STUDY["perturbations"], noise]}
    console = Console(file=io.StringIO(), width=200)
    plan(study, tmp_path / "run", device="cpu", console=console)
    titles = [line.split("│")[2].strip() for line in console.file.getvalue().splitlines() if "│" in line]
    titles = [title for title in titles if "fold" in title or "whole" in title]
    assert sum("random_signs of fold" in title for title in titles) == 4  # made and evaluated
    assert len(set(titles)) == len(titles)


def test_rows_name_the_fold_in_which_their_patient_was_tested(folds: SimpleNamespace) -> None:
    split = pl.read_csv(folds.folder / "split.csv")
    tested = dict(split.filter(part=str(Part.TEST)).select("patient_id", "fold").iter_rows())
    for name in ("crafted", "overlaps"):
        rows = pl.read_parquet(folds.folder / "results" / f"{name}.parquet")
        assert dict(rows.select("patient_id", "fold").unique().iter_rows()) == tested


def test_every_fold_has_networks_of_its_own(folds: SimpleNamespace) -> None:
    names = {path.name for path in (folds.folder / "models").iterdir()}
    assert names == {f"unet-{role}-f{fold}" for role in ("target-s0", "surrogate-s1") for fold in (0, 1)}
    networks = folds.run.results.record["networks"]
    for fold in (0, 1):
        trained = networks[f"unet-target-s0-f{fold}"]["patients"]
        split = pl.read_csv(folds.folder / "split.csv").filter(fold=fold)
        tested = set(split.filter(part=str(Part.TEST))["patient_id"])
        assert trained
        assert not tested & trained.keys()


def test_budgets_are_solved_in_every_fold(folds: SimpleNamespace) -> None:
    budgets = pl.read_csv(folds.folder / "tables" / "budgets.csv").filter(role="transfer")
    assert budgets["fold"].to_list() == [0, 1]


def test_the_report_says_what_networks_of_different_folds_share(folds: SimpleNamespace) -> None:
    sentences = " ".join(folds.run.folder.read_json("results.json")["verdict"]["sentences"])
    assert "Every patient was tested once, by networks of its own fold" in sentences
    assert "of their training patients on average" in sentences
    assert "tested once, by networks" in (folds.folder / "report.html").read_text(encoding="utf-8")


def test_a_finished_study_with_folds_is_not_done_again(folds: SimpleNamespace) -> None:
    paths = [path for path in folds.folder.rglob("*") if path.is_file() and "models" in path.parts]
    before = {path: path.stat().st_mtime_ns for path in paths}
    mr.run(STUDY, folds.folder, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in paths} == before
