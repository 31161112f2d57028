"""A run looks at its data once, and its report says what was found."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import made_photos
import medrobust as mr
from made_data import stripes
from medrobust.cli import app
from medrobust.errors import RunError


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Photographs, one of which stands a second time with another patient."""
    root = made_photos.image_folder(tmp_path_factory.mktemp("data"))
    shutil.copy(root / "benign" / "P000_0.png", root / "benign" / "P002_9.png")
    shutil.copy(root / "benign" / "P000_0.png", root / "benign" / "P004_9.png")
    shutil.copy(root / "malignant" / "P001_0.png", root / "benign" / "P006_9.png")
    return {
        "task": "classification",
        "data": {
            "name": "image_folder",
            "root": str(root),
            "size": 32,
            "patient_pattern": "(P[0-9]+)_",
        },
        "models": [{"name": "mobilenet_v1", "weights": "none"}],
        "training": {"epochs": 1},
        "perturbations": [{"name": "fgsm", "eps": "4/255"}],
        "crafting": {"selftest": False},
    }


@pytest.fixture(scope="module")
def folder(study: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    mr.run(study, folder, device="cpu")
    return folder


def test_findings_are_kept_and_errors_are_warnings_of_the_run(study: dict, folder: Path) -> None:
    document = json.loads((folder / "audit.json").read_text())
    assert document["counts"]["error"] > 0
    assert document["looked_at"] == "33 photographs of 10 patients"
    errors = [finding for finding in document["findings"] if finding["severity"] == "error"]
    warnings = json.loads((folder / "results.json").read_text())["warnings"]
    said = [text for text in warnings if text.startswith("The data: ")]
    assert len(said) == len({finding["kind"] for finding in errors})
    assert str(study["data"]["root"]) not in " ".join(said)
    page = (folder / "report.html").read_text()
    assert re.search(r"\d+ errors?, \d+ warnings?, \d+ notes? in 33 photographs of 10 patients", page)
    table = pl.read_csv(folder / "tables" / "audit.csv")
    assert table["severity"].to_list() == sorted(table["severity"], key=["error", "warning", "note"].index)
    assert table["n_times"].sum() == len(document["findings"])


def test_the_data_are_looked_at_once(study: dict, folder: Path) -> None:
    before = (folder / "audit.json").stat().st_mtime_ns
    mr.run(study, folder, device="cpu")
    assert (folder / "audit.json").stat().st_mtime_ns == before


def test_a_study_may_go_without_and_change_its_mind(study: dict, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    (copy / "audit.json").unlink()
    run = mr.run({**study, "audit": False}, copy, device="cpu")
    assert run.results.audit is None
    assert "the files were not examined" in (copy / "report.html").read_text()
    assert mr.run(study, copy, device="cpu").results.audit is not None


def test_an_audit_by_hand_may_be_put_there(study: dict, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study))
    CliRunner().invoke(app, ["audit", str(file), "--json", str(copy / "audit.json")])
    mr.Run.open(copy).write_report()
    assert json.loads((copy / "results.json").read_text())["tables"]["audit"]["rows"]


def test_another_file_in_its_place_is_a_message(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    (copy / "audit.json").write_text("[1]")
    with pytest.raises(RunError, match=r"audit\.json is not a valid audit\. Delete it and run again"):
        mr.Run.open(copy).write_report()


def test_data_given_in_python_have_no_files(study: dict, tmp_path: Path) -> None:
    given = {key: value for key, value in study.items() if key != "data"}
    run = mr.run(given, tmp_path / "run", dataset=stripes(), device="cpu")
    assert run.results.audit is None
    assert not (tmp_path / "run" / "audit.json").exists()
