"""Certificates of a run: rows, tables, report, and that they depend on study, seed and case only."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from typer.testing import CliRunner

import medrobust as mr
from made_studies import TINY
from medrobust.cli import app
from medrobust.core import UNKNOWN, Dataset, NetworkId, Role, silent
from medrobust.errors import StudyError
from medrobust.metrics import dice
from medrobust.running.batches import Batch
from medrobust.running.certify import (
    Statement,
    _scan_rows,
    certificate_parts,
    certification_jobs,
    certified_scans,
    certifying_times,
)
from medrobust.running.estimate import Speed
from medrobust.running.setup import Setup
from medrobust.storage import RunFolder, read_rows
from medrobust.storage.schemas import CERTIFICATES, TIMING
from medrobust.study.config import Certificates
from medrobust.study.reading import read_study
from tiny_cases import ByBrightness, ByChannel, photos, scans, wrapped
from whole_steps import member, setup_of

TARGET = NetworkId("net", Role.TARGET, 0, None)
ASKED = {"sigma": 0.1, "draws": 200, "selection": 20, "radii": (0.05, 0.1), "cases": 5, "attack_steps": 3}


def opened(dataset: Dataset, folder: Path, *, batch_size: int = 16, **asked: Any) -> Setup:
    body = ByBrightness() if dataset.task.has_maps else ByChannel()
    networks = {TARGET: wrapped(body, dataset.channels)}
    setup = setup_of(dataset, RunFolder(folder), networks, batch_size=batch_size)
    certificates = Certificates.model_validate({**ASKED, **asked})
    setup = replace(setup, study=setup.study.model_copy(update={"certificates": certificates}))
    spec: Any = SimpleNamespace(attackable=True, train=False)
    vars(setup)["targets"] = (replace(member(TARGET), spec=spec),)
    return setup


def rows_of(setup: Setup, *, backwards: bool = False) -> pl.DataFrame:
    """Certify everything, each piece alone, and read it."""
    (job,) = certification_jobs(setup, {"net": Speed(0.0, 0.0, 0)})
    pieces = list(job.left())
    for piece in reversed(pieces) if backwards else pieces:
        job.open()(piece, silent)
    assert not list(job.left())
    times = pl.concat(read_rows(setup.folder, TIMING, *part) for part in certifying_times(setup))
    scans = certified_scans(setup, setup.targets[0])
    assert times.sort("chunk").select("step", "target", "chunk", "n_cases").rows() == [
        ("certify", "net", piece, len(scan)) for piece, scan in enumerate(scans)
    ]
    table = CERTIFICATES[setup.study.task]
    return pl.concat(read_rows(setup.folder, table, *part) for part in certificate_parts(setup)).sort(
        table.keys
    )


@pytest.mark.parametrize("dataset", [photos(), scans()], ids=["photos", "scans"])
def test_certificates_depend_on_neither_batch_size_nor_order(dataset: Dataset, tmp_path: Path) -> None:
    first = rows_of(opened(dataset, tmp_path / "a"))
    again = rows_of(opened(dataset, tmp_path / "b", batch_size=3), backwards=True)
    assert first.equals(again)
    assert set(first["condition"]) == {"network", "smoothed", "certified", "attacked"}
    at = first.filter(condition="certified")["radius"].unique().sort().to_list()
    assert at == [0.0, 0.05, 0.1]


def test_images_are_certified_as_far_as_their_radius(tmp_path: Path) -> None:
    rows = rows_of(opened(photos(), tmp_path))
    assert rows["case_id"].n_unique() == 5
    certified = rows.filter(condition="certified")
    for row in certified.iter_rows(named=True):
        reaches = row["largest_radius"] >= row["radius"] and row["largest_radius"] > 0
        assert (row["prediction"] >= 0) == reaches
    answers = certified.filter(pl.col("prediction") >= 0)
    assert answers.height
    held = answers.join(rows.filter(condition="attacked"), on=["case_id", "radius"], suffix="_attacked")
    assert held.height
    assert (held["prediction"] == held["prediction_attacked"]).all()
    assert not rows["contradicted"].any()
    counts = [
        certified.filter(radius=radius, prediction=pl.col("label")).height for radius in (0.0, 0.05, 0.1)
    ]
    assert counts == sorted(counts, reverse=True)


def test_no_attack_leaves_no_rows_of_one(tmp_path: Path) -> None:
    assert set(rows_of(opened(photos(), tmp_path, attack_steps=0))["condition"]) == {
        *("network", "smoothed", "certified")
    }


def test_of_a_scan_the_worst_case_is_counted() -> None:
    """Against every way to fill in what is not certain."""
    dataset = replace(scans(), shape=(3, 3))
    truth = torch.tensor([[[0, 1, 1], [2, 1, UNKNOWN], [0, 2, 0]]])
    answers = torch.tensor([[[-1, 1, -1], [2, 2, -1], [-1, -1, 0]]])
    case = dataset.cases[0]
    clean = Batch((case,), torch.zeros(1, 1, 3, 3), truth)
    rows = _scan_rows(dataset, clean, [[Statement("certified", 0.1, answers)]])
    places = [tuple(place) for place in (answers[0] < 0).nonzero().tolist()]
    worst = np.full(3, np.inf)
    for filled in product(range(3), repeat=len(places)):
        shown = answers.clone()
        for place, answer in zip(places, filled, strict=True):
            shown[0][place] = answer
        known = truth[0] != UNKNOWN
        worst = np.minimum(worst, dice(truth[0][known][None, None], shown[0][known][None, None], 3)[0])
    assert [row["structure"] for row in rows] == list(dataset.structures)
    for row, lowest in zip(rows, worst, strict=True):
        assert 2 * row["n_both"] / (row["n_true"] + row["n_pred"]) == pytest.approx(lowest)
        assert (row["n_pixels"], row["n_abstained"], row["n_cases"]) == (8, 4, 1)
    assert [row["n_answered"] for row in rows] == [1, 2, 1]
    assert [row["n_true"] for row in rows] == [3, 3, 2]


def test_certified_dice_is_at_most_that_under_attack(tmp_path: Path) -> None:
    rows = rows_of(opened(scans(), tmp_path))
    assert rows["n_contradicted"].sum() == 0
    keys = ["scan_id", "structure", "radius"]
    both = rows.filter(condition="certified").join(rows.filter(condition="attacked"), on=keys, suffix="_x")
    lower = 2 * both["n_both"] / (both["n_true"] + both["n_pred"])
    upper = 2 * both["n_both_x"] / (both["n_true_x"] + both["n_pred_x"])
    assert (lower <= upper + 1e-12).all()
    assert lower.max() > 0


def test_cases_are_spread_over_the_patients(tmp_path: Path) -> None:
    setup = opened(scans((3, 3, 3)), tmp_path, cases=3)
    assert [len(scan) for scan in certified_scans(setup, setup.targets[0])] == [1, 1, 1]


FAST = {"surrogates": "none", "noise": {}, "cases": {"total": 40}, "report": {"hardest": 0, "typical": 0}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
    folder = tmp_path_factory.mktemp("certified")
    asked = {"sigma": 0.2, "draws": 40, "selection": 10, "radii": [0.1], "cases": 8, "attack_steps": 2}
    (folder / "study.yaml").write_text(yaml.safe_dump(TINY | FAST | {"certificates": asked}))
    done = CliRunner().invoke(
        app, ["run", str(folder / "study.yaml"), "--out", str(folder / "run"), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert "certify" in done.output
    return mr.Run.open(folder / "run")


@pytest.mark.slow
def test_a_run_has_a_table_and_a_section(run: mr.Run) -> None:
    table = pl.read_csv(run.folder.local("tables", "certificates.csv"))
    assert table["radius"].to_list() == [0.0, 0.1]
    assert table["n_cases"].to_list() == [8, 8]
    clean, far = table.iter_rows(named=True)
    assert far["certified"] <= far["attacked"]
    assert far["certified"] <= clean["certified"] <= clean["smoothed"]
    assert clean["certified_low"] <= clean["certified"] <= clean["certified_high"]
    assert (far["n_contradicted"], clean["sigma"], clean["training_sigma"]) == (0, 0.2, 0.0)
    html = Path(run.report).read_text(encoding="utf-8")
    assert 'id="certificates"' in html
    assert "What it does not say." in html
    assert "40 draws after 10 for the selection, alpha 0.001" in html
    assert any(
        "was trained with no Gaussian noise and smoothed with sigma 0.2" in each for each in run.warnings
    )


@pytest.mark.slow
def test_nothing_is_certified_twice_and_what_is_no_longer_asked_for_goes(run: mr.Run) -> None:
    folder = run.folder.local()
    parts = sorted((folder / "results/parts/certificates").rglob("*.gz"))
    before = [part.stat().st_mtime_ns for part in parts]
    study = folder.parent / "study.yaml"
    again = CliRunner().invoke(app, ["run", str(study), "--out", str(folder), "--device", "cpu"])
    assert again.exit_code == 0, again.output
    assert [part.stat().st_mtime_ns for part in parts] == before
    assert "certificates" not in CliRunner().invoke(app, ["clean", str(folder), "--dry-run"]).output


REFUSED = [
    ({}, "study.certificates.sigma: this key is required"),
    ({"sigma": 0}, "study.certificates.sigma: Input should be greater than 0"),
    ({"sigma": 0.25, "radii": [-1]}, "study.certificates.radii.0: Input should be greater than 0"),
    ({"sigma": 0.25, "tau": 0.75}, "study.certificates: Unknown key 'tau'"),
    ({"sigma": 0.25, "radii": [1]}, "1000 draws certify a radius of at most 0.616 here"),
    ({"sigma": 0.25, "alpha": 0.5}, "study.certificates.alpha: Input should be less than 0.5"),
]


@pytest.mark.parametrize(("block", "message"), REFUSED)
def test_what_cannot_be_asked_for(block: dict[str, object], message: str) -> None:
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [{"name": "resnet18"}]}
    with pytest.raises(StudyError) as error:
        read_study(study | {"certificates": block})
    assert message in str(error.value)


def test_findings_and_images_with_too_many_pixels_are_refused() -> None:
    findings = {"task": "multilabel", "data": {"name": "phantom_chests"}, "models": [{"name": "resnet18"}]}
    with pytest.raises(StudyError, match="of one class per image or of label maps"):
        read_study(findings | {"certificates": {"sigma": 0.25}})


def test_defaults_are_written_down() -> None:
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [{"name": "resnet18"}]}
    asked = read_study(study | {"certificates": {"sigma": "64/256"}}).certificates
    assert asked is not None
    assert asked.radii == (0.125, 0.25, 0.375)
    assert (asked.draws, asked.selection, asked.alpha, asked.cases) == (1000, 100, 0.001, 100)
    assert read_study(study).certificates is None
