"""Photographs with masks: their pairs, and what masks may hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_photos
from medrobust.core import Part, Task
from medrobust.data import open_dataset
from medrobust.data.adapters.isic import list_isic_segmentation
from medrobust.data.photographs.photo_cases import read_mask
from medrobust.errors import DataError

IMAGES, MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


@pytest.fixture
def twin(tmp_path) -> Path:
    return made_photos.isic_segmentation(tmp_path / "isic")


def opened(root: Path, cache: Path | None = None, **keys: object):
    return open_dataset({"name": "isic_segmentation", "root": root, "size": 32, **keys}, cache, None)


def mask_of(root: Path, number: int) -> Path:
    return root / MASKS / f"ISIC_{number:07d}_segmentation.png"


class TestOpening:
    def test_counts_and_classes(self, twin):
        dataset = opened(twin)
        assert (dataset.task, dataset.unit, dataset.channels) == (Task.SEGMENTATION, "image", 3)
        assert dataset.classes == ("background", "lesion")
        assert [case.case_id for case in dataset.cases] == [f"ISIC_{number:07d}" for number in range(12)]
        assert dataset.official is None
        assert dataset.cases[0].label is None

    def test_masks_cover_what_they_covered(self, twin):
        dataset = opened(twin, fit="stretch", size=64)
        for number in (0, 5, 11):
            share = (read_mask(mask_of(twin, number)) == 1).mean()
            assert dataset.cases[number].foreground / 64**2 == pytest.approx(share, abs=0.01)

    def test_everything_is_decoded_once(self, twin, tmp_path):
        first = opened(twin, tmp_path / "cache")
        samples = [first.read(case) for case in first.cases]
        for path in twin.rglob("*.*"):
            path.unlink()
        for case, sample in zip(first.cases, samples, strict=True):
            for one, other in zip(first.read(case), sample, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_an_image_with_an_empty_mask_is_evaluated_all_the_same(self, twin):
        Image.new("L", (60, 48)).save(mask_of(twin, 3))
        dataset = opened(twin)
        assert len(dataset.cases) == 12
        (empty,) = [case for case in dataset.cases if not case.is_labelled]
        assert (empty.case_id, dataset.read(empty).label.max()) == ("ISIC_0000003", 0)
        assert dataset.facts["cases"].startswith("all images; the mask of 1 is empty")
        for number in range(12):
            Image.new("L", (60, 45 + number)).save(mask_of(twin, number))
        with pytest.raises(DataError, match=r"ISIC_0000000_segmentation\.png is empty, and so are all other"):
            opened(twin)

    def test_a_changed_mask_changes_the_fingerprint(self, twin):
        before = opened(twin).fingerprint
        Image.fromarray(255 - np.asarray(Image.open(mask_of(twin, 3)))).save(mask_of(twin, 3))
        assert opened(twin).fingerprint != before

    def test_the_folders_of_all_parts_are_a_split(self, tmp_path):
        root = made_photos.isic_segmentation(tmp_path)
        for number, part in ((10, "Test"), (11, "Validation")):
            for folder, name in ((IMAGES, f"ISIC_{number:07d}.jpg"), (MASKS, mask_of(root, number).name)):
                goal = root / folder.replace("Training", part)
                goal.mkdir()
                (root / folder / name).rename(goal / name)
        official = opened(root).official
        assert (official["ISIC_0000010"], official["ISIC_0000011"]) == (Part.TEST, Part.VALIDATION)
        assert list(official.values()).count(Part.TRAIN) == 10


class TestBadInput:
    def test_partners_that_are_missing_are_findings(self, twin):
        mask_of(twin, 2).unlink()
        (twin / IMAGES / "ISIC_0000004.jpg").unlink()
        listing = list_isic_segmentation(twin)
        assert len(listing.items) == 10
        assert [finding.kind for finding in listing.findings] == ["mask missing", "image missing"]
        assert "1 images have no mask: 'ISIC_0000002'" in listing.findings[0].says
        assert listing.findings[0].files[0].name == "ISIC_0000002.jpg"

    def test_no_masks(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.root: no mask such as ISIC_0000000_segmentation\.png"):
            list_isic_segmentation(tmp_path)

    def test_a_mask_of_another_size(self, twin):
        Image.new("L", (30, 20), 255).save(mask_of(twin, 1))
        with pytest.raises(DataError, match=r"1_segmentation\.png: has 30 x 20 pixels, but its .* 60 x 46"):
            opened(twin)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (Image.new("L", (60, 45), 128), r"must hold 0 and 255, or 0 and 1; this one holds \[128\]"),
            (Image.fromarray(np.arange(2700, dtype=np.uint8).reshape(45, 60)), "must hold 0 and 255"),
            (Image.new("RGB", (60, 45), (255, 0, 0)), "must be black and white, and this one is in colour"),
        ],
    )
    def test_values_that_no_mask_has(self, twin, image, message):
        image.save(mask_of(twin, 0))
        with pytest.raises(DataError, match=rf"ISIC_0000000_segmentation\.png: a mask {message}"):
            opened(twin)

    @pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA"])
    def test_every_way_to_store_black_and_white(self, tmp_path, mode):
        inside = made_photos.pixels(0, (20, 30)) > 128
        image = Image.fromarray(inside.astype(np.uint8) * 255).convert(mode)
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), inside)
        Image.fromarray(inside.astype(np.uint8)).save(tmp_path / "b.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), inside)

    def test_white_of_sixteen_bits(self, tmp_path):
        inside = made_photos.pixels(0, (20, 30)) > 128
        Image.fromarray(inside.astype(np.uint16) * np.uint16(65535)).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), inside)

    def test_a_mask_that_was_cut_short(self, twin):
        path = mask_of(twin, 7)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(DataError, match=r"0000007_segmentation\.png: cannot be read as an image"):
            opened(twin)
