"""The findings of an audit on a terminal, as a document for programs, and as thumbnails for a page."""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps
from rich.markup import escape
from rich.table import Table

from medrobust.audit.audit import Audit
from medrobust.data.dicom import is_dicom
from medrobust.data.findings import Finding, Severity
from medrobust.data.photographs.arrays import NPZ_ARRAYS
from medrobust.data.photographs.dicom_pictures import DicomFiles
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.scans.geometry import slices_along
from medrobust.data.scans.volumes import VOLUME_FILES, is_volume
from medrobust.text import text_table

STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}

FILES = 3
"""Files that a row names."""

EACH = 3
"""Up to so many findings of a kind get a row each; more share one."""


def findings_table(audit: Audit) -> Table:
    """A row per finding, most severe first; many findings of one kind share a row."""
    table = text_table("", "what", "seen", "files", "what to do", show_lines=True)
    for (severity, kind), found in groupby(audit.findings, lambda each: (each.severity, each.kind)):
        group = list(found)
        for part in [group] if len(group) > EACH else [[finding] for finding in group]:
            table.add_row(
                f"[{STYLES[severity]}]{severity}[/]",
                escape(kind) + (f" ({len(part)} times)" if len(part) > 1 else ""),
                escape(_says(part)),
                escape(_files(part)),
                escape(part[0].advice),
            )
    return table


def summary(audit: Audit) -> str:
    """How much was found in how much, as a sentence."""
    counts = [(audit.count(severity), severity) for severity in Severity]
    found = ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for count, severity in counts)
    return f"{found} in {audit.looked_at} ({audit.seconds:.0f} s)."


def _says(group: Sequence[Finding]) -> str:
    """The first finding of a group, without the folders of its files."""
    says = group[0].says
    for file in group[0].files:
        says = says.replace(str(file), file.name)
    return says if len(group) == 1 else f"{says} And {len(group) - 1} more like it."


def _files(group: Sequence[Finding]) -> str:
    files = list(dict.fromkeys(file for finding in group for file in finding.files))
    more = [f"and {len(files) - FILES} more"] if len(files) > FILES else []
    names = [file.name for file in files[:FILES]]
    if len(set(names)) < len(names):
        names = [f"{file.parent.name}/{file.name}" for file in files[:FILES]]
    return "\n".join([*names, *more])


SCHEMA = 1
"""Version of the document: raised when a key is removed or changes its meaning."""


def as_document(audit: Audit) -> dict[str, Any]:
    """Everything that was found, as data for JSON; docs/audit.md describes the keys."""
    return {
        "schema": SCHEMA,
        "medrobust": version("medrobust"),
        "data": audit.name,
        "looked_at": audit.looked_at,
        "counts": {str(severity): audit.count(severity) for severity in Severity},
        "findings": [
            {**asdict(finding), "files": [str(file) for file in finding.files]} for finding in audit.findings
        ],
    }


SIDE = 160
"""Pixels of a thumbnail along its longer side."""

PER_FINDING, PER_KIND = 6, 60
"""Most thumbnails of a finding, and of a kind: the page of a badly damaged data set must still open."""

TEXT = (".csv", ".txt", ".tsv", ".json", ".py", ".yaml")


def thumbnails(findings: Iterable[Finding]) -> dict[Path, bytes]:
    """JPEG files: photographs whole, volumes as their middle axial slice; damaged files have none."""
    wanted: Counter[str] = Counter()
    files: dict[Path, None] = {}
    for finding in findings:
        for file in finding.files[:PER_FINDING]:
            if file.suffix.lower() not in TEXT and wanted[finding.kind] < PER_KIND:
                wanted[finding.kind] += 1
                files[file] = None
    pictures = {file: _thumbnail(file) for file in files}
    return {file: picture for file, picture in pictures.items() if picture}


def _thumbnail(file: Path) -> bytes | None:
    try:
        image = _slice(file) if is_volume(file) else _photo(file)
    except Exception:  # the finding says what is wrong with the file
        return None
    stream = io.BytesIO()
    ImageOps.contain(image, (SIDE, SIDE)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _photo(file: Path) -> Image.Image:
    """What is at a `Photo.place`: a photograph, or the middle slice of a volume; 16-bit grey is stretched."""
    if file.parent.is_file():
        name, _, number = file.name.partition("[")
        picture = NPZ_ARRAYS.picture(file.parent, (name, int(number.rstrip("]"))))
    else:
        picture = (DicomFiles() if is_dicom(file) else IMAGE_FILES).picture(file)
    bands = picture.bands[len(picture.bands) // 2 :][:1] if picture.is_volume else picture.bands
    if bands[0].mode != "F":
        return bands[0].convert("RGB")
    if len(bands) == 1:
        return Image.fromarray(_grey(np.asarray(bands[0])))
    return Image.merge("RGB", [Image.fromarray((np.asarray(band) / 257).astype(np.uint8)) for band in bands])


def _slice(file: Path) -> Image.Image:
    """The middle axial slice of the first channel."""
    voxels = VOLUME_FILES.read(file).voxels
    axial = slices_along(voxels.reshape(*voxels.shape[:3], -1)[..., 0], "axial")
    return Image.fromarray(_grey(axial[len(axial) // 2]))


def _grey(values: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    """Values as 8 bits: the smallest black, the 99.5th percentile white."""
    numbers = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    low, high = numbers.min(), np.percentile(numbers, 99.5)
    scaled: np.ndarray = np.clip((numbers - low) * (255 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)
    return scaled
