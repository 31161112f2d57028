"""A series of DICOM images and the segmentation object (SEG) that labels it, each as a volume.

The frames of a segmentation are put where their headers say they lie, one by one: it need not hold a frame
for every slice, nor in their order, nor in the rows and columns of the series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from medrobust.data.files.dicom_files import read_dicom_file
from medrobust.data.photographs.pictures import naming, require_size
from medrobust.data.scans.labels import NUMBERS, UNKNOWN
from medrobust.data.scans.stored import MOST_VOXELS, Stored, file_digest, in_ras
from medrobust.errors import DataError

if TYPE_CHECKING:
    from highdicom import VolumeGeometry
    from highdicom.seg import Segmentation

TURN = 1e-4
"""Largest difference between the direction cosines of slices that are parallel."""

OFF_GRID = 0.1
"""Part of a voxel by which a voxel of the segmentation may lie beside one of the series."""


def require_highdicom() -> None:
    """Refuse to go on without the package that reads segmentations.

    Raises:
        DataError: It is not installed.
    """
    try:
        import highdicom
    except ImportError:
        raise DataError(
            "data.name: 'dicom_seg' needs the package highdicom, which is not installed. "
            "Run: pip install 'medrobust[dicom-seg]'"
        ) from None
    del highdicom


@dataclass(frozen=True, slots=True)
class DicomScan:
    """How a scan of DICOM files is read: its image by the first file of the series, its labels by the SEG.

    Attributes:
        series: Files of the series.
        voxels: Voxels that their headers claim.
        classes: Names of the classes, the first is the background.
        segments: Numbers of the segments, each with the index of its class.
    """

    series: tuple[Path, ...]
    voxels: int
    classes: tuple[str, ...]
    segments: tuple[tuple[int, int], ...]

    def read(self, path: Path) -> Stored:
        """The image, rescaled as its headers say, or the labels as class indices on the grid of the image.

        Raises:
            DataError: Files that cannot be read, no regular volume, a segmentation on another grid or with
                segments of several classes in one voxel.
        """
        with naming(path, "DICOM images of a series" if path in self.series else "a DICOM segmentation"):
            geometry, files = _geometry(self.series)
            if path in self.series:
                voxels, dtype = _image(files, geometry)
            else:
                voxels, dtype = self._labels(path, geometry), np.dtype(np.uint8)
            return in_ras(voxels, geometry.get_affine("RAS"), dtype, path)

    def digest(self, path: Path) -> str:
        """SHA-256 of the series, or of the segmentation and what its numbers mean."""
        if path in self.series:
            return sha256("".join(map(file_digest, self.series)).encode()).hexdigest()
        return sha256(f"{file_digest(path)}{self.classes}{self.segments}".encode()).hexdigest()

    def claimed_voxels(self, path: Path) -> int:
        """Voxels that the headers of the series claim."""
        return self.voxels

    def _labels(self, path: Path, geometry: "VolumeGeometry") -> UInt8[np.ndarray, "s h w"]:
        from highdicom.seg import Segmentation

        segmentation = Segmentation.from_dataset(read_dicom_file(path), copy=False)
        require_size(path, int(segmentation.Columns), int(segmentation.Rows))
        labels = np.zeros(geometry.spatial_shape, np.uint8)
        for number, frame in enumerate(segmentation.PerFrameFunctionalGroupsSequence, start=1):
            found = self._frame(segmentation, number, frame, path)
            pixels = np.argwhere(found)
            places = _places(pixels, found.shape, _plane(frame, segmentation), geometry, path)
            new, old = found[tuple(pixels.T)], labels[tuple(places.T)]
            clash = np.flatnonzero((old != 0) & (old != new))
            if len(clash):
                both = sorted({self.classes[new[clash[0]]], self.classes[old[clash[0]]]})
                raise DataError(
                    f"{path}: segments overlap: a voxel is both '{both[0]}' and '{both[1]}', and voxels here "
                    "have one class. Make them one class in data.labels, or list one under background."
                )
            labels[tuple(places.T)] = new
        return labels

    def _frame(
        self, segmentation: "Segmentation", number: int, frame: Any, path: Path
    ) -> UInt8[np.ndarray, "h w"]:
        """Class indices of the pixels of a frame."""
        table = np.full(NUMBERS, UNKNOWN, np.uint8)
        for segment, index in ((background_of(segmentation), 0), *self.segments):
            table[segment] = index
        pixels = segmentation.get_stored_frame(number)
        kind = segmentation.SegmentationType
        if kind == "LABELMAP":
            found: np.ndarray = table[pixels]
        else:
            most = segmentation.MaximumFractionalValue if kind == "FRACTIONAL" else 1
            if not np.isin(pixels, (0, most)).all():
                raise DataError(
                    f"{path} holds shares of segments between none and all (FRACTIONAL), and voxels here "
                    "have one class. Save it as a BINARY segmentation."
                )
            segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            found = np.where(pixels, table[segment], np.uint8(0))
        if (found == UNKNOWN).any():
            raise DataError(f"{path} uses a segment that it does not describe. Is the file damaged?")
        return found


def voxels_of(header: Any) -> int:
    """Voxels that the header of a file of images claims."""
    return int(header.get("NumberOfFrames") or 1) * int(header.Rows) * int(header.Columns)


def background_of(segmentation: Any) -> int:
    """Number of what is no segment in a label map."""
    return int(segmentation.get("PixelPaddingValue", 0))


def _geometry(series: Sequence[Path]) -> tuple["VolumeGeometry", list[Path]]:
    """Where the voxels of a series lie, and its files in the order of its slices."""
    from highdicom import Image, VolumeGeometry
    from highdicom.spatial import get_series_volume_positions

    headers = [read_dicom_file(path, pixels=False) for path in series]
    for path, header in zip(series, headers, strict=True):
        require_size(path, int(header.Columns), int(header.Rows))
    claimed = sum(map(voxels_of, headers))
    if claimed > MOST_VOXELS:
        raise DataError(f"{series[0]}: its series has {claimed:,} voxels; at most {MOST_VOXELS:,} are read.")
    if len(headers) == 1:
        geometry = Image.from_dataset(headers[0], copy=False).get_volume_geometry()
        if geometry is None or geometry.spatial_shape[0] == 1:
            raise ValueError("there are no several slices of regular spacing")
        return geometry, list(series)
    spacing, order = get_series_volume_positions(headers, orientation_tol=TURN)
    if spacing is None or order is None:
        raise ValueError("there are no several slices of regular spacing")
    first = headers[order.index(0)]
    geometry = VolumeGeometry.from_attributes(
        image_position=first.ImagePositionPatient,
        image_orientation=first.ImageOrientationPatient,
        rows=first.Rows,
        columns=first.Columns,
        pixel_spacing=first.PixelSpacing,
        spacing_between_slices=spacing,
        number_of_frames=len(headers),
        coordinate_system="PATIENT",
    )
    return geometry, [series[order.index(place)] for place in range(len(order))]


def _image(
    files: Sequence[Path], geometry: "VolumeGeometry"
) -> tuple[Float32[np.ndarray, "s h w"], np.dtype[Any]]:
    """Rescaled values, and the type that they are stored in."""
    from highdicom import Image

    if len(files) == 1:
        image = Image.from_dataset(read_dicom_file(files[0]), copy=False)
        volume = image.get_volume(
            dtype=np.float32, apply_real_world_transform=False, apply_presentation_lut=False
        )
        return volume.array, _type(image)
    voxels = np.empty(geometry.spatial_shape, np.float32)
    for plane, path in zip(voxels, files, strict=True):  # one by one: that takes no more memory than NIfTI
        dataset = read_dicom_file(path)
        pixels = pixel_array(dataset)
        if pixels.shape != plane.shape:
            raise ValueError(f"{path.name} has pixels of shape {pixels.shape}, and another has {plane.shape}")
        plane[...] = apply_modality_lut(pixels, dataset)
    return voxels, _type(dataset)


def _type(dataset: Any) -> np.dtype[Any]:
    return np.dtype(f"{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}")


def _plane(frame: Any, segmentation: Any) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3 2"]]:
    """Where the first pixel of a frame lies, and the steps to the next row and column, in mm."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]

    def group(name: str) -> Any:
        return (frame if name in frame else shared)[name][0]

    cosines = np.array(group("PlaneOrientationSequence").ImageOrientationPatient, np.float64).reshape(2, 3)
    spacing = np.array(group("PixelMeasuresSequence").PixelSpacing, np.float64)
    corner = np.array(group("PlanePositionSequence").ImagePositionPatient, np.float64)
    return corner, cosines[::-1].T * spacing


def _places(
    pixels: Int64[np.ndarray, "n 2"],
    shape: Sequence[int],
    plane: tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3 2"]],
    geometry: "VolumeGeometry",
    path: Path,
) -> Int64[np.ndarray, "n 3"]:
    """Voxels of the series that pixels of a frame of a shape lie on."""
    corner, steps = plane
    onto = geometry.inverse_affine
    begin, turn = onto[:3, :3] @ corner + onto[:3, 3], onto[:3, :3] @ steps
    whole, turned = np.rint(begin), np.rint(turn)
    beside = abs(begin - whole) + abs(turn - turned) @ shape
    if not (beside.max() <= OFF_GRID and (abs(turned).sum(axis=0) == 1).all()):
        raise DataError(f"{path} lies on another grid than its series. Resample it to the series.")
    places: np.ndarray = (whole + pixels @ turned.T).astype(np.int64)
    if not ((places >= 0) & (places < geometry.spatial_shape)).all():
        raise DataError(f"{path} labels voxels outside of its series. Does it belong to another one?")
    return places
