"""Regions, masks that overlap, and pixels that nobody labelled, from files to cases."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import made_dicom
import made_scans
from made_folders import LAS, write_volume
from made_scans import belly
from medrobust.core import UNKNOWN, Dataset
from medrobust.data import list_dataset, open_dataset
from medrobust.data.in_memory import in_memory
from medrobust.errors import DataError, StudyError
from medrobust.rng import generator

LABELS = {"liver": 1, "tumour": 2}
GRID = {"spacing": 1.0}


def opened(root: Path, name: str = "nifti_pairs", **keys: Any) -> Dataset:
    return open_dataset({"name": name, "root": root, **GRID, **keys}, None, None)


def volume_of(data: Dataset, scan: str) -> np.ndarray:
    """Labels of a whole scan."""
    return np.stack([data.read(case).label for case in data.cases if case.scan_id == scan])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return made_scans.nifti_pairs(tmp_path / "pairs", 2)


REGIONS = {"organ": ["liver", "tumour"], "spot": "tumour"}


class TestRegions:
    def test_they_are_scored_and_label_maps_stay(self, pairs: Path) -> None:
        data, plain = opened(pairs, labels=LABELS, regions=REGIONS), opened(pairs, labels=LABELS)
        assert data.structures == ("background", "organ", "spot")
        assert data.members.tolist() == [[True, False, False], [False, True, True], [False, False, True]]
        assert (plain.structures, plain.members) == (plain.classes, None)
        assert data.fingerprint != plain.fingerprint
        np.testing.assert_array_equal(data.read(data.cases[9]).label, plain.read(plain.cases[9]).label)

    @pytest.mark.parametrize(
        ("regions", "message"),
        [
            ({"organ": ["livre"]}, r"data\.regions\.organ: .*'livre'.*Did you mean 'liver'"),
            ({"all": ["background", "liver", "tumour"]}, r"data\.regions\.all: holds 'background'"),
            ({"a": ["liver"], "b": "liver"}, r"'b' and 'a' hold the same classes"),
            ({"a": []}, r"data\.regions\.a"),
            ({"background": ["liver"]}, r"'background' is the name of the background"),
        ],
    )
    def test_what_cannot_be(self, pairs: Path, regions: dict[str, Any], message: str) -> None:
        with pytest.raises(StudyError, match=message):
            opened(pairs, labels=LABELS, regions=regions)

    def test_phantoms_have_them_too(self) -> None:
        data = open_dataset(
            {
                "name": "phantom_brains",
                "subjects": 2,
                "spacing": 4.0,
                "regions": {"thalami": ["left thalamus", "right thalamus"]},
            },
            None,
            None,
        )
        assert data.structures == ("background", "thalami")

    def test_those_of_nnunet_are_in_its_description(self, tmp_path: Path) -> None:
        root = made_scans.nnunet(tmp_path / "Dataset001", 2)
        content = json.loads((root / "dataset.json").read_text())
        content |= {
            "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
            "regions_class_order": [1, 2, 3],
        }
        (root / "dataset.json").write_text(json.dumps(content))
        _, labels = belly(0)
        labels[:, :, :5] = 4
        write_volume(root / "labelsTr" / "BRATS_000.nii.gz", labels)
        data = opened(root, "decathlon")
        assert data.classes == ("background", "whole", "whole + core", "whole + core + enhancing")
        assert data.regions == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
        assert {*np.unique(volume_of(data, "BRATS_000")).tolist()} == {UNKNOWN, 0, 1, 2}
        assert {*np.unique(volume_of(data, "BRATS_001")).tolist()} == {0, 1, 2}
        # Numbers that no region tells apart are one class; the study may say something else.
        content["labels"]["core"] = [1, 2, 3]
        (root / "dataset.json").write_text(json.dumps(content))
        listing = list_dataset({"name": "decathlon", "root": root}, None)
        assert listing.classes == ("background", "whole + core", "whole + core + enhancing")
        assert listing.classes_of.numbers == ((0,), (1, 2), (3,))
        own = opened(root, "decathlon", labels={"all": [1, 2, 3]}, ignore=4)
        assert (own.classes, own.regions) == (("background", "all"), None)
        content["labels"]["core"] = [0, 1]
        (root / "dataset.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"the region 'core' \[0, 1\] holds background"):
            opened(root, "decathlon")


class TestIgnored:
    def labels(self, pairs: Path, change: Any) -> np.ndarray:
        _, labels = belly(0)
        change(labels)
        write_volume(pairs / "labels" / "case0.nii.gz", labels)
        return labels

    @pytest.mark.parametrize("axis", ["coronal", "volume"])
    @pytest.mark.parametrize("numbers", [255, [255, 7]])
    def test_they_are_unknown_wherever_they_lie(self, pairs: Path, axis: str, numbers: Any) -> None:
        def change(labels: np.ndarray) -> None:
            labels[:6] = 255
            labels[10:12, 10:12, 10:12] = np.atleast_1d(numbers)[-1]

        stored = self.labels(pairs, change)
        data = opened(pairs, labels=LABELS, ignore=numbers, axis=axis)
        assert data.classes == ("background", "liver", "tumour")
        found = volume_of(data, "case0")
        stored = stored[:, 1:-1] if axis == "coronal" else stored  # the outermost slices show only air
        assert (found == UNKNOWN).sum() == np.isin(stored, numbers).sum()
        for number in LABELS.values():
            assert (found == number).sum() == (stored == number).sum()
        case = next(case for case in data.cases if case.scan_id == "case0")
        assert case.foreground == (data.read(case).label > 0).sum()
        assert "ignored" in data.facts["cases"]

    def test_slices_of_nothing_else_are_no_cases(self, pairs: Path) -> None:
        def change(labels: np.ndarray) -> None:
            labels[:, 8:12] = 255

        self.labels(pairs, change)
        data, plain = opened(pairs, labels=LABELS, ignore=255), opened(pairs, labels=LABELS | {"odd": 255})
        left_out = {case.case_id for case in plain.cases} - {case.case_id for case in data.cases}
        assert len(left_out) == 4
        assert all(name.startswith("case0-") for name in left_out)
        assert "and 4 slices of nothing else are left out" in data.facts["cases"]

    def test_volumes_and_patches_of_nothing_else_are_no_cases(self, pairs: Path) -> None:
        def change(labels: np.ndarray) -> None:
            labels[:] = 255

        self.labels(pairs, change)
        for keys in ({}, {"patch": [8, 16, 16]}):
            data = opened(pairs, labels=LABELS, ignore=255, axis="volume", **keys)
            assert {case.scan_id for case in data.cases} == {"case1"}

    def test_a_coarser_grid_keeps_what_is_mostly_ignored(self, pairs: Path) -> None:
        def change(labels: np.ndarray) -> None:
            labels[:10] = 255

        self.labels(pairs, change)
        data = open_dataset(
            {"name": "nifti_pairs", "root": pairs, "labels": LABELS, "ignore": 255, "spacing": 2.0},
            None,
            None,
        )
        values, counts = np.unique(volume_of(data, "case0"), return_counts=True)
        assert values.tolist() == [UNKNOWN, 0, 1, 2]
        assert counts[0] > 100

    def test_what_is_not_named_is_still_refused(self, pairs: Path) -> None:
        def change(labels: np.ndarray) -> None:
            labels[0] = 255

        self.labels(pairs, change)
        with pytest.raises(DataError, match=r"holds the label 255, which is not among"):
            opened(pairs, labels=LABELS)
        with pytest.raises(StudyError, match=r"data\.ignore: the number 2 is that of 'tumour'"):
            opened(pairs, labels=LABELS, ignore=2)
        # A file may name what the study ignores.
        assert opened(pairs, ignore=[2, 255]).classes == ("background", "liver")
        with pytest.raises(StudyError, match=r"data\.ignore: .* are the numbers of all classes"):
            opened(pairs, ignore=[1, 2])

    def test_masks_of_photographs(self, tmp_path: Path) -> None:
        draw = generator(0, "ignored")
        for number in range(3):
            picture = draw.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            mask = np.zeros((40, 40), np.uint8)
            mask[10:20, 10:20], mask[:, 30:] = 255, 128
            if number == 2:
                mask[:] = 128
            Image.fromarray(picture).save(tmp_path / f"ISIC_000000{number}.png")
            Image.fromarray(mask).save(tmp_path / f"ISIC_000000{number}_segmentation.png")
        block = {"name": "isic_segmentation", "root": tmp_path, "size": 40}
        with pytest.raises(DataError, match=r"this one holds \[128, 255\].*data\.ignore"):
            open_dataset(block, None, None)
        for cache in (None, tmp_path / "cache"):
            data = open_dataset(block | {"ignore": 128}, cache, None)
            assert len(data.cases) == 2
            label = data.read(data.cases[0]).label
            assert ((label == 1).sum(), (label == UNKNOWN).sum()) == (100, 400)
            assert data.cases[0].foreground == 100
        small = open_dataset(block | {"ignore": 128, "size": 20}, None, None)
        label = small.read(small.cases[0]).label
        assert ((label == 1).sum(), (label == UNKNOWN).sum()) == (25, 100)


def masks_of(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels > 0, labels == 2], -1).astype(np.uint8)


class TestMasks:
    NAMES = ("organ", "spot")
    CLASSES = ("background", "organ", "organ + spot")

    @pytest.fixture(params=["last", "first", "apart"])
    def root(self, request: pytest.FixtureRequest, pairs: Path) -> tuple[Path, dict[str, Any]]:
        for case in range(2):
            masks = masks_of(belly(case)[1])
            if request.param == "apart":
                for place, name in enumerate(self.NAMES):
                    write_volume(pairs / name / f"case{case}.nii.gz", 7 * masks[..., place])
                continue
            masks = masks if request.param == "last" else np.moveaxis(masks, 3, 0)
            path = pairs / "labels" / f"case{case}.nii.gz"
            nib.save(nib.Nifti1Image(masks, LAS), path)
        shutil.rmtree(pairs / "labels") if request.param == "apart" else None
        apart = {"segmentations": {name: f"{name}/{{scan}}.nii*" for name in self.NAMES}}
        return pairs, apart if request.param == "apart" else {"masks": list(self.NAMES)}

    def test_combinations_become_classes(self, root: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
        data = opened(root[0], **root[1])
        assert data.classes == self.CLASSES
        assert data.regions == {"organ": (1, 2), "spot": (2,)}
        plain = opened(made_scans.nifti_pairs(tmp_path / "plain", 2), labels=LABELS)
        for case, other in zip(data.cases, plain.cases, strict=True):
            np.testing.assert_array_equal(data.read(case).label, plain.read(other).label)
            np.testing.assert_array_equal(data.read(case).image, plain.read(other).image)

    def test_they_may_leave_voxels_out(self, pairs: Path) -> None:
        for case in range(2):
            masks = masks_of(belly(case)[1])
            masks[:4, ..., 0] = 255
            write_volume(pairs / "labels" / f"case{case}.nii.gz", masks)
        data = opened(pairs, masks=["organ", "spot"], ignore=255)
        assert (volume_of(data, "case0") == UNKNOWN).sum() == 4 * 24 * 18

    @pytest.mark.parametrize(
        ("keys", "error", "message"),
        [
            ({"masks": ["a", "b", "c"]}, DataError, r"has the shape .*, but 3 structures are named"),
            ({"masks": ["a", "b"], "labels": LABELS}, StudyError, r"data\.labels: masks have no numbers"),
            (
                {"masks": ["a"], "segmentations": {"a": "labels/{scan}.nii*"}},
                StudyError,
                r"data\.masks: is for files that hold all masks",
            ),
            ({"masks": ["a", "a"]}, StudyError, r"data\.masks: at most 15 structures, with different names"),
            ({"segmentations": {"a": "labels/{scan}.nii*"}}, DataError, r"but 1 structures are named"),
        ],
    )
    def test_what_cannot_be(self, pairs: Path, keys: Any, error: Any, message: str) -> None:
        for case in range(2):
            write_volume(pairs / "labels" / f"case{case}.nii.gz", masks_of(belly(case)[1]))
        with pytest.raises(error, match=message):
            opened(pairs, **keys)

    def test_label_maps_are_no_masks(self, pairs: Path) -> None:
        with pytest.raises(DataError, match=r"holds '1', '2', and a mask is 0 outside"):
            opened(pairs, masks=["organ"])

    def test_segments_of_dicom(self, tmp_path: Path) -> None:
        root = made_dicom.dicom_seg(tmp_path / "dicom", patients=1)
        image, labels = belly(0)
        source = made_dicom.write_series(root / "P0" / "CT", image, "PAT0")
        masks = masks_of(labels)
        path = root / "P0" / "derived" / "1.2.3"
        made_dicom.write_segmentation(path, source, masks, ["organ", "spot"])
        with pytest.raises(DataError, match=r"segments overlap: .*Write `overlapping: true`"):
            opened(root, "dicom_seg")
        data = opened(root, "dicom_seg", overlapping=True, spacing=2.0)
        assert data.classes == self.CLASSES
        assert data.regions == {"organ": (1, 2), "spot": (2,)}
        known = opened(root, "dicom_seg", labels={"organ": ["organ", "spot"]}, spacing=2.0)
        both = [np.stack([each.read(case).label for case in each.cases]) for each in (data, known)]
        np.testing.assert_array_equal(both[0] > 0, both[1] > 0)
        ignoring = opened(root, "dicom_seg", ignore="spot", spacing=2.0)
        assert ignoring.classes == ("background", "organ")
        found = np.stack([ignoring.read(case).label for case in ignoring.cases])
        np.testing.assert_array_equal(found == UNKNOWN, both[0] == 2)
        with pytest.raises(DataError, match=r"data\.ignore: .*'spots'.*Did you mean 'spot'"):
            opened(root, "dicom_seg", ignore="spots")
        with pytest.raises(StudyError, match=r"data\.ignore: 'spot' is also in data\.labels"):
            opened(root, "dicom_seg", ignore="spot", labels={"a": ["organ", "spot"]})


class TestInMemory:
    IMAGES = generator(0, "masks").random((4, 1, 12, 10)).astype(np.float32)
    LABELS = generator(0, "labels").integers(-1, 3, (4, 12, 10))

    def test_pixels_may_be_unknown(self) -> None:
        labels = self.LABELS.copy()
        labels[2] = UNKNOWN
        data = in_memory(self.IMAGES, labels, patients=list("abcd"))
        assert [case.case_id for case in data.cases] == ["0", "1", "3"]
        assert data.classes == ("background", "1", "2")
        np.testing.assert_array_equal(data.read(data.cases[-1]).label, labels[3])
        assert data.facts["ignored"] == "1 images in which nothing is labelled"
        with pytest.raises(DataError, match=r"nothing is labelled"):
            in_memory(self.IMAGES, np.full_like(labels, UNKNOWN))
        with pytest.raises(
            DataError, match=r"number the classes from 0, and -1 is what nobody labelled; got -2"
        ):
            in_memory(self.IMAGES, labels - 1)

    @pytest.mark.parametrize("space", [(12, 10), (5, 6, 7)])
    def test_masks_that_overlap(self, space: tuple[int, ...]) -> None:
        draw = generator(0, "overlap")
        masks = draw.random((4, 3, *space)) < 0.4
        masks[:, 2] &= masks[:, 0]  # some combinations never occur
        images = draw.random((4, 1, *space)).astype(np.float32)
        data = in_memory(images, masks, classes=["a", "b", "c"])
        assert data.classes == ("background", "a", "b", "a + b", "a + c", "a + b + c")
        for case, own in zip(data.cases, masks, strict=True):
            label = data.read(case).label
            for mask, numbers in zip(own, data.regions.values(), strict=True):
                np.testing.assert_array_equal(np.isin(label, numbers), mask)
        with pytest.raises(DataError, match=r"classes: must name the 3 structures that have masks"):
            in_memory(images, masks, classes=["background", "a", "b", "c"])

    def test_regions_are_of_label_maps(self) -> None:
        data = in_memory(self.IMAGES, self.LABELS, regions={"all": ["1", "2"]})
        assert data.structures == ("background", "all")
        with pytest.raises(DataError, match=r"regions: are of label maps"):
            in_memory(self.IMAGES, [0, 1, 1, 0], regions={"all": ["1"]})
