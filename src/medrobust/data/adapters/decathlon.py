"""Folders of the Medical Segmentation Decathlon, nnU-Net's variants of them, and MONAI's lists of cases.

    dataset.json    imagesTr/case_001.nii.gz         labelsTr/case_001.nii.gz     (the Decathlon)
    dataset.json    imagesTr/case_001_0000.nii.gz    labelsTr/case_001.nii.gz     (nnU-Net, per channel)
    list.json       {"training": [{"image": ..., "label": ...}], "testing": [...]}     (MONAI)

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022); Isensee et al.,
"nnU-Net", Nature Methods 18 (2021). Images without labels, as those of imagesTs, take no part. nnU-Net's
first version lists `case_001.nii.gz` to mean its channels.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import MinLen

from medrobust.core import Part
from medrobust.data.adapters.pairing import by_patient, official_split, pair, scans_of
from medrobust.data.files import ListedFiles, existing_file, is_missing, read_json
from medrobust.data.findings import Finding, error, is_sound, note, quoted, refused, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.labels import Ignored, Labels, label_map, labels_of_json, map_of_file
from medrobust.data.scans.volumes import SUFFIXES, is_volume, stem
from medrobust.data.splitting.splits import PARTS
from medrobust.errors import DataError

CHANNEL = re.compile(r"(?P<scan>.+)_(?P<channel>\d{4})")
"""nnU-Net's names of images, without their ending."""


class Entry(NamedTuple):
    """A case of a list: its files, its part, and whether nnU-Net's numbers tell its channels."""

    images: tuple[Path, ...]
    truth: Path
    part: Part
    numbered: bool


def list_decathlon(
    root: Path,
    *,
    file: Annotated[str, MinLen(1)] = "dataset.json",
    labels: Labels | str | None = None,
    ignore: Ignored | None = None,
    patient: str | None = None,
) -> Scans:
    """The cases with labels that a dataset.json, or a list of MONAI's, describes.

    Args:
        root: Folder of all files.
        file: Path of the description below the root.
        labels: Classes in place of those of the description, e.g. {tumour: [1, 2, 3]}, or a file that gives
            them; MONAI's lists name none.
        ignore: Numbers of voxels that nobody labelled, which count nowhere, e.g. 255.
        patient: Regular expression that finds the patient in a case's name.

    Raises:
        StudyError: The mapping or the expression cannot be used.
        DataError: The description is missing or wrong, or names no classes; or there is no case. Unusable
            cases are findings.
    """
    path = existing_file(root, file, "data.file")
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold an object with labels and training cases.")
    findings: list[Finding] = []
    files, parts = ListedFiles(root, SUFFIXES), dict[str, Part]()
    is_nnunet = "channel_names" in content or "file_ending" in content
    if is_nnunet:
        listed = _nnunet(root, content, path, files, findings)
    else:
        listed, parts = _listed(root, content, path, files, findings)
    if not listed and is_sound(findings):
        told = "".join(f" {finding.says}" for finding in findings)
        raise DataError(
            f"{path}: no usable case with image and labels.{told} Correct the file, or the folder."
        )
    if labels is not None:
        own = label_map(labels, root, ignore)
    elif "labels" in content:
        own = map_of_file(labels_of_json(path, content["labels"]), path).ignoring(ignore)
    else:
        raise DataError(
            f"{path}: does not name the classes. Give them in data.labels, e.g. {{liver: 1, tumour: 2}}."
        )
    scans, unit, how = by_patient(listed, patient, findings)
    official = official_split([(scan, parts[scan.scan_id]) for scan in scans if parts], findings)
    channels = content.get("channel_names" if is_nnunet else "modality")
    shown = ", ".join(map(str, channels.values())) if isinstance(channels, dict) else "not named"
    facts = {
        "data": str(content.get("name", root.name))[:80],
        "channels": shown[:200],
        "patients": how,
    }
    return scans_of(scans, own, unit, findings, facts, official=official)


def _listed(
    root: Path, content: Mapping[str, Any], path: Path, files: ListedFiles, findings: list[Finding]
) -> tuple[list[Scan], dict[str, Part]]:
    """The labelled cases of `training`, `validation` and `test`, and their parts."""
    lists = {key: each for key, each in content.items() if key.lower() in PARTS and isinstance(each, list)}
    if Part.TRAIN not in {PARTS[key.lower()] for key in lists}:
        raise DataError(
            f"{path}: `training` must list the cases as {{image, label}}. Is this the right file?"
        )
    channels, found = content.get("modality"), dict[tuple[Path, ...], Entry]()
    unlabelled = []
    for key, number, case in ((name, *each) for name in lists for each in enumerate(lists[name])):
        where, part = f"{path}, {key} case {number}", PARTS[key.lower()]
        if isinstance(case, str) or (isinstance(case, dict) and is_missing(str(case.get("label")))):
            unlabelled += [where] if part is not Part.TEST else []  # those of a challenge have none
            continue
        try:
            entry = _entry(case, part, where, files, len(channels) if isinstance(channels, dict) else None)
        except DataError as wrong:
            findings.append(refused("wrong case", wrong, path))
            continue
        if found.setdefault(entry.images, entry) != entry:
            name = entry.images[0].name
            says = f"{where}: '{name}' was listed before, with other labels or in another list."
            findings.append(error("listed twice", says, "Remove one.", path))
    if unlabelled:
        says = f"{len(unlabelled)} cases have no label: {quoted(unlabelled)}."
        findings.append(warning("labels missing", says, "They are left out.", path))
    if any(isinstance(case, dict) and "fold" in case for each in lists.values() for case in each):
        says = f"{path}: each case has a `fold`, which is not read."
        advice = "Let the study draw folds, `split: {folds: 5}`, or give `split: {file: split.csv}`."
        findings.append(note("folds", says, advice, path))
    return _named(root, list(found.values()), path, findings)


def _entry(case: object, part: Part, where: str, files: ListedFiles, channels: int | None) -> Entry:
    """A case with its files; a DataError if it has none."""
    images, truths = (_texts(case, key) for key in ("image", "label"))
    if not images or len(truths) != 1:
        raise DataError(
            f"{where}: must be {{image: ..., label: ...}}, with the path of one label file, and of one "
            f"image or a list of channels; got {str(case)[:200]}. Correct or remove it; images with one "
            "class each belong in a table for `image_folder`."
        )
    label = files.find(truths[0], where)
    if len(images) > 1:
        return Entry(tuple(files.find(each, where) for each in images), label, part, numbered=True)
    try:
        return Entry((files.find(images[0], where),), label, part, numbered=False)
    except DataError:
        numbered = tuple(_numbered(images[0], where, files))
        if not numbered:
            raise
    if channels not in (None, len(numbered)):
        raise DataError(
            f"{where}: '{images[0]}' has {len(numbered)} files from '{numbered[0].name}' on, and `modality` "
            f"names {channels} channels. Correct that, or add the others."
        )
    return Entry(numbered, label, part, numbered=True)


def _texts(case: object, key: str) -> list[str]:
    """The path, or paths, of a case; empty if there is anything else."""
    value = case.get(key) if isinstance(case, dict) else None
    values = value if isinstance(value, list) else [value]
    texts = [each for each in values if isinstance(each, str)]
    return texts if len(texts) == len(values) else []


def _numbered(text: str, where: str, files: ListedFiles) -> Iterator[Path]:
    """The channels of an image that nnU-Net's first version lists without their numbers."""
    ending = max((each for each in SUFFIXES if text.endswith(each)), key=len, default="")
    with suppress(DataError):
        for channel in count():
            yield files.find(f"{text.removesuffix(ending)}_{channel:04d}{ending}", where)


def _named(
    root: Path, entries: Sequence[Entry], path: Path, findings: list[Finding]
) -> tuple[list[Scan], dict[str, Part]]:
    """Scans named after their files, or after folders and files if several files share a name; sorted."""
    owners = [entry.truth if entry.numbered else entry.images[0] for entry in entries]
    names = [stem(file) for file in owners]
    if len(set(names)) < len(names):
        names = ["_".join((*file.relative_to(root).parent.parts, stem(file))) for file in owners]
    scans, parts = dict[str, Scan](), dict[str, Part]()
    for name, entry in zip(names, entries, strict=True):
        if name in scans:
            says = f"{path}: two cases are called '{name}', after their files."
            findings.append(error("listed twice", says, "Rename the files of one, or remove it.", path))
        else:
            scans[name], parts[name] = Scan(name, name, entry.images, entry.truth), entry.part
    return [scans[name] for name in sorted(scans)], parts


def _nnunet(
    root: Path, content: Mapping[str, Any], path: Path, files: ListedFiles, findings: list[Finding]
) -> list[Scan]:
    """The cases of imagesTr and labelsTr, or those that `dataset` lists."""
    ending, names = content.get("file_ending", ".nii.gz"), content.get("channel_names")
    if ending not in SUFFIXES:
        raise DataError(
            f"{path}: file_ending is {ending!r}, but only {', '.join(SUFFIXES)} are read. Convert the files."
        )
    if not isinstance(names, dict) or not names:
        raise DataError(f"{path}: channel_names must name the channels, e.g. {{'0': 'T1'}}.")
    if "dataset" in content:
        return _dataset(files, content["dataset"], path, len(names), findings)
    channels: list[dict[str, Path]] = [{} for _ in names]
    for file in _files(root / "imagesTr", ending):
        match = CHANNEL.fullmatch(stem(file))
        if match is None or int(match["channel"]) >= len(names):
            says = f"{file} is not named like nnU-Net's images of {len(names)} channels: case_0000{ending}."
            findings.append(error("strange name", says, "Rename or move it.", file))
        else:
            channels[int(match["channel"])][match["scan"]] = file
    return pair(channels, {stem(file): file for file in _files(root / "labelsTr", ending)}, findings)


def _dataset(
    files: ListedFiles, cases: object, path: Path, channels: int, findings: list[Finding]
) -> list[Scan]:
    """The cases of nnU-Net whose files lie anywhere below the root."""
    scans = []
    for name, entry in sorted(cases.items()) if isinstance(cases, dict) else []:
        where = f"{path}, case '{name}'"
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not isinstance(entry.get("label"), str) or len(images) != channels:
            raise DataError(f"{where}: must hold `images`, one for each of {channels} channels, and `label`.")
        try:
            *own, truth = (files.find(str(text), where) for text in (*images, entry["label"]))
        except DataError as wrong:
            findings.append(refused("wrong case", wrong, path))
        else:
            scans.append(Scan(name, name, tuple(own), truth))
    return scans


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing. nnU-Net's folders are imagesTr and labelsTr.")
    return sorted(path for path in folder.iterdir() if is_volume(path) and path.name.endswith(ending))
