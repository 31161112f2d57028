"""Faults planted in photographs are found, with the right files, and nothing else is."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from made_audits import TEST, Lesions
from medrobust import api
from medrobust.audit.audit import Audit
from medrobust.audit.looking import PhotoLook
from medrobust.core import Part
from medrobust.data.findings import Severity

Found = set[tuple[Severity, str, frozenset[Path]]]
ERROR, WARNING, NOTE = Severity


@pytest.mark.parametrize(
    ("bits", "high", "contrast", "blank"),
    [
        (8, 200, 2, True),
        (8, 200, 3, False),
        (16, 40_000, 514, True),
        (16, 40_000, 515, False),
        (16, 200, 3, False),
    ],
)
def test_a_blank_photograph_differs_by_at_most_two_steps_of_255(
    bits: int, high: int, contrast: int, blank: bool
) -> None:
    rest = dict.fromkeys(each.name for each in fields(PhotoLook))
    look = PhotoLook(**rest | {"bits": bits, "high": high, "contrast": contrast})
    assert look.is_blank is blank


def audit(lesions: Lesions) -> Audit:
    return api.audit(
        {
            "task": "classification",
            "data": {"name": "ham10000", "root": str(lesions.root)},
            "split": {"file": str(lesions.split)},
            "models": [{"name": "mobilenet_v1", "weights": "none"}],
        }
    )


def found(finished: Audit) -> Found:
    return {(each.severity, each.kind, frozenset(each.files)) for each in finished.findings}


def plant(lesions: Lesions) -> Found:
    """Damage a folder in every way there is; gives what must be found."""
    root, image, path = lesions.root, lesions.image, lesions.path
    table = root / "HAM10000_metadata.csv"
    expected: Found = set()

    def expect(severity: Severity, kind: str, *files: Path) -> None:
        expected.add((severity, kind, frozenset(files)))

    # files
    path("nv00").write_text("not an image")
    expect(ERROR, "unreadable file", path("nv00"))
    path("nv01").write_bytes(path("nv01").read_bytes()[:900])
    expect(ERROR, "unreadable file", path("nv01"))
    image("nv02").save(path("nv02"), "PNG")
    expect(NOTE, "misnamed file", path("nv02"))
    path("nv03").unlink()
    expect(ERROR, "image missing")

    # the same image twice
    twin = lesions.add("same", image("mel00"), "L-same", "mel", Part.TEST, "png")
    expect(WARNING, "same image twice", path("mel00"), twin)
    twin = lesions.add("labels", image("mel01"), "L-labels", "bcc", Part.TEST, "png")
    expect(ERROR, "same image, two labels", path("mel01"), twin)
    twin = lesions.add("sides", image("mel02"), "L-sides", "mel", Part.TRAIN, "png")
    expect(ERROR, "same image on both sides", path("mel02"), twin)
    twin = lesions.add("turned", image("mel03").rotate(90), "L-turned", "mel", Part.TEST)
    expect(WARNING, "near copy, two patients", path("mel03"), twin)
    small = image("mel04").resize((48, 40), Image.Resampling.BICUBIC)
    twin = lesions.add("smaller", small, "L-smaller", "bkl", Part.TEST)
    expect(WARNING, "near copy, two labels", path("mel04"), twin)
    twin = lesions.add("mirrored", ImageOps.mirror(image("mel05")), "L-mirrored", "mel", Part.TRAIN)
    expect(WARNING, "near copy on both sides", path("mel05"), twin)
    twin = lesions.add("again", image("mel06").point(lambda v: min(255, v + 9)), "L-mel06", "mel", Part.TEST)
    expect(NOTE, "near copy", path("mel06"), twin)

    # pixels
    Image.new("RGB", (64, 64), (120, 90, 80)).save(path("bkl00"))
    expect(ERROR, "constant image", path("bkl00"))
    white = np.array(image("bkl01"))
    white[:30] = 255
    Image.fromarray(white).save(path("bkl01"))
    expect(WARNING, "clipped intensities", path("bkl01"))
    path("bkl02").unlink()
    deep = Image.fromarray(np.asarray(image("bkl03").convert("L")).astype(np.uint16))
    deep_file = lesions.add("bkl02", deep, "L-bkl02", "bkl", Part.TEST, "png")
    expect(WARNING, "wrong bit depth", deep_file)
    path("bkl03").unlink()
    del lesions.rows["bkl03"], lesions.parts["L-bkl03"]

    # colours and headers
    exif = Image.Exif()
    exif[0x0112] = 6
    image("vasc00").save(path("vasc00"), exif=exif)
    expect(NOTE, "EXIF rotation", path("vasc00"))
    path("vasc01").unlink()
    glass = lesions.add(
        "vasc01", Image.new("RGBA", (64, 64), (90, 60, 50, 255)), "L-vasc01", "vasc", Part.TEST, "png"
    )
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 4), np.uint8)
    Image.fromarray(pixels, "RGBA").resize((64, 64), Image.Resampling.BICUBIC).save(glass)
    expect(NOTE, "alpha channel", glass)
    image("vasc02").convert("CMYK").save(path("vasc02"))
    expect(NOTE, "CMYK image", path("vasc02"))
    image("vasc03").convert("L").save(path("vasc03"))
    expect(NOTE, "grey and colour mixed", path("vasc03"), deep_file)

    # table and split
    further = [
        ("L-odd", "odd", "melanoma"),
        ("L-akiec00", "akiec00", "akiec"),
        ("L-akiec01", "akiec01b", "bcc"),
    ]
    expect(ERROR, "unknown label", table)
    expect(NOTE, "listed twice", table)
    expect(ERROR, "two labels", table)
    expect(ERROR, "patient on both sides", path("akiec02"))
    for number in range(6, TEST):
        lesions.parts[f"L-df{number:02d}"] = Part.UNUSED
    expect(WARNING, "few test cases", *(path(f"df{number:02d}") for number in range(6)))
    lesions.write(further, {"L-akiec02": Part.TRAIN})
    return expected


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, Found]:
    lesions = Lesions(tmp_path_factory.mktemp("damaged") / "ham10000")
    expected = plant(lesions)
    return audit(lesions), expected


def test_a_clean_folder_has_no_error_and_no_warning(tmp_path: Path) -> None:
    lesions = Lesions(tmp_path / "ham10000")
    lesions.write()
    finished = audit(lesions)
    assert finished.is_sound
    assert {each.kind for each in finished.findings} <= {"few test cases"}
    assert {each.severity for each in finished.findings} <= {NOTE}
    assert finished.looked_at == "189 photographs of 189 lesions"


def test_every_planted_fault_is_found_and_nothing_else(damaged: tuple[Audit, Found]) -> None:
    finished, expected = damaged
    ignored = {(NOTE, "few test cases")}
    seen = {each for each in found(finished) if each[:2] not in ignored}
    assert {(kind, *sorted(file.name for file in files)) for _, kind, files in seen ^ expected} == set()
    assert len({kind for _, kind, _ in expected}) >= 20


def test_findings_come_most_severe_first_and_say_what_to_do(damaged: tuple[Audit, Found]) -> None:
    severities = [list(Severity).index(each.severity) for each in damaged[0].findings]
    assert severities == sorted(severities)
    for finding in damaged[0].findings:
        assert finding.says.endswith(".")
        assert finding.advice.endswith(".")
        assert len(finding.files) == len(set(finding.files))


Says = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("near copy, two patients", "rotated or mirrored"),
        ("near copy, two labels", "resized or compressed again"),
        ("same image on both sides", "mel02.jpg (mel, test), sides.png (mel, train)"),
        ("wrong bit depth", "is a 16-bit file with 8-bit content"),
        ("few test cases", "6 photographs of 6 lesions"),
        ("misnamed file", "is a PNG file by its content"),
        ("patient on both sides", "puts lesion 'L-akiec02' in test and train"),
    ],
)
def test_what_findings_say(kind: str, words: str, damaged: tuple[Audit, Found]) -> None:
    assert any(words in finding.says for finding in damaged[0].findings if finding.kind == kind)
