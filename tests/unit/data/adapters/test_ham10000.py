"""HAM10000: its folder layouts, what a picture becomes, and every kind of damaged data."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrobust.core import Task
from medrobust.data import open_dataset
from medrobust.data.adapters.ham10000 import CLASSES
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import framed_picture
from medrobust.errors import DataError, StudyError


def decode(path, size):
    return framed_picture(IMAGE_FILES.picture(path), size, "crop", 3)


COLUMNS = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
LAYOUTS = [("images",), ("HAM10000_images_part_1", "HAM10000_images_part_2"), ("",)]


def open_ham10000(root, cache, **parameters):
    return open_dataset({"name": "ham10000", "root": root, **parameters}, cache, None)


def rows():
    """Two lesions of each class; the first lesion of each class is pictured twice."""
    table = []
    for index, dx in enumerate(CLASSES):
        for view, lesion in enumerate((2 * index, 2 * index, 2 * index + 1)):
            image = f"ISIC_{27 - 3 * index:04d}{view}"
            table.append([f"HAM_{lesion:07d}", image, dx, "histo", "60.0", "male", "back"])
    return table


def write_table(root, table, columns=COLUMNS, name="HAM10000_metadata.csv"):
    with (root / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(table)


@pytest.fixture
def twin(tmp_path):
    """A tiny HAM10000 in the layout of its download."""
    return make_twin(tmp_path / "ham10000", LAYOUTS[1])


def make_twin(root, folders):
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows()):
        pixels = np.random.default_rng(number).integers(0, 256, size=(15, 20, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((60, 45), Image.Resampling.BICUBIC)
        image.save(root / folders[number % len(folders)] / f"{row[1]}.jpg", quality=95)
    write_table(root, rows())
    return root


def file_of(root, image):
    (path,) = root.rglob(f"{image}.jpg")
    return path


class TestOpening:
    @pytest.mark.parametrize("folders", LAYOUTS, ids=["images", "parts", "loose"])
    def test_all_layouts_hold_the_same_cases(self, tmp_path, folders):
        dataset = open_ham10000(make_twin(tmp_path, folders), None, size=32)
        assert (dataset.task, dataset.unit, dataset.phantom) == (Task.CLASSIFICATION, "lesion", False)
        assert dataset.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
        assert (dataset.channels, dataset.shape, dataset.bits) == (3, (32, 32), 8)
        cases = {case.case_id: case for case in dataset.cases}
        assert list(cases) == sorted(row[1] for row in rows())
        for lesion, image, dx, *_ in rows():
            assert (cases[image].patient_id, cases[image].scan_id) == (lesion, image)
            assert dataset.classes[cases[image].label] == dx

    def test_the_table_may_lack_its_ending_and_begin_with_a_byte_order_mark(self, twin):
        table = twin / "HAM10000_metadata.csv"
        (twin / "HAM10000_metadata").write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
        table.unlink()
        assert len(open_ham10000(twin, None).cases) == 21

    def test_images_that_the_table_does_not_list_are_left_out(self, twin):
        write_table(twin, [row for row in rows() if row[1] != "ISIC_00270"])
        assert "ISIC_00270" not in {case.case_id for case in open_ham10000(twin, None).cases}

    def test_an_image_in_two_folders_counts_once(self, twin):
        (twin / "images").mkdir()
        (twin / "images" / "ISIC_00270.jpg").write_bytes(file_of(twin, "ISIC_00270").read_bytes())
        assert len(open_ham10000(twin, None).cases) == 21

    def test_facts_say_how_pictures_were_cut_and_that_groups_are_lesions(self, twin):
        facts = open_ham10000(twin, None, size=48).facts
        assert "centred square, resized to 48 x 48" in facts["geometry"]
        assert "lesion_id" in facts["grouping"]
        assert facts["images"] == "21 of 14 lesions"
        assert "df 3" in facts["classes"]


class TestReading:
    def test_a_sample_is_the_resized_centre(self, twin):
        dataset = open_ham10000(twin, None, size=32)
        case = dataset.cases[4]
        image, label = dataset.read(case)
        assert (image.shape, image.dtype, label.dtype) == ((3, 32, 32), np.float32, np.int64)
        assert label == case.label
        with Image.open(file_of(twin, case.case_id)) as picture:
            centre = picture.crop((7.5, 0, 52.5, 45)).resize((32, 32), Image.Resampling.BICUBIC)
        assert np.abs(image * 255 - np.asarray(centre, float).transpose(2, 0, 1)).mean() < 12

    def test_resizing_is_antialiased(self, tmp_path):
        stripes = np.zeros((256, 256, 3), np.uint8)
        stripes[:, ::2] = 255
        Image.fromarray(stripes).save(tmp_path / "stripes.png")
        assert decode(tmp_path / "stripes.png", 32)[:, :, 2:-2] == pytest.approx(127.5, abs=3)

    def test_proportions_are_kept(self, tmp_path):
        wide = np.zeros((100, 300, 3), np.uint8)
        wide[:, 100:200] = 255
        Image.fromarray(wide).save(tmp_path / "wide.png")
        assert decode(tmp_path / "wide.png", 50)[:, :, 2:-2].min() == 255

    def test_a_photograph_taken_sideways_is_turned_upright(self, tmp_path):
        top_red = np.zeros((64, 64, 3), np.uint8)
        top_red[:32, :, 0] = 255
        image = Image.fromarray(np.rot90(top_red).copy())
        exif = Image.Exif()
        exif[0x0112] = 6  # shown after turning by 90 degrees clockwise
        image.save(tmp_path / "turned.png", exif=exif)
        pixels = decode(tmp_path / "turned.png", 32)
        assert pixels[0, :14].min() > 240
        assert pixels[0, 18:].max() < 15

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
    def test_every_colour_mode_becomes_rgb(self, tmp_path, mode):
        path = tmp_path / f"picture.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new("RGB", (40, 40), (204, 204, 204)).convert(mode).save(path)
        assert decode(path, 32).astype(int) == pytest.approx(204, abs=4)

    def test_decoding_happens_once(self, twin, tmp_path):
        dataset = open_ham10000(twin, tmp_path / "cache", size=32)
        case = dataset.cases[0]
        first = dataset.read(case).image
        assert type(first) is np.ndarray
        file_of(twin, case.case_id).unlink()
        assert np.array_equal(dataset.read(case).image, first)

    def test_a_changed_image_is_not_read_from_the_old_cache(self, twin, tmp_path):
        cache = tmp_path / "cache"
        dataset = open_ham10000(twin, cache, size=32)
        case = dataset.cases[0]
        before = dataset.read(case).image
        path = file_of(twin, case.case_id)
        Image.new("RGB", (60, 45), (9, 9, 9)).save(path)
        changed = open_ham10000(twin, cache, size=32)
        assert changed.fingerprint != dataset.fingerprint
        assert np.abs(changed.read(case).image - before).max() > 0.2


class TestFingerprint:
    def test_the_same_data_have_the_same_fingerprint_wherever_they_lie(self, tmp_path):
        one, other = (make_twin(tmp_path / name, LAYOUTS[0]) for name in ("one", "other"))
        assert open_ham10000(one, None).fingerprint == open_ham10000(other, tmp_path / "c").fingerprint

    def test_it_depends_on_the_size(self, twin):
        assert (
            open_ham10000(twin, None, size=32).fingerprint != open_ham10000(twin, None, size=33).fingerprint
        )

    def test_it_depends_on_the_table(self, twin):
        before = open_ham10000(twin, None).fingerprint
        write_table(twin, rows()[:-1])
        assert open_ham10000(twin, None).fingerprint != before

    def test_it_depends_on_one_byte_of_one_image(self, twin):
        before = open_ham10000(twin, None).fingerprint
        path = file_of(twin, "ISIC_00270")
        data = bytearray(path.read_bytes())
        data[-10] ^= 1
        path.write_bytes(data)
        assert open_ham10000(twin, None).fingerprint != before


def changed_row(number, **values):
    table = rows()
    for column, value in values.items():
        table[number][COLUMNS.index(column)] = value
    return table


class TestBadInput:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(
            DataError, match=r"data\.root: the folder of 'ham10000' does not exist; got .*nowhere"
        ):
            open_ham10000(tmp_path / "nowhere", None)
        with pytest.raises(
            StudyError, match=r"data\.root: 'ham10000' needs the folder of its files; got None"
        ):
            open_ham10000(None, None)

    def test_missing_table(self, twin):
        (twin / "HAM10000_metadata.csv").unlink()
        with pytest.raises(DataError, match=r"no 'HAM10000_metadata\.csv' in .*ham10000"):
            open_ham10000(twin, None)

    def test_missing_columns(self, twin):
        write_table(twin, [row[1:2] + row[3:] for row in rows()], columns=COLUMNS[1:2] + COLUMNS[3:])
        with pytest.raises(
            DataError, match=r"column 'lesion_id', 'dx' is missing; found 'image_id', 'dx_type'"
        ):
            open_ham10000(twin, None)

    def test_empty_table(self, twin):
        (twin / "HAM10000_metadata.csv").write_text("")
        with pytest.raises(DataError, match="column 'lesion_id', 'image_id', 'dx' is missing"):
            open_ham10000(twin, None)

    @pytest.mark.parametrize(
        "content", [b"lesion_id,image_id,dx\n\xff\xfe", b'lesion_id,image_id,dx\n"' + b"x" * 200_000]
    )
    def test_a_table_that_is_no_text(self, twin, content):
        (twin / "HAM10000_metadata.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"metadata\.csv: cannot be read as a table"):
            open_ham10000(twin, None)

    def test_missing_images_are_named(self, twin):
        for image in ("ISIC_00270", "ISIC_00181"):
            file_of(twin, image).unlink()
        with pytest.raises(
            DataError, match=r"2 of the listed images have no file: 'ISIC_00181', 'ISIC_00270'\. Searched"
        ):
            open_ham10000(twin, None)

    def test_many_missing_images_are_counted(self, twin):
        for path in twin.rglob("*.jpg"):
            path.unlink()
        with pytest.raises(DataError, match=r"21 of the listed images have no file: .* and 16 more"):
            open_ham10000(twin, None)

    def test_unknown_diagnosis_suggests_the_nearest(self, twin):
        write_table(twin, changed_row(4, dx="bbc"))
        with pytest.raises(
            DataError, match=r"row 6 \(ISIC_00241\): Unknown diagnosis \(dx\) 'bbc'. Did you mean 'bcc'"
        ):
            open_ham10000(twin, None)

    def test_an_image_listed_twice(self, twin):
        write_table(twin, [*rows(), [*rows()[0][:-1], "elsewhere"]])
        with pytest.raises(DataError, match="row 23: image 'ISIC_00270' is listed twice, and row 2 differs"):
            open_ham10000(twin, None)
        write_table(twin, [*rows(), rows()[0]])
        assert len(open_ham10000(twin, None).cases) == 21

    def test_a_lesion_with_two_diagnoses(self, twin):
        write_table(twin, changed_row(1, dx="mel"))
        with pytest.raises(DataError, match="lesion 'HAM_0000000' has two diagnoses, 'akiec' and 'mel'"):
            open_ham10000(twin, None)

    @pytest.mark.parametrize("column", ["lesion_id", "image_id"])
    def test_an_empty_identifier(self, twin, column):
        write_table(twin, changed_row(2, **{column: " "}))
        with pytest.raises(DataError, match="row 4: lesion_id and image_id must be known"):
            open_ham10000(twin, None)

    def test_a_row_that_was_cut_short(self, twin):
        write_table(twin, [*rows(), ["HAM_0000099", "ISIC_0000099"]])
        with pytest.raises(DataError, match=r"row 23 \(ISIC_0000099\): Unknown diagnosis \(dx\) ''"):
            open_ham10000(twin, None)

    def test_a_class_without_images(self, twin):
        write_table(twin, [row for row in rows() if row[2] not in ("df", "nv")])
        with pytest.raises(DataError, match="no image of class 'df', 'nv'"):
            open_ham10000(twin, None)

    @pytest.mark.parametrize("damage", ["empty", "cut short", "not an image"])
    def test_an_image_that_cannot_be_read_is_named(self, twin, damage, tmp_path):
        path = file_of(twin, "ISIC_00270")
        data = path.read_bytes()
        path.write_bytes(
            {"empty": b"", "cut short": data[: len(data) // 2], "not an image": b"hello"}[damage]
        )
        dataset = open_ham10000(twin, tmp_path / "cache", size=32)
        case = next(case for case in dataset.cases if case.case_id == "ISIC_00270")
        for _ in range(2):
            with pytest.raises(DataError, match=r"ISIC_00270\.jpg: cannot be read as an image"):
                dataset.read(case)

    def test_an_image_that_is_a_folder(self, twin):
        path = file_of(twin, "ISIC_00270")
        path.unlink()
        path.mkdir()
        with pytest.raises(DataError, match=r"ISIC_00270\.jpg: cannot be read \(Is a directory\)"):
            open_ham10000(twin, None)


@pytest.fixture(scope="module")
def real():
    return open_ham10000(Path(os.environ["MEDROBUST_DATA"]) / "ham10000", None, size=128)


@pytest.mark.data
@pytest.mark.skipif(
    "MEDROBUST_DATA" not in os.environ, reason="real data only where MEDROBUST_DATA says they are"
)
class TestRealData:
    def test_counts(self, real):
        counts = np.bincount([case.label for case in real.cases])
        assert dict(zip(real.classes, counts.tolist(), strict=True)) == {
            "akiec": 146,
            "bcc": 211,
            "bkl": 466,
            "df": 48,
            "mel": 393,
            "nv": 600,
            "vasc": 64,
        }
        assert len({case.patient_id for case in real.cases}) == 1928

    def test_pictures_are_skin(self, real):
        means = np.stack([real.read(case).image.mean(axis=(1, 2)) for case in real.cases[::100]])
        assert ((means > 0.2) & (means < 0.95)).all()
        assert (means[:, 0] > means[:, 2]).mean() > 0.8

    def test_ages_and_sexes(self, real):
        known = [real.attributes[case.scan_id] for case in real.cases]
        sexes = [values.get("sex") for values in known]
        assert {sex: sexes.count(sex) for sex in set(sexes)} == {"male": 1118, "female": 798, None: 12}
        assert all(0 <= float(values["age"]) <= 85 for values in known if "age" in values)
