"""Studies with corruptions, from the command line to tables and report."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import made_studies
import medrobust as mr
from medrobust.cli import app
from medrobust.study.reading import read_study

FAMILIES = [
    {"name": "affine", "preset": "rood-mri"},
    {"name": "rician_noise", "preset": "rood-mri"},
    {"name": "flip", "label": "mirrored", "axis": -1},
    {"name": "flip", "label": "renamed", "axis": -1, "rename_sides": True},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
    """Networks that see each pixel's neighbourhood, which shifting and mirroring do not change."""
    folder = tmp_path_factory.mktemp("corruptions")
    study = yaml.safe_load(made_studies.segmentation(folder).read_text())
    study |= {
        "perturbations": [{"name": "fgsm", "eps": "8/255"}],
        "crafting": {"selftest": False, "whitebox": False, "quantise": False},
        "corruptions": {"families": FAMILIES[:2], "severities": [1, 3]},
    }
    study["perturbations"] += FAMILIES[2:]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    done = CliRunner().invoke(
        app, ["run", str(folder / "study.yaml"), "--out", str(folder / "run"), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    return mr.Run.open(folder / "run")


def totals(run: mr.Run, label: str) -> pl.DataFrame:
    rows = run.results.every_row.filter(perturbation=label, target="sharp")
    return rows.group_by("structure").agg(pl.col("n_true", "n_pred", "n_both").sum()).sort("structure")


def test_every_severity_is_judged(run: mr.Run) -> None:
    levels = pl.read_csv(run.folder.local("tables", "corruption_levels.csv"))
    asked = ["affine-1", "affine-3", "rician_noise-1", "rician_noise-3", "mirrored", "renamed"]
    assert set(levels["perturbation"]) == set(asked)
    assert levels["score"].null_count() == 0
    noisy = levels.filter(target="sharp", family="rician_noise").sort("level")["score"]
    assert noisy[1] < noisy[0]


def test_a_mirrored_image_is_judged_by_mirrored_labels(run: mr.Run) -> None:
    clean, mirrored = totals(run, "clean"), totals(run, "mirrored")
    assert mirrored["n_true"].equals(clean["n_true"])
    agree = mirrored["n_both"].sum() / clean["n_both"].sum()
    assert agree > 0.5  # it would be far less with labels that stay where they were


def test_sides_may_change_names_with_the_place(run: mr.Run) -> None:
    """Phantoms look the same on both sides, so networks go by the place."""
    mirrored, renamed = totals(run, "mirrored"), totals(run, "renamed")
    left, right = (renamed.filter(structure=f"{side} thalamus") for side in ("left", "right"))
    assert left["n_true"].item() == mirrored.filter(structure="right thalamus")["n_true"].item()
    assert right["n_true"].item() == mirrored.filter(structure="left thalamus")["n_true"].item()
    assert renamed["n_pred"].equals(mirrored["n_pred"])
    assert totals(run, "clean@renamed")["n_both"].sum() == totals(run, "clean")["n_both"].sum()


def test_clean_images_are_judged_at_the_pixels_that_are_left(run: mr.Run) -> None:
    clean, shifted, reference = (totals(run, label) for label in ("clean", "affine-3", "clean@affine-3"))
    assert shifted["n_true"].equals(reference["n_true"])
    assert shifted["n_true"].sum() < clean["n_true"].sum()
    mirrored = totals(run, "clean@mirrored")
    assert mirrored.equals(clean)  # nothing leaves, so nothing changes


def test_what_came_from_outside_is_counted(run: mr.Run) -> None:
    table = pl.read_csv(run.folder.local("tables", "corruption_levels.csv")).filter(target="sharp")
    outside = dict(table.select("perturbation", "outside_percent").iter_rows())
    assert outside["mirrored"] == 0
    assert 0 < outside["affine-1"] < outside["affine-3"] < 100
    assert outside["rician_noise-1"] is None  # nothing moves
    assert table.filter(pl.col("perturbation").str.starts_with("affine"))["ssim"].null_count() == 2


def test_similarity_is_taken_where_anything_has_changed(run: mr.Run) -> None:
    rows = run.results.crafted.filter(pl.col("perturbation").str.starts_with("rician_noise"))
    assert (rows["ssim"] < 0.999).all()
    assert (rows["ssim"] > rows["ssim_image"] - 1e-9).all()  # the noise is everywhere, so this is the image


def test_the_report_tells_of_them(run: mr.Run) -> None:
    html = Path(run.report).read_text(encoding="utf-8")
    for said in ("Which corruptions hurt?", "Mean corruption score", "affine", "rician_noise"):
        assert said in html
    content = json.loads(run.folder.local("results.json").read_text())
    assert any("Corruptions (2 families)" in each for each in content["verdict"]["sentences"])
    assert not [each for each in run.warnings if each.startswith("No ")]


def test_the_resolved_study_asks_for_the_same(run: mr.Run) -> None:
    stored = read_study(yaml.safe_load(run.folder.local("study.yaml").read_text()))
    assert {each.label for each in stored.fixed} == {each.label for each in run.study.fixed}


def test_all_is_found_again(run: mr.Run) -> None:
    folder = run.folder.local()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("results/parts/**/*.gz")}
    again = CliRunner().invoke(
        app, ["run", str(folder.parent / "study.yaml"), "--out", str(folder), "--device", "cpu"]
    )
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in folder.glob("results/parts/**/*.gz")} == before


REFUSED = [
    ({"suite": "mrt"}, "corruptions.suite: Unknown suite 'mrt'. Did you mean 'mri'"),
    (
        {"suite": "mri", "families": ["rician_nois"]},
        "Unknown family 'rician_nois'. Did you mean 'rician_noise'",
    ),
    ({"families": ["rician_nois"]}, "Did you mean 'rician_noise'"),
    ({"suite": "mri", "severities": [0]}, "severities"),
    ({"suite": "mri", "severity": 3}, "severit"),
    ({"suite": "mri", "ssim": [1.2]}, "ssim"),
]


@pytest.mark.parametrize(("block", "message"), REFUSED)
def test_what_cannot_be_asked_for(block: dict[str, object], message: str, tmp_path: Path) -> None:
    study = {"task": "segmentation", "data": {"name": "phantom_brains"}, "models": [{"name": "unet"}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study | {"corruptions": block}))
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "study.yaml")])
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_suite_leaves_out_what_does_not_take_the_images() -> None:
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [{"name": "resnet18"}]}
    asked = read_study(study | {"corruptions": {"suite": "histology"}})
    grey, colour = asked.fitting(1, 2, has_sides=False), asked.fitting(3, 2, has_sides=False)
    assert {each.curve for each in colour.fixed} - {each.curve for each in grey.fixed} == {
        "saturate",
        "stain_shift",
    }
    volumes = asked.fitting(1, 3, has_sides=True)
    assert volumes.fitting(1, 3, has_sides=True).fixed == volumes.fixed
    assert {each.label for each in volumes.fixed} - {each.label for each in grey.fixed} == {"flip_renamed"}
