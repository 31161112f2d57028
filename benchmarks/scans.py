"""How fast scans are decoded, against plain nibabel, which only reads the same files.

    .venv/bin/python benchmarks/scans.py [--volumes 20] [--data FOLDER_OF_MALC2012]

Without data of your own it makes volumes of the size of a head at 1 mm. Rates are volumes (image and labels)
per second. "read" is what must be done: files to arrays in RAS; "decoded" is all that a first epoch costs,
resampling included; "opened again" is what a later run costs, "second epoch" what reading all slices does.
Seconds are of processor time, so that other work on the machine plays no part; those of the wall are said so.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from medrobust.data import list_dataset, open_dataset
from medrobust.data.listing import Scan
from medrobust.data.scans import scan_cases as stacks
from medrobust.data.scans.volumes import read_volume

SHAPE = (162, 214, 167)


def make(root: Path, number: int) -> None:
    """Heads as `nifti_pairs`: noise within an ellipsoid, so that they pack as real ones do."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij", sparse=True)
    head = sum(axis**2 for axis in axes) < 0.8
    labels = (head * (1 + (axes[0] > 0) + 2 * (axes[2] > 0))).astype(np.int16)
    for case in range(number):
        noise = np.random.default_rng(case).normal(0, 20, SHAPE)
        image = (head * (500 + 100 * labels + noise)).astype(np.int16)
        for folder, voxels in (("images", image), ("labels", labels)):
            (root / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 1, 1, 1])), root / folder / f"c{case:02d}.nii.gz")


def plain(scan: Scan) -> None:
    """What anybody would write: both files with nibabel, in RAS, as numbers to compute with."""
    for path, dtype in ((scan.image, np.float32), (scan.labels, np.uint16)):
        np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(dtype)


def ours(scan: Scan) -> None:
    """The same through medrobust, which also checks headers, checksums, grids and numbers."""
    read_volume(scan.images, scan.labels, scan.format)


def rate(
    work: Callable[[], object], number: int, clock: Callable[[], float] = time.process_time, rounds: int = 3
) -> float:
    """How many per second of a clock, best of some rounds."""
    times = []
    for _ in range(rounds):
        start = clock()
        work()
        times.append(clock() - start)
    return number / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if arguments.data is None:
            make(home, arguments.volumes)
            labels = {"a": 1, "b": 2, "c": 3, "d": 4}
            block = {"name": "nifti_pairs", "root": home, "labels": labels}
        else:
            block = {"name": "malc2012", "root": arguments.data.resolve()}
        listing = list_dataset(block, None)
        report(block, list(listing.items)[: arguments.volumes], len(listing.items), home / "cache")


def report(block: dict, scans: list[Scan], all_of_them: int, cache: Path) -> None:
    nibabel = rate(lambda: [plain(scan) for scan in scans], len(scans))
    own = rate(lambda: [ours(scan) for scan in scans], len(scans))
    print(f"nibabel, read           {nibabel:6.2f} volumes/s")
    print(f"medrobust, read         {own:6.2f} volumes/s  ({own / nibabel:.2f} of nibabel, one core)")
    for threads in (1, stacks.threads()):
        for name, clock in (("processor", time.process_time), ("wall", time.perf_counter)):
            stacks.threads = lambda allowed=threads: allowed
            stacks.open_stack.cache_clear()
            folder = cache / f"{threads}-{name}"
            work = partial(open_dataset, block, folder, None)
            first = rate(work, all_of_them, clock, rounds=1)
            print(f"medrobust, decoded      {first:6.2f} volumes/s  (2 mm, {threads} threads, {name})")
    stacks.open_stack.cache_clear()
    again = rate(lambda: open_dataset(block, folder, None), all_of_them)
    dataset = open_dataset(block, folder, None)
    epoch = rate(lambda: [dataset.read(case) for case in dataset.cases], len(dataset.cases))
    print(f"medrobust, opened again {again:6.2f} volumes/s")
    print(f"medrobust, second epoch {epoch:6.0f} slices/s")


if __name__ == "__main__":
    main()
