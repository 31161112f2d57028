"""Faults planted in scans are found, with the right files, and nothing else is."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from made_audits import CODES, LAS, Brains, as_stored, scanned_again
from made_folders import write_volume
from medrobust import api
from medrobust.audit.audit import Audit
from medrobust.data.findings import Severity
from medrobust.data.scans.structures import BRAINCOLOR, STRUCTURES

pytest.importorskip("nilearn", reason="phantom brains need the extra `demo`")

Found = set[tuple[Severity, str, frozenset[Path]]]
ERROR, WARNING, NOTE = Severity


def audit(root: Path) -> Audit:
    return api.audit(
        {
            "task": "segmentation",
            "data": {"name": "malc2012", "root": str(root)},
            "split": {"rule": "official"},
            "models": [{"name": "unet", "preset": "small"}],
        }
    )


def found(finished: Audit) -> Found:
    return {(each.severity, each.kind, frozenset(each.files)) for each in finished.findings}


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def rescan(brains: Brains, part: str, scan: str, name: str, to: str = "testing") -> Path:
    """The person of a scan once more, under another name."""
    path = brains.copy(part, scan, to, name)
    write_volume(path, as_stored(scanned_again(voxels(path)[::-1] / 2000)), LAS)
    return path


def plant(brains: Brains) -> Found:
    """Damage a folder in every way there is; gives what must be found."""
    expected: Found = set()
    scans = iter(brains.testing)
    test = "testing"

    def expect(severity: Severity, kind: str, *files: Path) -> None:
        expected.add((severity, kind, frozenset(files)))

    # files
    path = brains.image(test, next(scans))
    path.write_bytes(path.read_bytes()[:5000])
    expect(ERROR, "unreadable file", path)
    path = brains.image(test, next(scans))
    plain = path.with_name(path.name.removesuffix(".gz"))
    nib.save(nib.load(path), plain)
    plain.replace(path)  # is read all the same: what is in a file tells whether it is packed

    # intensities
    for kind, value in (("NaN", np.nan), ("infinite values", np.inf)):
        path = brains.image(test, next(scans))
        holed = voxels(path).astype(np.float32)
        holed[5, 5, 5:8] = value
        write_volume(path, holed, LAS)
        expect(ERROR, kind, path)
    path = brains.image(test, next(scans))
    write_volume(path, np.full_like(voxels(path), 7), LAS)
    expect(ERROR, "constant image", path)
    path = brains.image(test, next(scans))
    write_volume(path, voxels(path) // 32, LAS)
    expect(WARNING, "few intensities", path)
    path = brains.image(test, next(scans))
    write_volume(path, np.minimum(voxels(path), 1500), LAS)
    expect(WARNING, "clipped intensities", path)

    # labels that do not lie on the image
    scan = next(scans)
    path = brains.labels(test, scan)
    write_volume(path, voxels(path)[:-1], LAS)
    expect(ERROR, "labels of another shape", brains.image(test, scan), path)
    scan = next(scans)
    path = brains.labels(test, scan)
    moved = LAS.copy()
    moved[:3, 3] = 3, 0, 0
    write_volume(path, voxels(path), moved)
    expect(ERROR, "labels of another affine", brains.image(test, scan), path)
    scan = next(scans)
    path = brains.labels(test, scan)
    write_volume(path, voxels(path)[::-1], np.diag([4.0, 4, 4, 1]))
    expect(ERROR, "labels of another orientation", brains.image(test, scan), path)

    # labels that say something else
    path = brains.labels(test, next(scans))
    odd = voxels(path).copy()
    odd[3, 3, 3] = 1003
    write_volume(path, odd, LAS)
    expect(ERROR, "unknown label", path)
    path = brains.labels(test, next(scans))
    blurred = voxels(path).astype(np.float32)
    blurred[3, 3, 3] = 44.5
    write_volume(path, blurred, LAS)
    expect(ERROR, "labels are not whole numbers", path)
    path = brains.labels(test, next(scans))
    write_volume(path, np.zeros_like(voxels(path)), LAS)
    expect(WARNING, "empty labels", path)
    path = brains.labels(test, next(scans))
    lacking = voxels(path).copy()
    lacking[np.isin(lacking, BRAINCOLOR["left amygdala"])] = 0
    write_volume(path, lacking, LAS)
    expect(WARNING, "missing structure", path)
    path = brains.labels(test, next(scans))
    swapped = voxels(path).copy()
    pair = (BRAINCOLOR["left putamen"][0], BRAINCOLOR["right putamen"][0])
    for old, new in (pair, pair[::-1]):
        swapped[voxels(path) == old] = new
    write_volume(path, swapped, LAS)
    expect(ERROR, "left and right swapped", path)

    # headers
    path = brains.image(test, next(scans))
    silent = nib.Nifti1Image(voxels(path), LAS)
    silent.set_qform(LAS, 0)
    silent.set_sform(LAS, 0)
    nib.save(silent, path)
    labels = path.parents[1] / "testing-labels" / path.name.replace(".nii", "_glm.nii")
    silent = nib.Nifti1Image(voxels(labels), LAS)
    silent.set_qform(LAS, 0)
    silent.set_sform(LAS, 0)
    nib.save(silent, labels)
    expect(WARNING, "uncertain orientation", path)
    path = brains.image(test, next(scans))
    torn = nib.Nifti1Image(voxels(path), LAS)
    torn.set_qform(np.diag([4.0, 4, 4, 1]), 1)
    torn.set_sform(LAS, 1)
    nib.save(torn, path)
    expect(WARNING, "uncertain orientation", path)

    # who is who
    first = [brains.image("training", scan) for scan in brains.training]
    expect(ERROR, "same scan on both sides", first[0], brains.copy("training", "1000_3", test, "1200_3"))
    again = brains.copy("training", "1002_3", "training", "1002_4")
    expect(WARNING, "same scan twice", first[2], again)
    expect(NOTE, "several scans of one patient", first[2], again)
    expect(WARNING, "one person on both sides", first[3], rescan(brains, "training", "1003_3", "1203_3"))
    again = rescan(brains, "training", "1005_3", "1005_4", to="training")
    expect(NOTE, "several scans of one patient", first[5], again)
    tested = [brains.image(test, brains.add(test, scan)) for scan in ("1210_3", "1220_3")]
    expect(ERROR, "same scan, two patients", tested[0], brains.copy(test, "1210_3", test, "1211_3"))
    expect(WARNING, "one person, two patients", tested[1], rescan(brains, test, "1220_3", "1221_3"))
    crossing = brains.image(test, brains.add(test, "1006_4"))
    expect(ERROR, "patient on both sides", first[6], crossing)
    expect(NOTE, "several scans of one patient", first[6], crossing)

    # names
    lonely = brains.image("training", "1250_3")
    shutil.copy(first[7], lonely)
    expect(ERROR, "labels missing", lonely)
    strange = lonely.with_name("brain.nii.gz")
    shutil.copy(first[7], strange)
    expect(ERROR, "strange name", strange)
    return expected


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, Found]:
    brains = Brains(tmp_path_factory.mktemp("damaged") / "malc2012", training=8, testing=18)
    expected = plant(brains)
    return audit(brains.root), expected


def test_a_clean_folder_has_no_finding(tmp_path: Path) -> None:
    finished = audit(Brains(tmp_path / "malc2012", training=8, testing=18).root)
    assert finished.findings == ()
    assert finished.looked_at == "26 scans of 26 patients"


def test_every_planted_fault_is_found_and_nothing_else(damaged: tuple[Audit, Found]) -> None:
    finished, expected = damaged
    differ = found(finished) ^ expected
    assert {(kind, *sorted(file.name for file in files)) for _, kind, files in differ} == set()
    assert len({kind for _, kind, _ in expected}) >= 20


def test_the_advice_is_that_of_the_reader(damaged: tuple[Audit, Found]) -> None:
    of_kind = {each.kind: each for each in damaged[0].findings}
    assert of_kind["unreadable file"].advice.startswith("If another program opens it, save it anew there")
    whole = of_kind["labels are not whole numbers"]
    assert "not whole numbers. Were they resampled by interpolation? Use" in f"{whole.says} {whole.advice}"


def test_a_mirrored_affine_swaps_all_structures(tmp_path: Path) -> None:
    brains = Brains(tmp_path / "malc2012", training=1, testing=1)
    scan = brains.testing[0]
    for path in (brains.image("testing", scan), brains.labels("testing", scan)):
        write_volume(path, voxels(path), np.diag([4.0, 4, 4, 1]))
    swapped = [each for each in audit(brains.root).findings if each.kind == "left and right swapped"]
    assert [each.files for each in swapped] == [(brains.labels("testing", scan),)]
    assert "All 24 paired structures" in swapped[0].says


def test_few_patients_and_classes_that_nobody_has(tmp_path: Path) -> None:
    brains = Brains(tmp_path / "malc2012", training=2, testing=3)
    for part, scans in (("training", brains.training), ("testing", brains.testing)):
        for scan in scans:
            path = brains.labels(part, scan)
            labels = voxels(path).copy()
            labels[labels == CODES[STRUCTURES.index("left caudate")]] = 0
            write_volume(path, labels, LAS)
    finished = audit(brains.root)
    tested = frozenset(brains.image("testing", scan) for scan in brains.testing)
    assert found(finished) == {
        (WARNING, "class in no scan", frozenset()),
        (WARNING, "few test patients", tested),
    }
    assert any("probability 0.25" in each.says for each in finished.findings)
    assert any("'left caudate'" in each.says for each in finished.findings)
