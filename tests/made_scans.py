"""Miniatures of the folders that scans come in, each as its makers lay it out."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from made_folders import write_volume

LIA = np.array([[-1.0, 0, 0, 12], [0, 0, 1.0, -15], [0, -1.0, 0, 10], [0, 0, 0, 1]])
SUBJECTS = 4
LIVER = {"background": 0, "liver": 1, "tumour": 2}
BRATS = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}


def nifti_pairs(root: Path, number: int = SUBJECTS) -> Path:
    """images/case0.nii.gz, labels/case0.nii.gz and labels.tsv."""
    for case in range(number):
        image, labels = belly(case)
        write_volume(root / "images" / f"case{case}.nii.gz", image)
        write_volume(root / "labels" / f"case{case}.nii.gz", labels)
    table(root / "labels.tsv", LIVER)
    return root


def bids(root: Path, subjects: int = SUBJECTS) -> Path:
    """Two sessions of the first subject, one of the others; labels of one pipeline, with a table."""
    (root / "derivatives" / "bysegmenter").mkdir(parents=True)
    describe(root / "dataset_description.json", "raw")
    describe(root / "derivatives" / "bysegmenter" / "dataset_description.json", "derivative")
    for subject in range(1, subjects + 1):
        for session in (1, 2)[: 2 if subject == 1 else 1]:
            image, labels = belly(10 * subject + session)
            name = f"sub-{subject:02d}_ses-{session}"
            folder = Path(f"sub-{subject:02d}") / f"ses-{session}" / "anat"
            write_volume(root / folder / f"{name}_T1w.nii.gz", image)
            write_volume(root / folder / f"{name}_T2w.nii.gz", 900 - image)
            derived = root / "derivatives" / "bysegmenter" / folder
            write_volume(derived / f"{name}_space-orig_desc-organs_dseg.nii.gz", labels)
    table(root / "derivatives" / "bysegmenter" / "desc-organs_dseg.tsv", LIVER)
    return root


def decathlon(root: Path, cases: int = SUBJECTS) -> Path:
    """A set with two channels in one file, as those of brain tumours."""
    training = []
    for case in range(cases):
        image, labels = belly(case)
        write_volume(root / "imagesTr" / f"BRATS_{case:03d}.nii.gz", np.stack([image, 900 - image], axis=-1))
        write_volume(root / "labelsTr" / f"BRATS_{case:03d}.nii.gz", labels)
        folders = {"image": "imagesTr", "label": "labelsTr"}
        training.append({key: f"./{folder}/BRATS_{case:03d}.nii.gz" for key, folder in folders.items()})
    content = {
        "name": "BRATS",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": BRATS,
        "numTraining": cases,
        "numTest": 1,
        "training": training,
        "test": ["./imagesTs/BRATS_900.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def nnunet(root: Path, cases: int = SUBJECTS) -> Path:
    """The same cases as `decathlon`, in nnU-Net's layout: a file per channel, names before numbers."""
    for case in range(cases):
        image, labels = belly(case)
        for channel, voxels in enumerate((image, 900 - image)):
            write_volume(root / "imagesTr" / f"BRATS_{case:03d}_{channel:04d}.nii.gz", voxels)
        write_volume(root / "labelsTr" / f"BRATS_{case:03d}.nii.gz", labels)
    content = {
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "labels": {name: int(number) for number, name in BRATS.items()},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def freesurfer(root: Path, subjects: int = SUBJECTS) -> Path:
    """Conformed volumes (LIA, 8-bit), both segmentations, and the average that recon-all links to."""
    for subject in range(subjects):
        image, labels = belly(subject)
        aseg = np.choose(np.minimum(labels, 2), (0, 2, 17)).astype(np.int32)
        aseg[(labels == 1) & (np.indices(labels.shape)[0] < 9)] = 42
        aseg[0, 0, 0] = 24
        aparc = np.where(aseg == 42, 2025, aseg).astype(np.int32)
        mri = root / f"bert{subject}" / "mri"
        write_mgz(mri / "norm.mgz", (image / 4).astype(np.uint8))
        write_mgz(mri / "orig.mgz", (image / 4 + 20).astype(np.uint8))
        write_mgz(mri / "aseg.mgz", aseg)
        write_mgz(mri / "aparc+aseg.mgz", aparc)
    (root / "fsaverage" / "mri").mkdir(parents=True)
    return root


def malc2012_second(root: Path) -> Path:
    """The second release: scans beside their labels, masks and tissues."""
    for patient in (1000, 1001, 1002, 1003, 1004):
        image, labels = belly(patient)
        brain = np.choose(labels, (0, 45, 101)).astype(np.int16)
        folder = root / "inst" / "extdata"
        write_volume(folder / f"{patient}_SS.nii.gz", image)
        write_volume(folder / f"{patient}_glm.nii.gz", brain)
        write_volume(folder / f"{patient}_mask.nii.gz", (labels > 0).astype(np.int16))
    return root


def belly(seed: int, shape: tuple[int, int, int] = (22, 26, 18)) -> tuple[np.ndarray, np.ndarray]:
    """An organ (1) with a spot in it (2), in a body that is darker, in black."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    labels = np.zeros(shape, np.int16)
    labels[x**2 + y**2 + z**2 < 0.7] = 1
    labels[(x - 0.2) ** 2 + (y - 0.2) ** 2 + z**2 < 0.08] = 2
    body = x**2 + y**2 + z**2 < 0.9
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    return (body * (300 + 200 * labels + noise)).astype(np.float32), labels


def write_mgz(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.MGHImage(voxels, LIA), path)


def table(path: Path, labels: dict[str, int]) -> None:
    """A dseg.tsv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{number}\t{name}\t#{number:02x}80ff" for name, number in labels.items()]
    path.write_text("\n".join(["index\tname\tcolor", *lines]) + "\n")


def describe(path: Path, kind: str) -> None:
    path.write_text(json.dumps({"Name": "miniature", "BIDSVersion": "1.8.0", "DatasetType": kind}))
