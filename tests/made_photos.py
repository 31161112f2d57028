"""Miniature twins of data sets of photographs, in the folders that their providers hand out."""

import csv
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from medrobust.data.adapters.dermofit import CLASSES as DERMOFIT_CLASSES


def pixels(seed: int, shape: Sequence[int] = (45, 60, 3), dtype: type = np.uint8) -> np.ndarray:
    """A smooth picture that depends on a seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    fine = np.asarray(Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
    fine = fine if len(shape) == 3 else fine[..., 0]
    return fine if dtype is np.uint8 else fine.astype(dtype) * 257


def voxels(seed: int, side: int = 28) -> np.ndarray:
    """A volume that fades from one smooth picture to another."""
    first, last = (pixels(number, (side, side)).astype(float) for number in (seed, seed + 1000))
    return np.stack([first + (last - first) * share for share in np.linspace(0, 1, side)]).astype(np.uint8)


def write_photo(path: Path, seed: int, shape: Sequence[int] = (45, 60, 3), dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, shape, dtype)).save(path)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def dermofit(root: Path, sessions: int = 5) -> Path:
    """`sessions` patients of each class; every second one with two lesions."""
    lines, number = [], 0
    for place in range(sessions * len(DERMOFIT_CLASSES)):
        label = DERMOFIT_CLASSES[place % len(DERMOFIT_CLASSES)]
        for letter in ("a", "b") if place % 2 else ("",):
            number, name = number + 1, f"{'ABP'[place % 3]}{place + 10}{letter}"
            lines.append(f"{number}\t{name}\t{label.upper()}")
            folder = root / label.upper() / name
            write_photo(folder / f"{name}.png", number, (40 + place, 50, 3))
            Image.new("L", (50, 40 + place), 255).save(folder / f"{name}mask.png")
    (root / "lesionlist.txt").write_text("\n".join(lines) + "\n\n")
    return root


ISIC_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
ISIC_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def isic(root: Path, lesions: int = 5) -> Path:
    """ISIC 2019: `lesions` of each class but UNK; some pictured twice, some without a lesion."""
    truth, metadata = [], []
    for number in range(lesions * 8):
        for view in range(1 + number % 2):
            name = f"ISIC_{number:04d}{view}" + ("_downsampled" if number % 3 == 0 else "")
            truth.append((name, *(f"{float(place == number % 8)}" for place in range(len(ISIC_2019)))))
            metadata.append((name, "55.0", "", f"BCN_{number:07d}" if number % 5 else "", "female"))
            write_photo(root / "ISIC_2019_Training_Input" / f"{name}.jpg", number)
    write_table(root / "ISIC_2019_Training_GroundTruth.csv", ("image", *ISIC_2019), truth)
    columns = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    write_table(root / "ISIC_2019_Training_Metadata.csv", columns, metadata)
    return root


def isic_2018(root: Path) -> Path:
    """ISIC 2018, task 3: all three parts, lesions of the training part only."""
    for place, (part, count) in enumerate((("Training", 4), ("Validation", 1), ("Test", 2))):
        truth, groups = [], []
        for number in range(count * len(ISIC_2018)):
            name = f"ISIC_{place}{number:06d}"
            truth.append((name, *(f"{float(label == number % 7)}" for label in range(7))))
            groups.append((name, f"HAM_{number // 14 * 7 + number % 7:07d}", "histopathology"))
            write_photo(root / f"ISIC2018_Task3_{part}_Input" / f"{name}.jpg", number)
        write_table(root / f"ISIC2018_Task3_{part}_GroundTruth.csv", ("image", *ISIC_2018), truth)
        if part == "Training":
            columns = ("image", "lesion_id", "diagnosis_confirm_type")
            write_table(root / "ISIC2018_Task3_Training_LesionGroupings.csv", columns, groups)
    return root


def isic_2020(root: Path, patients: int = 10) -> Path:
    """ISIC 2020: three images per patient, one of them malignant for every second patient."""
    rows = []
    for number in range(3 * patients):
        patient, target = number // 3, int(number % 6 == 0)
        name = f"ISIC_{number:07d}"
        word = "malignant" if target else "benign"
        rows.append((name, f"IP_{patient:07d}", "male", 45.0, "torso", "unknown", word, target))
        write_photo(root / "train" / f"{name}.jpg", number)
    columns = (
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
    )
    write_table(root / "train.csv", columns.split(","), rows)
    return root


def medmnist(root: Path) -> Path:
    """BreastMNIST in grey, DermaMNIST of 64 pixels in colour, and the volumes of OrganMNIST3D."""
    sets = (
        ("breastmnist", partial(pixels, shape=(28, 28)), 2),
        ("dermamnist_64", partial(pixels, shape=(64, 64, 3)), 7),
        ("organmnist3d", voxels, 11),
    )
    for name, draw, classes in sets:
        arrays = {}
        for place, (part, count) in enumerate((("train", 28), ("val", 14), ("test", 14))):
            arrays[f"{part}_images"] = np.stack([draw(100 * place + n) for n in range(count)])
            arrays[f"{part}_labels"] = (np.arange(count) % classes)[:, None].astype(np.uint8)
        root.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / f"{name}.npz", **arrays)
    return root


def image_folder(root: Path, patients: int = 10) -> Path:
    """Two class folders of grey 16-bit PNG, grey JPEG and colour TIFF; patients stand in the names."""
    for number in range(3 * patients):
        label = ("benign", "malignant")[number // 3 % 2]
        name = f"P{number // 3:03d}_{number % 3}"
        if number % 3 == 0:
            write_photo(root / label / f"{name}.png", number, (45, 60), np.uint16)
        elif number % 3 == 1:
            write_photo(root / label / f"{name}.jpg", number, (45, 60))
        else:
            write_photo(root / label / f"{name}.tif", number)
    return root


def dicom_images(root: Path, patients: int = 10) -> Path:
    """Two class folders of 12-bit X-rays, two per patient, half of them MONOCHROME1."""
    for number in range(2 * patients):
        label = ("normal", "pneumonia")[number // 2 % 2]
        values = pixels(number, (48, 40)).astype(np.uint16) * 16
        write_dicom(
            root / label / f"{number:04d}.dcm",
            values,
            PatientID=f"PAT{number // 2}",
            PhotometricInterpretation=("MONOCHROME1", "MONOCHROME2")[number % 2],
            WindowCenter=2048,
            WindowWidth=4096,
        )
    return root


def write_dicom(path: Path, values: np.ndarray, bits: int = 12, **elements: object) -> None:
    """A picture of `values` in a DICOM file; elements by their keywords."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * values.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def isic_segmentation(root: Path, count: int = 12) -> Path:
    """Photographs with a disc each as their mask."""
    for number in range(count):
        name, shape = f"ISIC_{number:07d}", (45 + number, 60)
        write_photo(root / "ISIC2018_Task1-2_Training_Input" / f"{name}.jpg", number, (*shape, 3))
        y, x = np.mgrid[: shape[0], : shape[1]]
        disc = (y - 20) ** 2 + (x - 30) ** 2 < (6 + number) ** 2
        folder = root / "ISIC2018_Task1_Training_GroundTruth"
        folder.mkdir(exist_ok=True)
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / f"{name}_segmentation.png")
    return root
