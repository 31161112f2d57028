"""The ISIC challenges: dermatoscopic photographs, each with a diagnosis or a mask of the lesion.

    ISIC2018_Task3_Training_GroundTruth.csv      image,MEL,NV,BCC,AKIEC,BKL,DF,VASC: one is 1, the others 0
    ISIC2018_Task3_Training_LesionGroupings.csv  image,lesion_id,...
    ISIC_2019_Training_GroundTruth.csv           image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
    ISIC_2019_Training_Metadata.csv              image,age_approx,anatom_site_general,lesion_id,sex
    ISIC_2020_Training_GroundTruth.csv           image_name,patient_id,...,target: 1 malignant, 0 benign

    ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg
    ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png      0 outside, 255 inside

The table of 2020 may also be called train.csv. Tables or folders of Validation and Test beside those of
Training, as in 2018, are an official split. Images lie in any folder below.

Codella et al., arXiv 1902.03368 (2018); Combalia et al., arXiv 1908.02288 (2019); Rotemberg et al.,
Scientific Data 8, 34 (2021).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from medrobust.core import Part, Unit
from medrobust.data.adapters.labelled import (
    Labelled,
    files_below,
    files_by_stem,
    group_by,
    is_split,
    left_out,
    listed_once,
    photos_of,
)
from medrobust.data.attributes import told
from medrobust.data.files import Row, is_missing, read_table
from medrobust.data.findings import Finding, Severity, error, quoted, warning
from medrobust.data.listing import Photo, Photos
from medrobust.data.scans.labels import Ignored
from medrobust.errors import DataError

ATTRIBUTES = {
    "age_approx": "age",
    "sex": "sex",
    "anatom_site_general": "localization",
    "anatom_site_general_challenge": "localization",
}
"""Columns of 2019 and 2020."""

BENIGN, MALIGNANT = "benign", "malignant"
PARTS = {"Training": Part.TRAIN, "Validation": Part.VALIDATION, "Test": Part.TEST}
MASK = "_segmentation"


class Challenge(NamedTuple):
    """One year's files."""

    # names that the table of diagnoses may have, with {} for the part; without it, of Training only
    truth: tuple[str, ...]
    groups: str | None  # name of the table of groups and attributes; None: they are in that of diagnoses
    classes: tuple[str, ...]  # columns of the diagnoses; empty if a column `target` says what is malignant
    unit: Unit  # what its groups are
    source: str  # citation and licence
    image: str = "image"  # column of the image


CHALLENGES = (
    Challenge(
        ("ISIC2018_Task3_{}_GroundTruth.csv",),
        "ISIC2018_Task3_{}_LesionGroupings.csv",
        ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
        "lesion",
        "ISIC 2018, task 3; Codella et al., 2018, and Tschandl et al., 2018; CC BY-NC 4.0",
    ),
    Challenge(
        ("ISIC_2019_Training_GroundTruth.csv",),
        "ISIC_2019_Training_Metadata.csv",
        ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"),
        "lesion",
        "ISIC 2019; Tschandl et al., 2018; Codella et al., 2018; Combalia et al., 2019; CC BY-NC 4.0",
    ),
    Challenge(
        ("ISIC_2020_Training_GroundTruth.csv", "train.csv"),
        None,
        (),
        "patient",
        "ISIC 2020; Rotemberg et al., Scientific Data 2021; CC BY-NC 4.0",
        "image_name",
    ),
)


def list_isic(root: Path) -> Photos:
    """The data of one year's ISIC challenge; the unit is the lesion (2018, 2019) or the patient (2020).

    Raises:
        DataError: There is no table of a known year, or there are several years. Unusable rows, images
            without a file or group, and lesions with several diagnoses are findings.
    """
    tables = {challenge: found for challenge in CHALLENGES if (found := _tables(root, challenge))}
    if len(tables) > 1:
        several = quoted([str(found["Training"]) for found in tables.values()])
        raise DataError(
            f"data.root: holds tables of several years, {several}. Give a folder with one of them."
        )
    if not tables:
        known = quoted([name.format("Training") for challenge in CHALLENGES for name in challenge.truth])
        raise DataError(f"data.root: no table of diagnoses in {root}. It must hold one of {known}.")
    ((challenge, found),) = tables.items()
    findings: list[Finding] = []
    images = listed_once(_rows(root, challenge, found, findings), findings)
    classes = challenge.classes or (BENIGN, MALIGNANT)
    if not any(image.label == "UNK" for image in images.values()):
        classes = tuple(name for name in classes if name != "UNK")
    key, where = f"{challenge.unit}_id", found["Training"]
    grouping = group_by(images, challenge.unit, key, where, findings)
    if challenge.unit == "lesion":
        labels: dict[str, set[str]] = {}
        for name, image in images.items():
            labels.setdefault(grouping.groups[name], set()).add(str(image.label))
        if mixed := sorted(group for group, own in labels.items() if len(own) > 1):
            says = f"{where}: {len(mixed)} lesions have images with different labels: {quoted(mixed)}."
            findings.append(warning("two labels", says, "Check which label is right.", where))
    files, facts = files_by_stem(files_below(root)), {"source": challenge.source}
    return photos_of(images, files, classes, grouping, where, findings, searched=[root], facts=facts)


def _tables(root: Path, challenge: Challenge) -> dict[str, Path]:
    """The tables of diagnoses of a year in a folder, by part; none without that of Training."""
    found = {
        part: root / name.format(part)
        for part in PARTS
        for name in reversed(challenge.truth)
        if ("{}" in name or part == "Training") and (root / name.format(part)).is_file()
    }
    return found if "Training" in found else {}


def _rows(
    root: Path, challenge: Challenge, tables: Mapping[str, Path], findings: list[Finding]
) -> Iterator[tuple[Row, str, Labelled]]:
    """The images of the usable rows, with group and attributes from this table or the one beside it."""
    classes = ", ".join(challenge.classes)
    rule = f"1 in one of {classes} and 0 in the others" if classes else "target 0 or 1"
    key = f"{challenge.unit}_id"
    for part, table in tables.items():
        beside = root / challenge.groups.format(part) if challenge.groups else table
        others = read_table(beside, (challenge.image, key), ATTRIBUTES) if beside.is_file() else []
        groups = told(others, challenge.image, {key: key}, findings, Severity.ERROR)
        attributes = told(others, challenge.image, ATTRIBUTES, findings)
        for row in read_table(table, (challenge.image, *(challenge.classes or ("target",)))):
            image, label = row[challenge.image], _label(row, challenge.classes)
            if is_missing(image):
                says = f"{row.where}: {challenge.image} must be known; got '{image}'."
                findings.append(error("identifier missing", says, "Fill it in, or remove the row.", table))
            elif label is None:
                says = f"{row.where} ({image}): must have {rule}."
                findings.append(error("unknown label", says, "Correct or remove the row.", table))
            else:
                group, known = groups.get(image, {}).get(key, ""), attributes.get(image, {})
                yield row, image, Labelled(label, group, PARTS[part], tuple(known.items()))


def _label(row: Row, classes: tuple[str, ...]) -> str | None:
    """The diagnosis of a row, if it has exactly one."""
    if not classes:
        return {0.0: BENIGN, 1.0: MALIGNANT}.get(_number(row["target"]))
    cells = {name: _number(row[name]) for name in classes}
    ones = [name for name, value in cells.items() if value == 1]
    return ones[0] if len(ones) == 1 and all(value in (0, 1) for value in cells.values()) else None


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return -1.0


def list_isic_segmentation(root: Path, *, ignore: Ignored | None = None) -> Photos:
    """Photographs and masks of ISIC 2018, task 1 (and challenges before it), paired by their names.

    The data name neither patients nor lesions: the unit is the image.

    Args:
        root: Folder of all files.
        ignore: Values of pixels of masks that nobody labelled, which count nowhere, e.g. 128.

    Raises:
        DataError: There is no mask. Masks without an image and images without a mask are findings.
    """
    paths = files_below(root)
    files = files_by_stem(paths)
    masks = {name.removesuffix(MASK): path for name, path in files.items() if name.endswith(MASK)}
    images = {name: path for name, path in files.items() if not name.endswith((MASK, "_superpixels"))}
    if not masks:
        raise DataError(
            f"data.root: no mask such as ISIC_0000000{MASK}.png below {root}. Give the folder that holds "
            "images and masks."
        )
    findings: list[Finding] = []
    for own, others, what, lacking in ((images, masks, "image", "mask"), (masks, images, "mask", "image")):
        if alone := sorted(own.keys() - others.keys()):
            says = f"{len(alone)} {what}s have no {lacking}: {quoted(alone)}."
            advice = f"Add the {lacking}, or move the {what} away."
            findings.append(error(f"{lacking} missing", says, advice, *(own[name] for name in alone)))
    for path in paths:
        if files[path.stem] != path:  # the first of one name is taken
            says = f"{files[path.stem]} and {path} are called '{path.stem}'."
            findings.append(error("listed twice", says, "Keep one of them.", files[path.stem], path))
    names = sorted(images.keys() & masks.keys())
    parts = {name: _part(images[name].relative_to(root).parts[:-1]) for name in names}
    return Photos(
        classes=("background", "lesion"),
        unit="image",
        items=tuple(Photo(name, name, None, images[name], mask=masks[name]) for name in names),
        facts={
            "images": f"{len(names)} with a mask",
            "grouping": "none: the data name no patients; photographs of one may be on both sides of a split",
            "source": "ISIC 2018, task 1; Codella et al., 2018; CC-0 and CC BY-NC 4.0, by image",
        },
        findings=(*findings, *left_out(root, paths)),
        official={name: part for name, part in parts.items() if part} if is_split(parts.values()) else None,
        ignored=tuple([ignore] if isinstance(ignore, int) else ignore or ()),
    )


def _part(folders: tuple[str, ...]) -> Part | None:
    """The part that the names of an image's folders say."""
    text = " ".join(folders).lower()
    return next((part for word, part in PARTS.items() if word.lower() in text), None)
