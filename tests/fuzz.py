"""Coverage-guided fuzzing of everything that is read from files of a user's; see `make fuzz`.

    python tests/fuzz.py FORMAT [libFuzzer's options, e.g. -max_total_time=600]

Without a format it prints all of them. A reader may return, or refuse the file by name. A traceback, a hang
or too much memory ends it, and leaves the content that did it in a file `crash-...`, `timeout-...` or
`oom-...` of the working directory.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import atheris

with atheris.instrument_imports(include=["medrobust", "nibabel", "pydicom", "PIL", "yaml"]):
    import nibabel as nib
    import numpy as np
    from PIL import Image

    import made_photos
    from damage import only_errors_that_name
    from medrobust.data.files import read_json, read_table
    from medrobust.data.photographs.arrays import array_forms, read_array
    from medrobust.data.photographs.dicom_pictures import DicomFiles
    from medrobust.data.photographs.image_files import IMAGE_FILES
    from medrobust.data.scans.labels import read_label_file
    from medrobust.data.scans.volumes import VOLUME_FILES
    from medrobust.errors import StudyError
    from medrobust.study.yaml_text import load_yaml


class Format(NamedTuple):
    """A kind of file: how its files are called, how one is read, and how a sound one is written."""

    name: str
    read: Callable[[Path], object]
    write: Callable[[Path], object]


def _read_npz(path: Path) -> None:
    for name in array_forms(path):
        read_array(path, name)


def _read_yaml(path: Path) -> None:
    with suppress(StudyError):
        load_yaml(path.read_text(encoding="utf-8", errors="replace"))


def _picture(path: Path) -> None:
    Image.fromarray(made_photos.pixels(0, (12, 10, 3))).save(path)


def _nifti(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)), path)


def _mgh(path: Path) -> None:
    nib.save(nib.MGHImage(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)), path)


def _npz(path: Path) -> None:
    np.savez(path, images=made_photos.pixels(0, (3, 8, 8)), labels=np.arange(3))


def _dicom(path: Path) -> None:
    made_photos.write_dicom(
        path, made_photos.pixels(0, (8, 8), np.uint16), PhotometricInterpretation="MONOCHROME2"
    )


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


FORMATS = {
    "png": Format("a.png", IMAGE_FILES.picture, _picture),
    "jpeg": Format("a.jpg", IMAGE_FILES.picture, _picture),
    "tiff": Format("a.tiff", IMAGE_FILES.picture, _picture),
    "bmp": Format("a.bmp", IMAGE_FILES.picture, _picture),
    "nifti": Format("a.nii", VOLUME_FILES.read, _nifti),
    "mgh": Format("a.mgh", VOLUME_FILES.read, _mgh),
    "npz": Format("a.npz", _read_npz, _npz),
    "dicom": Format("a.dcm", DicomFiles().picture, _dicom),
    "csv": Format(
        "a.csv", lambda path: read_table(path, ("path", "label")), _text('path,label\na.png,"b"\n')
    ),
    "json": Format(
        "a.json", read_json, _text('{"labels": {"0": "background", "1": "liver"}, "n": [1, 2.5]}')
    ),
    "labels": Format("a.tsv", read_label_file, _text("index\tname\n1\tliver\n2\tspleen\n")),
    "yaml": Format("a.yaml", _read_yaml, _text("task: segmentation\nmodels: [&a {name: unet}, *a]\n")),
}


def main() -> None:
    """Fuzz the format that the first argument names, from one sound file on."""
    if len(sys.argv) == 1:
        print(*FORMATS)  # noqa: T201
        return
    fuzzed, options = FORMATS[sys.argv[1]], sys.argv[2:]
    folder = Path(tempfile.mkdtemp())
    seeds = folder / "seeds"
    seeds.mkdir()
    fuzzed.write(seeds / fuzzed.name)
    path = folder / fuzzed.name

    def once(content: bytes) -> None:
        path.write_bytes(content)
        with only_errors_that_name(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fuzzed.read(path)

    limits = ("-rss_limit_mb=2048", "-timeout=20", "-max_len=65536")
    atheris.Setup([sys.argv[0], *limits, *options, str(seeds)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
