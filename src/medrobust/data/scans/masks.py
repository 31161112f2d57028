"""Labels as a mask for each structure, which may overlap: in a file each, or as the channels of one.

They are read as one label map whose numbers are combinations of masks; a class is a combination that occurs,
and each structure a region of classes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt16
from nibabel.orientations import apply_orientation

from medrobust.data.findings import Finding, quoted, refused, warning
from medrobust.data.listing import Scan
from medrobust.data.reading import in_threads
from medrobust.data.regions import MOST_MASKS, combined
from medrobust.data.scans.geometry import turn_onto
from medrobust.data.scans.labels import IGNORED, LabelMap
from medrobust.data.scans.volumes import (
    AFFINE_TOLERANCE,
    OTHER_GRID,
    VOLUME_FILES,
    Stored,
    VolumeFiles,
    whole_numbers,
)
from medrobust.errors import DataError

NOT_LABELLED = 2**MOST_MASKS
"""Number of voxels that are to be ignored, above all combinations of masks."""


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """The format of a scan with masks: the labels are called by the first of their files.

    A voxel's number is the sum of 2^i over the structures i that it is part of.
    """

    paths: tuple[Path, ...]  # a file for each structure, or one for all
    count: int  # of structures
    ignored: tuple[int, ...] = ()  # values of voxels that are not labelled

    def read(self, path: Path) -> Stored:
        """An image, or the numbers of all masks.

        Raises:
            DataError: A file cannot be read, does not hold as many masks as there are structures, or holds
                more than one value beside 0; masks lie on different grids.
        """
        if path != self.paths[0]:
            return VOLUME_FILES.read(path)
        first, structure = None, 0
        for file in self.paths:
            stored = VolumeFiles(channels=self.count).read(file)
            first = first or stored
            turn, shape, affine = turn_onto(stored.affine, stored.voxels.shape[:3], first.affine)
            if shape != first.voxels.shape[:3] or np.abs(affine - first.affine).max() > AFFINE_TOLERANCE:
                raise DataError(f"{file} and {path} lie on different grids. {OTHER_GRID}")
            voxels = apply_orientation(stored.voxels, turn)  # type: ignore[no-untyped-call]
            masks = [voxels] if voxels.ndim == 3 else list(np.moveaxis(voxels, 3, 0))
            if len(masks) * len(self.paths) != self.count:
                raise DataError(
                    f"{file} has the shape {stored.voxels.shape}, but {self.count} structures are named, and "
                    "their masks are its fourth dimension. Correct data.masks, or save it so."
                )
            if structure == 0:
                numbers = np.zeros(shape, np.uint16)
            for mask in masks:
                self._add(numbers, stored._replace(voxels=mask), structure, file)
                structure += 1
        assert first is not None
        return first._replace(voxels=numbers, dtype=numbers.dtype, step=0.0)

    def digest(self, path: Path) -> str:
        """SHA-256 of an image, or of all masks."""
        if path != self.paths[0]:
            return VOLUME_FILES.digest(path)
        digests = "".join(map(VOLUME_FILES.digest, self.paths))
        return sha256(f"{digests}{self.count}{self.ignored}".encode()).hexdigest()

    def claimed_voxels(self, path: Path) -> int:
        """Voxels times channels that a file's header claims."""
        return VOLUME_FILES.claimed_voxels(path)

    def _add(self, numbers: UInt16[np.ndarray, "x y z"], mask: Stored, structure: int, file: Path) -> None:
        values = whole_numbers(mask, file)
        not_labelled = np.isin(values, self.ignored)
        found = np.unique(values[(values != 0) & ~not_labelled])
        if len(found) > 1:
            raise DataError(
                f"{file} holds {quoted([str(value) for value in found])}, and a mask is 0 outside and one "
                "number inside. Say in data.labels what the numbers of one label map mean, or in data.ignore "
                "which are not labelled."
            )
        inside = (values != 0) & ~not_labelled & (numbers != NOT_LABELLED)
        numbers[inside] |= np.uint16(1 << structure)
        numbers[not_labelled] = NOT_LABELLED


def classes_of_masks(
    scans: Sequence[Scan], structures: Sequence[str], findings: list[Finding]
) -> tuple[list[Scan], LabelMap]:
    """The combinations that occur as classes, with the structures as regions; every label file is read.

    Args:
        scans: Whose labels are numbers of combinations, see `MaskFiles`.
        structures: Their names, in the order of their bits.
        findings: Receives what is wrong with files, whose scans are left out, and which structures never
            occur.

    Raises:
        DataError: No structure occurs, or there are too many combinations.
    """

    def present(scan: Scan) -> Collection[int] | DataError:
        try:
            numbers = whole_numbers(scan.format.read(scan.labels), scan.labels)
        except DataError as wrong:
            return wrong
        return {int(number) for plane in numbers for number in np.unique(plane)}

    kept, every = [], {0}
    for scan, found in zip(scans, in_threads(present, scans), strict=True):
        if isinstance(found, DataError):
            findings.append(refused("unreadable", found, scan.labels))
        else:
            kept.append(scan)
            every |= {*found}
    numbers = sorted(every - {NOT_LABELLED})
    classes, regions = combined(numbers, structures)
    if len(classes) > IGNORED:
        raise DataError(
            f"{kept[0].labels}, ...: masks overlap in {len(classes) - 1} combinations; at most {IGNORED - 1} "
            "are possible. Use fewer structures."
        )
    if kept and not regions:
        raise DataError(f"{kept[0].labels} marks nothing, and nor do all other masks. Give the masks.")
    if lacking := [name for name in structures if name not in regions]:
        says = f"No scan has any voxel of {quoted(lacking)}."
        findings.append(warning("class in no scan", says, "These structures are left out."))
    return kept, LabelMap(
        classes,
        tuple((number,) for number in numbers),
        ignored=(NOT_LABELLED,) if NOT_LABELLED in every else (),
        regions=tuple(regions.items()),
    )
