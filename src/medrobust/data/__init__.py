"""The catalogue of data sets: one entry per name that a study may give as `data: {name: ...}`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.core import Dataset, Task
from medrobust.data.ham10000 import open_ham10000
from medrobust.data.malc2012 import open_malc2012
from medrobust.data.phantom_brains import open_phantom_brains
from medrobust.data.phantom_lesions import open_phantom_lesions
from medrobust.errors import StudyError, unknown
from medrobust.parameters import parameter_model, resolve


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of the catalogue.

    Attributes:
        open: `(root, cache, *, parameters) -> Dataset`; `root` is the folder of the data, `cache` one for
            decoded arrays.
        task: What it is labelled for.
        summary: One line for lists.
        source: Citation.
        needs_root: True for data in a folder of the user's; False for generated data.
    """

    open: Callable[..., Dataset]
    task: Task
    summary: str
    source: str
    needs_root: bool


DATASETS: dict[str, DatasetEntry] = {
    "phantom_brains": DatasetEntry(
        open_phantom_brains,
        Task.SEGMENTATION,
        "generated T1-weighted brains with malc2012's 27 structures, as slices; needs the extra `demo`",
        "medrobust's own; outline and cortex from the ICBM152 tissue maps in nilearn (Fonov et al., 2011)",
        needs_root=False,
    ),
    "phantom_lesions": DatasetEntry(
        open_phantom_lesions,
        Task.CLASSIFICATION,
        "generated skin lesions of Dermofit's 10 classes, several per patient; needs no files",
        "medrobust's own; colours after public ISIC images",
        needs_root=False,
    ),
    "ham10000": DatasetEntry(
        open_ham10000,
        Task.CLASSIFICATION,
        "dermatoscopic photographs of pigmented lesions in 7 classes, grouped by lesion",
        "Tschandl, Rosendahl & Kittler, Scientific Data 5, 180161 (2018); CC BY-NC 4.0",
        needs_root=True,
    ),
    "malc2012": DatasetEntry(
        open_malc2012,
        Task.SEGMENTATION,
        "T1-weighted brain MRI with 27 structures, as slices; 15 training and 12 or more test patients",
        "Landman & Warfield (eds.), MICCAI 2012 Workshop on Multi-Atlas Labeling; CC BY-NC",
        needs_root=True,
    ),
}
"""All data sets by name."""


def open_dataset(parameters: Mapping[str, Any], cache: Path | None, data_dir: Path | None) -> Dataset:
    """Open the data set that a study's `data:` block asks for.

    Args:
        parameters: The block: `name`, `root` where the data set has a folder, and its own parameters.
        cache: Folder for decoded arrays; None decodes again whenever memory was freed.
        data_dir: Folder that a relative `root` lies in; None is the working directory.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: The data are missing, unreadable or inconsistent.
    """
    name = parameters.get("name")
    if not isinstance(name, str) or name not in DATASETS:
        raise StudyError(f"data.name: {unknown('data set', str(name), DATASETS)}")
    entry = DATASETS[name]
    own = {key: value for key, value in parameters.items() if key not in ("name", "root")}
    root = _root(entry, name, parameters.get("root"), data_dir)
    return entry.open(root, cache, **resolve(parameter_model(name, entry.open), own, "data"))


def _root(entry: DatasetEntry, name: str, root: object, data_dir: Path | None) -> Path | None:
    if not entry.needs_root:
        if root is not None:
            raise StudyError(
                f"data.root: '{name}' is generated and has no folder; got {root!r}. Leave the key out."
            )
        return None
    if not isinstance(root, str | Path):
        raise StudyError(f"data.root: '{name}' needs the folder of its files; got {root!r}. Give its path.")
    return (data_dir or Path()) / Path(root).expanduser()
