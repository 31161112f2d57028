"""Dermofit, the ISIC challenges and folders of one's own: layouts, groups, and what can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import made_photos
from damage import damaged, only_errors_that_name
from made_photos import write_photo, write_table
from medrobust.core import UNKNOWN, Part, Task
from medrobust.data import open_dataset
from medrobust.data.adapters.dermofit import list_dermofit
from medrobust.data.adapters.image_folder import list_image_folder
from medrobust.data.adapters.isic import list_isic
from medrobust.data.files import read_table
from medrobust.data.findings import Severity
from medrobust.errors import DataError, StudyError


def said(listing) -> list[str]:
    return [f"{finding.kind}: {finding.says}" for finding in listing.findings]


class TestDermofit:
    def test_counts_classes_and_inferred_patients(self, tmp_path):
        listing = list_dermofit(made_photos.dermofit(tmp_path))
        assert listing.classes == ("ak", "bcc", "df", "iec", "mel", "ml", "pyo", "scc", "sk", "vasc")
        assert (listing.unit, len(listing.items), listing.findings) == ("patient", 75, ())
        assert len({photo.patient_id for photo in listing.items}) == 50
        first, last = listing.items[0], listing.items[-1]
        assert (first.case_id, first.patient_id, first.label) == ("A10", "A10", 0)
        assert (last.case_id, last.patient_id, last.label) == ("P57b", "P57", 7)
        assert "inferred" in listing.facts["grouping"]

    def test_lesions_of_a_session_may_differ(self, tmp_path):
        root = made_photos.dermofit(tmp_path)
        write_photo(root / "MEL" / "A10z" / "A10z.png", 1)
        with (root / "lesionlist.txt").open("a") as file:
            file.write("99 A10z MEL\n")
        listing = list_dermofit(root)
        assert listing.findings == ()
        assert {photo.label for photo in listing.items if photo.patient_id == "A10"} == {0, 4}

    def test_lines_that_cannot_be(self, tmp_path):
        root = made_photos.dermofit(tmp_path)
        with (root / "lesionlist.txt").open("a") as file:
            file.write("1 A10 AK\n2 A9 AK extra\n3 x/../y AK\n4 A500 MELL\n5 A501 MEL\n6 A10 MEL\n")
        kinds, says = zip(*(line.split(": ", 1) for line in said(list_dermofit(root))), strict=True)
        strange = ("strange line", "strange line", "unknown label")
        assert kinds == (*strange, "listed twice", "listed twice", "image missing")
        assert "Unknown class 'mell'. Did you mean 'mel'?" in says[2]
        assert "row 82: image 'A10' is listed twice, and row 1 differs" in says[3]
        assert "1 rows repeat others: row 77" in says[4]
        assert "1 of the listed images have no file: 'A501'" in says[5]

    def test_no_list(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.root: no 'lesionlist\.txt'"):
            list_dermofit(tmp_path)
        (tmp_path / "lesionlist.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(DataError, match=r"lesionlist\.txt: cannot be read as a text in UTF-8"):
            list_dermofit(tmp_path)


class TestISIC:
    def test_2019(self, tmp_path):
        listing = list_isic(made_photos.isic(tmp_path))
        assert listing.classes == ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
        assert (listing.unit, len(listing.items)) == ("lesion", 60)
        (finding,) = listing.findings
        assert (finding.kind, finding.severity) == ("group missing", Severity.WARNING)
        assert "12 photographs have no lesion_id" in finding.says
        assert "12 photographs without one each count as a group of their own" in listing.facts["grouping"]
        assert len({photo.patient_id for photo in listing.items}) == 44
        assert (listing.items[0].case_id, listing.items[0].label) == ("ISIC_00000_downsampled", 0)
        assert (listing.items[-1].case_id, listing.items[-1].label) == ("ISIC_00391_downsampled", 7)
        assert listing.official is None

    def test_2018_with_its_split(self, tmp_path):
        listing = list_isic(made_photos.isic_2018(tmp_path))
        assert listing.classes == ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
        assert (listing.unit, len(listing.items)) == ("lesion", 49)
        parts = [listing.official[photo.patient_id] for photo in listing.items]
        assert [parts.count(part) for part in (Part.TRAIN, Part.VALIDATION, Part.TEST)] == [28, 7, 14]
        assert len({photo.patient_id for photo in listing.items}) == 14 + 21

    @pytest.mark.parametrize("end", ["", ".0"])  # pandas writes numbers so where a column had a gap
    def test_2020_by_patient(self, tmp_path, end):
        table = made_photos.isic_2020(tmp_path) / "train.csv"
        header, *rows = table.read_text().splitlines()
        table.write_text("\n".join([header, *(f"{row}{end}" for row in rows)]))
        listing = list_isic(tmp_path)
        assert (listing.classes, listing.unit) == (("benign", "malignant"), "patient")
        assert (len(listing.items), len({photo.patient_id for photo in listing.items})) == (30, 10)
        assert sum(photo.label for photo in listing.items) == 5
        assert listing.findings == ()

    def test_without_any_group_the_unit_is_the_image(self, tmp_path):
        root = made_photos.isic(tmp_path)
        (root / "ISIC_2019_Training_Metadata.csv").unlink()
        listing = list_isic(root)
        assert listing.unit == "image"
        assert listing.facts["grouping"].startswith("none: the data give no lesion_id")

    def test_rows_that_cannot_be(self, tmp_path):
        root = made_photos.isic(tmp_path)
        zeros = ["0.0"] * 9
        with (root / "ISIC_2019_Training_GroundTruth.csv").open("a") as file:
            for cells in (
                ["ISIC_00000_downsampled", "0.0", "1.0", *zeros[2:]],
                ["ISIC_A", *zeros],
                ["ISIC_B", "1.0", "1.0", *zeros[2:]],
                ["ISIC_C", "0.5", "0.5", *zeros[2:]],
                ["ISIC_D", "x", *zeros[1:]],
                ["", "1.0", *zeros[1:]],
                ["ISIC_E", "1.0", *zeros[1:]],
            ):
                file.write(",".join(cells) + "\n")
        says = said(list_isic(root))
        assert [line.partition(":")[0] for line in says[:6]] == [
            "listed twice",
            *["unknown label"] * 4,
            "identifier missing",
        ]
        assert "row 63 (ISIC_A): must have 1 in one of MEL, NV" in says[1]
        assert "1 of the listed images have no file: 'ISIC_E'" in says[-1]

    def test_a_lesion_with_two_labels_is_a_warning(self, tmp_path):
        root = made_photos.isic_2018(tmp_path)
        table = root / "ISIC2018_Task3_Training_GroundTruth.csv"
        lines = table.read_text().splitlines()
        lines[1] = lines[1].replace("1.0,0.0", "0.0,1.0")
        table.write_text("\n".join(lines))
        finding = list_isic(root).findings[-1]
        assert finding.severity is Severity.WARNING
        assert "1 lesions have images with different labels: 'HAM_0000000'" in finding.says

    def test_which_year(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.root: no table of diagnoses .* 'ISIC_2019_Training"):
            list_isic(tmp_path)
        made_photos.isic_2018(tmp_path)
        made_photos.isic_2020(tmp_path)
        with pytest.raises(
            DataError, match=r"holds tables of several years, .*_GroundTruth\.csv.*train\.csv"
        ):
            list_isic(tmp_path)


class TestImageFolder:
    def test_class_folders(self, tmp_path):
        root = made_photos.image_folder(tmp_path)
        (root / "benign" / "._P000_0.png").write_text("what a Mac leaves")
        (root / "benign" / "notes.txt").write_text("no image")
        listing = list_image_folder(root)
        assert (listing.classes, listing.unit) == (("benign", "malignant"), "image")
        assert (len(listing.items), listing.official) == (30, None)
        assert said(listing) == [
            f"files left out: 1 files in {root} are of other kinds, and are left out: 'benign/notes.txt'."
        ]
        assert (listing.items[0].case_id, listing.items[0].label) == ("benign/P000_0.png", 0)
        assert (listing.items[-1].case_id, listing.items[-1].label) == ("malignant/P009_2.tif", 1)
        assert "none: the data give no patient" in listing.facts["grouping"]

    def test_patients_in_names(self, tmp_path):
        root = made_photos.image_folder(tmp_path)
        listing = list_image_folder(root, patient_pattern=r"(P\d+)_")
        assert listing.unit == "patient"
        assert len({photo.patient_id for photo in listing.items}) == 10
        assert "inferred from the names of files by (P\\d+)_" in listing.facts["grouping"]
        for wrong, message in (("(P", "is not a valid regular expression"), ("P", "must have one group")):
            with pytest.raises(StudyError, match=rf"data\.patient_pattern: .*{message}"):
                open_dataset({"name": "image_folder", "root": root, "patient_pattern": wrong}, None, None)

    def test_all_depths_and_colours_together(self, tmp_path):
        """16-bit grey, 8-bit grey and colour: 16 bits, three channels, and the same picture is the same."""
        root = made_photos.image_folder(tmp_path)
        block = {"name": "image_folder", "root": root, "size": 32}
        dataset = open_dataset(block, None, None)
        assert (dataset.channels, dataset.bits) == (3, 16)
        (root / "benign" / "P000_0.png").unlink()
        write_photo(root / "benign" / "P000_0.png", 0, (45, 60))
        eight = open_dataset(block, None, None)
        one, other = (data.read(data.cases[0]).image for data in (dataset, eight))
        np.testing.assert_allclose(one, other, atol=1.5 / 255)
        grey = open_dataset({**block, "colour": "grey"}, None, None)
        assert grey.channels == 1
        assert grey.read(grey.cases[2]).image.shape == (1, 32, 32)

    def test_white_is_white_at_every_depth(self, tmp_path):
        for label, dtype, white in (("a", np.uint8, 255), ("b", np.uint16, 65535)):
            (tmp_path / label).mkdir()
            Image.fromarray(np.full((40, 40), white, dtype)).save(tmp_path / label / "x.png")
        dataset = open_dataset({"name": "image_folder", "root": tmp_path, "size": 32}, None, None)
        assert dataset.bits == 16
        assert all((dataset.read(case).image == 1).all() for case in dataset.cases)

    def test_intensity_of_each_image(self, tmp_path):
        for label in ("a", "b"):
            (tmp_path / label).mkdir()
            values = 1000 + made_photos.pixels(1, (40, 40)).astype(np.uint16)
            Image.fromarray(values).save(tmp_path / label / "x.png")
        dark = open_dataset({"name": "image_folder", "root": tmp_path, "size": 32}, None, None)
        full = open_dataset(
            {"name": "image_folder", "root": tmp_path, "size": 32, "intensity": "min-max"}, None, None
        )
        assert full.read(full.cases[0]).image.min() == 0
        assert full.read(full.cases[0]).image.max() == 1
        assert 1100 / 65535 <= dark.read(dark.cases[0]).image.max() <= 1300 / 65535
        assert full.fingerprint != dark.fingerprint

    def test_folders_of_a_split(self, tmp_path):
        for part in ("Train", "Test"):
            for label in ("nevus", "melanoma"):
                for number in range(2):
                    write_photo(tmp_path / part / label / f"{number}.jpg", number)
        listing = list_image_folder(tmp_path)
        assert listing.classes == ("melanoma", "nevus")
        assert sorted(listing.official.values()) == ["test"] * 4 + ["train"] * 4
        same = list_image_folder(tmp_path, patient_pattern=r"(\d+)\.jpg")
        assert said(same) == [
            "patient on both sides: 2 patients have files in several parts of the data's split: '0', '1'."
        ]

    @pytest.fixture
    def table(self, tmp_path) -> Path:
        for number in range(6):
            write_photo(tmp_path / "files" / f"{number}.png", number)
        rows = [(f"files/{n}.png", "ab"[n % 2], f"p{n // 2}", ("train", "Test")[n // 4]) for n in range(6)]
        write_table(tmp_path / "list.csv", ("file", "class", "who", "part"), rows)
        return tmp_path

    def columns(self, **keys):
        return {"table": "list.csv", "path_column": "file", "label_column": "class", **keys}

    def test_a_table(self, table):
        listing = list_image_folder(table, **self.columns(patient_column="who", part_column="part"))
        assert (listing.classes, listing.unit, len(listing.items)) == (("a", "b"), "patient", 6)
        assert listing.official == {"p0": Part.TRAIN, "p1": Part.TRAIN, "p2": Part.TEST}
        assert list_image_folder(table, **self.columns()).unit == "image"

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("../secret.png,a,p,train", r"row 8: the path '\.\./secret\.png' leads out of"),
            ("/etc/passwd,a,p,train", "row 8: the path '/etc/passwd' leads out of"),
            ("files/9.png,a,p,train", r"row 8: there is no file 'files/9\.png'"),
            ("files/0.png,b,p,train", r"row 8: image 'files/0\.png' is listed twice, and row 2 differs"),
            (",a,p,train", "row 8: a path in .* is empty"),
            ("files,a,p,train", "row 8: there is no file 'files'"),
            ("files/0.png,a,p,later", "row 8: part must be train, validation or test; got 'later'"),
            ("files/0.png,,p,train", r"list\.csv: 1 of 7 rows have no class: row 8 \(''\)"),
        ],
    )
    def test_rows_that_cannot_be(self, table, row, message):
        with (table / "list.csv").open("a") as file:
            file.write(row + "\n")
        block = {"name": "image_folder", "root": table, **self.columns(part_column="part")}
        with pytest.raises(DataError, match=message):
            open_dataset(block, None, None)

    def test_a_link_out_of_the_folder(self, table, tmp_path_factory):
        outside = tmp_path_factory.mktemp("outside") / "x.png"
        write_photo(outside, 1)
        (table / "files" / "5.png").unlink()
        (table / "files" / "5.png").symlink_to(outside)
        with pytest.raises(DataError, match="leads out of the data's folder"):
            open_dataset({"name": "image_folder", "root": table, **self.columns()}, None, None)

    def test_what_cannot_be_asked_for(self, table):
        with pytest.raises(StudyError, match=r"data\.patient_column: is a column of `table`"):
            list_image_folder(table, patient_column="who")
        with pytest.raises(DataError, match=r"data\.table: there is no file 'lst\.csv'"):
            list_image_folder(table, table="lst.csv")
        with pytest.raises(DataError, match="column 'path', 'label' is missing; found 'file', 'class'"):
            list_image_folder(table, table="list.csv")
        with pytest.raises(DataError, match=r"2 to 1000 classes are needed; found 1 \('files'\)"):
            list_image_folder(table)

    def test_files_in_no_class_folder(self, table):
        write_photo(table / "loose.png", 1)
        write_photo(table / "other" / "x.png", 1)
        (table / "list.csv").unlink()
        assert said(list_image_folder(table)) == [
            f"no class: {table / 'loose.png'} is not in a class folder."
        ]

    def test_pictures_of_other_formats_are_a_warning(self, table):
        for suffix in ("gif", "webp"):
            Image.new("L", (8, 8)).save(table / "files" / f"x.{suffix}")
        write_photo(table / "other" / "x.png", 1)
        (finding,) = list_image_folder(table).findings
        assert (finding.kind, finding.severity) == ("files left out", Severity.WARNING)
        assert "2 files in" in finding.says
        assert "pictures of formats that are not read" in finding.says
        assert "'files/x.gif', 'files/x.webp'" in finding.says

    def test_a_folder_of_nothing_but_other_formats(self, tmp_path):
        for label in "ab":
            (tmp_path / label).mkdir()
            Image.new("L", (8, 8)).save(tmp_path / label / "x.gif")
        with pytest.raises(
            DataError, match=r"found none. 2 files in .* formats that are not read, .*'a/x\.gif'"
        ):
            list_image_folder(tmp_path)


class TestMissingWords:
    """What pandas, R and people write for a missing cell is no class and no patient."""

    WORDS = (
        "nan",
        "NaN",
        "NA",
        "N/A",
        "<NA>",
        "None",
        "null",
        "-",
        "?",
        "unknown",
        "not available",
        "missing",
    )

    @pytest.fixture
    def listed(self, tmp_path):
        for number in range(9):
            write_photo(tmp_path / f"{number}.png", number)

        def listed(labels="ababababa", patients="ppqqrrsss", **keys):
            rows = [
                (f"{n}.png", label, who) for n, (label, who) in enumerate(zip(labels, patients, strict=True))
            ]
            write_table(tmp_path / "list.csv", ("path", "label", "who"), rows)
            return list_image_folder(tmp_path, table="list.csv", patient_column="who", **keys)

        return listed

    @pytest.mark.parametrize("word", WORDS)
    def test_a_patient(self, listed, word):
        listing = listed(patients=["p", "p", "q", "q", "r", *[word] * 4])
        owners = [photo.patient_id for photo in listing.items]
        assert owners == ["p", "p", "q", "q", "r", *(f"image {n}.png" for n in range(5, 9))]
        assert (listing.classes, listing.unit) == (("a", "b"), "patient")
        (finding,) = listing.findings
        assert (finding.kind, finding.severity) == ("group missing", Severity.WARNING)
        assert f"4 photographs have no who (it says '{word}'): '5.png'" in finding.says

    def test_no_patient_at_all(self, listed):
        for patients in (["NA"] * 9, [""] * 9):
            listing = listed(patients=patients)
            assert listing.unit == "image"
            assert [finding.kind for finding in listing.findings] == ["group missing"]

    @pytest.mark.parametrize("word", ["", *WORDS])
    def test_a_label(self, listed, word):
        listing = listed(labels=[*"abababa", word, word])
        assert (listing.classes, len(listing.items)) == (("a", "b"), 7)
        (finding,) = listing.findings
        assert (finding.kind, finding.severity) == ("label missing", Severity.ERROR)
        assert f"2 of 9 rows have no label: row 9 ('{word}'), row 10 ('{word}')." in finding.says
        assert "data.classes" in finding.advice

    def test_a_class_that_the_study_lists(self, listed):
        labels = [*"ababab", *["unknown"] * 3]
        listing = listed(labels=labels, classes=["unknown", "b", "a"])
        assert (listing.classes, listing.findings) == (("unknown", "b", "a"), ())
        assert [photo.label for photo in listing.items] == [2, 1, 2, 1, 2, 1, 0, 0, 0]
        assert [
            finding.kind
            for finding in listed(labels=[*labels[:-1], "NA"], classes=["unknown", "b", "a"]).findings
        ] == ["label missing"]

    def test_classes_that_do_not_fit(self, listed, tmp_path):
        assert said(listed(classes=["a", "c"]))[0].startswith("wrong row: ")
        assert "row 3: Unknown class 'b'. Known: a, c." in said(listed(classes=["a", "c"]))[0]
        assert said(listed(classes=["a", "b", "c"])) == [
            f"class without images: {tmp_path / 'list.csv'}: no image of class 'c'."
        ]
        for classes in (["a"], ["a", "a"]):
            with pytest.raises(StudyError, match=r"data\.classes: "):
                open_dataset({"name": "image_folder", "root": tmp_path, "classes": classes}, None, None)

    def test_a_folder_is_a_class_and_a_doubt(self, tmp_path):
        for label in ("a", "b", "nan"):
            write_photo(tmp_path / label / "0.png", ord(label[0]))
        listing = list_image_folder(tmp_path)
        assert listing.classes == ("a", "b", "nan")
        (finding,) = listing.findings
        assert (finding.kind, finding.severity) == ("doubtful class", Severity.WARNING)
        assert list_image_folder(tmp_path, classes=["a", "b", "nan"]).findings == ()
        (finding,) = list_image_folder(tmp_path, classes=["a", "b"]).findings
        assert (finding.kind, finding.severity) == ("unknown label", Severity.ERROR)

    def test_a_patient_in_names(self, tmp_path):
        for name in ("a/P1_0.png", "b/P2_0.png", "a/NA_0.png", "a/NA_1.png"):
            write_photo(tmp_path / name, len(name))
        listing = list_image_folder(tmp_path, patient_pattern="/(.*)_")
        assert len({photo.patient_id for photo in listing.items}) == 4
        assert [finding.kind for finding in listing.findings] == ["group missing"]

    def test_names_that_are_nearly_the_same(self, listed):
        findings = listed(
            labels=["A", *"babababa"], patients=["1", "1.0", "2", "2", "p X", "pX", *"qrs"]
        ).findings
        assert [(finding.kind, finding.severity) for finding in findings] == [
            ("similar names", Severity.WARNING)
        ] * 2
        assert "patients whose names are nearly the same: '1', '1.0', 'p X', 'pX'" in findings[0].says
        assert "classes whose names are nearly the same: 'A', 'a'" in findings[1].says
        assert listed(labels="121212121", patients=["1", "10", "1.5", "01", *"abcde"]).findings == ()

    def test_isic(self, tmp_path):
        root = made_photos.isic(tmp_path)
        table = root / "ISIC_2019_Training_Metadata.csv"
        table.write_text(table.read_text().replace(",,female", ",NA,female"))
        listing = list_isic(root)
        assert len({photo.patient_id for photo in listing.items}) == 44
        assert "12 photographs have no lesion_id" in listing.findings[0].says


class TestRowsThatSayTheSame:
    def test_a_row_that_repeats_another_is_a_note(self, tmp_path):
        for number in range(4):
            write_photo(tmp_path / f"{number}.png", number)
        rows = [(f"{n}.png", "ab"[n % 2]) for n in range(4)]
        write_table(tmp_path / "list.csv", ("path", "label"), [*rows, rows[0], rows[1]])
        listing = list_image_folder(tmp_path, table="list.csv")
        assert len(listing.items) == 4
        (finding,) = listing.findings
        assert (finding.kind, finding.severity) == ("listed twice", Severity.NOTE)
        assert "2 rows repeat others: row 6, row 7." in finding.says

    def test_isic_with_two_lesions_for_an_image(self, tmp_path):
        root = made_photos.isic(tmp_path)
        table = root / "ISIC_2019_Training_Metadata.csv"
        with table.open("a") as file:
            file.write("ISIC_00010,55.0,,BCN_1111111,female\nISIC_00010,56.0,,BCN_0000001,female\n")
        findings = [finding for finding in list_isic(root).findings if finding.kind == "contradiction"]
        assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.WARNING]
        assert (
            "'ISIC_00010' has the lesion_id 'BCN_0000001' (row 3) and 'BCN_1111111' (row 62)"
            in findings[0].says
        )
        assert "'ISIC_00010' has the age '55.0' (row 3) and '56.0' (row 63)" in findings[1].says


class TestWhatIsRefusedIsSaid:
    def test_the_reason_goes_before_what_follows_from_it(self, tmp_path):
        write_photo(tmp_path / "0.png", 0)
        write_table(tmp_path / "list.csv", ("path", "label"), [(f"{n}.jpg", "ab"[n % 2]) for n in range(6)])
        block = {"name": "image_folder", "root": tmp_path, "table": "list.csv"}
        with pytest.raises(
            DataError, match=r"row 2: there is no file '0\.jpg' .*Did you mean.*\(5 more errors"
        ):
            open_dataset(block, None, None)
        people = {"table": "list.csv", "key": "path", "columns": ["label"]}
        with pytest.raises(DataError, match=r"row 2: there is no file '0\.jpg' .*\(5 more errors"):
            open_dataset({**block, "attributes": people}, None, None)

    def test_a_table_without_rows(self, tmp_path):
        write_table(tmp_path / "list.csv", ("path", "label"), [])
        with pytest.raises(DataError, match=r"list\.csv: has no rows below its header"):
            list_image_folder(tmp_path, table="list.csv")

    @pytest.mark.parametrize(
        "write",
        ["files\\{}.png", "C:\\d\\files\\{}.png", "/home/x/files/{}.png", "files/{}", "ROOT/files/{}.png"],
    )
    @pytest.mark.parametrize("separator", ",;\t|")
    def test_paths_as_other_machines_write_them(self, tmp_path, write, separator):
        for number in range(4):
            write_photo(tmp_path / "files" / f"{number}.png", number)
        lines = [
            f"{write.replace('ROOT', str(tmp_path)).format(n)}{separator}{'ab'[n % 2]}\n" for n in range(4)
        ]
        (tmp_path / "list.csv").write_text(f"path{separator}label\n" + "".join(lines))
        listing = list_image_folder(tmp_path, table="list.csv")
        assert [photo.case_id for photo in listing.items] == [f"files/{number}.png" for number in range(4)]
        assert listing.findings == ()


class TestHostileTables:
    content = b"path,label\n" + b"".join(b"%d.png,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(8))

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=damaged(content, changes=8) | st.binary(max_size=200))
    def test_damage_is_a_message_or_a_finding(self, tmp_path, content):
        for number in range(8):
            if not (tmp_path / f"{number}.png").exists():
                write_photo(tmp_path / f"{number}.png", number)
        (tmp_path / "list.csv").write_bytes(content)
        try:
            listing = list_image_folder(tmp_path, table="list.csv")
        except DataError as error:
            assert "list.csv" in str(error) or "classes are needed" in str(error)  # noqa: PT017
        else:
            assert all(photo.path.parent == tmp_path for photo in listing.items)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"a,b\n" * 40 + b"x" * 200_000, "a line is longer than 131,072 characters"),
            (b"a,b\n" + b"," * 200_000, "a line is longer than 131,072 characters"),
            (b"a,b\n" + b'"' + b"\n" * 200_000, "field larger than"),
            (
                ",".join(f"a{n or ''}" for n in range(10_000)).encode() + b"\n" + b"1\n" * 1500,
                "over 10,000,000 cells",
            ),
            (b"a,b\n" + b"1,2\n" * 2**24, "is larger than 64 MB"),
        ],
        ids=["long line", "many cells", "open quote", "wide", "large"],
    )
    def test_tables_that_would_fill_the_memory(self, tmp_path, content, message):
        path = tmp_path / "list.csv"
        path.write_bytes(content)
        with only_errors_that_name(path), pytest.raises(DataError, match=message):
            read_table(path, ["a"])


class TestFindings:
    """Tables that name several findings of an image."""

    @pytest.fixture
    def root(self, tmp_path):
        for number in range(6):
            write_photo(tmp_path / f"{number}.png", number)
        return tmp_path

    def table(self, root, header, *cells):
        rows = [f"{number}.png,{cell}" for number, cell in enumerate(cells)]
        (root / "t.csv").write_text("\n".join([header, *rows]) + "\n")

    SEVERAL = ("Mass|Effusion", "No Finding", "Effusion", "no finding", "Mass", "Effusion | Nodule")

    def test_one_column_with_a_separator(self, root):
        self.table(root, "path,label", *self.SEVERAL)
        listing = list_image_folder(root, Task.MULTILABEL, table="t.csv")
        assert (listing.task, listing.classes) == (Task.MULTILABEL, ("Effusion", "Mass", "Nodule"))
        labels = [photo.label for photo in listing.items]
        assert labels == [(1, 1, 0), (0, 0, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0), (1, 0, 1)]
        assert listing.facts["classes"] == "Effusion 3, Mass 2, Nodule 1"
        assert listing.findings == ()

    def test_a_column_for_each(self, root):
        self.table(root, "path,mass,effusion", "1,0", "0,", "1.0,-1", "0,1", "0,0", "1,yes")
        listing = list_image_folder(
            root, Task.MULTILABEL, table="t.csv", finding_columns=["effusion", "mass"]
        )
        labels = [photo.label for photo in listing.items]
        assert labels == [(0, 1), (UNKNOWN, 0), (UNKNOWN, 1), (1, 0), (0, 0), (1, 1)]
        assert listing.classes == ("effusion", "mass")

    def test_cells_that_cannot_be(self, root):
        self.table(root, "path,mass,effusion", "1,0", "2,0", "-1,", "0,1", "0,0", "1,1")
        listing = list_image_folder(
            root, Task.MULTILABEL, table="t.csv", finding_columns=["effusion", "mass"]
        )
        assert [line.partition(":")[0] for line in said(listing)] == ["label missing", "wrong row"]
        assert "mass must be 1 (present), 0 (absent), or -1 or empty (not known); got '2'" in said(listing)[1]
        self.table(root, "path,label", *self.SEVERAL)
        listing = list_image_folder(root, Task.MULTILABEL, table="t.csv", classes=["Mass", "Effusion"])
        assert "Unknown finding 'Nodule'" in said(listing)[0]

    def test_such_labels_never_become_classes(self, root):
        self.table(root, "path,label", *self.SEVERAL)
        with pytest.raises(DataError, match=r"'Effusion \| Nodule' look like several findings"):
            list_image_folder(root, table="t.csv")
        listing = list_image_folder(root, table="t.csv", classes=[*self.SEVERAL])
        assert (listing.task, len(listing.classes)) == (Task.CLASSIFICATION, 6)

    def test_measurements_never_become_classes(self, tmp_path):
        for number in range(30):
            write_photo(tmp_path / f"{number}.png", number)
        self.table(tmp_path, "path,label", *(f"{1.37 * number:.2f}" for number in range(30)))
        with pytest.raises(DataError, match=r"30 different numbers for 30 images, .* regression"):
            list_image_folder(tmp_path, table="t.csv")
        self.table(tmp_path, "path,label", *(str(number % 10) for number in range(30)))
        assert len(list_image_folder(tmp_path, table="t.csv").classes) == 10

    def test_what_does_not_go_together(self, root):
        self.table(root, "path,label", *(["Mass"] * 6))
        with pytest.raises(
            DataError, match=r"2 to 1000 findings are needed; label names 1 \('Mass'\), separated"
        ):
            list_image_folder(root, Task.MULTILABEL, table="t.csv")
        with pytest.raises(StudyError, match=r"data\.table: with `task: multilabel` a table names"):
            list_image_folder(root, Task.MULTILABEL)
        with pytest.raises(StudyError, match=r"data\.finding_columns: are of a study with `task"):
            list_image_folder(root, table="t.csv", finding_columns=["a", "b"])
