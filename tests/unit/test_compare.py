"""`medrobust compare` on two finished runs of phantoms: the command, its files, and the page in a browser."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from playwright.sync_api import Page
from typer.testing import CliRunner

import made_studies
import medrobust as mr
from browsing import CONTRAST, WIDTH
from made_comparisons import before_and_after
from medrobust import api, cli
from medrobust.errors import RunError
from typesetting import flaws

HOSTILE = "<script>alert('x')</script> & $x_1$"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return before_and_after(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="module")
def compared(runs: tuple[Path, Path]) -> api.Comparison:
    before, after = runs
    return mr.compare({"before": before, HOSTILE: after}, before.parent / "hostile")


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and all that the command says, in one line."""
    done = CliRunner().invoke(cli.app, ["compare", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_from_the_command_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = runs
    files = {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")}
    code, said = command(f"old={before}", after, "--out", tmp_path / "out")
    assert (code, said) == (0, f"Report: {tmp_path / 'out' / 'comparison.html'}")
    assert {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")} == files
    tables = {"scores", "pairs", "differences", "table2", "whitebox", "threats"}
    assert {path.name for path in (tmp_path / "out" / "tables").iterdir()} == {
        f"{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")
    }
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("scores", "threats") for kind in ("png", "svg")
    }
    told = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in told["runs"]] == ["old", "after"]
    labels = [attack["label"] for attack in told["attacks"]]
    assert labels == ["fgsm", "deepfool", "fgsm-3of255", "pgd-3of255"]
    assert "Not compared, and left out of the attacks of after: mi_fgsm." in told["limits"]
    assert not any("ladder" in each for each in told["limits"])
    assert "Crafted on the same trained surrogates in old and after: fine, coarse." in told["limits"]
    sentences = " ".join(told["verdict"]["sentences"])
    assert "fine of after is the same trained network as fine of old (same weights)" in sentences
    pairs = pl.read_csv(tmp_path / "out" / "tables" / "pairs.csv")
    assert ("coarse of after", "coarse of old", "same network") in pairs.select(
        "first", "second", "kind"
    ).rows()
    assert ("fine of after", "fine of old") not in pairs.select("first", "second").rows()
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    for sentence in [*told["verdict"]["sentences"], *told["limits"]]:
        assert sentence.replace("'", "&#39;") in page
    assert str(before) not in page


def test_networks_of_one_name_stand_together(compared: api.Comparison) -> None:
    names = [f"{model} of {run}" for model in ("fine", "coarse") for run in ("before", HOSTILE)]
    for table in ("table2", "whitebox"):
        assert compared.tables[table]["target"].unique(maintain_order=True).to_list() == names


@pytest.mark.slow
def test_latex_reads_every_table_and_it_fits(compared: api.Comparison, tmp_path: Path) -> None:
    tables = sorted((compared.report.parent / "tables").glob("*.tex"))
    assert len(tables) == 6
    assert flaws((table.read_text(encoding="utf-8") for table in tables), tmp_path) == []


def test_scores_are_those_of_the_runs(runs: tuple[Path, Path], compared: api.Comparison) -> None:
    for name, folder in zip(("before", HOSTILE), runs, strict=True):
        own = mr.Run.open(folder).table1()
        assert compared.tables["scores"].filter(run=name).drop("run").equals(own)


def test_the_same_runs_give_the_same_bytes(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for out in ("one", "two"):
        mr.compare(runs, tmp_path / out)
    one, two = (
        {str(path.relative_to(tmp_path / out)): path.read_bytes() for path in (tmp_path / out).rglob("*.*")}
        for out in ("one", "two")
    )
    assert one == two


def test_only_what_is_asked_for(runs: tuple[Path, Path], tmp_path: Path) -> None:
    code, _ = command(*runs, "--out", tmp_path, "--perturbation", "fgsm", "--perturbation", "gaussian")
    assert code == 0
    assert pl.read_csv(tmp_path / "tables" / "table2.csv")["perturbation"].unique().to_list() == ["fgsm"]


def test_only_attacks_on_the_network_itself(runs: tuple[Path, Path], tmp_path: Path) -> None:
    code, _ = command(*runs, "--out", tmp_path, "--perturbation", "pgd-3of255")
    assert code == 0
    sentences = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["verdict"]["sentences"]
    assert "not ranked: no attack on other networks is compared." in sentences[0]
    assert "On the ladder, within 3/255: white box" in sentences[0]
    rungs = pl.read_csv(tmp_path / "tables" / "threats.csv")["rung"].unique(maintain_order=True).to_list()
    assert rungs == ["clean", "white box"]
    assert not (tmp_path / "tables" / "table2.csv").exists()


class TestRefusals:
    def test_the_same_network_and_no_other(self, tmp_path: Path) -> None:
        api.run(made_studies.TINY, tmp_path / "one", device="cpu")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        code, said = command(tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
        assert code == 1
        assert "All networks of one, two have the same weights" in said
        assert not (tmp_path / "out").exists()

    def test_one_run(self, runs: tuple[Path, Path]) -> None:
        code, said = command(runs[0])
        assert (code, said) == (1, "Error: A comparison needs at least two run folders; got 1.")
        assert command()[0] == 2

    def test_the_same_folder_twice(self, runs: tuple[Path, Path]) -> None:
        code, said = command(runs[0], f"x={runs[0]}/")
        assert code == 1
        assert "'before' and 'x' are the same run folder" in said

    def test_two_of_one_name(self, runs: tuple[Path, Path]) -> None:
        code, said = command(f"before={runs[1]}", runs[0])
        assert code == 1
        assert "Two runs are called 'before'" in said
        assert "Name one with NAME=RUN_DIR." in said

    @pytest.mark.parametrize("wrong", ["=runs/a", "name="])
    def test_half_a_name(self, runs: tuple[Path, Path], wrong: str) -> None:
        assert command(wrong, runs[0]) == (1, f"Error: '{wrong}' must be a run folder, or NAME=RUN_DIR.")

    def test_no_run_folder(self, runs: tuple[Path, Path], tmp_path: Path) -> None:
        code, said = command(runs[0], tmp_path)
        assert code == 1
        assert "is not a run folder" in said

    def test_out_is_a_run_folder(self, runs: tuple[Path, Path]) -> None:
        code, said = command(*runs, "--out", runs[0])
        assert code == 1
        assert "--out: " in said
        assert "is a run folder. Give another folder for the comparison." in said

    def test_out_is_a_file(self, runs: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "out").touch()
        code, said = command(*runs, "--out", tmp_path / "out")
        assert code == 1
        assert "is a file. Give a folder, or an unused name." in said

    def test_other_data_parameters_and_patients(self, runs: tuple[Path, Path], tmp_path: Path) -> None:
        other = Path(shutil.copytree(runs[1], tmp_path / "other"))
        record = json.loads((other / "record.json").read_text(encoding="utf-8"))
        record["data"]["fingerprint"] = "77aa"
        (other / "record.json").write_text(json.dumps(record), encoding="utf-8")
        study = yaml.safe_load((other / "study.yaml").read_text(encoding="utf-8"))
        study["perturbations"][0]["eps"] = 0.1
        (other / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        predictions = other / "results" / "predictions.parquet"
        rows = pl.read_parquet(predictions)
        left_out = rows["patient_id"][0]
        rows.filter(pl.col("patient_id") != left_out).write_parquet(predictions)
        (other / "results" / "checksums.json").unlink()
        code, said = command(runs[0], other, "--out", tmp_path / "out")
        assert code == 1
        assert re.search(r"fingerprint of images and labels: \w{40}… in before, 77aa in other", said)
        assert f"test patients: only before has {left_out}" in said
        assert "fgsm, eps: 0.0235294 in before, 0.1 in other" in said
        assert not (tmp_path / "out").exists()

    def test_an_equals_sign_in_a_folder(self, runs: tuple[Path, Path], tmp_path: Path) -> None:
        copy = Path(shutil.copytree(runs[1], tmp_path / "eps=2"))
        found = mr.compare([runs[0], copy], tmp_path / "out")
        assert "coarse of eps=2 and coarse of before" in found.sentences[0]

    def test_in_python(self) -> None:
        with pytest.raises(RunError, match="at least two run folders; got 0"):
            mr.compare([])


class TestPage:
    def test_names_stay_text(self, compared: api.Comparison) -> None:
        page = compared.report.read_text(encoding="utf-8")
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; $x_1$" in page

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("window", ["page", "phone"])
    def test_it_opens_offline_and_can_be_read(
        self, request: pytest.FixtureRequest, compared: api.Comparison, scheme: str, window: str
    ) -> None:
        page: Page = request.getfixturevalue(window)
        page.emulate_media(color_scheme=scheme)
        page.goto(compared.report.as_uri())
        drawn = page.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert drawn > 300
        assert page.evaluate(WIDTH) == page.evaluate("screen.width")
        assert page.evaluate(CONTRAST) >= 4.5

    def test_tables_sort(self, page: Page, compared: api.Comparison) -> None:
        page.goto(compared.report.as_uri())
        table = page.locator("#pairs table.sortable").first
        table.locator("thead th").nth(3).get_by_role("button").click()
        cells = table.locator("tbody tr > :nth-child(4)").all_inner_texts()
        values = compared.tables["pairs"]["difference_in_points"].sort(descending=True)
        assert [cell.split()[0] for cell in cells] == [
            f"{value:.1f}".replace("-", "\u2212") for value in values
        ]

    def test_every_section_is_named_by_its_heading(self, page: Page, compared: api.Comparison) -> None:
        page.goto(compared.report.as_uri())
        names = [section.get_attribute("aria-labelledby") for section in page.locator("main section").all()]
        assert len(names) >= 7
        assert all(page.locator(f"h2#{name}").count() == 1 for name in names if name)
        links = [link.get_attribute("href") for link in page.locator("a[href^='#']").all()]
        assert all(page.locator(str(link)).count() == 1 for link in links)
