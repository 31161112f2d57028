"""The ISIC challenges of 2018 (task 3), 2019 and 2020: dermatoscopic photographs with a diagnosis each.

    ISIC2018_Task3_Training_GroundTruth.csv      image,MEL,NV,BCC,AKIEC,BKL,DF,VASC: one is 1, the others 0
    ISIC2018_Task3_Training_LesionGroupings.csv  image,lesion_id,...
    ISIC_2019_Training_GroundTruth.csv           image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
    ISIC_2019_Training_Metadata.csv              image,age_approx,anatom_site_general,lesion_id,sex
    ISIC_2020_Training_GroundTruth.csv           image_name,patient_id,...,target: 1 malignant, 0 benign

The table of 2020 may also be called train.csv. In 2018, tables of Validation and Test may stand beside those
of Training: an official split. Images lie in any folder below.

Codella et al., arXiv 1902.03368 (2018); Combalia et al., arXiv 1908.02288 (2019); Rotemberg et al.,
Scientific Data 8, 34 (2021).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medrobust.core import Part, Unit
from medrobust.data.adapters.labelled import (
    class_counts,
    empty_classes,
    files_below,
    files_by_stem,
    group_by,
    group_labels,
    missing_images,
    repeats,
)
from medrobust.data.attributes import told
from medrobust.data.files import Row, is_missing, read_table
from medrobust.data.findings import Finding, Severity, quoted
from medrobust.data.listing import Photo, Photos
from medrobust.errors import DataError

ATTRIBUTES = {
    "age_approx": "age",
    "sex": "sex",
    "anatom_site_general": "localization",
    "anatom_site_general_challenge": "localization",
}
"""Columns of 2019 and 2020."""

BENIGN, MALIGNANT = "benign", "malignant"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One year's files.

    Attributes:
        truth: Names that the table of diagnoses may have, by part.
        groups: Name of the table of lesions, by part.
        classes: Columns of the diagnoses; empty where a column `target` says what is malignant.
        unit: What its groups are.
        key: Column of the group.
        image: Column of the image.
        source: Citation and licence.
    """

    truth: Mapping[Part, tuple[str, ...]]
    groups: Mapping[Part, str]
    classes: tuple[str, ...]
    unit: Unit
    key: str
    image: str
    source: str

    @property
    def rule(self) -> str:
        """What a row must say, for messages."""
        if not self.classes:
            return "target 0 or 1"
        return f"1 in one of {', '.join(self.classes)} and 0 in the others"


PARTS = {Part.TRAIN: "Training", Part.VALIDATION: "Validation", Part.TEST: "Test"}
CHALLENGES = (
    Challenge(
        truth={part: (f"ISIC2018_Task3_{name}_GroundTruth.csv",) for part, name in PARTS.items()},
        groups={part: f"ISIC2018_Task3_{name}_LesionGroupings.csv" for part, name in PARTS.items()},
        classes=("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
        unit="lesion",
        key="lesion_id",
        image="image",
        source="ISIC 2018, task 3; Codella et al., 2018, and Tschandl et al., 2018; CC BY-NC 4.0",
    ),
    Challenge(
        truth={Part.TRAIN: ("ISIC_2019_Training_GroundTruth.csv",)},
        groups={Part.TRAIN: "ISIC_2019_Training_Metadata.csv"},
        classes=("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"),
        unit="lesion",
        key="lesion_id",
        image="image",
        source="ISIC 2019; Tschandl et al., 2018; Codella et al., 2018; Combalia et al., 2019; CC BY-NC 4.0",
    ),
    Challenge(
        truth={Part.TRAIN: ("ISIC_2020_Training_GroundTruth.csv", "train.csv")},
        groups={},
        classes=(),
        unit="patient",
        key="patient_id",
        image="image_name",
        source="ISIC 2020; Rotemberg et al., Scientific Data 2021; CC BY-NC 4.0",
    ),
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a table says of an image."""

    label: str
    part: Part
    group: str
    attributes: Mapping[str, str]


def list_isic(root: Path) -> Photos:
    """The data of one ISIC challenge; the unit is the lesion (2018, 2019) or the patient (2020).

    Args:
        root: Folder of the tables, of one year; images lie in it or in any folder below.

    Raises:
        DataError: There is no table of a year that is known, or there are tables of several. Rows that cannot
            be, images without file or group, and lesions with several diagnoses are findings.
    """
    challenge, tables = _challenge(root)
    findings: list[Finding] = []
    images: dict[str, Diagnosis] = {}
    for part, table in tables.items():
        _add_rows(images, part, table, root, challenge, findings)
    classes = _classes(challenge, images)
    table = tables[Part.TRAIN]
    files = files_by_stem(files_below(root))
    findings += missing_images(images, files, [root])
    labels = {image: diagnosis.label for image, diagnosis in images.items() if diagnosis.label in classes}
    findings += empty_classes(classes, set(labels.values()), table)
    column = {image: images[image].group for image in labels}
    grouping = group_by(column, challenge.unit, challenge.key, table, findings)
    if challenge.unit == "lesion":
        findings += group_labels(labels, grouping.groups, table)
    photos = tuple(
        Photo(image, grouping.groups[image], classes.index(label), files[image])
        for image, label in sorted(labels.items())
        if image in files
    )
    official = {photo.patient_id: images[photo.case_id].part for photo in photos}
    return Photos(
        classes=classes,
        unit=grouping.unit,
        items=photos,
        facts={**class_counts(photos, classes), "grouping": grouping.fact, "source": challenge.source},
        findings=tuple(findings),
        official=official if Part.TEST in official.values() else None,
        attributes={photo.case_id: images[photo.case_id].attributes for photo in photos},
    )


def _challenge(root: Path) -> tuple[Challenge, dict[Part, Path]]:
    """The year whose tables lie in a folder."""
    found = []
    for challenge in CHALLENGES:
        tables = {
            part: root / name
            for part, names in challenge.truth.items()
            for name in reversed(names)
            if (root / name).is_file()
        }
        if Part.TRAIN in tables:
            found.append((challenge, tables))
    if len(found) == 1:
        return found[0]
    if found:
        several = quoted([str(tables[Part.TRAIN]) for _, tables in found])
        raise DataError(
            f"data.root: holds tables of several years, {several}. Give a folder with one of them."
        )
    known = quoted([name for challenge in CHALLENGES for name in challenge.truth[Part.TRAIN]])
    raise DataError(f"data.root: no table of diagnoses in {root}. It must hold one of {known}.")


def _add_rows(
    images: dict[str, Diagnosis],
    part: Part,
    table: Path,
    root: Path,
    challenge: Challenge,
    findings: list[Finding],
) -> None:
    """Add the rows of one part; what is wrong with them becomes findings."""
    groups, attributes = _beside(root, part, table, challenge, findings)
    again = []
    needed = (challenge.image, *(challenge.classes or ("target",)))
    for row in read_table(table, needed):
        image, label = row[challenge.image], _label(row, challenge.classes)
        if is_missing(image):
            kind, says = "identifier missing", f"{row.where}: {challenge.image} must be known; got '{image}'."
        elif label is None:
            kind, says = "unknown label", f"{row.where} ({image}): must have {challenge.rule}."
        elif image in images and (images[image].label, images[image].part) != (label, part):
            kind, says = "listed twice", f"{row.where}: image '{image}' is listed twice."
        elif image in images:
            again.append(row)
            continue
        else:
            group = groups.get(image, {}).get(challenge.key, "")
            images[image] = Diagnosis(label, part, group, attributes.get(image, {}))
            continue
        findings.append(Finding(kind, Severity.ERROR, says, "Correct the row, or take it out.", (table,)))
    findings += repeats(again, table)


def _label(row: Row, classes: Iterable[str]) -> str | None:
    """The diagnosis of a row, where it has exactly one."""
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


def _beside(
    root: Path, part: Part, table: Path, challenge: Challenge, findings: list[Finding]
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Group and attributes of each image by another table; nothing where the data have none."""
    beside = root / challenge.groups.get(part, table.name)
    if not beside.is_file():
        return {}, {}
    rows = read_table(beside, (challenge.image, challenge.key), ATTRIBUTES)
    group = {challenge.key: challenge.key}
    return (
        told(rows, challenge.image, group, findings, Severity.ERROR),
        told(rows, challenge.image, ATTRIBUTES, findings),
    )


def _classes(challenge: Challenge, images: Mapping[str, Diagnosis]) -> tuple[str, ...]:
    """The classes of the year; those without any image, as UNK of 2019, are none."""
    used = {diagnosis.label for diagnosis in images.values()}
    if not challenge.classes:
        return (BENIGN, MALIGNANT)
    return tuple(name for name in challenge.classes if name != "UNK" or name in used)
