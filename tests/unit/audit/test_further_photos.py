"""Photographs in archives and with masks, folds, and data that only the user's code can open."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import made_photos
from medrobust import api
from medrobust.audit.audit import Audit
from medrobust.audit.splits import are_apart, is_tested, part_of
from medrobust.core import Part
from medrobust.data.findings import Severity


def audit(task: str, split: dict[str, Any], **data: Any) -> Audit:
    network = {"name": "mobilenet_v1", "weights": "none"} if task == "classification" else {"name": "unet"}
    return api.audit({"task": task, "data": data, "split": split, "models": [network]})


def test_copies_inside_an_archive_are_told_by_their_numbers(tmp_path: Path) -> None:
    root = made_photos.medmnist(tmp_path / "medmnist")
    file = root / "breastmnist.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["test_images"][1] = arrays["train_images"][0]
    arrays["test_labels"][1] = arrays["train_labels"][0]
    arrays["test_images"][2] = 7
    np.savez_compressed(file, **arrays)
    found = audit(
        "classification", {"rule": "official"}, name="medmnist", root=str(root), file=file.name, size=28
    )
    errors = {each.kind: each.says for each in found.findings if each.severity is Severity.ERROR}
    assert errors.keys() == {"same image on both sides", "constant image"}
    assert f"{file.name}/train_images[0] (" in errors["same image on both sides"]
    assert f"{file.name}/test_images[1] (" in errors["same image on both sides"]
    assert f"{file}/test_images[2] shows nothing" in errors["constant image"]


def test_masks_that_cannot_be_used_or_are_empty(tmp_path: Path) -> None:
    root = made_photos.isic_segmentation(tmp_path / "isic")
    first, second, third, *_ = sorted(root.rglob("*_segmentation.png"))
    sizes = []
    for path in (first, second, third):
        with Image.open(path) as image:
            sizes.append(image.size)
    width, height = sizes[1]
    Image.new("L", sizes[0]).save(first)
    Image.new("L", (width + 3, height), 255).save(second)
    Image.new("L", sizes[2], 100).save(third)
    found = audit("segmentation", {"rule": "patient", "test": 0.4}, name="isic_segmentation", root=str(root))
    seen = {(each.kind, each.files[-1]) for each in found.findings}
    expected = {("empty mask", first), ("unreadable file", second), ("unreadable file", third)}
    assert seen == expected
    (says,) = [each.says for each in found.findings if each.files[-1] == second]
    assert f"{width + 3} x {height} pixels, but its image {width} x {height}" in says


def test_folds_put_copies_on_both_sides() -> None:
    folds = (
        {"a": Part.TEST, "b": Part.TEST, "c": Part.TRAIN},
        {"a": Part.TRAIN, "b": Part.TRAIN, "c": Part.TEST},
    )
    assert not are_apart(["a", "b"], folds)
    assert are_apart(["a", "c"], folds)
    assert not are_apart(["a", "d"], folds)
    assert not are_apart(["a", "c"], ({"a": Part.TEST, "c": Part.UNUSED},))
    assert is_tested("c", folds)
    assert part_of("a", folds) is None
    assert part_of("a", folds[:1]) is Part.TEST


@pytest.mark.parametrize("split", [{"folds": 2}, {"test": "all"}])
def test_other_ways_to_split(tmp_path: Path, split: dict[str, Any]) -> None:
    root = made_photos.image_folder(tmp_path / "photos")
    found = audit("classification", split, name="image_folder", root=str(root), patient_pattern="(P[0-9]+)_")
    assert "split impossible" not in {each.kind for each in found.findings}


def test_code_that_opens_data_is_named_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "opens_data.py").write_text("raise AssertionError('an audit imports nothing')")
    monkeypatch.syspath_prepend(tmp_path)
    found = audit("classification", {"rule": "patient", "test": 0.5}, load="opens_data:open_it")
    assert [each.kind for each in found.findings] == ["code that runs", "own data"]
    assert found.findings[0].files == (tmp_path / "opens_data.py",)
    assert found.is_sound


def test_a_window_clips_nothing_that_is_in_the_file(tmp_path: Path) -> None:
    """White beyond a window is not lost; white at the end of what the bits hold is."""
    values = made_photos.pixels(1, (48, 40)).astype(np.uint16) * 16
    values[:20] = 4095
    for number, label in enumerate(("a", "b", "a", "b")):
        values[20 + number] = 0
        window = {"WindowCenter": 1000, "WindowWidth": 200} if number < 2 else {}
        path = tmp_path / label / f"{number}.dcm"
        made_photos.write_dicom(
            path, values, PhotometricInterpretation="MONOCHROME2", PatientID=f"{number}", **window
        )
    study = {
        "task": "classification",
        "data": {"name": "dicom_images", "root": str(tmp_path), "size": 32},
        "split": {"rule": "patient", "test": 0.5},
        "models": [{"name": "mobilenet_v1", "weights": "none"}],
    }
    clipped = [each for each in api.audit(study).findings if each.kind == "clipped intensities"]
    assert sorted(file.name for each in clipped for file in each.files) == ["2.dcm", "3.dcm"]


def test_an_audit_of_volumes_compares_all_of_their_voxels(tmp_path: Path) -> None:
    root = made_photos.medmnist(tmp_path)
    with np.load(root / "organmnist3d.npz") as stored:
        arrays = dict(stored)
    arrays["test_images"][3] = arrays["train_images"][7]
    arrays["train_images"][9, 1:] = arrays["train_images"][8, 1:]  # but for the first slice
    arrays["val_images"][2] = 5
    np.savez_compressed(root / "organmnist3d.npz", **arrays)
    study = {
        "task": "classification",
        "data": {"name": "medmnist", "root": str(root), "file": "organmnist3d.npz", "size": 28},
        "split": {"rule": "official"},
        "models": [{"name": "mobilenet_v1", "weights": "none"}],
    }
    found = {each.kind: each for each in api.audit(study).findings}
    archive = root / "organmnist3d.npz"
    assert found["same image, two labels"].files == (archive / "test_images[3]", archive / "train_images[7]")
    assert found["constant image"].files == (archive / "val_images[2]",)
    assert "same image twice" not in found
