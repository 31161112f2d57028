"""Small pictures of the files that findings are about."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps

from medrobust.data.findings import Finding
from medrobust.data.photographs.arrays import NPZ_ARRAYS
from medrobust.data.photographs.dicom_pictures import DicomFiles
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import Picture

SIDE = 160
PER_FINDING = 6
PER_KIND = 60
"""Most pictures of a finding, and of a kind: a page of a damaged data set must still open."""

DICOM = bytes(128) + b"DICM"
"""How DICOM files begin, but for the first 128 bytes, which may be anything."""

TEXT = (".csv", ".txt", ".tsv", ".json", ".py", ".yaml")


def thumbnails(findings: Iterable[Finding]) -> dict[Path, bytes]:
    """JPEG files by file: photographs whole, the middle axial slice of volumes; damaged files have none."""
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
        image = _slice(file) if ".nii" in file.name or file.suffix in (".mgz", ".mgh") else _photo(file)
    except Exception:  # a damaged file has no picture; the finding says what is wrong with it
        return None
    stream = io.BytesIO()
    ImageOps.contain(image, (SIDE, SIDE)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _photo(file: Path) -> Image.Image:
    """A photograph, or the middle slice of a volume; more than 8 bits of grey are stretched."""
    picture = _picture(file)
    bands = picture.bands[len(picture.bands) // 2 :][:1] if picture.is_volume else picture.bands
    if bands[0].mode != "F":
        return bands[0].convert("RGB")
    if len(bands) == 1:
        return Image.fromarray(_grey(np.asarray(bands[0])))
    return Image.merge("RGB", [Image.fromarray((np.asarray(band) / 257).astype(np.uint8)) for band in bands])


def _picture(file: Path) -> Picture:
    """What is at a `Photo.place`."""
    if file.parent.is_file():
        name, _, number = file.name.partition("[")
        return NPZ_ARRAYS.picture(file.parent, (name, int(number.rstrip("]"))))
    with file.open("rb") as content:
        is_dicom = content.read(len(DICOM))[-4:] == DICOM[-4:]
    return (DicomFiles() if is_dicom else IMAGE_FILES).picture(file)


def _slice(file: Path) -> Image.Image:
    """The middle axial slice, anterior up, the patient's left on the right."""
    stored: Any = nib.load(file)
    volume = nib.as_closest_canonical(nib.funcs.squeeze_image(stored))
    middle = np.asanyarray(volume.dataobj[:, :, volume.shape[2] // 2])
    return Image.fromarray(_grey(middle.reshape(*middle.shape[:2], -1)[::-1, ::-1, 0].T))


def _grey(values: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    """Values as 8 bits: the smallest black, the 99.5th percentile white."""
    numbers = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    low, high = numbers.min(), np.percentile(numbers, 99.5)
    scaled: np.ndarray = np.clip((numbers - low) * (255 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)
    return scaled
