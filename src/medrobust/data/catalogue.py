"""The data sets that a study may name, and how to open or list what its `data:` block asks for."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.catalogue import Catalogue
from medrobust.core import Dataset, OnProgress, Task, silent
from medrobust.data.adapters.bids import list_bids
from medrobust.data.adapters.decathlon import list_decathlon
from medrobust.data.adapters.dermofit import list_dermofit
from medrobust.data.adapters.dicom_seg import list_dicom_seg
from medrobust.data.adapters.freesurfer import list_freesurfer
from medrobust.data.adapters.ham10000 import list_ham10000
from medrobust.data.adapters.image_folder import list_dicom_images, list_image_folder
from medrobust.data.adapters.isic import list_isic, list_isic_segmentation
from medrobust.data.adapters.malc2012 import list_malc2012
from medrobust.data.adapters.medmnist import list_medmnist
from medrobust.data.adapters.nifti_pairs import list_nifti_pairs
from medrobust.data.attributes import with_attributes
from medrobust.data.findings import require_sound
from medrobust.data.listing import Listing
from medrobust.data.own import open_own
from medrobust.data.phantoms.chests import open_phantom_chests
from medrobust.data.phantoms.datasets import open_phantom_brains, open_phantom_lesions
from medrobust.data.photographs.photo_cases import open_masked_photos, open_photos
from medrobust.data.regions import with_regions
from medrobust.data.scans.scan_cases import open_scans
from medrobust.errors import DataError, StudyError
from medrobust.parameters import accepted, parameter_model, resolve


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of the catalogue.

    Attributes:
        task: What it is labelled for; None for the user's own data, which say so when they are opened.
        summary: One line for lists.
        source: Citation.
        open: `(name, listing, cache, progress, *, parameters) -> Dataset`, where `cache` is a folder for
            decoded arrays and `progress` is told how far it is; for generated data
            `(cache, *, parameters) -> Dataset`.
        list: `(root, *, parameters) -> Photos | Scans`, for data in a folder; None for generated data.
        own: The user's own function `(**parameters) -> Dataset`, in place of `open` and `list`.
        also: Further tasks that it may be labelled for. `list` takes the study's as its second argument.
    """

    task: Task | None
    summary: str
    source: str
    open: Callable[..., Dataset]
    list: Callable[..., Listing] | None = None
    own: Callable[..., Dataset] | None = None
    also: tuple[Task, ...] = ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that it may be labelled for; none where the user's own data will say."""
        return () if self.task is None else (self.task, *self.also)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions whose keyword-only arguments a study may give in its `data:` block."""
        opening = (self.open,) if self.list is None else (self.list, self.open, with_attributes)
        return (*opening, with_regions) if self.task is Task.SEGMENTATION else opening


def dataset_entry(thing: object, name: str) -> DatasetEntry:
    """The entry for an object from the user or an installed package.

    Args:
        thing: A `DatasetEntry`, a `core.Dataset`, or a function that returns one.
        name: The name under which it was found.

    Raises:
        StudyError: It is something else.
    """
    if isinstance(thing, DatasetEntry):
        return thing
    function = (lambda: thing) if isinstance(thing, Dataset) else thing
    if not callable(function):
        raise StudyError(
            "must be a function that returns a medrobust.core.Dataset, or a medrobust.data.DatasetEntry; got "
            f"{type(thing).__name__}."
        )
    summary = (inspect.getdoc(function) or "your own").partition("\n")[0]
    return DatasetEntry(None, summary, name, function, own=function)


def open_dataset(
    parameters: Mapping[str, Any],
    cache: Path | None,
    data_dir: Path | None,
    progress: OnProgress = silent,
    *,
    task: Task | None = None,
) -> Dataset:
    """Open the data set that a study's `data:` block asks for.

    Args:
        parameters: The block: `name`, `root` if the data set has a folder, and its own parameters; or
            `load` and the arguments of the user's function (see `own.open_own`).
        cache: Folder for decoded arrays; None keeps few or none, in memory.
        data_dir: Folder that a relative `root` lies in; None is the working directory.
        progress: Told how far it is.
        task: The study's, for data that may be labelled for several; None: the usual one.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: The data are missing, unreadable or inconsistent.
    """
    entry = _entry(parameters)
    if entry.own is not None:
        return open_own(entry.own, parameters, cache, data_dir)
    own = _resolved(entry, parameters)
    opening = accepted(entry.open, own)
    listing = _listing(entry, parameters, own, data_dir, task)
    if listing is None:
        dataset = entry.open(cache, **opening)
    else:
        require_sound(listing.findings)
        dataset = entry.open(parameters["name"], listing, cache, progress, **opening)
    return with_regions(dataset, **accepted(with_regions, own)) if dataset.task.has_maps else dataset


def list_dataset(
    parameters: Mapping[str, Any], data_dir: Path | None, task: Task | None = None
) -> Listing | None:
    """What is in the folder of a data set, and what is wrong with it; None for generated and own data.

    The user's own code (`load`) does not run.

    Args:
        parameters: A study's `data:` block.
        data_dir: Folder that a relative `root` lies in; None is the working directory.
        task: As for `open_dataset`.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: There is nothing to list.
    """
    if "load" in parameters or (entry := _entry(parameters)).own is not None:
        return None
    return _listing(entry, parameters, _resolved(entry, parameters), data_dir, task)


def _entry(parameters: Mapping[str, Any]) -> DatasetEntry:
    if "given" in parameters:
        raise StudyError(
            f"data: this is a study of '{parameters['given']}', a data set that was given in Python. Pass "
            "it again (dataset=...), or write a `data:` block."
        )
    if "load" in parameters:
        return DATASETS.loaded(parameters["load"], "data")
    return DATASETS.named(parameters.get("name"), "data.name")


def _resolved(entry: DatasetEntry, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a block with defaults filled in."""
    own = {key: value for key, value in parameters.items() if key not in ("name", "root")}
    return resolve(parameter_model(parameters["name"], *entry.functions), own, "data")


def _listing(
    entry: DatasetEntry,
    parameters: Mapping[str, Any],
    own: Mapping[str, Any],
    data_dir: Path | None,
    task: Task | None,
) -> Listing | None:
    name, root = parameters["name"], parameters.get("root")
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
            f"data.root: the folder of '{name}' does not exist; got {folder}. Give its path, relative to "
            "the folder in --data (by default the working directory)."
        )
    asked = {"task": task or entry.task} if entry.also else {}
    listing = entry.list(folder, **accepted(entry.list, {**own, **asked}))
    return with_attributes(listing, folder, **accepted(with_attributes, own))


ENTRIES: dict[str, DatasetEntry] = {
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
    "phantom_chests": DatasetEntry(
        Task.MULTILABEL,
        "generated chest X-rays with four findings, several images per patient; needs no files",
        "medrobust's own",
        open_phantom_chests,
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
        also=(Task.MULTILABEL,),
    ),
    "image_folder": DatasetEntry(
        Task.CLASSIFICATION,
        "PNG, JPEG, TIFF and BMP files in class folders, or in a CSV table with labels and patients",
        "your own",
        open_photos,
        list_image_folder,
        also=(Task.MULTILABEL,),
    ),
    "dicom_images": DatasetEntry(
        Task.CLASSIFICATION,
        "DICOM pictures such as X-rays in class folders, or in a CSV table; patients by PatientID",
        "your own",
        open_photos,
        list_dicom_images,
        also=(Task.MULTILABEL,),
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
    "dicom_seg": DatasetEntry(
        Task.SEGMENTATION,
        "DICOM series such as CT or MR with DICOM segmentations (SEG)",
        "your own",
        open_scans,
        list_dicom_seg,
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

DATASETS = Catalogue("data set", "medrobust.datasets", ENTRIES, dataset_entry)
"""All data sets: those here, those of installed packages, and the user's own."""
