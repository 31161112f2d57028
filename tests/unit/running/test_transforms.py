"""Studies with transforms that are searched, from the command line to tables and report."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import made_studies
import medrobust as mr
from medrobust.cli import app
from medrobust.study.reading import read_study

SEARCHES = ("random", "worst", "optimised")


def start(study: Path, folder: Path, *changes: str) -> mr.Run:
    options = [each for change in changes for each in ("--set", change)]
    done = CliRunner().invoke(app, ["run", str(study), "--out", str(folder), "--device", "cpu", *options])
    assert done.exit_code == 0, done.output
    return mr.Run.open(folder)


def written(task: str, folder: Path, **transforms: object) -> Path:
    study = yaml.safe_load(getattr(made_studies, task)(folder).read_text())
    study |= {
        "perturbations": [{"name": "fgsm", "eps": "8/255"}],
        "noise": {},
        "crafting": {"selftest": False, "whitebox": False, "quantise": False},
        "transforms": {"passes": 6, **transforms},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
    folder = tmp_path_factory.mktemp("transforms")
    study = written("segmentation", folder, families=["bias_field_search", "affine_search"])
    return start(study, folder / "run")


def numbers(run: mr.Run) -> pl.DataFrame:
    return pl.read_csv(run.folder.local("tables", "transforms.csv"))


def totals(run: mr.Run, label: str) -> pl.DataFrame:
    rows = run.results.every_row.filter(perturbation=label, target="sharp")
    return rows.group_by("structure").agg(pl.col("n_true", "n_pred", "n_both").sum()).sort("structure")


def test_every_search_of_every_family_faces_its_own_network_only(run: mr.Run) -> None:
    table = numbers(run)
    families = ("bias_field_search", "affine_search")
    assert table.select("target", "family", "search").rows() == [
        (target, family, search)
        for target in ("sharp", "blurred")
        for family in families
        for search in SEARCHES
    ]
    assert table["score"].null_count() == 0
    rows = run.results.every_row.filter(role="transform")
    assert (rows["source"] == rows["target"]).all()
    assert (rows["source_seed"] == rows["target_seed"]).all()


def test_what_is_searched_takes_more_than_a_random_draw(run: mr.Run) -> None:
    lost = numbers(run).group_by("search").agg(pl.col("drop_points").mean())
    of = dict(lost.iter_rows())
    assert of["random"] < of["worst"]
    assert of["random"] < of["optimised"]
    beyond = numbers(run).filter(pl.col("family") == "bias_field_search", pl.col("search") == "optimised")
    assert (beyond["beyond_random_points"] > 0).all()


def test_clean_images_are_judged_at_the_pixels_that_are_left(run: mr.Run) -> None:
    clean, turned, reference = (
        totals(run, label) for label in ("clean", "affine_search-worst", "clean@affine_search-worst")
    )
    assert turned["n_true"].equals(reference["n_true"])
    assert not reference["n_true"].equals(clean["n_true"])
    assert reference["n_both"].sum() <= clean["n_both"].sum() * 1.02
    table = numbers(run).filter(family="affine_search")
    assert (table["outside_percent"] > 0).all()
    assert table["ssim"].null_count() == table.height


def test_no_other_table_knows_them(run: mr.Run) -> None:
    for name in ("table1", "table2", "noise", "corruptions", "whitebox"):
        text = run.folder.local("tables", f"{name}.csv").read_text()
        assert "search" not in text


def test_only_parameters_are_stored(run: mr.Run) -> None:
    folders = list(run.folder.local("crafted").glob("*_search-*"))
    assert len(folders) == 12
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {"card.json", "rows", "theta", "timing"}
        assert sum(path.stat().st_size for path in folder.glob("theta/*")) < 5000


def test_the_report_tells_of_them(run: mr.Run) -> None:
    html = Path(run.report).read_text(encoding="utf-8")
    for said in ("How bad is the worst plausible image?", "Average and worst case", "bias_field_search"):
        assert said in html
    content = json.loads(run.folder.local("results.json").read_text())
    assert any("in the worst plausible case: " in each for each in content["verdict"]["sentences"])
    assert run.folder.local("figures", "transforms.png").exists()


def test_the_resolved_study_asks_for_the_same(run: mr.Run) -> None:
    stored = read_study(yaml.safe_load(run.folder.local("study.yaml").read_text()))
    asked = {each.label: each.parameters for each in run.study.transforms_asked}
    assert {each.label: each.parameters for each in stored.transforms_asked} == asked


def test_what_is_finished_is_kept_and_what_is_damaged_found_again(run: mr.Run, tmp_path: Path) -> None:
    """The order of chunks and the size of batches do not matter either."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder.local(), folder)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("crafted/*/*/*.gz")}
    damaged = next(path for path in before if path.parent.name == "theta")
    missing = next(path for path in before if path.parent.name == "theta" and path != damaged)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    missing.unlink()
    again = start(run.folder.local().parent / "study.yaml", folder, "crafting.batch_size=2")
    for path, (made, was) in before.items():
        redone = path.parent.parent in (damaged.parent.parent, missing.parent.parent)
        assert (path.stat().st_mtime_ns == made) != redone
        if path.parent.name != "timing" and not redone:
            assert path.read_bytes() == was
    assert (
        numbers(again)
        .select("target", "perturbation", pl.col("score").round(3))
        .equals(numbers(run).select("target", "perturbation", pl.col("score").round(3)))
    )


@pytest.mark.parametrize("task", ["classification", pytest.param("multilabel", marks=pytest.mark.slow)])
def test_whole_images_have_transforms_too(task: str, tmp_path: Path) -> None:
    """Also of a network without a gradient, which no search can follow."""
    few = {"name": "deformation_search", "strength": 2, "search": ["random", "worst"]}
    path = written(task, tmp_path, families=["contrast_search", few])
    study = yaml.safe_load(path.read_text())
    study["models"][1]["attackable"] = False
    path.write_text(yaml.safe_dump(study))
    run = start(path, tmp_path / "run")
    table = numbers(run)
    first, second = (table.filter(target=name)["perturbation"].to_list() for name in ("fine", "coarse"))
    assert len(first) == 3 + 2
    assert set(first) - set(second) == {"contrast_search-optimised"}
    assert table["score"].null_count() == 0
    assert not run.results.every_row["perturbation"].str.contains("clean@").any()


REFUSED = [
    ({"suite": "mrt"}, "transforms.suite: Unknown suite 'mrt'. Did you mean 'mri'"),
    ({"suite": "ct", "families": ["motion_serch"]}, "transforms.families: Unknown family 'motion_serch'"),
    ({"families": ["bias_feld_search"]}, "Did you mean 'bias_field_search'"),
    ({"suite": "mri", "search": []}, "transforms.search"),
    ({"suite": "mri", "search": ["best"]}, "transforms.search"),
    ({"suite": "mri", "passes": 2}, "transforms.passes"),
    ({"suite": "mri", "strength": 2}, "strength"),
]


@pytest.mark.parametrize(("block", "message"), REFUSED)
def test_what_cannot_be_asked_for(block: dict[str, object], message: str, tmp_path: Path) -> None:
    study = {"task": "segmentation", "data": {"name": "phantom_brains"}, "models": [{"name": "unet"}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study | {"transforms": block}))
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "study.yaml")])
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_suite_leaves_out_what_does_not_take_the_images() -> None:
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [{"name": "resnet18"}]}
    asked = read_study(study | {"transforms": {"suite": "histology"}})
    grey, colour = (asked.fitting(channels, 2, has_sides=False) for channels in (1, 3))
    assert {each.curve for each in colour.transforms_asked} - {
        each.curve for each in grey.transforms_asked
    } == {"stain_search"}
    volumes = {each.curve for each in asked.fitting(1, 3, has_sides=False).transforms_asked}
    assert volumes == {"affine_search", "deformation_search", "contrast_search"}
