"""Folders of the Medical Segmentation Decathlon, and nnU-Net's variant of them.

    dataset.json    imagesTr/case_001.nii.gz         labelsTr/case_001.nii.gz     (the Decathlon, MONAI)
    dataset.json    imagesTr/case_001_0000.nii.gz    labelsTr/case_001.nii.gz     (nnU-Net, per channel)

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022); Isensee et al.,
"nnU-Net", Nature Methods 18 (2021). Images in imagesTs have no labels and take no part.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrobust.data.adapters.pairing import by_patient, pair
from medrobust.data.files.json_files import read_json
from medrobust.data.files.paths import inside
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.label_files import label_map, labels_of_json
from medrobust.data.scans.labels import LabelMap, Labels, map_of_file
from medrobust.data.scans.volume_files import SUFFIXES, is_volume, stem
from medrobust.errors import DataError

CHANNEL = re.compile(r"(?P<scan>.+)_(?P<channel>\d{4})")
"""nnU-Net's names of images, without their ending."""


def list_decathlon(root: Path, *, labels: Labels | str | None = None, patient: str | None = None) -> Scans:
    """The training cases that a dataset.json describes; its test images have no labels.

    Args:
        root: Folder of dataset.json.
        labels: Other classes than those of dataset.json, e.g. {tumour: [1, 2, 3]}, or a file that names them.
        patient: Regular expression that finds the patient in a case's name.

    Raises:
        StudyError: A mapping or expression that cannot be used.
        DataError: dataset.json is missing or wrong, names regions, or a path in it leads out of the root; or
            there is no case.
    """
    path = root / "dataset.json"
    if not path.is_file():
        raise DataError(f"data.root: no 'dataset.json' in {root}. Give the folder that holds it.")
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold an object with labels and training cases.")
    findings: list[Finding] = []
    is_nnunet = "channel_names" in content or "file_ending" in content
    listed = _nnunet(root, content, path, findings) if is_nnunet else _listed(root, content, path, findings)
    if not listed:
        raise DataError(f"{path}: no case with image and labels is left. Correct the file, or the folder.")
    own = _labels(root, content, path, labels)
    scans, unit, grouping = by_patient(listed, patient, findings)
    channels = content.get("channel_names") if is_nnunet else content.get("modality")
    shown = ", ".join(map(str, channels.values())) if isinstance(channels, dict) else "not named"
    return Scans(
        classes=own.names,
        unit=unit,
        items=tuple(scans),
        classes_of=own,
        facts={
            "data": str(content.get("name", root.name))[:80],
            "labels": ", ".join(own.names[1:]),
            "channels": shown[:200],
            "patients": grouping,
        },
        findings=tuple(findings),
    )


def _labels(root: Path, content: Mapping[str, Any], path: Path, labels: Labels | str | None) -> LabelMap:
    if labels is not None:
        return label_map(labels, root)
    return map_of_file(labels_of_json(path, content.get("labels")), path)


def _listed(root: Path, content: Mapping[str, Any], path: Path, findings: list[Finding]) -> list[Scan]:
    """The cases that `training` lists."""
    training = content.get("training")
    if not isinstance(training, list):
        raise DataError(
            f"{path}: `training` must list the cases as {{image, label}}. Is this the right file?"
        )
    scans: dict[str, Scan] = {}
    for number, entry in enumerate(training):
        where = f"{path}, training case {number}"
        if not isinstance(entry, dict) or not all(isinstance(entry.get(k), str) for k in ("image", "label")):
            raise DataError(f"{where}: must be {{image: ..., label: ...}}; got {str(entry)[:80]}.")
        image, truth = (inside(root, entry[key], where) for key in ("image", "label"))
        scan = stem(image)
        if scan in scans:
            says = f"{where}: '{scan}' is listed twice."
            findings.append(Finding("listed twice", Severity.ERROR, says, "Take one out.", (path,)))
        elif _exist((image, truth), where, findings):
            scans[scan] = Scan(scan, scan, (image,), truth)
    return [scans[scan] for scan in sorted(scans)]


def _exist(files: tuple[Path, ...], where: str, findings: list[Finding]) -> bool:
    missing = [file for file in files if not file.is_file()]
    for file in missing:
        says = f"{where}: {file} does not exist."
        advice = "Add the file, or take the case out of dataset.json."
        findings.append(Finding("file missing", Severity.ERROR, says, advice, (file,)))
    return not missing


def _nnunet(root: Path, content: Mapping[str, Any], path: Path, findings: list[Finding]) -> list[Scan]:
    """The cases of imagesTr and labelsTr, or those that `dataset` lists."""
    ending, names = content.get("file_ending", ".nii.gz"), content.get("channel_names")
    if ending not in SUFFIXES:
        raise DataError(
            f"{path}: file_ending is {ending!r}; read are {', '.join(SUFFIXES)}. Convert the files."
        )
    if not isinstance(names, dict) or not names:
        raise DataError(f"{path}: channel_names must name the channels, e.g. {{'0': 'T1'}}.")
    if "dataset" in content:
        return _dataset(root, content["dataset"], path, len(names), findings)
    channels: list[dict[str, Path]] = [{} for _ in names]
    for file in _files(root / "imagesTr", ending):
        match = CHANNEL.fullmatch(stem(file))
        if match is None or int(match["channel"]) >= len(names):
            says = f"{file} is not named as nnU-Net's images of {len(names)} channels are: case_0000{ending}."
            findings.append(Finding("strange name", Severity.ERROR, says, "Rename or move it.", (file,)))
        else:
            channels[int(match["channel"])][match["scan"]] = file
    return pair(channels, {stem(file): file for file in _files(root / "labelsTr", ending)}, findings)


def _dataset(root: Path, cases: object, path: Path, channels: int, findings: list[Finding]) -> list[Scan]:
    """nnU-Net's cases whose files lie anywhere below the root."""
    scans = []
    for name, entry in sorted(cases.items()) if isinstance(cases, dict) else []:
        where = f"{path}, case '{name}'"
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not isinstance(entry.get("label"), str) or len(images) != channels:
            raise DataError(f"{where}: must hold `images`, one for each of {channels} channels, and `label`.")
        *files, truth = (inside(root, str(text), where) for text in (*images, entry["label"]))
        if _exist((*files, truth), where, findings):
            scans.append(Scan(name, name, tuple(files), truth))
    return scans


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing. nnU-Net's folders are imagesTr and labelsTr.")
    return sorted(path for path in folder.iterdir() if is_volume(path) and path.name.endswith(ending))
