"""A whole study of each task on phantoms against stored numbers, and what a run promises about its folder.

The networks have closed-form weights and are not trained, so that the numbers are the same on every machine.
Where a change of results is wanted, look at every number that moves and then write the new ones:
`MEDROBUST_WRITE_GOLDEN=1 pytest tests/golden`.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
import yaml
from polars.testing import assert_frame_equal
from rich.console import Console
from typer.testing import CliRunner

import made_studies
import medrobust as mr
from medrobust import cli
from medrobust.core import Task
from medrobust.perturbations.selftest import CHECKS
from medrobust.running import runner
from medrobust.running.jobs import Do, Job
from medrobust.running.runner import run_study
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study
from typesetting import flaws

STORED = Path(__file__).parent / "stored"
TABLES = ("table1", "table2", "noise", "whitebox")
ROWS = {
    "classification": {
        "attributes",
        "crafted",
        "predictions",
        "whole_test_predictions",
        "embeddings",
        "selftest",
        "timing",
    },
    "multilabel": {
        "attributes",
        "crafted",
        "predictions",
        "whole_test_predictions",
        "embeddings",
        "selftest",
        "timing",
    },
    "segmentation": {
        "attributes",
        "crafted",
        "overlaps",
        "surfaces",
        "empty_cases",
        "whole_test_overlaps",
        "embeddings",
        "selftest",
        "timing",
    },
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=list(Task), ids=str)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished study: its task, its file and its run."""
    folder = tmp_path_factory.mktemp(str(request.param))
    study = getattr(made_studies, str(request.param))(folder)
    run = mr.run(study, out=folder / "run", device="cpu")
    return SimpleNamespace(task=request.param, study=study, run=run, folder=folder / "run")


def test_no_picture_is_missing(golden: SimpleNamespace) -> None:
    assert not any(warning.startswith("No ") for warning in golden.run.warnings)


@pytest.fixture
def copy(golden: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the run folder, to do things to."""
    return Path(shutil.copytree(golden.folder, tmp_path / "run"))


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Content of all files but times."""
    found = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if "timing" not in str(p)}


def go_on(study: Path, folder: Path, *changes: str) -> None:
    """Run without a report."""
    run_study(
        read_study(study, changes), RunFolder(folder), data_dir=None, device=CPU, console=Console(quiet=True)
    )


@pytest.mark.parametrize("table", TABLES)
def test_tables_equal_the_stored_ones(golden: SimpleNamespace, table: str) -> None:
    stored = STORED / golden.task / f"{table}.csv"
    if os.environ.get("MEDROBUST_WRITE_GOLDEN"):
        stored.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(golden.folder / "tables" / f"{table}.csv", stored)
    found = pl.read_csv(golden.folder / "tables" / f"{table}.csv")
    assert_frame_equal(found, pl.read_csv(stored), check_exact=False, abs_tol=1e-6, rel_tol=0)


def test_the_study_says_something(golden: SimpleNamespace) -> None:
    """Numbers that are stored must not be those of a study in which nothing happens."""
    table1, table2 = golden.run.table1(), golden.run.table2()
    assert (table1["adversarial"] < table1["clean"] - 0.02).all()
    assert table2["score"].n_unique() > 6
    crafted = golden.run.results.crafted.filter(pl.col("perturbation").str.contains("@").not_())
    assert (crafted.group_by("perturbation").agg(pl.col("mse").max())["mse"] > 0).all()


@pytest.mark.slow
def test_latex_reads_every_table_and_it_fits(golden: SimpleNamespace, tmp_path: Path) -> None:
    tables = sorted((golden.folder / "tables").glob("*.tex"))
    assert len(tables) > 20
    assert flaws((table.read_text(encoding="utf-8") for table in tables), tmp_path) == []


def test_the_run_folder_is_laid_out_as_promised(golden: SimpleNamespace) -> None:
    folder, results = golden.folder, golden.folder / "results"
    assert {path.name for path in folder.iterdir()} == {
        *("study.yaml", "record.json", "references.json", "split.csv", "results.json", "report.html"),
        *(".lock",),
        *("cache", "crafted", "results", "tables", "figures", "cards"),
    }
    assert {path.stem for path in results.glob("*.parquet")} == ROWS[golden.task]
    for table in TABLES:
        assert {path.suffix for path in (folder / "tables").glob(f"{table}.*")} == {".csv", ".md", ".tex"}
    for figure in ("examples", "dotplot", "heatmap"):
        assert {path.suffix for path in (folder / "figures").glob(f"{figure}.*")} == {".png", ".svg"}
    assert (folder / "figures" / "tsne.png").exists() is (golden.task == "classification")
    for model in golden.run.study.models:
        assert {path.suffix for path in (folder / "cards").glob(f"{model['name']}.*")} == {".md", ".yaml"}
    assert (results / "explorer" / "facts.json").exists()
    assert 'id="explorer-data"' in (folder / "report.html").read_text(encoding="utf-8")
    for crafted in (folder / "crafted").iterdir():
        label, source, key = crafted.name.split("--")
        assert source.rsplit("-", 2)[1] in ("surrogate", "target")
        assert len(key) == 12
        assert (crafted / "images" / "zarr.json").exists() is ("@" not in label)
    assert {path.name for path in folder.rglob(".*")} == {".lock"}


def test_columns_are_those_of_the_design(golden: SimpleNamespace) -> None:
    header = {
        table: (golden.folder / "tables" / f"{table}.csv").read_text().splitlines()[0] for table in TABLES
    }
    numbers = ("clean", "noise", "adversarial", "drop_points", "drop_percent")
    assert header["table1"] == ",".join(
        ["model", *(number + part for number in numbers for part in ("", "_low", "_high"))]
    )
    long = "target,perturbation,source,score,low,high,n_cases,n_patients"
    assert (header["table2"], header["noise"]) == (long, long)


def test_every_cell_is_there(golden: SimpleNamespace) -> None:
    models = [model["name"] for model in golden.run.study.models]
    labels = [attack.label for attack in golden.run.study.attacks]
    table2 = golden.run.table2()
    cells = set(table2.select("target", "perturbation", "source").iter_rows())
    assert cells == {(target, label, source) for target in models for label in labels for source in models}
    assert table2["score"].null_count() == 0
    assert table2["n_cases"].n_unique() == 1


def test_the_resolved_study_gives_the_same_run(golden: SimpleNamespace) -> None:
    """What is stored is complete: every default stands in it."""
    stored = yaml.safe_load((golden.folder / "study.yaml").read_text())
    again = read_study(stored)
    assert again.attacks == golden.run.study.attacks == read_study(golden.study).attacks
    flags = {"whitebox": True, "quantise": True, "selftest": True, "autocast": False}
    assert stored["crafting"] == {"batch_size": 16, **flags}


def test_results_json_is_valid_and_says_what_the_tables_say(golden: SimpleNamespace) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads((golden.folder / "results.json").read_text(), parse_constant=refuse)
    table1 = golden.run.table1()
    assert content["tables"]["table1"]["columns"] == table1.columns
    assert content["tables"]["table1"]["rows"] == table1.to_dicts()


def test_the_report_opens_offline(golden: SimpleNamespace) -> None:
    html = (golden.folder / "report.html").read_text(encoding="utf-8")
    assert "shows that the tool works" in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)(?!https://doi)', html)


@pytest.mark.parametrize(
    "golden",
    [Task.CLASSIFICATION, Task.SEGMENTATION, pytest.param(Task.MULTILABEL, marks=pytest.mark.slow)],
    indirect=True,
    ids=str,
)
def test_report_gives_the_same_bytes(golden: SimpleNamespace, copy: Path) -> None:
    """From the rows alone: without data and images."""
    for part in ("cache", "crafted", "tables", "figures"):
        shutil.rmtree(copy / part)
    result = CliRunner().invoke(cli.app, ["report", str(copy)])
    assert (result.exit_code, result.stderr) == (0, "")
    patterns = ("tables/*", "figures/*", "results.json", "report.html")
    assert contents(copy, *patterns) == contents(golden.folder, *patterns)


def test_a_run_opens_where_the_networks_are_not(golden: SimpleNamespace, copy: Path) -> None:
    study = (copy / "study.yaml").read_text()
    (copy / "study.yaml").write_text(study.replace("fitted_networks:", "no_such_module:"))
    assert_frame_equal(mr.Run.open(copy).table1(), golden.run.table1())


def test_going_on_does_only_what_is_missing(golden: SimpleNamespace, copy: Path) -> None:
    chunks = sorted((copy / "crafted").glob("*/done/*.json"))
    lost = chunks[len(chunks) // 2]
    lost.unlink()
    for parts in sorted((copy / "results" / "parts").glob("*/*"))[:1]:
        shutil.rmtree(parts)
    for table in (copy / "results").glob("*.parquet"):
        table.unlink()
    kept = {path: path.stat().st_mtime_ns for path in chunks if path != lost}
    go_on(golden.study, copy)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(copy, "results/*", "crafted/**/*") == contents(golden.folder, "results/*", "crafted/**/*")


def test_every_attack_is_tested_on_every_source_and_passes(golden: SimpleNamespace) -> None:
    rows = golden.run.results.selftests
    columns = set(golden.run.table2().select("perturbation", "source").iter_rows())
    assert set(rows.select("perturbation", "source").iter_rows()) == columns
    assert rows.height == len(columns) * len(CHECKS)
    assert rows.filter(~pl.col("passed")).is_empty()
    assert golden.run.results.failed_columns == frozenset()
    assert set(rows["cases"]) == {"validation"}
    html = (golden.folder / "report.html").read_text(encoding="utf-8")
    assert "Self-tests of the attacks" in html
    assert "tried on 8 validation cases" in html


class Killed(BaseException):
    """Not an `Exception`, as little as a kill is."""


@pytest.mark.parametrize(
    "golden",
    [Task.CLASSIFICATION, pytest.param(Task.SEGMENTATION, marks=pytest.mark.slow)],
    indirect=True,
    ids=str,
)
def test_kills_lose_nothing(golden: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the third piece of each step, one after the other; in the end nothing differs by a byte."""
    shutil.copytree(golden.folder / "cache", tmp_path / "run" / "cache")
    jobs_of = runner.jobs_of
    for kind in ("craft", "noise", "evaluate"):
        dying = partial(dies, kind=kind, pieces=count(1))
        with monkeypatch.context() as patch:
            patch.setattr(runner, "jobs_of", lambda *given, dying=dying: list(map(dying, jobs_of(*given))))
            with pytest.raises(Killed):
                go_on(golden.study, tmp_path / "run")
    go_on(golden.study, tmp_path / "run")
    rows = "results/*.parquet"
    assert contents(tmp_path / "run", rows) == contents(golden.folder, rows)


def dies(job: Job, kind: str, pieces: Iterator[int]) -> Job:
    """A job that, if it is of this kind, ends as if the process were killed once the third piece is done."""

    def begin() -> Do:
        do = job.open()

        def killed(piece: int, progress: Callable[[float, str], None]) -> None:
            do(piece, progress)
            if next(pieces) == 3:
                raise Killed

        return killed

    return replace(job, open=begin) if job.kind == kind else job


@pytest.mark.slow
def test_another_batch_size_gives_the_same_scores(
    golden: SimpleNamespace,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same cases, draws and targets; at most one prediction in a thousand may differ."""
    shutil.copytree(golden.folder / "cache", tmp_path / "run" / "cache")
    go_on(golden.study, tmp_path / "run", "crafting.batch_size=5")
    one, other = (
        pl.read_parquet(folder / "results" / "crafted.parquet")
        for folder in (golden.folder, tmp_path / "run")
    )
    keys = ["perturbation", "role", "source", "case_id"]
    assert one.select(keys).equals(other.select(keys))
    assert_frame_equal(one.select("ssim", "mse"), other.select("ssim", "mse"), abs_tol=2e-3, rel_tol=0)
    if golden.task == "classification":
        one, other = (
            pl.read_parquet(folder / "results" / "predictions.parquet")
            for folder in (golden.folder, tmp_path / "run")
        )
        differ = (one["prediction"] != other["prediction"]).sum()
        record_property("predictions_that_differ", differ)
        with capsys.disabled():
            print(f"\n{differ} of {one.height} predictions differ with batches of 5 instead of 16")  # noqa: T201
        assert differ <= 0.001 * one.height
