"""The clean score on all test cases: a job of its own, where a study attacks only some of them."""

import io
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import polars as pl
import pytest
import torch
from rich.console import Console

from medrobust import api
from medrobust.running.estimate import Speed
from medrobust.running.jobs import Job
from medrobust.running.plan import Plan, make_plan
from medrobust.running.runner import jobs_of
from medrobust.running.setup import set_up
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

STUDY: dict[str, Any] = {
    "task": "segmentation",
    "data": {"name": "phantom_brains", "subjects": 4, "spacing": 4.0},
    "split": {"rule": "patient", "test": 0.25},
    "models": [{"name": "unet", "preset": "tiny"}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "dag_a", "steps": 1}],
}
TITLE = "score the whole test set"


def planned(folder: Path, **keys: Any) -> tuple[Plan, list[Job]]:
    setup = set_up(read_study(STUDY | keys), RunFolder(folder), data_dir=None, device=torch.device("cpu"))
    plan = make_plan(setup)
    return plan, jobs_of(plan, {"unet": Speed(0.1, 0.3, 10)})


def test_it_is_planned_only_where_cases_are_left_out(tmp_path: Path) -> None:
    plan, jobs = planned(tmp_path / "some", cases={"per_patient": 2})
    (job,) = [job for job in jobs if job.title == TITLE]
    assert job.kind == "evaluate"
    assert job.seconds == pytest.approx(0.1 * len(plan.setup.folds[0].test_cases))
    assert len(plan.setup.cases) == 2 < len(plan.setup.folds[0].test_cases)

    plan, jobs = planned(tmp_path / "all")
    assert plan.setup.cases == plan.setup.folds[0].test_cases
    assert plan.whole_test == ()
    assert TITLE not in [job.title for job in jobs]


def test_a_limited_study_says_what_the_whole_test_set_gives(tmp_path: Path) -> None:
    run = api.run(STUDY | {"cases": {"per_patient": 2}}, tmp_path)
    whole = pl.read_parquet(tmp_path / "results" / "whole_test_overlaps.parquet")
    attacked = run.results.rows.filter(perturbation="clean")
    assert whole.columns == attacked.columns
    assert whole["n_true"].sum() > attacked["n_true"].sum()
    document = run.folder.read_json("results.json")
    (row,) = document["tables"]["whole_test"]["rows"]
    assert row["n_cases"] == document["record"]["cases"]["test"] > document["n_cases"] == 2
    evaluated = document["record"]["data"]["facts"]["evaluated"]
    assert evaluated == "2 slices of 1 scan, 0 of them without any label"
    assert evaluated in run.report.read_text()
    assert document["tables"]["transfer_conditions"]["rows"] == [
        {"target": "unet", "source": "unet", "same_architecture": True}
        | {"same_pretraining": False, "shared_training": 1.0}
    ]
    text = run.report.read_text()
    assert "on clean images of the whole test set" in text
    assert list(run.warnings) == document["warnings"]


def test_warnings_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = Mock(spec=api.Run, warnings=("fgsm: eps, solved for [0.98], is off.",))
    monkeypatch.setattr("medrobust.api.studies.run_study", Mock())
    monkeypatch.setattr(api.Run, "open", Mock(return_value=finished))
    console = Console(file=io.StringIO(), width=20)
    assert api.run(STUDY, tmp_path, console=console) is finished
    assert console.file.getvalue() == "Warning: fgsm: eps, solved for [0.98], is off.\n"
    finished.write_report.assert_called_once()
