"""What is exported equals what is stored, lies where the original does, and says what rounding left of it."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import made_scans
from medrobust.core import Case, Dataset, Grid, NetworkId, Role, Sample
from medrobust.data import open_dataset
from medrobust.errors import RunError
from medrobust.models import Network
from medrobust.perturbations import request
from medrobust.running import batches as chunks
from medrobust.running import export
from medrobust.running.evaluate import quantised
from medrobust.running.export import Exported
from medrobust.running.plan import ImageSet
from medrobust.storage import ImageStore, RunFolder, read_rows
from medrobust.storage.schemas import CRAFTED
from tiny_cases import ByBrightness, ByChannel, photos, scans, wrapped
from whole_steps import (
    CraftJob,
    clean_set,
    craft,
    craft_noise,
    fixed_noise_set,
    matched_noise_set,
    member,
    setup_of,
)

CPU = torch.device("cpu")
SOURCE = NetworkId("net", Role.SURROGATE, 1)
OBLIQUE = np.array([[0, 0.4, -1.9, 30], [2.0, 0, 0, -50], [0, -1.9, -0.4, 60], [0, 0, 0, 1.0]])
"""Coronal slices, superior up and left on the right as the tool cuts them, tilted."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def lying(dataset: Dataset) -> Dataset:
    return replace(dataset, affine=lambda scan: OBLIQUE + np.eye(4, k=3) * float(scan[1:]))


def attacked(
    dataset: Dataset, network: Network, cases: tuple[Case, ...], folder: RunFolder, **entry
) -> ImageSet:
    job = CraftJob(request(entry, dataset.task), SOURCE, "transfer", "made")
    return craft(job, network, dataset, cases, folder, seed=0)


def stored(image_set: ImageSet, folder: RunFolder) -> dict[str, np.ndarray]:
    """Images of the store by case."""
    store = ImageStore(folder, *image_set.folder)
    return {
        case.case_id: image
        for number, chunk in enumerate(image_set.chunks)
        for case, image in zip(chunk, store.read(number), strict=True)
    }


def export_set(
    images: ImageSet,
    cases: Sequence[Case],
    networks: Mapping[str, nn.Module],
    dataset: Dataset,
    folder: RunFolder,
    to: Path,
    *,
    bits: int | None,
) -> Exported:
    """Export images that some targets look at; the first network is their source as well."""
    ids = {name: NetworkId(name, Role.TARGET, 0) for name in networks}
    loaded = {ids[name]: network for name, network in networks.items()}
    loaded |= {SOURCE: network for network in list(networks.values())[:1]}  # noqa: B035
    targets = [member(each) for each in ids.values() if each.name != "source"]
    setup = setup_of(dataset, folder, loaded, targets=targets)
    return export.export_set(setup, images, cases, to, bits=bits)


@pytest.mark.parametrize("bits", [None, 8, 16])
def test_photographs(tmp_path: Path, folder: RunFolder, bits: int | None) -> None:
    dataset, network = photos(), wrapped(ByChannel(), 3)
    images = attacked(dataset, network, dataset.cases, folder, name="fgsm", eps=0.02)
    chosen = dataset.cases[2:5]
    done = export_set(images, chosen, {"mine": network}, dataset, folder, tmp_path / "out", bits=bits)
    place, original = tmp_path / "out" / "fgsm--net-surrogate-s1", stored(images, folder)
    png = [] if bits is None else [f"-{bits}bit.png"]
    assert done.folder == place
    assert sorted(done.files) == sorted(path.name for path in place.iterdir())
    assert set(done.files) == {f"{case.case_id}{end}" for case in chosen for end in (".npy", ".json", *png)}
    fooled = []
    for case in chosen:
        exact = np.load(place / f"{case.case_id}.npy")
        assert exact.dtype == np.float32
        np.testing.assert_array_equal(exact, original[case.case_id])
        seen = torch.from_numpy(exact[None])
        if bits == 8:
            with Image.open(place / f"{case.case_id}-8bit.png") as picture:
                pixels = np.asarray(picture)
            assert np.abs(pixels.transpose(2, 0, 1) / 255 - exact).max() <= 0.5001 / 255
        if bits is not None:
            seen = quantised(seen, bits)
        predicted = dataset.classes[int(network(seen).argmax())]
        fooled.append(float(predicted != dataset.classes[case.label]))
        told = json.loads((place / f"{case.case_id}.json").read_text())
        assert told["images"][0]["predicted"] == {"mine": predicted}
        assert told["images"][0]["truth"] == dataset.classes[case.label]
        assert told["images"][0]["outcome"] in ("crafted", "failed", "kept_clean")
        assert told["predictions_of"] == (f"{case.case_id}{png[0]}" if png else f"{case.case_id}.npy")
    assert (done.written if bits else done.stored) == fooled
    assert len(done.written) == (3 if bits else 0)


def test_rounding_can_undo_an_attack(tmp_path: Path, folder: RunFolder) -> None:
    """DeepFool's smallest steps lie below the levels of 8 bits."""
    dataset, network = photos(n=20, size=40), wrapped(ByChannel(), 3)
    images = attacked(dataset, network, dataset.cases, folder, name="deepfool", overshoot=0.001)
    rounded = {
        bits: export_set(
            images, dataset.cases, {"mine": network}, dataset, folder, tmp_path / str(bits), bits=bits
        )
        for bits in (8, 16)
    }
    assert np.mean(rounded[16].stored) > 0.9
    assert rounded[8].stored == rounded[16].stored
    assert np.mean(rounded[8].written) < np.mean(rounded[8].stored) - 0.1
    assert np.mean(rounded[16].written) > np.mean(rounded[8].written)


@pytest.mark.parametrize("bits", [None, 8, 16])
def test_scans(tmp_path: Path, folder: RunFolder, bits: int | None) -> None:
    dataset, network = lying(scans()), wrapped(ByBrightness(), 1)
    by_id = {case.case_id: case for case in dataset.cases}
    few = tuple(by_id[name] for name in ("s0-0", "s0-2", "s1-1", "s1-2", "s1-4", "s2-3"))
    images = attacked(dataset, network, few, folder, name="dag_a", steps=3)
    chosen = [case for case in few if case.scan_id != "s0"]
    done = export_set(images, chosen, {"mine": network}, dataset, folder, tmp_path, bits=bits)
    assert done.changed == [True, True, False, True, True]
    place, original = done.folder, stored(images, folder)
    volume = nib.load(place / "s1.nii.gz")
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    voxels, truth = np.asarray(volume.dataobj), nib.load(place / "s1-truth.nii.gz")
    assert voxels.dtype == np.float32
    np.testing.assert_array_equal(truth.affine, volume.affine)
    told = json.loads((place / "s1.json").read_text())
    assert [image["perturbed"] for image in told["images"]] == [True, True, False, True]
    for image in told["images"]:
        case = by_id[image["case_id"]]
        clean, labels = dataset.read(case)
        expected = original[case.case_id] if image["perturbed"] else clean
        np.testing.assert_array_equal(in_world(volume, dataset, case), expected[0])
        np.testing.assert_array_equal(in_world(truth, dataset, case), labels)
        seen = torch.from_numpy(expected[None])
        shown = network(seen if bits is None else quantised(seen, bits)).argmax(1)[0]
        predicted = nib.load(place / "s1-predicted-mine.nii.gz")
        np.testing.assert_array_equal(in_world(predicted, dataset, case), shown.numpy())
        # The number of the slice along the axis that the description names.
        slice_ = np.take(voxels, image["y"], axis=1)
        assert np.isclose(slice_.sum(dtype=float), expected.sum(dtype=float))
    if bits is not None:
        rounded = nib.load(place / f"s1-{bits}bit.nii.gz")
        assert rounded.get_data_dtype() == np.dtype(f"uint{bits}")
        assert np.abs(rounded.get_fdata() - voxels).max() <= 0.5001 / (2**bits - 1)
    rows = [
        row
        for number in range(len(images.chunks))
        for row in read_rows(folder, CRAFTED, *images.rows_part(number)).iter_rows(named=True)
        if row["scan_id"] != "s0"
    ]
    np.testing.assert_allclose(done.stored, [row["fooled_source"] for row in rows], atol=1e-6)
    assert len(done.written) == (len(chosen) if bits else 0)


def in_world(volume: nib.Nifti1Image, dataset: Dataset, case: Case) -> np.ndarray:
    """What a file holds where the slice of a case lies, looked up voxel by voxel through the world."""
    assert dataset.affine is not None
    rows, columns = np.indices(dataset.shape).reshape(2, -1)
    index = np.stack([np.full(rows.shape, case.position), rows, columns, np.ones(rows.shape)])
    there = np.rint(np.linalg.solve(volume.affine, dataset.affine(case.scan_id) @ index)[:3]).astype(int)
    return np.asarray(volume.dataobj)[tuple(there)].reshape(dataset.shape)


def test_noise_and_clean_images(tmp_path: Path, folder: RunFolder) -> None:
    dataset, network = lying(scans()), wrapped(ByBrightness(), 1)
    attack = attacked(dataset, network, dataset.cases, folder, name="dag_a", steps=3)
    matched = matched_noise_set(request({"name": "rician"}, dataset.task, control=True), attack, dataset)
    entry = {"name": "rician", "strength": 0.05, "label": "strong"}
    fixed = fixed_noise_set(request(entry, dataset.task), dataset, dataset.cases)
    craft_noise(matched, dataset, folder)
    craft_noise(fixed, dataset, folder)
    clean = clean_set(dataset, dataset.cases)
    volumes = {}
    for image_set, source in ((matched, network), (fixed, None), (clean, None)):
        seen = {} if source is None else {"source": source}
        done = export_set(image_set, dataset.cases[:3], seen, dataset, folder, tmp_path, bits=None)
        assert done.files == ["s0.nii.gz", "s0-truth.nii.gz", "s0.json"]
        assert len(done.stored) == (0 if source is None else 3)
        volumes[done.folder.name] = np.asarray(nib.load(done.folder / "s0.nii.gz").dataobj)
    assert volumes.keys() == {"rician@dag_a--net-surrogate-s1", "strong", "clean"}
    assert len({volume.tobytes() for volume in volumes.values()}) == 3
    for case in dataset.cases[:3]:
        volume = nib.load(tmp_path / "clean" / "s0.nii.gz")
        np.testing.assert_array_equal(in_world(volume, dataset, case), dataset.read(case).image[0])


def test_the_numbers_of_slices_that_are_turned_round_in_the_file(tmp_path: Path, folder: RunFolder) -> None:
    """Cut from the front to the back, they lie from the back to the front in NIfTI's order."""
    dataset = replace(scans(), affine=lambda scan: OBLIQUE * [-1, 1, 1, 1])
    cases = [case for case in dataset.cases if case.scan_id == "s1"]
    clean = clean_set(dataset, cases)
    done = export_set(clean, cases, {}, dataset, folder, tmp_path, bits=None)
    voxels = np.asarray(nib.load(done.folder / "s1.nii.gz").dataobj)
    told = json.loads((done.folder / "s1.json").read_text())["images"]
    assert [image["y"] for image in told] == [4, 3, 2, 1, 0]
    for image, case in zip(told, cases, strict=True):
        expected = dataset.read(case).image.sum(dtype=float)
        assert np.isclose(voxels[:, image["y"]].sum(dtype=float), expected, rtol=1e-6)


def test_slices_without_a_label_are_black(tmp_path: Path, folder: RunFolder) -> None:
    dataset = lying(scans())
    dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.case_id != "s1-2"))
    clean = clean_set(dataset, dataset.cases)
    ends = [case for case in dataset.cases if case.case_id in ("s1-1", "s1-3")]
    done = export_set(clean, ends, {}, dataset, folder, tmp_path, bits=None)
    assert done.changed == [True, True]
    voxels = np.asarray(nib.load(done.folder / "s1.nii.gz").dataobj)
    assert [bool(voxels[:, y].any()) for y in range(voxels.shape[1])] == [True, False, True]


def volumes(parts: int) -> Dataset:
    """Scans of two channels, each cut to so many patches of 4 slices."""
    flat = scans(slices=(4 * parts,) * 2)

    def read(case: Case) -> Sample:
        part = [each for each in flat.cases if each.scan_id == case.scan_id]
        part = part[4 * case.position : 4 * case.position + 4]
        image, label = (np.stack(arrays) for arrays in zip(*map(flat.read, part), strict=True))
        return Sample(np.stack([image[:, 0], image[:, 0] / 2]), label)

    cases = [
        Case(f"s{scan}-{part}", f"s{scan}", f"patient{scan}", position=part, foreground=1)
        for scan in range(2)
        for part in range(parts)
    ]
    whole = replace(
        flat, cases=tuple(cases), read=read, channels=2, shape=(4, *flat.shape), spacing=(2.0,) * 3
    )
    return lying(whole)


@pytest.mark.parametrize("bits", [None, 16])
def test_whole_volumes_of_several_channels(tmp_path: Path, folder: RunFolder, bits: int | None) -> None:
    dataset = volumes(parts=1)
    clean = clean_set(dataset, dataset.cases)
    shown = {"first": Network(lambda images: images[:, :1].repeat(1, 3, 1, 1, 1))}
    done = export_set(clean, dataset.cases[1:], shown, dataset, folder, tmp_path, bits=bits)
    image, label = dataset.read(dataset.cases[1])
    volume, truth = nib.load(done.folder / "s1.nii.gz"), nib.load(done.folder / "s1-truth.nii.gz")
    assert volume.shape == (28, 4, 28, 2)
    index = np.indices(label.shape).reshape(3, -1)
    world = nib.affines.apply_affine(dataset.affine("s1"), index.T)
    there = tuple(np.rint(nib.affines.apply_affine(np.linalg.inv(volume.affine), world)).astype(int).T)
    np.testing.assert_array_equal(np.asarray(volume.dataobj)[there], image.reshape(2, -1).T)
    np.testing.assert_array_equal(np.asarray(truth.dataobj)[there], label.ravel())
    assert "s1-predicted-first.nii.gz" in done.files


class TestOriginalGrid:
    """Scans that were not resampled lie voxel on voxel with their files."""

    LAS = nib.affines.from_matvec(np.diag([-1.0, 1, 1]), (11, -13, 7))

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Scans that are stored as LAS, with air around them."""
        root = made_scans.nifti_pairs(tmp_path / "pairs")
        for path in (*(root / "images").iterdir(), *(root / "labels").iterdir()):
            voxels = np.pad(np.asarray(nib.load(path).dataobj), ((5, 2), (1, 6), (3, 4)))
            made_scans.write_volume(path, voxels, self.LAS)
        return root

    @pytest.mark.parametrize("axis", ["coronal", "axial", "sagittal", "volume", "patches"])
    def test_voxel_by_voxel(self, root: Path, tmp_path: Path, folder: RunFolder, axis: str) -> None:
        keys: dict[str, object] = {"axis": axis, "spacing": 1.0, "intensity": "min-max"}
        if axis == "patches":
            keys |= {"axis": "volume", "patch": [12, 16, 12]}
        dataset = open_dataset({"name": "nifti_pairs", "root": root, **keys}, None, None)
        clean = clean_set(dataset, dataset.cases)
        own = [case for case in dataset.cases if case.scan_id == "case1"]
        done = export_set(clean, own, {}, dataset, folder, tmp_path, bits=16)
        image, labels = (nib.load(root / kind / "case1.nii.gz") for kind in ("images", "labels"))
        exported, truth, rounded = (
            nib.load(done.folder / f"case1{end}.nii.gz") for end in ("", "-truth", "-16bit")
        )
        for each in (exported, truth, rounded):
            assert each.shape == image.shape
            np.testing.assert_allclose(each.affine, image.affine, atol=1e-5)
        numbers = np.asarray(labels.dataobj)
        np.testing.assert_array_equal(np.asarray(truth.dataobj), numbers)
        voxels = image.get_fdata()
        expected = (voxels - voxels.min()) / (voxels.max() - voxels.min())
        along = {"coronal": (0, 2), "axial": (0, 1), "sagittal": (1, 2)}.get(axis, (0, 1, 2))
        imaged = (voxels > 0).any(axis=along, keepdims=True)  # other slices are no cases
        np.testing.assert_allclose(exported.get_fdata(), expected * imaged, atol=1e-5)
        assert np.abs(rounded.get_fdata() - exported.get_fdata()).max() <= 0.5001 / 65535
        told = json.loads((done.folder / "case1.json").read_text())
        assert told["grid"].startswith("that of the original file")
        if axis == "coronal":
            places = [image["y"] for image in told["images"]]
            assert places == np.flatnonzero(imaged.ravel()).tolist()
        if axis == "patches":
            assert len(own) == 2 * 2 * 2
            for told_of, case in zip(told["images"], own, strict=True):
                box = tuple(
                    slice(max(low, 0), high + 1)
                    for low, high in zip(told_of["from_voxel"], told_of["to_voxel"], strict=True)
                )
                assert np.count_nonzero(numbers[box]) == case.foreground

    def test_resampled_scans_have_the_grid_of_the_study(
        self, root: Path, tmp_path: Path, folder: RunFolder
    ) -> None:
        dataset = open_dataset({"name": "nifti_pairs", "root": root, "spacing": 2.0}, None, None)
        clean = clean_set(dataset, dataset.cases)
        done = export_set(clean, dataset.cases[:3], {}, dataset, folder, tmp_path, bits=None)
        assert nib.aff2axcodes(nib.load(done.folder / "case0.nii.gz").affine) == ("R", "A", "S")
        assert json.loads((done.folder / "case0.json").read_text())["grid"].startswith("that of the study")

    def test_nothing_is_cut_off(self, tmp_path: Path, folder: RunFolder) -> None:
        """An image that goes on beyond the edges of the file keeps the grid of the study."""
        dataset = lying(scans())
        own = dataset.affine("s1")
        for first, kept in ((0, True), (6, False)):
            grid = Grid((5, 28, 28), own @ nib.affines.from_matvec(np.eye(3), (0, first, 0)))
            there = replace(dataset, original=lambda scan, grid=grid: grid)
            cases = [case for case in dataset.cases if case.scan_id == "s1"]
            clean = clean_set(there, cases)
            done = export_set(clean, cases, {}, there, folder, tmp_path, bits=None)
            volume = nib.load(done.folder / "s1.nii.gz")
            assert (volume.shape == (5, 28, 28)) is kept
            np.testing.assert_array_equal(
                in_world(volume, dataset, cases[2]), dataset.read(cases[2]).image[0]
            )


def test_patches_need_to_be_told_where_they_lie(tmp_path: Path, folder: RunFolder) -> None:
    dataset = volumes(parts=2)
    clean = clean_set(dataset, dataset.cases)
    with pytest.raises(RunError, match="Scan 's0' is cut into patches whose positions are unknown"):
        export_set(clean, dataset.cases[:1], {}, dataset, folder, tmp_path, bits=None)
    told = replace(dataset, patches=(2, 1, 1))
    done = export_set(clean, dataset.cases[1:2], {}, told, folder, tmp_path, bits=None)
    volume = nib.load(done.folder / "s0.nii.gz")
    assert volume.shape == (28, 8, 28, 2)  # the first half is black
    nowhere = replace(dataset, affine=None)
    done = export_set(clean, dataset.cases[:2], {}, nowhere, folder, tmp_path, bits=None)
    assert "s0-1.nii.gz" in done.files


def test_segmentation_of_photographs(tmp_path: Path, folder: RunFolder) -> None:
    """Images that lie nowhere become pictures, with their label maps."""
    dataset, network = scans(), wrapped(ByBrightness(), 1)
    clean = clean_set(dataset, dataset.cases)
    done = export_set(clean, dataset.cases[:2], {"mine": network}, dataset, folder, tmp_path, bits=16)
    ends = (".npy", "-16bit.png", "-truth.png", "-predicted-mine.png", ".json")
    assert set(done.files) == {f"{case.case_id}{end}" for case in dataset.cases[:2] for end in ends}
    image, labels = dataset.read(dataset.cases[0])
    with Image.open(done.folder / "s0-0-16bit.png") as picture:
        np.testing.assert_allclose(np.asarray(picture) / 65535, image[0], atol=0.5001 / 65535)
    with Image.open(done.folder / "s0-0-truth.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_a_phantom_brain_overlays_itself_whichever_way_it_is_cut(tmp_path: Path, folder: RunFolder) -> None:
    places = {}
    for axis in ("coronal", "axial", "sagittal"):
        block = {"name": "phantom_brains", "subjects": 3, "spacing": 4.0, "axis": axis}
        dataset = open_dataset(block, None, None)
        clean = clean_set(dataset, dataset.cases)
        cases = [case for case in dataset.cases if case.scan_id == "brain001"]
        done = export_set(clean, cases, {}, dataset, folder, tmp_path / axis, bits=None)
        truth = nib.load(done.folder / "brain001-truth.nii.gz")
        for name in ("brain stem", "left thalamus"):
            voxels = np.argwhere(np.asarray(truth.dataobj) == dataset.classes.index(name))
            world = nib.affines.apply_affine(truth.affine, voxels)
            places.setdefault(name, []).append(np.array(sorted(map(tuple, world.round(3)))))
    for coronal, axial, sagittal in places.values():
        np.testing.assert_array_equal(coronal, axial)
        np.testing.assert_array_equal(coronal, sagittal)
    assert places["left thalamus"][0].mean(0)[0] < -4
    assert places["brain stem"][0].mean(0)[2] < 0


def test_names_with_brackets_are_listed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("img[a]", "scan[/b]", "patient")
    plan = SimpleNamespace(sets=[], setup=SimpleNamespace(cases=[case]))
    monkeypatch.setattr(export, "_reopen", lambda *_: plan)
    console = Console(file=io.StringIO(), width=200)
    console.print(export.what_there_is("run"))
    # A caption is centred below the table, and folded to its width.
    said = " ".join(console.file.getvalue().split())
    assert "img[a]" in said
    assert "scan[/b]" in said
