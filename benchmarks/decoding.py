"""Pictures per second of each adapter, decoded from nothing, against what the plain library does.

Both read the same files, in turn, in one thread and in processor time, so that others on the machine disturb
little; the last column is decoding in all threads, by the clock.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

import made_photos
from medrobust.core import Dataset
from medrobust.data import open_dataset
from medrobust.data.reading import read_all

WIDTH, HEIGHT, SIZE = 600, 450, 128
GROUP = 25
"""Pictures that are decoded by one side before it is the other's turn."""

Plain = Callable[[Path], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="number of pictures of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(f"{'':<28}{'ms':>7}{'plain':>8}{'speed':>8}{'images/s, all threads':>24}")
        for name, (make, block, plain) in KINDS.items():
            make(root / name, options.images)
            report(name, {**block, "root": str(root / name)}, plain, root / "cache" / name)


def report(name: str, block: dict[str, object], plain: Plain, cache: Path) -> None:
    dataset = open_dataset(block, None, None)
    ours, theirs = both(dataset, plain)
    cached = open_dataset(block, cache, None)
    start = time.perf_counter()
    read_all(cached, cached.cases)
    rate = len(cached.cases) / (time.perf_counter() - start)
    print(f"{name:<28}{1e3 * ours:>7.2f}{1e3 * theirs:>8.2f}{theirs / ours:>8.2f}{rate:>24.0f}")


def both(dataset: Dataset, plain: Plain) -> tuple[float, float]:
    """Seconds of processor time per picture: ours, and the plain library's."""
    paths = [photo.path for photo in dataset.read.photos]  # type: ignore[attr-defined]
    ours = theirs = 0.0
    for first in range(0, len(paths), GROUP):
        group = slice(first, first + GROUP)
        ours += spent(lambda group=group: [dataset.read(case) for case in dataset.cases[group]])
        theirs += spent(lambda group=group: [plain(path) for path in paths[group]])
    return ours / len(paths), theirs / len(paths)


def spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def centre(image: Image.Image) -> np.ndarray:
    """The largest centred square at the size wanted: what anybody would write with Pillow."""
    left, top = (image.width - HEIGHT) // 2, 0
    square = image.crop((left, top, left + HEIGHT, HEIGHT)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(square, np.float32) / 255


def with_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return centre(image.convert("RGB"))


def with_pydicom(path: Path) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(pixel_array(dataset), dataset), dataset)
    values = (values - values.min()) / (values.max() - values.min())
    return centre(Image.fromarray(values.astype(np.float32)))


@lru_cache(maxsize=1)
def pictures_of(path: Path) -> Iterator[np.ndarray]:
    """The pictures of an archive, which is read whole when the first is wanted."""
    with np.load(path) as arrays:
        yield from np.concatenate([arrays[f"{part}_images"] for part in ("test", "train", "val")])


def with_numpy(path: Path) -> np.ndarray:
    """The next picture of an archive."""
    image = Image.fromarray(next(pictures_of(path)))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 255


def folder_of(suffix: str) -> Callable[[Path, int], None]:
    """A maker of two class folders of photographs with this ending."""

    def make(root: Path, count: int) -> None:
        for number in range(count):
            path = root / ("a", "b")[number % 2] / f"{number:05d}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {"quality": 92} if suffix == ".jpg" else {}
            Image.fromarray(photo(number)).save(path, **options)

    return make


def dicom(root: Path, count: int) -> None:
    for number in range(count):
        values = photo(number)[..., 0].astype(np.uint16) * 16
        path = root / ("a", "b")[number % 2] / f"{number:05d}.dcm"
        window = {"WindowCenter": 2048, "WindowWidth": 4096}
        made_photos.write_dicom(path, values, PhotometricInterpretation="MONOCHROME2", **window)


def medmnist(root: Path, count: int) -> None:
    pictures = np.stack([photo(number)[:224, :224] for number in range(count)])
    labels = (np.arange(count) % 2)[:, None].astype(np.uint8)
    ends = {
        "train": slice(0, count // 2),
        "val": slice(count // 2, count * 3 // 4),
        "test": slice(count * 3 // 4, None),
    }
    root.mkdir(parents=True)
    arrays = {
        f"{part}_{kind}": values[end]
        for part, end in ends.items()
        for kind, values in (("images", pictures), ("labels", labels))
    }
    np.savez_compressed(root / "breastmnist_224.npz", **arrays)


def photo(number: int) -> np.ndarray:
    """A picture that compresses about as photographs of skin do: smooth, with noise."""
    rng = np.random.default_rng(number)
    smooth = made_photos.pixels(number, (HEIGHT, WIDTH, 3)).astype(np.float32)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


KINDS: dict[str, tuple[Callable[[Path, int], None], dict[str, object], Plain]] = {
    "JPEG, class folders": (folder_of(".jpg"), {"name": "image_folder"}, with_pillow),
    "PNG, class folders": (folder_of(".png"), {"name": "image_folder"}, with_pillow),
    "TIFF, class folders": (folder_of(".tif"), {"name": "image_folder"}, with_pillow),
    "DICOM, 12 bits": (dicom, {"name": "dicom_images"}, with_pydicom),
    "npz, 224 px": (medmnist, {"name": "medmnist", "file": "breastmnist_224.npz"}, with_numpy),
}

if __name__ == "__main__":
    main()
