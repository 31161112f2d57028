"""Age, sex and site, from the tables that data come with to the report of a run."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import made_photos
import made_scans
import medrobust as mr
from made_data import squares
from medrobust.data import list_dataset, open_dataset
from medrobust.errors import DataError, RunError, StudyError
from medrobust.storage import RunFolder, read_results
from medrobust.storage.schemas import ATTRIBUTES
from medrobust.study.schema import study_schema

pytestmark = pytest.mark.usefixtures("blank_figures")

PEOPLE = {"table": "people.csv", "key": "who", "columns": ["age", "site"]}


def listed(name: str, root: Path, **keys: object):
    return list_dataset({"name": name, "root": root, **keys}, None)


def test_isic_of_2019_and_2020(tmp_path: Path) -> None:
    of_2019 = listed("isic", made_photos.isic(tmp_path / "2019"))
    assert {json.dumps(values) for values in of_2019.attributes.values()} == {
        '{"age": "55.0", "sex": "female"}'
    }
    assert of_2019.attributes.keys() == {photo.case_id for photo in of_2019.items}
    of_2020 = listed("isic", made_photos.isic_2020(tmp_path / "2020"))
    assert of_2020.attributes["ISIC_0000001"] == {"age": "45.0", "sex": "male", "localization": "torso"}
    of_2018 = listed("isic", made_photos.isic_2018(tmp_path / "2018"))
    assert not any(of_2018.attributes.values())


def test_ham10000_says_what_is_known(tmp_path: Path) -> None:
    rows = [
        (f"HAM_{number}", f"ISIC_{number}", diagnosis, age, sex, "back")
        for number, (diagnosis, age, sex) in enumerate(
            zip(
                ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
                ("50", "", "nan", "85.0", "0", "60", "60"),
                ("female", "unknown", "male", "male", "male", "male", ""),
                strict=True,
            )
        )
    ]
    columns = ("lesion_id", "image_id", "dx", "age", "sex", "localization")
    made_photos.write_table(tmp_path / "HAM10000_metadata.csv", columns, rows)
    for row in rows:
        made_photos.write_photo(tmp_path / "images" / f"{row[1]}.jpg", 0)
    listing = listed("ham10000", tmp_path)
    assert listing.attributes["ISIC_0"] == {"age": "50", "sex": "female", "localization": "back"}
    assert listing.attributes["ISIC_1"] == {"localization": "back"}
    assert listing.attributes["ISIC_2"] == {"sex": "male", "localization": "back"}
    assert listing.attributes["ISIC_4"]["age"] == "0"


def test_participants_of_bids(tmp_path: Path) -> None:
    root = made_scans.bids(tmp_path)
    assert listed("bids", root).attributes == {}
    (root / "participants.tsv").write_text(
        "participant_id\tage\tsex\tgroup\nsub-01\t34\tF\tcontrol\nsub-02\tn/a\tM\tcontrol\nsub-99\t1\tM\tx\n"
    )
    attributes = listed("bids", root).attributes
    assert attributes["sub-01_ses-1"] == attributes["sub-01_ses-2"] == {"age": "34", "sex": "F"}
    assert attributes["sub-02_ses-1"] == {"sex": "M"}
    assert open_dataset({"name": "bids", "root": root}, None, None).attributes == attributes


def test_a_table_for_any_data_is_of_patients_or_of_scans(tmp_path: Path) -> None:
    root = made_scans.bids(tmp_path)
    (root / "participants.tsv").write_text("participant_id\tsex\nsub-01\tF\n")
    (root / "people.csv").write_text(
        "who,age,site,shoe\nsub-01,34,North,40\nsub-01_ses-2,35,,41\nsub-02,,South,42\n"
    )
    attributes = listed("bids", root, attributes=PEOPLE).attributes
    assert attributes["sub-01_ses-1"] == {"sex": "F", "age": "34", "site": "North"}
    assert attributes["sub-01_ses-2"] == {"sex": "F", "age": "35", "site": "North"}
    assert attributes["sub-02_ses-1"] == {"site": "South"}


@pytest.mark.parametrize("name", ["participants.tsv", "people.csv"])
def test_rows_of_one_patient(tmp_path: Path, name: str) -> None:
    """What several rows agree in is known; what they contradict each other in is not, and is said."""
    root = made_scans.bids(tmp_path)
    key, keys = ("participant_id", {}) if name == "participants.tsv" else ("who", {"attributes": PEOPLE})
    rows = [
        "sub-01,34,N",
        "sub-01,34,N",
        "sub-02,50,",
        "sub-02,NA,S",
        "sub-03,60,N",
        "sub-03,61,N",
        "n/a,9,Q",
    ]
    text = "\n".join([f"{key},age,site", *rows])
    (root / name).write_text(text.replace(",", "\t") if name.endswith("tsv") else text)
    listing = listed("bids", root, **keys)
    assert listing.attributes["sub-01_ses-1"] == {"age": "34", "site": "N"}
    assert listing.attributes["sub-02_ses-1"] == {"age": "50", "site": "S"}
    assert listing.attributes["sub-03_ses-1"] == {"site": "N"}
    (finding,) = listing.findings
    assert (finding.kind, str(finding.severity)) == ("contradiction", "warning")
    assert "'sub-03' has the age '60' (row 6) and '61' (row 7)" in finding.says


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    root = made_scans.bids(tmp_path)
    (root / "participants.tsv").write_text("participant_id\tage\tage\nsub-01\t34\t35\n")
    with pytest.raises(DataError, match=r"participants\.tsv, row 2: 2 columns are called 'age', and differ"):
        listed("bids", root)


def test_the_table_of_an_image_folder_may_be_the_same(tmp_path: Path) -> None:
    root = made_photos.image_folder(tmp_path)
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("P*"))
    rows = [(path, path.split("/")[0], "f" if number % 2 else "m") for number, path in enumerate(paths)]
    made_photos.write_table(root / "labels.csv", ("path", "label", "sex"), rows)
    block = {"table": "labels.csv", "key": "path", "columns": ["sex"]}
    with_sex = open_dataset(
        {"name": "image_folder", "root": root, "table": "labels.csv", "attributes": block}, None, None
    )
    assert with_sex.attributes == {path: {"sex": sex} for path, _, sex in rows}
    without = open_dataset({"name": "image_folder", "root": root, "table": "labels.csv"}, None, None)
    assert without.fingerprint == with_sex.fingerprint
    assert not without.attributes


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"table": "peple.csv"}, DataError, r"data\.attributes\.table: there is no file 'peple\.csv'"),
        ({"table": "../people.csv"}, DataError, "leads out of the data's folder"),
        ({"columns": ["weight"]}, DataError, "column 'weight' is missing; found 'who', 'age', 'site'"),
        ({"key": "age"}, DataError, r"column 'age' holds no patient, scan or image .*'sub-01'.*; got '34'"),
        ({"columns": []}, StudyError, r"data\.attributes\.columns: .*at least 1"),
        ({"sheet": 2}, StudyError, r"data\.attributes\.sheet: Extra inputs"),
    ],
)
def test_a_table_that_cannot_be_used_is_a_message(
    tmp_path: Path, change: dict, error: type, message: str
) -> None:
    root = made_scans.bids(tmp_path)
    (root / "people.csv").write_text("who,age,site\nsub-01,34,North\n")
    with pytest.raises(error, match=message):
        listed("bids", root, attributes=PEOPLE | change)


def test_the_schema_of_a_study_knows_the_table() -> None:
    text = json.dumps(study_schema())
    assert "AttributeTable" in text
    assert "people.csv" not in text


STUDY = {
    "models": [{"name": "unet", "width": 4, "levels": 2}],
    "task": "segmentation",
    "training": {"epochs": 1},
    "split": {"rule": "patient", "test": 0.5},
    "perturbations": [{"name": "dag_a", "steps": 1}],
    "crafting": {"selftest": False},
}


def test_a_finished_run_learns_of_attributes_and_nothing_is_made_anew(tmp_path: Path) -> None:
    dataset = squares(scans=10)
    run = mr.run(STUDY, tmp_path / "run", dataset=dataset, device="cpu")
    assert run.results.attributes.is_empty()
    crafted = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "images").rglob("*")}
    known = {f"s{scan}": {"age": 30 + 5 * scan, "sex": "fm"[scan % 2]} for scan in range(9)}
    known["s8"] = {"age": float("nan"), "sex": "NA"}  # as pandas gives them
    run = mr.run(STUDY, tmp_path / "run", dataset=replace(dataset, attributes=known), device="cpu")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "images").rglob("*")} == crafted
    rows = read_results(RunFolder(tmp_path / "run"), ATTRIBUTES)
    tested = run.results.rows["scan_id"].unique().to_list()
    assert set(rows["scan_id"]) == {scan for scan in tested if scan not in ("s8", "s9")}
    assert dict(rows.filter(attribute="age").select("scan_id", "value").iter_rows()) == {
        scan: str(known[scan]["age"]) for scan in tested if scan not in ("s8", "s9")
    }
    table = pl.read_csv(tmp_path / "run" / "tables" / "subgroups.csv")
    assert table.filter(attribute="sex")["n_patients"].sum() == len(tested)
    sentences = json.loads((tmp_path / "run" / "results.json").read_text())["subgroups"]
    assert [text.split(":")[0] for text in sentences] == ["By age", "By sex"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'id="subgroups"' in page
    assert all(sentence in page for sentence in sentences)


def test_the_study_of_a_run_folder_may_name_them_later(tmp_path: Path) -> None:
    root = made_photos.image_folder(tmp_path / "data")
    (root / "people.csv").write_text("who,age,site\n" + "".join(f"P{n:03d},{n},A\n" for n in range(10)))
    data = {"name": "image_folder", "root": str(root), "size": 32, "patient_pattern": "(P[0-9]+)_"}
    study = {
        "task": "classification",
        "data": data,
        "models": [{"name": "mobilenet_v1", "weights": "none"}],
        "training": {"epochs": 1},
        "perturbations": [{"name": "fgsm", "eps": "4/255"}],
        "crafting": {"selftest": False},
    }
    mr.run(study, tmp_path / "run", device="cpu")
    run = mr.run({**study, "data": {**data, "attributes": PEOPLE}}, tmp_path / "run", device="cpu")
    assert run.results.attributes["attribute"].unique().sort().to_list() == ["age", "site"]
    with pytest.raises(RunError, match="was made with other data"):
        mr.run({**study, "data": {**data, "size": 40}}, tmp_path / "run", device="cpu")
