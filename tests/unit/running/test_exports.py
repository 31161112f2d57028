"""`medrobust export`: what it finds by name, what it writes, and what it says where it finds nothing."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner, Result

import made_studies
from medrobust.cli import app
from medrobust.running.runner import run_study
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study


def run_of(study: Path, *changes: str) -> Path:
    """The folder of a finished run; tables and figures are not needed here."""
    folder = study.parent / "run"
    changed = read_study(study, ["crafting.selftest=false", *changes])
    cpu, quiet = torch.device("cpu"), Console(quiet=True)
    run_study(changed, RunFolder(folder), data_dir=None, device=cpu, console=quiet)
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on phantom lesions."""
    study = made_studies.classification(tmp_path_factory.mktemp("photographs"))
    return run_of(study, "cases.total=50", "perturbations=[{name: fgsm, eps: 6/255}]")


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on phantom brains."""
    study = made_studies.segmentation(tmp_path_factory.mktemp("brains"))
    return run_of(study, "cases.per_patient=2", "perturbations=[{name: dag_a, step: 16/255, steps: 3}]")


def export(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["export", *(str(argument) for argument in arguments)]
    )


def cases_of(run: Path, scan: str = "") -> list[str]:
    """Cases in the store that belong to a scan."""
    folder = RunFolder(run)
    store = next(name for name in folder.names("crafted") if "@" not in name)
    markers = folder.names("crafted", store, "done")
    chunks = [folder.read_json("crafted", store, "done", marker)["cases"] for marker in markers]
    return [case for chunk in chunks for case in chunk if scan in case]


def test_photographs_with_what_rounding_leaves(photographs: Path, tmp_path: Path) -> None:
    first, second, *_ = cases_of(photographs)
    chosen = ("--perturbation", "fgsm", "--perturbation", "gaussian@fgsm", "--case", first, "--case", second)
    result = export(photographs, *chosen, "--source", "fine", "--to", tmp_path, "--bits", 8)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "fgsm--fine-surrogate-s1",
        "gaussian@fgsm--fine-surrogate-s1",
    }
    files = {path.name for path in (tmp_path / "fgsm--fine-surrogate-s1").iterdir()}
    assert files == {f"{case}{end}" for case in (first, second) for end in (".npy", "-8bit.png", ".json")}
    row = next(line for line in result.output.splitlines() if " fgsm " in line)
    assert re.search(r"2 +│ 6 +│ \d of 2 +│ \d of 2, 8 bits", row)


def test_photographs_have_16_bits_unless_asked_otherwise(photographs: Path, tmp_path: Path) -> None:
    case = cases_of(photographs)[0]
    for bits, files in (("auto", [".npy", "-16bit.png", ".json"]), ("float", [".npy", ".json"])):
        to = tmp_path / bits
        result = export(photographs, "--perturbation", "clean", "--case", case, "--to", to, "--bits", bits)
        assert result.exit_code == 0, result.output
        assert {path.name for path in (to / "clean").iterdir()} == {f"{case}{end}" for end in files}


def test_scans_of_a_patient_on_every_surrogate(brains: Path, tmp_path: Path) -> None:
    scan = cases_of(brains)[0].partition("-")[0]
    result = export(brains, "--perturbation", "dag_a", "--patient", scan, "--to", tmp_path)
    assert result.exit_code == 0, result.output
    assert "What lies between the cases of the study is clean" in result.output
    assert "of pixels" in result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "dag_a--sharp-surrogate-s1",
        "dag_a--blurred-surrogate-s1",
    }
    for name in ("sharp", "blurred"):
        files = {path.name for path in (tmp_path / f"dag_a--{name}-surrogate-s1").iterdir()}
        ends = (".nii.gz", "-truth.nii.gz", "-predicted-sharp.nii.gz", "-predicted-blurred.nii.gz", ".json")
        assert files == {f"{scan}{end}" for end in ends}
    volume = nib.load(tmp_path / "dag_a--sharp-surrogate-s1" / f"{scan}.nii.gz")
    np.testing.assert_allclose(nib.affines.voxel_sizes(volume.affine), 4.0)


def test_attacks_on_a_target_by_the_name_of_its_folder(brains: Path, tmp_path: Path) -> None:
    case = cases_of(brains)[0]
    chosen = ("--perturbation", "dag_a", "--source", "sharp-target-s0", "--case", case)
    assert export(brains, *chosen, "--to", tmp_path).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["dag_a--sharp-target-s0"]


def test_what_there_is(brains: Path) -> None:
    result = export(brains, "--list")
    assert result.exit_code == 0
    assert "rician@dag_a" in result.output
    assert "sharp-surrogate-s1, blurred-surrogate-s1" in result.output
    assert f"--case {cases_of(brains)[0]}" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No images of no perturbation on any surrogate. `medrobust export RUN_DIR --list`"),
        (["--perturbation", "dag_z"], "Unknown perturbation 'dag_z'. Did you mean 'dag_a'?"),
        (["--perturbation", "dag_a", "--source", "shrap"], "Unknown source 'shrap'. Did you mean 'sharp'?"),
        (["--perturbation", "dag_a"], "Which images? Give --case, --scan or --patient, e.g. --scan brain0"),
        (["--perturbation", "dag_a", "--scan", "brian001"], "Unknown scan 'brian001'. Did you mean 'brain0"),
        (["--perturbation", "dag_a", "--case", "x"], "Only what was attacked can be exported."),
        (
            ["--perturbation", "rician@dag_a", "--source", "sharp-target-s0", "--scan", "brain001"],
            "No images of rician@dag_a on sharp-target-s0.",
        ),
    ],
)
def test_what_is_not_there(brains: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = export(brains, *arguments, "--to", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_bits_and_no_run_folder(tmp_path: Path) -> None:
    assert export(tmp_path, "--bits", "12").exit_code == 2
    result = export(tmp_path, "--perturbation", "fgsm")
    assert result.exit_code == 1
    assert "is not a run folder" in result.stderr


def test_networks_that_changed_since(photographs: Path, tmp_path: Path) -> None:
    weights = photographs.parent / "weights"
    kept = (weights / "fine-surrogate.safetensors").read_bytes()
    (weights / "fine-surrogate.safetensors").write_bytes(
        (weights / "fine-target.safetensors").read_bytes()[:-4] + b"\0\0\0\0"
    )
    try:
        result = export(
            photographs, "--perturbation", "fgsm", "--case", cases_of(photographs)[0], "--to", tmp_path
        )
    finally:
        (weights / "fine-surrogate.safetensors").write_bytes(kept)
    assert result.exit_code == 1
    assert "belongs to other networks: what fine-surrogate-s1 is made from" in result.stderr


def test_a_folder_that_cannot_be_written(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    case = cases_of(photographs)[0]
    result = export(photographs, "--perturbation", "fgsm", "--case", case, "--to", tmp_path / "taken")
    assert result.exit_code == 1
    assert "cannot be read or written" in result.stderr
