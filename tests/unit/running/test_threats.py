"""Studies with a threat-model ladder, from the command line to tables and report."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import made_studies
import medrobust as mr
from medrobust.cli import app
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.study.reading import read_study

EPS = 4 / 255
LADDER = {
    "eps": "4/255",
    "preset": None,
    "attacks": [
        "random_signs",
        "fgsm",
        {"name": "pgd", "steps": 3, "crafted_on": "targets"},
        {"name": "mi_fgsm", "steps": 3, "crafted_on": "ensemble"},
    ],
    "validation_cases": 20,
}


def written(folder: Path, *, validation: bool = True) -> Path:
    """A study with a ladder; given networks need no patients to train on, so these can validate."""
    study = yaml.safe_load(made_studies.classification(folder).read_text())
    split = folder / "split.csv"
    split.write_text(split.read_text().replace("train", "validation" if validation else "unused"))
    study |= {
        "perturbations": [{"name": "fgsm", "eps": "8/255"}],
        "crafting": {"selftest": False, "whitebox": False},
        "threats": LADDER,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
    folder = tmp_path_factory.mktemp("threats")
    study = written(folder)
    done = CliRunner().invoke(app, ["run", str(study), "--out", str(folder / "run"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "threats: 3 attacks within 4/255; the strongest transferred one on each network is chosen" in said
    return mr.Run.open(folder / "run")


def numbers(run: mr.Run, name: str) -> pl.DataFrame:
    return pl.read_csv(run.folder.local("tables", f"{name}.csv"))


def test_every_rung_has_a_score_within_the_same_budget(run: mr.Run) -> None:
    table = numbers(run, "threats")
    rungs = ["clean", "random noise", "transferred, mean", "transferred, strongest", "white box"]
    for target in ("fine", "coarse"):
        assert table.filter(target=target)["rung"].to_list() == [*rungs, "matched noise"]
    shared = table.filter(pl.col("rung").is_in(rungs[1:]))
    assert set(shared["bound"]) == {"L∞ ≤ 4/255"}
    of_ladder = run.results.crafted.filter(pl.col("perturbation").str.ends_with("-4of255"))
    alone = of_ladder.filter(~pl.col("perturbation").str.contains("@", literal=True))
    assert set(alone["perturbation"]) == {
        *("random_signs-4of255", "fgsm-4of255", "mi_fgsm-ensemble-4of255", "pgd-4of255")
    }
    assert alone["linf"].max() == pytest.approx(EPS, abs=1e-6)
    assert alone.filter(perturbation="random_signs-4of255")["linf"].min() == pytest.approx(EPS, abs=1e-6)
    assert (table.filter(rung="white box")["perturbation"] == "pgd-4of255").all()


def test_the_strongest_is_chosen_on_cases_of_no_other_table(run: mr.Run) -> None:
    seen = run.results.validation
    assert seen is not None
    assert not {*seen["patient_id"]} & {*run.results.rows["patient_id"]}
    assert not {*seen["case_id"]} & {*run.results.crafted["case_id"]}
    assert seen["case_id"].n_unique() == 20
    right = pl.col("label") == pl.col("prediction")
    scores = seen.group_by("target", "perturbation", "source").agg(right.mean().alias("score"))
    for row in numbers(run, "strongest_transfer").iter_rows(named=True):
        own = scores.filter(target=row["target"])
        assert own.height == 3  # two surrogates, and both as one
        assert row["validation"] == pytest.approx(own["score"].min())
        chosen = own.filter(perturbation=row["perturbation"], source=row["source"])
        assert chosen["score"].item() == pytest.approx(row["validation"])


def test_no_other_number_is_moved_by_the_ladder(run: mr.Run) -> None:
    assert run.results.averaged == ("fgsm",)
    rows = run.results.rows.filter(perturbation="fgsm", role="transfer", target="fine")
    adversarial = run.table1().filter(model="fine")["adversarial"].item()
    assert adversarial == pytest.approx((rows["label"] == rows["prediction"]).mean())
    assert run.results.noise == ("gaussian",)


def test_the_report_tells_of_it(run: mr.Run) -> None:
    html = Path(run.report).read_text(encoding="utf-8")
    for said in ("Threat-model ladder", "Strongest transferred attack on each network", 'id="places"'):
        assert said in html
    rows = pl.read_csv(run.folder.local("tables", "table2.csv"))
    assert "fgsm-4of255" in rows["perturbation"]
    assert 'data-table="table2"' in html
    assert "<caption>fgsm-4of255" not in html  # no panel of Table 2
    content = json.loads(run.folder.local("results.json").read_text())
    assert content["ladder"]["eps"] == pytest.approx(EPS)
    assert any("who has the weights" in each for each in content["verdict"]["sentences"])
    assert run.folder.exists("figures", "threats.png")
    assert not [each for each in run.warnings if each.startswith("No ")]


def test_the_resolved_study_asks_for_the_same_and_finds_all_again(run: mr.Run) -> None:
    folder = run.folder.local()
    stored = read_study(yaml.safe_load((folder / "study.yaml").read_text()))
    assert stored.requests == run.study.requests
    assert stored.threats == run.study.threats
    before = {path: path.stat().st_mtime_ns for path in folder.glob("crafted/**/*.gz")}
    again = CliRunner().invoke(
        app, ["run", str(folder.parent / "study.yaml"), "--out", str(folder), "--device", "cpu"]
    )
    assert again.exit_code == 0, again.output
    assert "The study has changed" not in again.output
    assert {path: path.stat().st_mtime_ns for path in folder.glob("crafted/**/*.gz")} == before
    left = CliRunner().invoke(app, ["clean", str(folder), "--dry-run"])
    assert "crafted/" not in left.output


def test_without_a_validation_part_it_is_said_that_nothing_is_chosen(tmp_path: Path) -> None:
    study = written(tmp_path, validation=False)
    done = CliRunner().invoke(app, ["plan", str(study), "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "is not chosen, since the split has no validation part" in " ".join(done.output.split())
    assert "(validation cases)" not in done.output


REFUSED = [
    ({"preset": "fast"}, "study.threats.eps: this key is required"),
    ({"eps": 2}, "study.threats.eps: Input should be less than 1; got 2"),
    ({"epz": 0.1}, "study.threats: Unknown key 'epz'. Did you mean 'eps'"),
    ({"eps": 0.1, "preset": "quick"}, "study.threats.preset: Input should be"),
    ({"eps": 0.1, "attacks": ["deepfool"]}, "with a budget in the L-infinity norm; deepfool has none"),
    ({"eps": 0.1, "attacks": [{"name": "pgd", "norm": "2"}]}, "pgd has one in the norm 2"),
    ({"eps": 0.1, "attacks": [{"name": "pgd", "eps": 0.2}]}, "every rung of the ladder has the budget 0.1"),
    ({"eps": 0.1, "attacks": ["mi_fgsn"]}, "Did you mean 'mi_fgsm'"),
]


@pytest.mark.parametrize(("block", "message"), REFUSED)
def test_what_cannot_be_asked_for(block: dict[str, object], message: str) -> None:
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [{"name": "resnet18"}]}
    with pytest.raises(StudyError) as error:
        read_study(study | {"threats": block})
    assert message in str(error.value)


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("preset", ["fast", "standard"])
def test_a_preset_has_every_rung_and_joins_surrogates_only_where_there_are_several(
    task: Task, preset: str
) -> None:
    data = {"classification": "phantom_lesions", "multilabel": "phantom_chests"}.get(task, "phantom_brains")
    study = {"task": str(task), "data": {"name": data}, "threats": {"eps": "2/255", "preset": preset}}
    known = ["unet", "segnet"] if task.has_maps else ["resnet18", "resnet34"]
    one, two = (
        read_study(study | {"models": [{"name": name} for name in names]}).requests
        for names in (known[:1], known)
    )
    for asked in (one, two):
        rungs = [each for each in asked if each.ladder is not None]
        seen = {(each.perturbation.role, each.crafted_on, each.perturbation.needs) for each in rungs}
        assert {("noise", "surrogates", "nothing"), ("attack", "surrogates", "gradient")} <= seen
        assert {("attack", "targets", "scores"), ("attack", "targets", "gradient")} <= seen
        assert all(each.parameters["eps"] == 2 / 255 for each in rungs)
    if task is Task.MULTILABEL:  # judged by AUROC, which falls on where all answers are wrong
        climbs = {each.parameters["loss"] for each in two if each.parameters.get("all_steps")}
        assert climbs == {"cross_entropy", "margin"}
    joined = {each.label for each in two} - {each.label for each in one}
    assert len(joined) == (preset == "standard")
    assert all("ensemble" in label for label in joined)


def test_rungs_share_one_budget() -> None:
    items = [{"name": "fgsm", "ladder": eps, "label": f"at-{eps}"} for eps in (0.1, 0.2)]
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [{"name": "resnet18"}]}
    with pytest.raises(StudyError, match=r"all rungs of the ladder have one budget; got 0\.1, 0\.2"):
        read_study(study | {"perturbations": items})
