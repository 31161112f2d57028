"""ISIC 2018, task 1 (and challenges before it): dermatoscopic photographs with a mask of the lesion each.

    ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg
    ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png      0 outside, 255 inside

Where the folders of Validation and Test are there too, they are an official split. Nothing says which patient
or lesion an image is of.

Codella et al., arXiv 1902.03368 (2018).
"""

from pathlib import Path

from medrobust.core import Part
from medrobust.data.adapters.labelled import files_below, files_by_stem, left_out
from medrobust.data.findings import Finding, Severity, quoted
from medrobust.data.listing import Photo, Photos
from medrobust.errors import DataError

MASK = "_segmentation"
PARTS = {"training": Part.TRAIN, "validation": Part.VALIDATION, "test": Part.TEST}


def list_isic_segmentation(root: Path) -> Photos:
    """Images and masks below a folder, paired by their names; the unit is the image.

    Args:
        root: Folder that holds the folders of images and masks.

    Raises:
        DataError: There is no mask. A mask without image is a finding, and so is an image without mask.
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
    photos = tuple(
        Photo(name, name, None, images[name], mask=masks[name])
        for name in sorted(images.keys() & masks.keys())
    )
    parts = {
        name: part for name in (photo.case_id for photo in photos) if (part := _part(images[name], root))
    }
    is_split = len(parts) == len(photos) and {Part.TRAIN, Part.TEST} <= set(parts.values())
    return Photos(
        classes=("background", "lesion"),
        unit="image",
        items=photos,
        facts={
            "images": f"{len(photos)} with a mask",
            "grouping": "none: the data name no patients; photographs of one may be on both sides of a split",
            "source": "ISIC 2018, task 1; Codella et al., 2018; CC-0 and CC BY-NC 4.0, by image",
        },
        findings=(
            *_alone("mask missing", "image", "mask", images, masks),
            *_alone("image missing", "mask", "image", masks, images),
            *_twice(paths),
            *left_out(root, paths),
        ),
        official=parts if is_split else None,
    )


def _alone(
    kind: str, what: str, lacking: str, files: dict[str, Path], others: dict[str, Path]
) -> list[Finding]:
    """Images without mask, or masks without image."""
    alone = sorted(files.keys() - others.keys())
    if not alone:
        return []
    says = f"{len(alone)} files are {what}s without {lacking}: {quoted(alone)}."
    advice = f"Add the {lacking}, or move the {what} away."
    return [Finding(kind, Severity.ERROR, says, advice, tuple(files[name] for name in alone))]


def _twice(paths: list[Path]) -> list[Finding]:
    """Files that are called alike but for their folder and ending, of which the first is taken."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return [
        Finding(
            "listed twice",
            Severity.ERROR,
            f"{' and '.join(map(str, same))} are called '{name}'.",
            "Keep one of them.",
            tuple(same),
        )
        for name, same in found.items()
        if len(same) > 1
    ]


def _part(path: Path, root: Path) -> Part | None:
    """The part that the name of an image's folder says."""
    folders = " ".join(path.relative_to(root).parts[:-1]).lower()
    return next((part for word, part in PARTS.items() if word in folders), None)
