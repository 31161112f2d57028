"""A study with lists of budgets, from its file to its report."""

import re

import polars as pl
import pytest
import yaml

import made_studies
import medrobust as mr
from medrobust.study.reading import read_study

GRID = [
    {"name": "fgsm", "eps": "6/255"},
    {"name": "fgsm", "label": "step", "eps": ["2/255", "6/255"]},
    {"name": "pgd", "eps": [0.004], "steps": 2},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
    folder = tmp_path_factory.mktemp("grid")
    study = made_studies.classification(folder)
    content = yaml.safe_load(study.read_text())
    content |= {"perturbations": GRID, "cases": {"total": 50}}
    study.write_text(yaml.safe_dump(content))
    return mr.run(study, out=folder / "run", device="cpu")


def table(run: mr.Run, name: str) -> pl.DataFrame:
    return pl.read_csv(run.folder.local("tables", f"{name}.csv"))


def test_the_curve_is_written_and_agrees_with_the_other_tables(run: mr.Run) -> None:
    curve = table(run, "curve")
    labels = ["clean", "step-2of255", "step-6of255", "clean", "pgd-0.004"]
    assert curve.filter(target="fine")["perturbation"].to_list() == labels
    of_cells = run.table2().group_by("target", "perturbation").agg(pl.col("score").mean())
    expected = {key[:2]: key[2] for key in of_cells.iter_rows()}
    expected |= {(row["model"], "clean"): row["clean"] for row in run.table1().iter_rows(named=True)}
    for row in curve.iter_rows(named=True):
        assert row["score"] == pytest.approx(expected[row["target"], row["perturbation"]])
        assert row["noise"] is not None
    rows = run.folder.read_json("results.json")["tables"]["curve"]["rows"]
    assert [row["budget"] for row in rows] == curve["budget"].to_list()
    assert all(run.folder.exists("tables", f"curve.{end}") for end in ("md", "tex"))


def test_a_point_is_the_attack_with_that_budget_and_stays_out_of_the_averages(run: mr.Run) -> None:
    cells = run.table2()
    columns = ("target", "source", "score")
    same = [cells.filter(perturbation=name).select(columns).rows() for name in ("fgsm", "step-6of255")]
    assert same[0] == same[1]
    means = cells.filter(perturbation="fgsm").group_by("target", maintain_order=True).agg(pl.mean("score"))
    assert run.table1()["adversarial"].to_list() == pytest.approx(means["score"].to_list())
    assert table(run, "noise_control")["perturbation"].unique().to_list() == ["fgsm"]


def test_the_report_shows_the_curve_and_marks_what_is_beyond_the_paper(run: mr.Run) -> None:
    html = run.folder.read_bytes("report.html").decode()
    assert set(re.findall(r' id="(\w+)"', html)) >= {"success", "transfer"}
    assert all(f">{label} †<" in html for label in ("step-2of255", "step-6of255", "pgd-0.004"))
    assert ">fgsm †<" not in html
    assert {"curve.png", "curve.svg"} <= set(run.folder.names("figures"))
    heads = run.folder.local("results", "examples.json").read_text()
    assert "step-" not in heads
    assert "fgsm" in heads


def test_the_stored_study_gives_the_same_attacks(run: mr.Run) -> None:
    stored = yaml.safe_load(run.folder.read_bytes("study.yaml"))
    assert read_study(stored).attacks == run.study.attacks
    assert [entry.get("curve") for entry in stored["perturbations"]] == [None, "step", "step", "pgd"]
