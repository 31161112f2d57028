"""`medrobust selftest`: what it does, prints and ends with; and the jobs of a run."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

import made_studies
from medrobust import api
from medrobust.cli import app
from medrobust.perturbations.selftest import CHECKS
from medrobust.running import craft
from medrobust.running.selftest import selftest_table
from medrobust.study.reading import read_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    made_studies.classification(folder)
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study")) / "study.yaml"


def medrobust(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_a_sound_study_ends_with_0_and_is_not_done_twice(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("selftest", study, "--out", study.parent / "run", "--set", "crafting.selftest=false")
    first = medrobust(*arguments)
    assert (first.exit_code, first.stderr) == (0, "")
    assert "Attack self-tests on 8 validation cases" in first.stdout
    assert "One step cannot follow a curved boundary" in first.stdout
    results = {path.name for path in (study.parent / "run" / "results").iterdir()}
    assert results == {"selftest.parquet", "checksums.json"}
    table = first.stdout[first.stdout.index("Attack self-tests") :]
    again = medrobust(*arguments)
    assert again.stdout[again.stdout.index("Attack self-tests") :] == table
    monkeypatch.setattr(
        craft, "open_crafting", lambda *_, **__: pytest.fail("only the self-tests were asked for")
    )
    assert medrobust(*arguments).exit_code == 0


def test_masked_gradients_end_with_1_and_name_the_network(study: Path) -> None:
    """Of a network that rounds, which would not be attacked unless the study insists."""
    text = study.read_text().replace("fitted_networks:fine", "made_networks:quantised\n  attackable: true")
    study.write_text(text)
    done = medrobust("selftest", study, "--out", study.parent / "run", "--device", "cpu")
    assert done.exit_code == 1
    rows = pl.read_parquet(study.parent / "run" / "results" / "selftest.parquet")
    bad = rows.filter(~pl.col("passed"))
    assert set(bad["source"]) == {"fine"}
    assert set(bad["check"]) == {"gradients"}
    run = api.run(study, study.parent / "run", device="cpu")
    assert run.results.failed_columns == {(name, "fine") for name in ("fgsm", "deepfool", "saliency_map")}
    assert any(
        warning.startswith("fgsm fails its self-tests on fine. gradients: ") for warning in run.warnings
    )
    html = run.report.read_text(encoding="utf-8")
    assert "Left out of this verdict because the attack failed its self-tests: fgsm from fine" in html
    assert run.table2().height == 12


def test_they_can_be_switched_off_and_on_in_the_same_folder(study: Path) -> None:
    off = ["crafting.selftest=false", "perturbations=[{name: fgsm, eps: 0.02}]", "crafting.whitebox=false"]
    run = api.run(study, study.parent / "run", changes=off, device="cpu")
    assert run.results.selftests is not None
    assert run.results.selftests.is_empty()
    assert "Self-tests of the attacks" not in run.report.read_text(encoding="utf-8")
    run = api.run(study, study.parent / "run", changes=off[1:], device="cpu")
    assert run.results.selftests is not None
    assert run.results.selftests.height == 2 * len(CHECKS)
    assert read_study(study, off).crafting.selftest is False


def test_of_a_curve_the_middle_is_tested(study: Path) -> None:
    changes = ["perturbations=[{name: pgd, eps: [0.03, 0.01, 0.02], steps: 2}, {name: fgsm, eps: 0.02}]"]
    rows = api.selftest(study, study.parent / "run", changes=changes, device="cpu")
    tested = set(rows["perturbation"])
    assert len(tested) == 2
    assert {label for label in tested if "0.02" in label or label == "fgsm"} == tested


def test_the_table_marks_failures_and_keeps_brackets() -> None:
    shared = {"perturbation": "fgsm", "source_seed": 1, "fold": None, "value": 0.1, "cases": "test"}
    rows = [
        shared | {"source": source, "check": check, "passed": passed, "seen": f"[{check}]", "n_images": 8}
        for source, check, passed in (("b", "noise", False), ("a", "noise", None), ("a", "logits", True))
    ]
    table = selftest_table(pl.DataFrame(rows, schema_overrides={"fold": pl.Int64}))
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["a", "a", "b"]
    assert columns[2] == ["logits", "noise", "noise"]
    assert columns[3] == ["yes", "-", "no"]
    assert columns[4] == ["\\[logits]", "\\[noise]", "\\[noise]"]
    assert [row.style for row in table.rows] == [None, None, "red"]
