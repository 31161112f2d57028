"""Miniature twins of the real data sets, in the folders that their providers hand out."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from medrobust.data.adapters.ham10000 import CLASSES

LAS = np.diag([-1.0, 1.0, 1.0, 1.0])
TRAINING, TESTING = ("1000_3", "1001_3", "1002_3"), ("1003_3",)


def malc2012(root: Path) -> Path:
    """Four heads of a few structures: three to train on, one to test on."""
    for folder, scans in (("training", TRAINING), ("testing", TESTING)):
        for scan in scans:
            image, labels = _head(int(scan[:4]))
            write_volume(root / f"{folder}-images" / f"{scan}.nii.gz", image)
            write_volume(root / f"{folder}-labels" / f"{scan}_glm.nii.gz", labels)
    return root


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray = LAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def _head(seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 30, 20)), indexing="ij")
    head = x**2 + y**2 + z**2 < 0.8
    labels = np.where(x > 0, 101, 100) * head
    labels[head & (abs(x) < 0.2)] = 45
    labels[head & (z > 0.5)] = 35
    noise = np.random.default_rng(seed).normal(0, 20, labels.shape)
    return (head * (500 + 10 * labels + noise)).astype(np.float32), labels.astype(np.int16)


def ham10000(root: Path, lesions: int = 4) -> Path:
    """`lesions` of each class; every second one is pictured twice."""
    rows = [("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")]
    (root / "images").mkdir(parents=True)
    for number in range(lesions * len(CLASSES)):
        for view in range(1 + number % 2):
            name = f"ISIC_{number:04d}{view}"
            rows.append(
                (f"HAM_{number:07d}", name, CLASSES[number % len(CLASSES)], "histo", "60.0", "male", "back")
            )
            pixels = np.random.default_rng(number).integers(0, 256, size=(15, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((60, 45)).save(root / "images" / f"{name}.jpg")
    with (root / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root
