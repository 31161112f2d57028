"""Pixels that nobody labelled, and regions, from training to tables and exports."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.functional import cross_entropy

import medrobust as mr
from made_data import squares
from medrobust.core import UNKNOWN, Dataset, Sample, Task
from medrobust.data.scans.geometry import centred
from medrobust.metrics.overlap import overlap_counts
from medrobust.metrics.scores import dice_of_counts
from medrobust.rng import generator
from medrobust.running.augment import moved
from medrobust.running.export_files import UNLABELLED, Item, write_labels
from medrobust.running.regimes import class_weights, make_loss, soft_dice_loss
from medrobust.running.train import score, validation_counts
from medrobust.study.training import Augmentation
from tiny_cases import ByBrightness, scans


def logits_and_labels(space: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(0, "unlabelled", *space)
    logits = torch.from_numpy(draw.normal(size=(2, 3, *space))).requires_grad_()
    labels = torch.from_numpy(draw.integers(0, 3, (2, *space)))
    labels[:, :2] = UNKNOWN
    return logits, labels


@pytest.mark.parametrize("space", [(6, 5), (4, 5, 3)])
def test_they_are_in_no_loss(space: tuple[int, ...]) -> None:
    logits, labels = logits_and_labels(space)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    loss = make_loss(Task.SEGMENTATION, weights)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[:, :, :2].any()
    assert gradient[:, :, 2:].any()
    # The loss is that of images without these pixels.
    kept, known = logits[:, :, 2:], labels[:, 2:]
    expected = cross_entropy(kept, known, weight=weights) + soft_dice_loss(kept, known)
    torch.testing.assert_close(loss, expected)


def unlabelled(dataset: Dataset) -> Dataset:
    """The same, but for the upper rows of every image: nobody labelled them."""

    def read(case):
        image, label = dataset.read(case)
        label = label.copy()
        label[:8] = UNKNOWN
        return Sample(image, label)

    cases = tuple(replace(case, foreground=int((read(case).label > 0).sum())) for case in dataset.cases)
    return replace(dataset, read=read, cases=cases)


def test_classes_are_weighted_by_known_pixels() -> None:
    data = squares()
    cut = replace(
        data,
        shape=(12, 18),
        read=lambda case: Sample(*(each[..., 8:, :] for each in data.read(case))),
    )
    np.testing.assert_allclose(class_weights(unlabelled(data), data.cases), class_weights(cut, data.cases))


def test_augmentation_moves_them_with_the_image() -> None:
    images = torch.rand(3, 1, 20, 24)
    labels = torch.randint(0, 3, (3, 20, 24))
    labels[:, 5:12, 5:12] = UNKNOWN
    _, after = moved(images, labels, Augmentation(), generator(0, "augment"))
    assert {*after.unique().tolist()} == {UNKNOWN, 0, 1, 2}
    both = torch.where(labels == UNKNOWN, 3, labels)
    _, alike = moved(images, both, Augmentation(), generator(0, "augment"))
    assert torch.equal(torch.where(after == UNKNOWN, 3, after), alike)


def test_training_is_scored_by_regions() -> None:
    data = replace(unlabelled(scans()), regions={"any": (1, 2), "white": (2,)})
    network = ByBrightness(seed=20)  # takes some of the grey for dark
    names = sorted({case.scan_id for case in data.cases})
    counts = validation_counts(network, data, data.cases, names, 4, torch.device("cpu"))
    assert counts.shape == (len(names), 3, 3)
    alone = replace(data, regions=None)
    by_class = validation_counts(network, alone, data.cases, names, 4, torch.device("cpu"))
    assert torch.equal(counts[:, 1, 0], by_class[:, 1:, 0].sum(1))
    assert torch.equal(counts[:, 2], by_class[:, 2])
    assert score(counts, names, Task.SEGMENTATION) != score(by_class, names, Task.SEGMENTATION)


def test_a_report_is_of_regions_and_of_known_pixels(tmp_path: Path) -> None:
    samples = [scans().read(case) for case in scans().cases]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    labels = torch.from_numpy(np.stack([sample.label for sample in samples]))
    labels[:, :5] = UNKNOWN
    labels[0] = UNKNOWN  # is no case
    of_scans = [case.scan_id for case in scans().cases]
    regions = {"any": ["grey", "white"], "white": "white"}
    network = ByBrightness()
    run = mr.evaluate(
        {"one": network},
        (images, labels),
        scans=of_scans,
        classes=["dark", "grey", "white"],
        regions=regions,
        attacks=["fgsm"],
        noise={},
        out=tmp_path / "run",
        analysis={"resamples": 100},
        threats={"eps": 0.2, "preset": None, "attacks": [{"name": "pgd", "steps": 2}]},
    )
    shown = network(images).argmax(1)
    found = []
    for scan in dict.fromkeys(of_scans):
        own = [place for place, name in enumerate(of_scans) if name == scan and place]
        known = labels[own] != UNKNOWN
        dice = []
        for classes in ((1, 2), (2,)):
            masks = [torch.isin(each[own], torch.tensor(classes)) & known for each in (labels, shown)]
            n_true, n_pred = (int(mask.sum()) for mask in masks)
            dice.append(2 * int((masks[0] & masks[1]).sum()) / (n_true + n_pred) if n_true else np.nan)
        found.append(np.nanmean(dice))
    assert run.table1()["clean"][0] == pytest.approx(np.mean(found), abs=1e-9)
    structures = run.results.rows["structure"].unique().sort().to_list()
    assert structures == ["any", "dark", "white"]
    assert run.results.structures == ("dark", "any", "white")
    assert run.results.n_cases == len(images) - 1
    assert "any (grey, white); white (white)" in run.report.read_text()
    rungs = pl.read_csv(tmp_path / "run" / "tables" / "threats.csv")
    assert rungs["rung"].to_list() == ["clean", "white box"]
    rows = run.results.rows.filter(pl.col("perturbation") == "pgd-51of255", pl.col("structure") != "dark")
    dice_of_regions = 2 * pl.col("n_both") / (pl.col("n_true") + pl.col("n_pred"))
    assert rungs["score"][1] == pytest.approx(rows.select(dice_of_regions.mean()).item())
    assert rungs["score"][1] < rungs["score"][0]


def test_masks_that_overlap_are_evaluated_as_they_are(tmp_path: Path) -> None:
    samples = [scans().read(case) for case in scans().cases]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    labels = torch.from_numpy(np.stack([sample.label for sample in samples]))
    masks = torch.stack([labels > 0, labels == 2], 1)
    levels = torch.tensor([0.225, 0.675]).view(1, 2, 1, 1)
    sigmoids = mr.Network(lambda shown: 20 * (shown - levels), kind="regions")
    run = mr.evaluate(
        {"one": sigmoids},
        (images, masks),
        classes=["bright", "very bright"],
        attacks=["fgsm"],
        noise={},
        out=tmp_path / "run",
        analysis={"resamples": 100},
    )
    shown = images > levels
    counts = torch.stack([each.flatten(2).sum(2) for each in (masks, shown, masks & shown)])
    dice = dice_of_counts(*counts.numpy())
    assert run.table1()["clean"][0] == pytest.approx(np.nanmean(np.nanmean(dice, 1)), abs=1e-9)
    assert run.results.classes == ("background", "bright", "bright + very bright")


def test_exported_label_maps_say_so_with_a_number(tmp_path: Path) -> None:
    data = unlabelled(scans())
    cases = [case for case in data.cases if case.scan_id == data.cases[0].scan_id]
    labels = torch.from_numpy(np.stack([data.read(case).label for case in cases]))
    images = torch.from_numpy(np.stack([data.read(case).image for case in cases]))
    affine = centred((len(cases), *data.shape), 2.0, "AIL")
    item = Item("a", tuple(cases), images, labels, (False,) * len(cases), affine)
    (name,) = write_labels(item, tmp_path, {"truth": labels})
    stored = np.asarray(nib.load(tmp_path / name).dataobj)
    assert stored.dtype == np.uint8
    assert (stored == UNLABELLED).sum() == (labels == UNKNOWN).sum() > 0
    for number in range(3):
        assert (stored == number).sum() == (labels == number).sum()


def test_counts_of_a_case_without_any_label_are_zero() -> None:
    labels = torch.full((1, 4, 4), UNKNOWN)
    assert not overlap_counts(labels, torch.ones_like(labels), 3).any()
