"""MedMNIST and archives like it: small pictures or volumes in an npz file, with a split of their own.

    dermamnist_64.npz      train_images, train_labels, val_images, val_labels, test_images, test_labels

Images have the shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), volumes (n, d, h, w), labels (n, 1), (n,), or
one column per class. Nothing says whom an image shows: in DermaMNIST, for example, images of the same lesion
lie in different parts.

Yang et al., "MedMNIST v2", Scientific Data 10, 41 (2023).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import MinLen
from jaxtyping import Int64
from pydantic import Field

from medrobust.core import Part, Task
from medrobust.data.adapters.labelled import Grouping, Labelled, photos_of
from medrobust.data.files import existing_file
from medrobust.data.listing import Photos
from medrobust.data.photographs.arrays import NPZ_ARRAYS, Form, array_forms, layout_of, read_array
from medrobust.errors import DataError

FileName = Annotated[str, MinLen(1), Field(examples=["dermamnist.npz"])]

PARTS = {"train": Part.TRAIN, "val": Part.VALIDATION, "test": Part.TEST}
MOST_CLASSES = 1000

LABELS = {
    "pathmnist": "adipose, background, debris, lymphocytes, mucus, smooth muscle, normal mucosa, "
    "cancer-associated stroma, adenocarcinoma epithelium",
    "chestmnist": "atelectasis, cardiomegaly, effusion, infiltration, mass, nodule, pneumonia, pneumothorax, "
    "consolidation, edema, emphysema, fibrosis, pleural thickening, hernia",
    "dermamnist": "akiec, bcc, bkl, df, mel, nv, vasc",
    "octmnist": "neovascularisation, macular edema, drusen, normal",
    "pneumoniamnist": "normal, pneumonia",
    "retinamnist": "grade 0, grade 1, grade 2, grade 3, grade 4",
    "breastmnist": "malignant, normal or benign",
    "bloodmnist": "basophil, eosinophil, erythroblast, immature granulocyte, lymphocyte, monocyte, "
    "neutrophil, platelet",
    "tissuemnist": "collecting duct, distal tubule, glomerular endothelium, interstitial endothelium, "
    "leukocytes, podocytes, proximal tubule, thick ascending limb",
    **dict.fromkeys(
        ("organamnist", "organcmnist", "organsmnist"),
        "bladder, left femur, right femur, heart, left kidney, right kidney, liver, left lung, right lung, "
        "pancreas, spleen",
    ),
    "organmnist3d": "liver, right kidney, left kidney, right femur, left femur, bladder, heart, right lung, "
    "left lung, spleen, pancreas",
    "nodulemnist3d": "benign, malignant",
    "adrenalmnist3d": "normal, hyperplasia",
    "fracturemnist3d": "buckle, nondisplaced, displaced",
    "vesselmnist3d": "vessel, aneurysm",
    "synapsemnist3d": "inhibitory, excitatory",
}
"""What the numbers mean, by the name of the file; in other files the numbers name the classes."""


def list_medmnist(root: Path, task: Task = Task.CLASSIFICATION, *, file: FileName) -> Photos:
    """The pictures or volumes of a MedMNIST archive; the unit is the image.

    Args:
        root: Folder of the archive.
        task: Whether an image has one class or several findings, as in ChestMNIST.
        file: Its name.

    Raises:
        DataError: There is no such file, it is damaged, has labels of another task, or holds volumes that
            are not cubes, or pictures beside volumes. Classes without an image are findings.
    """
    path = existing_file(root, file, "data.file")
    forms = array_forms(path)
    parts = [part for part in PARTS if f"{part}_images" in forms]
    if not {"train", "test"} <= set(parts):
        raise DataError(
            f"{path}: must hold train_images and test_images; found {', '.join(forms) or 'nothing'}."
        )
    names = [f"{part}_images" for part in parts]
    if len({layout_of(path, name).is_volumes for name in names}) > 1:
        raise DataError(f"{path}: holds volumes and pictures: {', '.join(names)} must be of one kind.")
    labels = {part: _labels(path, part, forms, task) for part in parts}
    classes = _classes(path, labels)
    places = {f"{part}-{place:06d}": (part, place) for part in labels for place in range(len(labels[part]))}
    images = {
        name: Labelled(_labelled(labels[part][place].tolist(), classes), part=PARTS[part])
        for name, (part, place) in places.items()
    }
    how = "none: the archive names no patients; images of one may be on both sides of a split"
    listing = photos_of(
        images,
        dict.fromkeys(places, path),
        classes,
        Grouping({name: name for name in places}, "image", how),
        path,
        [],
        format=NPZ_ARRAYS,
        facts={
            "images": f"{len(places)} of {path.name}",
            "source": "MedMNIST v2; Yang et al., Scientific Data 2023; CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)",
        },
    )
    entries = {name: (f"{part}_images", place) for name, (part, place) in places.items()}
    return replace(listing, items=tuple(replace(item, entry=entries[item.case_id]) for item in listing.items))


def _labelled(label: int | list[int], classes: Sequence[str]) -> str | tuple[int, ...]:
    return classes[label] if isinstance(label, int) else tuple(label)


def _labels(path: Path, part: str, forms: Mapping[str, Form], task: Task) -> Int64[np.ndarray, "n *findings"]:
    name, count = f"{part}_labels", forms[f"{part}_images"].shape[:1]
    form = forms.get(name)
    if form is None or form.dtype.kind not in "biuf" or form.shape[:1] != count or len(form.shape) > 2:
        seen = "none" if form is None else f"{form.dtype} of shape {form.shape}"
        raise DataError(
            f"{path}: '{name}' must hold whole numbers, one for each of {(*count, 0)[0]} images; got {seen}. "
            "Save the numbers of the classes."
        )
    labels = read_array(path, name)
    several = labels.ndim == 2 and labels.shape[1] > 1
    if several and not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: '{name}' must hold 0 and 1 for each of its {form.shape[1]} findings.")
    if task is Task.MULTILABEL:
        if not several:
            raise DataError(
                f"{path}: '{name}' has one label per image, but the study's task is multilabel. Write `task: "
                "classification`."
            )
        return labels.astype(np.int64)
    if several:
        if (labels.sum(axis=1) != 1).any():
            raise DataError(
                f"{path}: '{name}' has {form.shape[1]} labels per image, several findings at once. Write "
                "`task: multilabel`."
            )
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1)
    if (labels != np.rint(labels)).any():
        raise DataError(f"{path}: '{name}' must hold whole numbers. Save the numbers of the classes.")
    if labels.size and not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        raise DataError(f"{path}: '{name}' must hold classes from 0; got {labels.min()} to {labels.max()}.")
    return labels.astype(np.int64)


def _classes(path: Path, labels: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Names of the classes; their numbers if the file is not one of MedMNIST's."""
    most = max(
        (
            values.shape[1] - 1 if values.ndim == 2 else int(values.max())
            for values in labels.values()
            if values.size
        ),
        default=0,
    )
    known = LABELS.get(path.stem.partition("_")[0].lower())
    if known is None:
        return tuple(map(str, range(most + 1)))
    names = tuple(known.split(", "))
    if most >= len(names):
        raise DataError(f"{path}: holds the label {most}, but {path.stem} has classes 0 to {len(names) - 1}.")
    return names
