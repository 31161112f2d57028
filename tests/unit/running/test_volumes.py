"""Studies whose cases are whole volumes or patches, from the command line to report, files and pages."""

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import made_scans
from medrobust import api
from medrobust.cli import app
from medrobust.core import Task
from medrobust.running.batches import VOXELS_AT_ONCE, at_once
from medrobust.running.regimes import regime_of
from medrobust.study.training import TrainingConfig
from medrobust.view.server import open_viewer

ATTACKS = [
    {"name": "fgsm", "eps": "8/255"},
    {"name": "pgd", "eps": "8/255", "steps": 3},
    {"name": "segpgd", "eps": "8/255", "steps": 3},
    {"name": "fgsm", "label": "fgsm-as-similar", "eps": {"ssim": 0.97}},
    {"name": "dag_a", "step": "8/255", "steps": 4},
    {"name": "dag_b", "step": "8/255", "steps": 4},
    {"name": "dag_c", "step": "8/255", "steps": 4, "radius_mm": 2},
]


def ran(folder: Path, data: dict[str, Any], **more: Any) -> Path:
    """The folder of a study of six scans, each of a body with an organ, that went to its end.

    One of its networks sees volumes in sliding windows.
    """
    made_scans.nifti_pairs(folder / "pairs", 6)
    study = {
        "task": "segmentation",
        "data": {"name": "nifti_pairs", "root": "pairs", "axis": "volume", "spacing": 1.0, **data},
        "split": {"rule": "patient", "test": 0.5},
        "models": [
            {"name": "unet", "width": 4, "levels": 2},
            {
                "name": "own",
                "load": "own_networks:volumetric",
                "train": True,
                "input": {"window": {"size": [16, 20, 16], "overlap": 0.25}},
            },
        ],
        "training": {"epochs": 40, "batch_size": 1, "learning_rate": 0.02},
        "noise": {"name": "rician"},
        "analysis": {"resamples": 100},
        "report": {"hardest": 1, "typical": 1, "slices": 3},
        **more,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    asked = [str(folder / "study.yaml"), "--data", str(folder), "--out", str(folder / "run")]
    for command in ("plan", "run"):
        done = CliRunner().invoke(app, [command, *asked, "--device", "cpu"])
        assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("volumes")
    return api.Run.open(
        ran(folder, {"canvas": [20, 28, 24]}, perturbations=ATTACKS, crafting={"selftest": False})
    )


def test_every_attack_reaches_every_target_and_its_noise_is_as_similar(run: api.Run) -> None:
    cells = run.table2()
    assert cells.height == len(ATTACKS) * 2 * 2
    assert cells["score"].null_count() == 0
    assert run.table1()["clean"].min() > 0.3  # far from what an untrained network scores
    crafted = pl.read_parquet(Path(run.folder.url) / "results" / "crafted.parquet")
    ssim = {}
    for row in crafted.filter(role="transfer").iter_rows(named=True):
        noise, _, attack = row["perturbation"].rpartition("@")
        ssim[attack, row["source"], row["case_id"], noise] = row["ssim"]
    pairs = [(ssim[(*key[:3], "")], value) for key, value in ssim.items() if key[3]]
    assert len(pairs) == len(ATTACKS) * 2 * 3
    for attack, noise in pairs:
        assert noise == pytest.approx(attack, abs=max(0.05 * (1 - attack), 1e-5))
    assert crafted.filter(perturbation="fgsm")["linf"].max() <= 8 / 255 + 1e-6


def test_distances_are_taken_in_space(run: api.Run) -> None:
    folder = Path(run.folder.url)
    assert pl.read_parquet(folder / "results" / "surfaces.parquet")["unit"].unique().to_list() == ["mm"]
    empty = pl.read_parquet(folder / "results" / "empty_cases.parquet")
    assert empty["pixel_mm3"].unique().to_list() == pytest.approx([1.0])


def test_the_report_speaks_of_voxels(run: api.Run) -> None:
    page = (Path(run.folder.url) / "report.html").read_text(encoding="utf-8")
    words = re.sub(r"<(script|style|svg).*?</\1>", "", page, flags=re.DOTALL)
    words = re.sub(r"<[^>]*>", " ", words)
    assert "voxels" in words
    assert "in space" in words
    sentences = re.findall(r"[^.]*\b(?:pixels?|slices of its scans)\b[^.]*", words)
    # The record also holds what the catalogue says of attacks, whatever they are used on.
    assert [each for each in sentences if not each.startswith("summary")] == []


def test_report_and_view_show_the_same_slices_in_three_planes(run: api.Run) -> None:
    page = (Path(run.folder.url) / "report.html").read_text(encoding="utf-8")
    held = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    explorer = json.loads(held[1])
    index = explorer["index"]
    assert index["volumes"]
    for scan in index["scans"]:
        assert [scan["planes"].count(plane) for plane in ("axial", "coronal", "sagittal")] == [3, 3, 3]
    with open_viewer(run.study, run.folder, run.results, data_dir=Path(run.folder.url).parent) as server:
        every = server.gallery.index()
        scan = [each["id"] for each in every["scans"]].index(index["scans"][0]["id"])
        assert len(every["scans"][scan]["frames"]) == 20 + 28 + 24
        place = index["scans"][0]["planes"].index("sagittal")
        frame = every["scans"][scan]["frames"].index(index["scans"][0]["frames"][place])
        shown = server.gallery.frame(scan, frame, set=0, target=0)
    assert shown["clean"] == explorer["frames"][0][place]["clean"]
    assert shown["answers"][0] == explorer["frames"][0][place]["answers"][0]


def exported(run: api.Run, perturbation: str, to: Path) -> tuple[nib.Nifti1Image, nib.Nifti1Image, str]:
    """What was exported of the first attacked scan, the original, and the scan's name."""
    folder = Path(run.folder.url)
    scan = run.results.rows["scan_id"].min()
    asked = ["--perturbation", perturbation, "--source", "unet", "--scan", scan, "--to", str(to)]
    done = CliRunner().invoke(app, ["export", str(folder), *asked, "--data", str(folder.parent)])
    assert done.exit_code == 0, done.output
    assert "% of voxels" in done.output
    (file,) = to.glob(f"*/{scan}.nii.gz")
    return nib.load(file), nib.load(folder.parent / "pairs" / "images" / f"{scan}.nii.gz"), scan


def test_volumes_are_exported_on_the_grid_of_the_original(run: api.Run, tmp_path: Path) -> None:
    volume, original, scan = exported(run, "fgsm", tmp_path)
    assert volume.shape == original.shape
    np.testing.assert_allclose(volume.affine, original.affine)
    voxels = original.get_fdata()
    top = np.percentile(voxels[voxels > 0], 99.5)
    changed = np.abs(volume.get_fdata() - np.clip(voxels / top, 0, 1))
    assert 4 / 255 < changed.max() <= 8 / 255 + 1e-4
    (truth,) = tmp_path.glob(f"*/{scan}-truth.nii.gz")
    labels = nib.load(Path(run.folder.url).parent / "pairs" / "labels" / f"{scan}.nii.gz")
    np.testing.assert_array_equal(nib.load(truth).get_fdata(), labels.get_fdata())


def test_patches_run_through_and_are_exported_as_whole_volumes(tmp_path: Path) -> None:
    folder = ran(
        tmp_path,
        {"patch": [18, 14, 24]},
        perturbations=[ATTACKS[0]],
        models=[{"name": "unet", "width": 4, "levels": 2}],
        crafting={"whitebox": False},
        training={"epochs": 2},
    )
    run = api.Run.open(folder)
    counted = run.results.rows.filter(structure="liver", perturbation="clean")
    scans = counted["scan_id"].to_list()
    assert len(set(scans)) == 3
    labels = [nib.load(tmp_path / "pairs" / "labels" / f"{scan}.nii.gz").get_fdata() for scan in scans]
    assert counted["n_true"].to_list() == [np.count_nonzero(each == 1) for each in labels]
    tested = pl.read_parquet(folder / "results" / "selftest.parquet")
    assert tested["passed"].null_count() < tested.height
    volume, original, _ = exported(run, "fgsm", tmp_path / "out")
    assert volume.shape == original.shape


def test_as_many_volumes_are_worked_on_together_as_fit() -> None:
    side = round(VOXELS_AT_ONCE ** (1 / 3))
    assert [at_once(16, (side,) * 3), at_once(16, (2 * side,) * 3), at_once(16, (512, 512))] == [1, 1, 16]
    assert at_once(16, (side, side, side // 4)) == 4
    assert at_once(16, (4, 4, 4)) == 16
    silent, given = TrainingConfig(), TrainingConfig(batch_size=3)
    shape = (side,) * 3
    assert regime_of(silent, Task.SEGMENTATION, shape).batch_size == 1
    assert regime_of(given, Task.SEGMENTATION, shape).batch_size == 3
    assert (
        regime_of(silent, Task.SEGMENTATION).batch_size
        == regime_of(silent, Task.SEGMENTATION, (512, 512)).batch_size
    )
