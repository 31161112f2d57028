"""What `medrobust audit` prints, writes and returns."""

import io
import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from playwright.sync_api import Page
from rich.console import Console
from typer.testing import CliRunner, Result

import made_folders
import made_photos
import made_scans
from browsing import CONTRAST, WIDTH
from medrobust import api
from medrobust.audit.audit import Audit, in_order
from medrobust.audit.output import EACH, PER_FINDING, SCHEMA, as_document, findings_table, summary, thumbnails
from medrobust.cli import app
from medrobust.data.findings import Finding, Severity
from medrobust.report.audit_page import audit_page
from medrobust.storage.picture_files import write_png

EVIL = "<img src=x onerror=alert(1)>.jpg"


def finding(kind: str, severity: Severity = Severity.ERROR, *files: Path) -> Finding:
    return Finding(kind, severity, f"Something is {kind}.", "Mend it.", files)


def audited(*findings: Finding) -> Audit:
    return Audit("ham10000", "7 photographs of 5 lesions", 1.2, in_order(findings))


def printed(finished: Audit) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(findings_table(finished))
    return console.export_text()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    made_folders.ham10000(tmp_path / "ham10000")
    module = f"nets_{tmp_path.name}"  # what was found once beside a study stays importable
    (tmp_path / f"{module}.py").write_text("raise AssertionError('an audit imports nothing')")
    path = tmp_path / "study.yaml"
    content: dict[str, Any] = {
        "task": "classification",
        "data": {"name": "ham10000", "root": "ham10000"},
        "split": {"rule": "patient", "test": 0.5, "validation": 0.5},
        "models": [{"name": "mine", "load": f"{module}:build", "train": True}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def medrobust(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_exit_code_is_0_without_an_error(study: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    result = medrobust("audit", study, "--data", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().splitlines()[-1].startswith("0 errors, ")
    assert "reading" not in result.output  # no progress without a terminal
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before


def test_exit_code_is_1_with_one_and_all_of_it_is_written(study: Path, tmp_path: Path) -> None:
    broken = tmp_path / "ham10000" / "images" / "ISIC_00000.jpg"
    broken.write_bytes(b"")
    document, page = tmp_path / "out.json", tmp_path / "out.html"
    result = medrobust("audit", study, "--data", tmp_path, "--json", document, "--html", page)
    assert result.exit_code == 1
    assert "1 error, " in result.stdout
    written = json.loads(document.read_text())
    assert written["schema"] == SCHEMA
    assert written["counts"]["error"] == 1
    assert written["findings"][0]["kind"] == "unreadable file"
    assert written["findings"][0]["files"] == [str(broken)]
    assert "ISIC_00000.jpg" in page.read_text()


def test_changes_of_the_study_are_audited(study: Path, tmp_path: Path) -> None:
    changed = api.audit(study, data=tmp_path, changes=["split={rule: official}"])
    (error,) = [each for each in changed.findings if each.severity is Severity.ERROR]
    assert error.kind == "split impossible"
    assert "has no official split" in error.says
    assert medrobust("audit", study, "--data", tmp_path, "--set", "split={rule: official}").exit_code == 1


def test_the_code_that_a_run_would_import_is_named_and_not_imported(study: Path, tmp_path: Path) -> None:
    finished = api.audit(study, data=tmp_path)
    (code,) = [each for each in finished.findings if each.kind == "code that runs"]
    assert code.files == (tmp_path / f"nets_{tmp_path.name}.py",)
    assert "models.mine.load imports" in code.says


def test_generated_data_have_no_files() -> None:
    study = {
        "task": "classification",
        "data": {"name": "phantom_lesions", "images": 100, "size": 32},
        "models": [{"name": "mobilenet_v1", "weights": "none"}],
    }
    finished = api.audit(study)
    assert finished.is_sound
    assert [each.kind for each in finished.findings] == ["generated data"]
    refused = api.audit({**study, "split": {"rule": "official"}})
    assert [each.kind for each in refused.findings] == ["split impossible"]


def test_findings_are_in_order_and_those_of_a_kind_together() -> None:
    late, early = finding("b", Severity.NOTE), finding("a", Severity.ERROR)
    ordered = in_order([late, finding("c"), early, finding("c"), finding("a")])
    assert [each.kind for each in ordered] == ["c", "c", "a", "a", "b"]


def test_a_few_findings_have_a_line_each_and_many_share_one() -> None:
    files = [Path(f"/data/{number}.jpg") for number in range(EACH + 1)]
    few = printed(audited(*(finding("odd", Severity.ERROR, file) for file in files[:EACH])))
    assert few.count("Mend it.") == EACH
    many = printed(audited(*(finding("odd", Severity.ERROR, file) for file in files)))
    assert many.count("Mend it.") == 1
    assert "odd (4 times)" in many
    assert f"And {EACH} more like it." in many
    assert "and 1 more" in many


def test_files_of_the_same_name_are_shown_with_their_folder() -> None:
    shown = printed(audited(finding("odd", Severity.ERROR, Path("/x/a/1.png"), Path("/x/b/1.png"))))
    assert "a/1.png" in shown
    assert "b/1.png" in shown


def test_the_summary_counts() -> None:
    finished = audited(finding("a"), finding("b", Severity.WARNING), finding("c", Severity.WARNING))
    assert summary(finished) == "1 error, 2 warnings, 0 notes in 7 photographs of 5 lesions (1 s)."


def test_the_document_holds_everything() -> None:
    file = Path("/data/ä.jpg")
    document = as_document(audited(finding("a", Severity.NOTE, file)))
    assert json.loads(json.dumps(document)) == document
    assert document["counts"] == {"error": 0, "warning": 0, "note": 1}
    assert document["findings"] == [
        {
            "severity": "note",
            "kind": "a",
            "says": "Something is a.",
            "advice": "Mend it.",
            "files": [str(file)],
        }
    ]


def test_the_page_escapes_names_and_loads_nothing(tmp_path: Path) -> None:
    evil = tmp_path / EVIL
    Image.new("RGB", (20, 30), "red").save(evil, "JPEG")
    findings = (Finding(f"<b>{EVIL}</b>", Severity.ERROR, f"{evil} is odd.", "<script>", (evil,)),)
    page = audit_page("ham10000", "1 error.", findings, thumbnails(findings))
    assert "<img src=x" not in page
    assert "<script" not in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert "prefers-color-scheme: dark" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", ["page", "phone"])
def test_the_page_can_be_read_in_a_browser(
    request: pytest.FixtureRequest, tmp_path: Path, scheme: str, window: str
) -> None:
    photo = tmp_path / ("a_long_name" * 9 + ".png")
    Image.new("RGB", (300, 100), "red").save(photo)
    others = [photo.with_name(f"{number}.csv") for number in range(3)]
    findings = [finding(f"{severity}ish", severity, photo, *others) for severity in Severity]
    written = tmp_path / "audit.html"
    written.write_text(audit_page("ham10000", "1 error.", findings, thumbnails(findings)), encoding="utf-8")
    page: Page = request.getfixturevalue(window)
    page.emulate_media(color_scheme=scheme)
    page.goto(written.as_uri())
    assert page.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    assert page.evaluate(WIDTH) == page.evaluate("screen.width")
    assert page.evaluate(CONTRAST) >= 4.5


def test_thumbnails_are_of_what_can_be_shown(tmp_path: Path) -> None:
    photo, deep, scan, text = (tmp_path / name for name in ("a.png", "deep.png", "a.nii.gz", "a.csv"))
    Image.new("RGBA", (300, 100)).save(photo)
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70).save(deep)
    made_folders.write_volume(scan, np.arange(1000, dtype=np.float32).reshape(10, 10, 10))
    text.write_text("a,b")
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    findings = [finding("odd", Severity.NOTE, photo, deep, scan, text, broken, tmp_path / "gone.jpg")]
    assert set(thumbnails(findings)) == {photo, deep, scan}
    inside = made_photos.medmnist(tmp_path / "medmnist")
    made_photos.dicom_images(tmp_path / "xrays", patients=1)
    write_png(tmp_path / "colours.png", np.full((3, 9, 9), 257 * 200, np.uint16))
    places = [
        inside / "dermamnist_64.npz" / "test_images[3]",
        inside / "organmnist3d.npz" / "test_images[3]",
        tmp_path / "xrays" / "normal" / "0001.dcm",
        tmp_path / "colours.png",
    ]
    shown = thumbnails([finding("odd", Severity.NOTE, *places, inside / "dermamnist_64.npz" / "images[99]")])
    assert set(shown) == set(places)
    flat = np.asarray(Image.open(io.BytesIO(shown[places[-1]])))
    assert (flat == 200).all()
    many = finding("odd", Severity.NOTE, *[photo.with_name(f"{number}.png") for number in range(20)])
    for file in many.files:
        Image.new("L", (8, 8)).save(file)
    assert len(thumbnails([many])) == PER_FINDING


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs with long names, half of them of one person who is a woman and a man."""
    names = [f"a_photograph_with_a_rather_long_name_{number:07d}.png" for number in range(8)]
    for number, name in enumerate(names):
        made_photos.write_photo(tmp_path / "photos" / name, number)
    rows = [
        (name, "ab"[n % 2], ("p", "p", "q", "q", "r", "nan", "s", "t")[n], ("f", "M", "F", "woman")[n % 4])
        for n, name in enumerate(names)
    ]
    made_photos.write_table(tmp_path / "photos" / "list.csv", ("path", "label", "who", "sex"), rows)
    content = {
        "task": "classification",
        "data": {
            "name": "image_folder",
            "root": "photos",
            "table": "list.csv",
            "patient_column": "who",
            "attributes": {"table": "list.csv", "key": "path", "columns": ["sex"]},
        },
        "split": {"test": "all"},
        "models": [{"name": "mobilenet_v1", "weights": "none"}],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_names_of_files_are_whole_where_there_is_no_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as continuous integration sets it
    result = medrobust("audit", folder / "study.yaml", "--data", folder)
    assert result.exit_code == 0, result.output
    lines = [re.sub("\x1b.*?m", "", line) for line in result.stdout.splitlines()]
    (sexes,) = [line for line in lines if "two sexes" in line]
    assert "1 patients have images of both sexes: 'p'." in sexes
    assert "a_photograph_with_a_rather_long_name_0000000.png" in sexes
    (missing,) = [line for line in lines if "group missing" in line]
    assert "1 photographs have no who (it says 'nan')" in missing
    assert "\N{HORIZONTAL ELLIPSIS}" not in result.stdout


def test_names_of_files_are_folded_in_a_terminal() -> None:
    name = "a_photograph_with_a_rather_long_name_0000000.png"
    console = Console(width=60, record=True, file=StringIO(), force_terminal=True)
    console.print(findings_table(audited(finding("odd", Severity.ERROR, Path(name)))))
    rows = [line.split("\N{BOX DRAWINGS LIGHT VERTICAL}") for line in console.export_text().splitlines()]
    assert "".join(cells[4].strip() for cells in rows if len(cells) == 7) == name


def test_where_every_row_is_refused_the_audit_and_a_run_say_why(folder: Path) -> None:
    table = folder / "photos" / "list.csv"
    table.write_text(table.read_text().replace(".png", ".gif"))
    result = medrobust("audit", folder / "study.yaml", "--data", folder)
    assert result.exit_code == 1
    assert (
        "list.csv, row 2: there is no file 'a_photograph_with_a_rather_long_name_0000000.gif'"
        in result.stdout
    )
    assert "And 7 more like it." in result.stdout
    assert (
        result.stdout.rstrip().splitlines()[-1].startswith("8 errors, 0 warnings, 0 notes in 0 photographs")
    )
    result = medrobust("run", folder / "study.yaml", "--data", folder, "--out", folder / "run")
    assert result.exit_code == 1
    assert "row 2: there is no file 'a_photograph_with_a_rather_long_name_0000000.gif'" in result.stderr
    assert "(7 more errors: `medrobust audit` lists them.)" in result.stderr


def test_where_every_scan_is_refused_the_audit_says_why(tmp_path: Path) -> None:
    root = made_scans.decathlon(tmp_path / "data")
    for path in (root / "labelsTr").iterdir():
        path.unlink()
    data = {"name": "decathlon", "root": str(root)}
    finished = api.audit({"task": "segmentation", "data": data, "models": [{"name": "unet"}]})
    assert [each.kind for each in finished.findings] == ["wrong case"] * 4
    assert finished.looked_at == "0 scans of 0 scans"
