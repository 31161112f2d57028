"""A series of DICOM images and the segmentation object (SEG) that labels it, each as a volume.

The frames of a segmentation are put where their headers say they lie, one by one: there need not be a frame
for every slice, and order, rows and columns may differ from those of the series.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt16
from pydicom.pixels.processing import apply_modality_lut

from medrobust.data.dicom import grouped, present, read_dicom_file, stored_pixels
from medrobust.data.files import file_digest, naming
from medrobust.data.photographs.pictures import require_size
from medrobust.data.scans.geometry import Affine
from medrobust.data.scans.labels import NUMBERS
from medrobust.data.scans.masks import NOT_LABELLED
from medrobust.data.scans.volumes import MOST_VOXELS, Stored, in_ras
from medrobust.errors import DataError

TURN = 1e-4
"""Largest difference between the direction cosines of slices that are parallel."""

OFF_GRID = 0.1
"""Fraction of a voxel by which a slice may be off its place in an even series, and a segmentation off the
grid of its series."""

UNEVEN = 0.25
"""Fraction by which the distance of two slices may differ from the usual one; positions are often rounded."""

GAP = 1.5
"""Between slices this many times the usual distance apart, some are missing."""

UNDESCRIBED = NUMBERS - 1
"""Stands for segments that a segmentation does not describe."""

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's world, whose axes point left, back and up."""


@dataclass(frozen=True, slots=True)
class DicomScan:
    """The format of a scan whose image is called by the first file of its series, its labels by the SEG."""

    series: tuple[Path, ...]
    voxels: int  # that their headers claim
    classes: tuple[str, ...]  # the first is the background
    # Numbers of segments, each with that of its class in the labels: its place, or if segments may overlap
    # 2^i for the class i + 1; or `NOT_LABELLED`.
    segments: tuple[tuple[int, int], ...]
    may_overlap: bool = False

    def read(self, path: Path) -> Stored:
        """The image, rescaled as its headers say, or the labels on the grid of the image.

        Raises:
            DataError: A file cannot be read, the slices make no regular volume, or the segmentation lies on
                another grid or has segments of several classes in one voxel, unless they may overlap.
        """
        lattice = _lattice(self.series)
        with naming(path, "DICOM images of a series" if path in self.series else "a DICOM segmentation"):
            if path in self.series:
                voxels, dtype = _image(lattice)
            else:
                voxels, dtype = self._labels(path, lattice), np.dtype(np.uint16)
            return in_ras(voxels, TO_RAS @ lattice.affine, dtype, path)

    def digest(self, path: Path) -> str:
        """SHA-256 of the series, or of the segmentation and what its numbers mean."""
        if path in self.series:
            return sha256("".join(map(file_digest, self.series)).encode()).hexdigest()
        overlap = "overlapping" if self.may_overlap else ""
        return sha256(f"{file_digest(path)}{self.classes}{self.segments}{overlap}".encode()).hexdigest()

    def claimed_voxels(self, path: Path) -> int:
        """Voxels that the headers of the series claim."""
        return self.voxels

    def _labels(self, path: Path, lattice: "Lattice") -> UInt16[np.ndarray, "s h w"]:
        segmentation = _without_empty(read_dicom_file(path))
        require_size(path, int(segmentation.Columns), int(segmentation.Rows))
        table = np.full(NUMBERS, UNDESCRIBED, np.uint16)
        for segment, index in ((background_of(segmentation), 0), *self.segments):
            table[segment] = index
        labels = np.zeros(lattice.shape, np.uint16)
        for number, frame in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
            found = _classes_of_frame(segmentation, number, frame, path, table)
            pixels = np.argwhere(found)
            places = _places(pixels, _plane(segmentation, path, frame, number), lattice)
            new, old = found[tuple(pixels.T)], labels[tuple(places.T)]
            not_labelled = (old == NOT_LABELLED) | (new == NOT_LABELLED)
            clash = np.flatnonzero((old != 0) & (old != new) & ~not_labelled)
            if len(clash) and not self.may_overlap:
                both = sorted({self.classes[new[clash[0]]], self.classes[old[clash[0]]]})
                raise DataError(
                    f"{path}: segments overlap: a voxel is both '{both[0]}' and '{both[1]}', and voxels here "
                    "have one class. Write `overlapping: true`, make them one class in data.labels, or list "
                    "one under background."
                )
            labels[tuple(places.T)] = np.where(not_labelled, NOT_LABELLED, old | new)
        return labels


def voxels_of(header: Any) -> int:
    """Voxels that the header of a file of images claims."""
    return int(header.get("NumberOfFrames") or 1) * int(header.Rows) * int(header.Columns)


def background_of(segmentation: Any) -> int:
    """The number in a label map that means no segment."""
    return int(segmentation.get("PixelPaddingValue") or 0)


def series_name(header: Any) -> str:
    """The name of an image's series in messages."""
    description, uid = present(header, "SeriesDescription"), header.SeriesInstanceUID
    return f"series '{description}' ({uid})" if description else f"series {uid}"


class Plane(NamedTuple):
    """Where a slice lies in DICOM's world."""

    path: Path
    frame: int | None  # its number in the file, from 1 on; None if the file is one slice
    corner: Float64[np.ndarray, "3"]  # centre of its first pixel in mm
    cosines: Float64[np.ndarray, "2 3"]  # directions in which columns and rows are counted, in this order
    sides: Float64[np.ndarray, "2"]  # distances between neighbouring rows and columns in mm
    shape: tuple[int, int]  # rows and columns

    @property
    def steps(self) -> Float64[np.ndarray, "3 2"]:
        """To the next row and to the next column, in mm."""
        steps: np.ndarray = self.cosines[::-1].T * self.sides
        return steps

    def __str__(self) -> str:
        """Its file and place, for messages."""
        frame = "" if self.frame is None else f", frame {self.frame},"
        return f"{self.path}{frame} at ({', '.join(f'{place:.6g}' for place in self.corner)}) mm"


class Lattice(NamedTuple):
    """Where the voxels of a series lie."""

    planes: tuple[Plane, ...]  # its slices, in order
    affine: Affine  # from slice, row and column to millimetres in DICOM's world

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        return len(self.planes), *self.planes[0].shape


def _lattice(series: Sequence[Path]) -> Lattice:
    """Where the voxels of a series lie; a DataError if slices are missing, duplicated or astray."""
    planes, claimed, names = [], 0, Counter[str]()
    for path in series:
        with naming(path, "a DICOM image of a series"):
            header = read_dicom_file(path, pixels=False)
            require_size(path, int(header.Columns), int(header.Rows))
            claimed += voxels_of(header)
            names[series_name(header)] += 1
            frames = present(header, "PerFrameFunctionalGroupsSequence")
            if frames is None and voxels_of(header) > int(header.Rows) * int(header.Columns):
                raise DataError(
                    f"{path} holds {header.NumberOfFrames} frames and does not say where each lies. Export "
                    "it as one file for each slice, or in the enhanced format."
                )
            if frames:
                planes += [_plane(header, path, frame, at) for at, frame in enumerate(frames, start=1)]
            else:
                planes.append(_plane(header, path))
    if claimed > MOST_VOXELS:
        raise DataError(f"{series[0]}: its series has {claimed:,} voxels; at most {MOST_VOXELS:,} are read.")
    ((named, _),) = names.most_common(1)
    _require_alike(planes, named)
    normal = np.cross(*planes[0].cosines)
    planes.sort(key=lambda plane: float(plane.corner @ normal))
    return Lattice(tuple(planes), _regular(planes, normal, named))


def _plane(dataset: Any, path: Path, frame: Any = None, number: int | None = None) -> Plane:
    corner, cosines, sides = (
        np.array(_required(dataset, path, keyword, frame, group, number or 1), np.float64)
        for keyword, group in (
            ("ImagePositionPatient", "PlanePositionSequence"),
            ("ImageOrientationPatient", "PlaneOrientationSequence"),
            ("PixelSpacing", "PixelMeasuresSequence"),
        )
    )
    shape = int(dataset.Rows), int(dataset.Columns)
    numbers = np.concatenate([corner, cosines, sides])
    if numbers.shape != (11,) or not np.isfinite(numbers).all() or not (sides > 0).all():
        raise DataError(f"{path} gives an impossible position or spacing. Repair its header.")
    return Plane(path, number, corner, cosines.reshape(2, 3), sides, shape)


def _required(dataset: Any, path: Path, keyword: str, frame: Any, group: str, number: int) -> Any:
    """The value of an element, of a file of one image or of a frame."""
    items = [dataset] if frame is None else grouped(dataset, frame, group)
    found = next((value for item in items if (value := present(item, keyword)) is not None), None)
    if found is None:
        where = "" if frame is None else f" for its frame {number}"
        raise DataError(
            f"{path} does not say its {keyword}{where}. Leave it out, or export it with complete headers."
        )
    return found


def _require_alike(planes: Sequence[Plane], series: str) -> None:
    """Refuse slices that differ from most in size or orientation."""

    def kind(plane: Plane) -> Any:
        return plane.shape, *np.round(plane.cosines, 2).ravel(), *np.round(plane.sides, 3)

    def in_mm(plane: Plane) -> str:
        return " x ".join(f"{side:.4g}" for side in plane.sides)

    (usual, count), *_ = Counter(map(kind, planes)).most_common()
    first = next(plane for plane in planes if kind(plane) == usual)
    for plane in planes:
        if plane.shape != first.shape:
            how = (
                f"has {plane.shape[0]} x {plane.shape[1]} pixels, others {first.shape[0]} x {first.shape[1]}"
            )
        elif abs(plane.cosines - first.cosines).max() > TURN:
            how = "is oriented differently from the others"
        elif abs(plane.sides - first.sides).max() > OFF_GRID / max(first.shape) * first.sides.max():
            how = f"has pixels of {in_mm(plane)} mm, others {in_mm(first)} mm"
        else:
            continue
        raise DataError(
            f"{plane} {how}, of which {series} has {count}. Is it a scout, or from another series? Remove it "
            "from the folder."
        )


def _regular(planes: Sequence[Plane], normal: Float64[np.ndarray, "3"], series: str) -> Affine:
    """The affine of slices of one kind, in order; refused unless they are stacked at even distances."""
    if len(planes) < 2:
        raise DataError(f"{planes[0]} is the only slice of {series}; a scan has several. Add the others.")
    corners = np.array([plane.corner for plane in planes])
    gaps = np.diff(corners @ normal)
    usual = float(np.median(gaps))
    for first, second, gap in zip(planes, planes[1:], gaps, strict=False):
        if gap <= OFF_GRID * usual:
            raise DataError(
                f"{first} and {second} are in the same place, and both belong to {series}. Keep one of them."
            )
        if abs(gap - usual) > UNEVEN * usual:
            is_gap = gap > GAP * usual
            why = "some between them are missing. Add them" if is_gap else "that is uneven. Resample it"
            raise DataError(
                f"{first} and {second} are {gap:.4g} mm apart, and other slices of {series} {usual:.4g} mm: "
                f"{why}, or leave the scan out."
            )
    steps = (corners[-1] - corners[0]) / (len(planes) - 1)
    upright = normal * float(steps @ normal)
    aside = float(np.linalg.norm(steps - upright))
    if aside * (len(planes) - 1) > OFF_GRID * planes[0].sides.min():
        angle = np.degrees(np.arctan2(aside, np.linalg.norm(upright)))
        raise DataError(
            f"{planes[0]}: the slices of {series} are slanted by {angle:.2g} degrees, as with a tilted "
            "gantry, but voxels must be cuboids. Resample the series to upright slices, or leave it out."
        )
    off = np.abs(corners - corners[0] - np.outer(np.arange(len(planes)), steps)).max(axis=1)
    if off.max() > OFF_GRID * usual:
        worst = planes[int(off.argmax())]
        raise DataError(
            f"{worst} lies {off.max():.4g} mm off its place: the slices of {series} are not evenly "
            "spaced. Resample the series, or leave it out."
        )
    affine = np.eye(4)
    affine[:3] = np.column_stack([steps, planes[0].steps, corners[0]])
    return affine


def _image(lattice: Lattice) -> tuple[Float32[np.ndarray, "s h w"], np.dtype[Any]]:
    """The rescaled values, and the type in which they are stored."""
    voxels = np.empty(lattice.shape, np.float32)  # filled in place, to need no more memory than NIfTI
    opened: Path | None = None
    for voxel_plane, plane in zip(voxels, lattice.planes, strict=True):
        with naming(plane.path, "a DICOM image of a series"):
            if plane.path != opened:
                opened, dataset = plane.path, _without_empty(read_dicom_file(plane.path))
            number = (plane.frame or 1) - 1
            pixels = stored_pixels(dataset, plane.path, number)
            if pixels.shape != plane.shape:
                raise ValueError(
                    f"its pixels have the shape {pixels.shape}, but its header says {plane.shape}"
                )
            frames = present(dataset, "PerFrameFunctionalGroupsSequence")
            group = "PixelValueTransformationSequence"
            scaled = grouped(dataset, frames[number], group) if frames else iter(())
            voxel_plane[...] = apply_modality_lut(pixels, next(scaled, dataset))
    sign = "i" if present(dataset, "PixelRepresentation") else "u"
    return voxels, np.dtype(f"{sign}{dataset.BitsAllocated // 8}")


def _without_empty(dataset: Any) -> Any:
    """The same without its empty elements, which count as absent."""
    for element in [element for element in dataset if element.is_empty]:
        del dataset[element.tag]
    return dataset


def _classes_of_frame(
    segmentation: Any, number: int, frame: Any, path: Path, table: UInt16[np.ndarray, "65536"]
) -> UInt16[np.ndarray, "h w"]:
    """Numbers of the classes of the pixels of a frame; `table` has those of segments."""
    pixels = stored_pixels(segmentation, path, number - 1)
    kind = segmentation.SegmentationType
    if kind == "LABELMAP":
        found: np.ndarray = table[pixels]
    else:
        most = segmentation.MaximumFractionalValue if kind == "FRACTIONAL" else 1
        if not np.isin(pixels, (0, most)).all():
            raise DataError(
                f"{path} holds fractions of segments between none and all (FRACTIONAL), and voxels here have "
                "one class. Save it as a BINARY segmentation."
            )
        group, name = "SegmentIdentificationSequence", "ReferencedSegmentNumber"
        segment = _required(segmentation, path, name, frame, group, number)
        found = np.where(pixels, table[int(segment)], np.uint16(0))
    if (found == UNDESCRIBED).any():
        raise DataError(f"{path} uses a segment that it does not describe. Is the file damaged?")
    return found


def _places(pixels: Int64[np.ndarray, "n 2"], plane: Plane, lattice: Lattice) -> Int64[np.ndarray, "n 3"]:
    """Voxels of the series that pixels of a frame of the segmentation lie on."""
    onto = np.linalg.inv(lattice.affine)
    begin, turn = onto[:3, :3] @ plane.corner + onto[:3, 3], onto[:3, :3] @ plane.steps
    whole, turned = np.rint(begin), np.rint(turn)
    beside = abs(begin - whole) + abs(turn - turned) @ plane.shape
    if not (beside.max() <= OFF_GRID and (abs(turned).sum(axis=0) == 1).all()):
        raise DataError(f"{plane.path} lies on another grid than its series. Resample it to the series.")
    places: np.ndarray = (whole + pixels @ turned.T).astype(np.int64)
    if not ((places >= 0) & (places < lattice.shape)).all():
        raise DataError(f"{plane.path} labels voxels outside of its series. Does it belong to another one?")
    return places
