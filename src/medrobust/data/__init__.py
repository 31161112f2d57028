"""The catalogue of data sets: one entry per name that a study may give as `data: {name: ...}`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.core import Dataset, Task, Tick, silent
from medrobust.data.adapters.bids import list_bids
from medrobust.data.adapters.decathlon import list_decathlon
from medrobust.data.adapters.dermofit import list_dermofit
from medrobust.data.adapters.dicom_images import list_dicom_images
from medrobust.data.adapters.freesurfer import list_freesurfer
from medrobust.data.adapters.ham10000 import list_ham10000
from medrobust.data.adapters.image_folder import list_image_folder
from medrobust.data.adapters.isic import list_isic
from medrobust.data.adapters.isic_segmentation import list_isic_segmentation
from medrobust.data.adapters.malc2012 import list_malc2012
from medrobust.data.adapters.medmnist import list_medmnist
from medrobust.data.adapters.nifti_pairs import list_nifti_pairs
from medrobust.data.attributes import with_attributes
from medrobust.data.findings import require_sound
from medrobust.data.listing import Listing
from medrobust.data.own import open_own
from medrobust.data.phantoms.phantom_brains import open_phantom_brains
from medrobust.data.phantoms.phantom_lesions import open_phantom_lesions
from medrobust.data.photographs.masked import open_masked_photos
from medrobust.data.photographs.opening import open_photos
from medrobust.data.scans.opening import open_scans
from medrobust.errors import DataError, StudyError, unknown
from medrobust.parameters import parameter_model, resolve


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of the catalogue.

    Attributes:
        task: What it is labelled for.
        summary: One line for lists.
        source: Citation.
        open: `(name, listing, cache, tick, *, parameters) -> Dataset`, where `cache` is a folder for decoded
            arrays and `tick` is told how far it is; of generated data `(cache, *, parameters) -> Dataset`.
        list: `(root, *, parameters) -> Photos | Scans`, of data in a folder of the user's; None for generated
            data.
    """

    task: Task
    summary: str
    source: str
    open: Callable[..., Dataset]
    list: Callable[..., Listing] | None = None

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions whose keyword-only arguments a study may give in its `data:` block."""
        return (self.open,) if self.list is None else (self.list, self.open, with_attributes)


DATASETS: dict[str, DatasetEntry] = {
    "phantom_brains": DatasetEntry(
        Task.SEGMENTATION,
        "generated T1-weighted brains with malc2012's 27 structures, as slices; needs the extra `demo`",
        "medrobust's own; outline and cortex from the ICBM152 tissue maps in nilearn (Fonov et al., 2011)",
        open_phantom_brains,
    ),
    "phantom_lesions": DatasetEntry(
        Task.CLASSIFICATION,
        "generated skin lesions of Dermofit's 10 classes, several per patient; needs no files",
        "medrobust's own; colours after public ISIC images",
        open_phantom_lesions,
    ),
    "ham10000": DatasetEntry(
        Task.CLASSIFICATION,
        "dermatoscopic photographs of pigmented lesions in 7 classes, grouped by lesion",
        "Tschandl, Rosendahl & Kittler, Scientific Data 5, 180161 (2018); CC BY-NC 4.0",
        open_photos,
        list_ham10000,
    ),
    "dermofit": DatasetEntry(
        Task.CLASSIFICATION,
        "photographs of skin lesions in 10 classes, the paper's own; by patient, inferred from the IDs",
        "Ballerini et al., in Color Medical Image Analysis (2013); licensed by Edinburgh Innovations",
        open_photos,
        list_dermofit,
    ),
    "isic": DatasetEntry(
        Task.CLASSIFICATION,
        "dermatoscopic photographs of the ISIC challenges 2018 (task 3), 2019 and 2020, by lesion or patient",
        "Codella et al. (2018); Combalia et al. (2019); Rotemberg et al. (2021); CC BY-NC 4.0",
        open_photos,
        list_isic,
    ),
    "medmnist": DatasetEntry(
        Task.CLASSIFICATION,
        "pictures or volumes of a MedMNIST archive (npz, 2D or 3D), with its own split; no patients",
        "Yang et al., MedMNIST v2, Scientific Data 10, 41 (2023)",
        open_photos,
        list_medmnist,
    ),
    "image_folder": DatasetEntry(
        Task.CLASSIFICATION,
        "PNG, JPEG, TIFF and BMP files in class folders, or in a CSV table with labels and patients",
        "your own",
        open_photos,
        list_image_folder,
    ),
    "dicom_images": DatasetEntry(
        Task.CLASSIFICATION,
        "DICOM pictures such as X-rays in class folders, or in a CSV table; patients by PatientID",
        "your own",
        open_photos,
        list_dicom_images,
    ),
    "isic_segmentation": DatasetEntry(
        Task.SEGMENTATION,
        "dermatoscopic photographs with masks of the lesions (ISIC 2018, task 1)",
        "Codella et al., arXiv 1902.03368 (2018); CC-0 and CC BY-NC 4.0",
        open_masked_photos,
        list_isic_segmentation,
    ),
    "malc2012": DatasetEntry(
        Task.SEGMENTATION,
        "T1-weighted brain MRI with 27 structures, as slices; 15 training and 12 or more test patients",
        "Landman & Warfield (eds.), MICCAI 2012 Workshop on Multi-Atlas Labeling; CC BY-NC",
        open_scans,
        list_malc2012,
    ),
    "nifti_pairs": DatasetEntry(
        Task.SEGMENTATION,
        "scans and their labels in files whose names say what belongs together",
        "your own",
        open_scans,
        list_nifti_pairs,
    ),
    "bids": DatasetEntry(
        Task.SEGMENTATION,
        "BIDS data with *_dseg files and their tables as derivatives",
        "your own; BIDS: Gorgolewski et al., Scientific Data 3, 160044 (2016)",
        open_scans,
        list_bids,
    ),
    "decathlon": DatasetEntry(
        Task.SEGMENTATION,
        "folders with a dataset.json, of the Medical Segmentation Decathlon or of nnU-Net",
        "Antonelli et al., Nature Communications 13, 4128 (2022); CC BY-SA 4.0",
        open_scans,
        list_decathlon,
    ),
    "freesurfer": DatasetEntry(
        Task.SEGMENTATION,
        "subjects of FreeSurfer with aseg or aparc+aseg, as malc2012's 27 structures",
        "your own; FreeSurfer: Fischl, NeuroImage 62, 774 (2012)",
        open_scans,
        list_freesurfer,
    ),
}
"""All data sets by name."""


def open_dataset(
    parameters: Mapping[str, Any], cache: Path | None, data_dir: Path | None, tick: Tick = silent
) -> Dataset:
    """Open the data set that a study's `data:` block asks for.

    Args:
        parameters: The block: `name`, `root` where the data set has a folder, and its own parameters; or
            `load` and the arguments of the user's function (see `own.open_own`).
        cache: Folder for decoded arrays; None decodes again whenever memory was freed.
        data_dir: Folder that a relative `root` lies in; None is the working directory.
        tick: Told how far it is.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: The data are missing, unreadable or inconsistent.
    """
    if "load" in parameters:
        return open_own(parameters, cache, data_dir)
    name, entry, own = _resolve(parameters)
    opening = _arguments(entry.open, own)
    listing = _list(name, entry, own, parameters.get("root"), data_dir)
    if listing is None:
        return entry.open(cache, **opening)
    require_sound(listing.findings)
    return entry.open(name, listing, cache, tick, **opening)


def list_dataset(parameters: Mapping[str, Any], data_dir: Path | None) -> Listing | None:
    """What is in the folder of a data set, and what is wrong with it; None for generated and own data.

    Args:
        parameters: A study's `data:` block.
        data_dir: Folder that a relative `root` lies in; None is the working directory.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: There is nothing to list.
    """
    if "load" in parameters:
        return None
    name, entry, own = _resolve(parameters)
    return _list(name, entry, own, parameters.get("root"), data_dir)


def _resolve(parameters: Mapping[str, Any]) -> tuple[str, DatasetEntry, dict[str, Any]]:
    """The entry that a block names, and its parameters with defaults filled in."""
    if "given" in parameters:
        raise StudyError(
            f"data: this is a study of '{parameters['given']}', a data set that was given in Python. Give it "
            "again (dataset=...), or write a `data:` block."
        )
    name = parameters.get("name")
    if not isinstance(name, str) or name not in DATASETS:
        raise StudyError(f"data.name: {unknown('data set', str(name), DATASETS)}")
    entry = DATASETS[name]
    own = {key: value for key, value in parameters.items() if key not in ("name", "root")}
    return name, entry, resolve(parameter_model(name, *entry.functions), own, "data")


def _arguments(function: Callable[..., Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that a function takes."""
    return {key: value for key, value in own.items() if key in inspect.signature(function).parameters}


def _list(
    name: str, entry: DatasetEntry, own: Mapping[str, Any], root: object, data_dir: Path | None
) -> Listing | None:
    if entry.list is None:
        if root is not None:
            raise StudyError(
                f"data.root: '{name}' is generated and has no folder; got {root!r}. Leave the key out."
            )
        return None
    if not isinstance(root, str | Path):
        raise StudyError(f"data.root: '{name}' needs the folder of its files; got {root!r}. Give its path.")
    folder = (data_dir or Path()) / Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.root: the folder of '{name}' does not exist; got {folder}. Give its path, and the "
            "folder that it is relative to by --data (by default the working directory)."
        )
    listing = entry.list(folder, **_arguments(entry.list, own))
    return with_attributes(listing, folder, **_arguments(with_attributes, own))
