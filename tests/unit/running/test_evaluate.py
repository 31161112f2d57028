"""Evaluation: every set before every target, once, in rows that give exact scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from medrobust.core import Case, Dataset, NetworkId, OnProgress, Role, Sample, Task, silent
from medrobust.errors import ModelError, RunError
from medrobust.metrics.surfaces import SUMS, surface_sums
from medrobust.models import Network
from medrobust.perturbations import request
from medrobust.running import batches as chunks
from medrobust.running.batches import stack
from medrobust.running.evaluate import evaluation_parts, pixel_volume, quantised, timing_parts
from medrobust.running.noise import CPU
from medrobust.running.plan import ImageSet
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import RunFolder, compact, read_results
from medrobust.storage.schemas import EMPTY_CASES, SCORED, SURFACES, TIMING, Table
from tiny_cases import ByBrightness, ByChannel, ByThreshold, counting, findings, photos, scans, wrapped
from whole_steps import (
    CraftJob,
    clean_set,
    craft,
    craft_noise,
    evaluate,
    fixed_noise_set,
    matched_noise_set,
    member,
    read_images,
    setup_of,
)

SOURCE = NetworkId("one", Role.SURROGATE, 1)
ONE, TWO = NetworkId("one", Role.TARGET, 0), NetworkId("two", Role.TARGET, 0)


@dataclass
class Small:
    """A small study whose images are made."""

    folder: RunFolder
    dataset: Dataset
    sets: tuple[ImageSet, ...]
    targets: tuple[StudyNetwork, ...]
    networks: dict[NetworkId, Network]

    def setup(self, targets: Sequence[StudyNetwork] | None = None, **keywords: object) -> Setup:
        """The study with some or all targets."""
        keywords = {"batch_size": 3, "targets": self.targets if targets is None else targets, **keywords}
        return setup_of(self.dataset, self.folder, self.networks, **keywords)

    def evaluate(
        self,
        targets: Sequence[StudyNetwork] | None = None,
        *,
        progress: OnProgress = silent,
        boundaries: bool = False,
        **keywords: object,
    ) -> pl.DataFrame:
        """Evaluate on some or all targets, and join the rows."""
        setup, table = self.setup(targets, **keywords), SCORED[self.dataset.task]
        evaluate(setup, self.sets, boundaries=boundaries, progress=progress)
        return self.joined(setup, table)

    def joined(self, setup: Setup, table: Table) -> pl.DataFrame:
        """The rows of a table."""
        compact(self.folder, table, evaluation_parts(setup, self.sets, setup.targets, table))
        return read_results(self.folder, table)


class PaintsIntoTheDark(ByBrightness):
    """Labels by brightness, and sees a disk wherever an image is black all over."""

    @staticmethod
    def disk(size: int) -> torch.Tensor:
        """Its pixels."""
        rows, columns = torch.meshgrid(2 * [torch.arange(size) - size / 2 + 0.5], indexing="ij")
        return rows**2 + columns**2 < 36

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        dark = images.flatten(1).amax(1).view(-1, 1, 1) < 0.1
        disk = torch.zeros(3, *images.shape[2:])
        disk[1] = 100.0 * self.disk(images.shape[-1])
        return super().forward(images) + disk * dark[:, None]


def emptied_scans(empty: int) -> Dataset:
    """Scans whose first slices are black and have no label, 3 mm apart."""
    whole = scans()

    def read(case: Case) -> Sample:
        sample = whole.read(case)
        return sample if case.foreground else Sample(0 * sample.image, 0 * sample.label)

    cases = tuple(replace(case, foreground=0) if case.position < empty else case for case in whole.cases)
    return replace(whole, cases=cases, read=read, affine=lambda scan: np.diag([3.0, 2.0, 2.0, 1.0]))


DATA = {Task.CLASSIFICATION: photos, Task.MULTILABEL: findings, Task.SEGMENTATION: scans}
NETWORKS = {Task.CLASSIFICATION: ByChannel, Task.MULTILABEL: ByThreshold, Task.SEGMENTATION: ByBrightness}


def make(task: Task, root: Path, emptied: int = 0) -> Small:
    folder, dataset = RunFolder(root), DATA[task]()
    if emptied:
        dataset = emptied_scans(emptied)

    def network(seed: int) -> Network:
        return wrapped(NETWORKS[task](seed), dataset.channels)

    entry = {"name": "dag_a", "steps": 3} if task.has_maps else {"name": "fgsm", "eps": "8/255"}
    attack = request(entry, task)
    noise = request({"name": "gaussian"}, task, control=True)
    transfer = craft(
        CraftJob(attack, SOURCE, "transfer", "made"), network(1), dataset, dataset.cases, folder, seed=0
    )
    whitebox = craft(
        CraftJob(attack, ONE, "whitebox", "made"), network(2), dataset, dataset.cases, folder, seed=0
    )
    matched = matched_noise_set(noise, transfer, dataset)
    fixed = fixed_noise_set(
        request({"name": "gaussian", "label": "weak", "strength": 0.05}, task),
        dataset,
        dataset.cases,
    )
    for noisy in (matched, fixed):
        craft_noise(noisy, dataset, folder)
    sets = (clean_set(dataset, dataset.cases), transfer, whitebox, matched, fixed)
    return Small(folder, dataset, sets, (member(ONE), member(TWO)), {ONE: network(2), TWO: network(3)})


@pytest.fixture(params=list(Task))
def small(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)
    return make(request.param, tmp_path)


@pytest.fixture
def classification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)
    return make(Task.CLASSIFICATION, tmp_path)


def cells(rows: pl.DataFrame) -> set[tuple[str, str, str, str]]:
    return set(rows.select("perturbation", "role", "source", "target").unique().rows())


def test_every_set_is_shown_to_every_target_that_faces_it(small: Small) -> None:
    attack = small.sets[1].perturbation
    bits = small.dataset.bits
    found = cells(small.evaluate(quantise=bits))
    expected = {("clean", "clean", "", target) for target in ("one", "two")}
    for suffix in ("", f"~{bits}bit"):
        expected |= {(f"{attack}{suffix}", "whitebox", "one", "one")}
        for target in ("one", "two"):
            expected |= {
                (f"{attack}{suffix}", "transfer", "one", target),
                (f"gaussian@{attack}{suffix}", "transfer", "one", target),
                (f"weak{suffix}", "noise", "", target),
            }
    assert found == expected


def test_a_finding_has_a_row_of_its_own_if_it_is_known(tmp_path: Path) -> None:
    small = make(Task.MULTILABEL, tmp_path)
    rows = small.evaluate().filter(perturbation="clean", target="one")
    known = [(case, place) for case in small.dataset.cases for place in range(3) if case.label[place] >= 0]
    assert rows.height == len(known) == 29
    network = small.networks[ONE]
    for case, place in known:
        values = network.body(torch.from_numpy(small.dataset.read(case).image)[None])[0]
        row = rows.row(
            by_predicate=(pl.col("case_id") == case.case_id) & (pl.col("finding") == "abc"[place]), named=True
        )
        assert (row["label"], row["prediction"]) == (case.label[place], int(values[place] > 0))
        assert row["probabilities"][0] == pytest.approx(values[place].neg().sigmoid().item(), rel=1e-5)


def test_predictions_are_what_the_target_says(classification: Small) -> None:
    rows = classification.evaluate(quantise=8).sort("case_id")
    dataset = classification.dataset
    for image_set in classification.sets:
        images, cases = [], []
        for number, chunk in enumerate(image_set.chunks):
            images.append(
                read_images(image_set, number, stack(dataset, chunk, CPU), dataset, classification.folder)
            )
            cases += [case.case_id for case in chunk]
        for suffix, shown in (("", torch.cat(images)), ("~8bit", quantised(torch.cat(images), 8))):
            here = rows.filter(
                perturbation=image_set.perturbation + suffix, role=image_set.role, target="one"
            )
            if here.is_empty():
                assert suffix
                assert image_set.request is None
                continue
            logits = classification.networks[ONE](shown)
            order = sorted(range(len(cases)), key=lambda i: cases[i])
            assert here["prediction"].to_list() == logits.argmax(1)[order].tolist()
            assert torch.allclose(
                torch.tensor(here["probabilities"].to_list()), logits.softmax(1)[order], atol=1e-6
            )
            assert here["label"].to_list() == [
                case.label for case in sorted(dataset.cases, key=lambda case: case.case_id)
            ]


def test_overlaps_add_up_over_the_cases_of_a_scan(tmp_path: Path) -> None:
    small = make(Task.SEGMENTATION, tmp_path)
    rows = small.evaluate().filter(perturbation="clean", target="two")
    for scan in ("s0", "s1", "s2"):
        batch = stack(small.dataset, [case for case in small.dataset.cases if case.scan_id == scan], CPU)
        shown = small.networks[TWO](batch.images).argmax(1)
        for k, structure in enumerate(small.dataset.classes):
            row = rows.row(
                by_predicate=(pl.col("scan_id") == scan) & (pl.col("structure") == structure), named=True
            )
            truth, said = batch.labels == k, shown == k
            assert (row["n_true"], row["n_pred"], row["n_both"]) == (
                int(truth.sum()),
                int(said.sum()),
                int((truth & said).sum()),
            )
    assert rows.height == 3 * 3


def test_targets_may_be_added_and_nothing_is_done_twice(small: Small) -> None:
    small.dataset, reads = counting(small.dataset)
    both = small.evaluate()
    assert set(reads.values()) == {len(small.sets)}
    small.evaluate()
    assert set(reads.values()) == {len(small.sets)}

    asked = 0

    class Watched(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            nonlocal asked
            asked += len(images)
            return small.networks[TWO](images)

    third = member(NetworkId("three", Role.TARGET, 0))
    small.networks[third.id] = Network(Watched())
    rows = small.evaluate((*small.targets, third))
    assert asked == 4 * len(small.dataset.cases)
    assert rows.filter(pl.col("target") != "three").equals(both)


def test_a_killed_evaluation_ends_as_if_nothing_had_happened(small: Small, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(done: float, note: str) -> None:
        if done > 0.4:
            raise KilledError("here")

    with pytest.raises(KilledError, match="here"):
        small.evaluate(progress=kill)
    small.evaluate()
    name = SCORED[small.dataset.task].name
    after_kill = small.folder.read_bytes("results", f"{name}.parquet")
    other = make(small.dataset.task, tmp_path / "other")
    other.evaluate()
    assert other.folder.read_bytes("results", f"{name}.parquet") == after_kill


def test_batch_size_changes_no_prediction(small: Small, tmp_path: Path) -> None:
    whole = small.evaluate(batch_size=64)
    other = make(small.dataset.task, tmp_path / "other")
    single = other.evaluate(batch_size=1)
    keys = [name for name in whole.columns if name != "probabilities"]
    assert whole.select(keys).equals(single.select(keys))


def test_other_weights_under_the_same_recipe_are_refused(classification: Small) -> None:
    classification.evaluate()
    classification.networks[ONE] = wrapped(ByChannel(9), 3)
    with pytest.raises(RunError, match=r"other weights of 'one-target-s0'"):
        classification.evaluate()


def test_another_recipe_is_evaluated_again(classification: Small) -> None:
    before = classification.evaluate()
    classification.networks[ONE] = wrapped(ByChannel(9), 3)
    classification.targets = (member(ONE, {"epochs": 2}), classification.targets[1])
    after = classification.evaluate()
    assert after.filter(target="two").equals(before.filter(target="two"))
    assert not after.filter(target="one").equals(before.filter(target="one"))


def test_damaged_images_are_found(classification: Small) -> None:
    attack = classification.sets[1]
    file = classification.folder.local(*attack.folder, "images", "c", "0", "0", "0", "0")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(RunError, match=r"chunk 0 is damaged.*only this chunk is crafted again"):
        classification.evaluate()


def test_network_that_gives_nan_is_named(classification: Small) -> None:
    classification.networks[TWO].body.conv.bias.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"'two-target-s0'.*case 'p00'"):
        classification.evaluate()


def test_networks_of_a_fold_face_its_cases_only(tmp_path: Path) -> None:
    small = make(Task.CLASSIFICATION, tmp_path)
    cases = small.dataset.cases
    small.sets = (
        clean_set(small.dataset, cases[:6], fold=0),
        clean_set(small.dataset, cases[6:], fold=1),
    )
    ids = [replace(ONE, fold=0), replace(ONE, fold=1)]
    small.networks |= {ids[0]: small.networks[ONE], ids[1]: small.networks[TWO]}
    small.targets = tuple(member(network_id) for network_id in ids)
    rows = small.evaluate()
    assert rows.height == len(cases)
    assert set(rows.filter(fold=0)["case_id"]) == {case.case_id for case in cases[:6]}


def test_times_are_kept_apart(small: Small) -> None:
    small.evaluate()
    compact(small.folder, TIMING, timing_parts(small.setup(), small.sets))
    times = read_results(small.folder, TIMING)
    assert (times["seconds"] > 0).all()
    assert set(times["step"]) == {"craft", "noise", "evaluate"}
    n_cases = len(small.dataset.cases)
    assert times.filter(step="evaluate").group_by("target").agg(pl.col("n_cases").sum()).sort(
        "target"
    ).rows() == [
        ("one", 5 * n_cases),
        ("two", 4 * n_cases),
    ]


@pytest.mark.parametrize("bits", [8, 12])
def test_rounding_is_half_to_even_and_idempotent(bits: int) -> None:
    levels = 2**bits - 1
    halves = torch.tensor([[0.5, 1.5, 2.5, 3.5]], dtype=torch.float64) / levels
    assert (quantised(halves, bits) * levels).round().tolist() == [[0, 2, 2, 4]]
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(quantised(quantised(images, bits), bits), quantised(images, bits))


def surface_rows(small: Small, tolerance: float) -> pl.DataFrame:
    """Evaluate with boundaries, and join their rows."""
    small.evaluate(quantise=12, tolerance=tolerance, boundaries=True)
    return small.joined(small.setup(quantise=12, tolerance=tolerance), SURFACES)


def test_boundaries_add_up_over_the_cases_of_a_scan(tmp_path: Path) -> None:
    small = make(Task.SEGMENTATION, tmp_path)
    rows = surface_rows(small, 2.0).filter(perturbation="clean", target="two")
    assert rows.select("tolerance", "unit").unique().rows() == [(2.0, "mm")]
    for scan in ("s0", "s1", "s2"):
        batch = stack(small.dataset, [case for case in small.dataset.cases if case.scan_id == scan], CPU)
        shown = small.networks[TWO](batch.images).argmax(1)
        sums = surface_sums(batch.labels, shown, 3, spacing=(2.0, 2.0), tolerance=2.0).sum(0)
        for k, structure in enumerate(small.dataset.classes):
            row = rows.filter(scan_id=scan, structure=structure).select(SUMS).row(0)
            assert row == pytest.approx(sums[k])


def test_boundaries_are_of_images_as_stored_that_were_crafted_apart(tmp_path: Path) -> None:
    small = make(Task.SEGMENTATION, tmp_path)
    rows = surface_rows(small, 2.0)
    shown = {
        cell for cell in cells(small.evaluate(quantise=12)) if "~" not in cell[0] and cell[1] != "whitebox"
    }
    assert cells(rows) == shown


def test_a_run_of_before_or_another_tolerance_adds_boundaries_only(tmp_path: Path) -> None:
    small = make(Task.SEGMENTATION, tmp_path)
    small.networks[ONE].body.levels[1] = 0.8  # the rim of the disk is too dark for it
    before = small.evaluate(quantise=12)
    overlaps = list(small.folder.local("results", "parts", "overlaps").rglob("*.parquet.gz"))
    written = {path: path.stat().st_mtime_ns for path in overlaps}
    strict, loose = surface_rows(small, 1e-6), surface_rows(small, 1000.0)
    assert strict["n_within"].sum() < loose["n_within"].sum()
    assert strict.drop("n_within", "tolerance").equals(loose.drop("n_within", "tolerance"))
    assert written
    assert {path: path.stat().st_mtime_ns for path in overlaps} == written
    assert small.evaluate(quantise=12).equals(before)


def test_without_a_pixel_size_lengths_are_in_pixels(tmp_path: Path) -> None:
    small = make(Task.SEGMENTATION, tmp_path)
    small.dataset = replace(small.dataset, spacing=None)
    assert small.setup().tolerance == 1.0
    assert surface_rows(small, 1.0)["unit"].unique().to_list() == ["pixels"]


def test_the_tolerance_is_the_longest_side_of_a_pixel_unless_asked() -> None:
    dataset = replace(scans(), spacing=(1.0, 3.0))
    assert setup_of(dataset, RunFolder("unused")).tolerance == 3.0
    assert setup_of(dataset, RunFolder("unused"), tolerance=2.0).tolerance == 2.0


def empty_rows(small: Small) -> pl.DataFrame:
    small.evaluate(tolerance=2.0, boundaries=True)
    return small.joined(small.setup(tolerance=2.0), EMPTY_CASES)


def test_a_network_that_paints_into_cases_without_any_label_is_counted(tmp_path: Path) -> None:
    """Two slices of each scan are black and have no label; ONE shows a disk in each of them, TWO nothing."""
    small = make(Task.SEGMENTATION, tmp_path, emptied=2)
    small.networks[ONE] = wrapped(PaintsIntoTheDark(2), 1)
    rows = empty_rows(small)
    clean = rows.filter(perturbation="clean").sort("target", "scan_id")
    assert clean.select("n_cases", "n_empty").rows() == 2 * [(3, 2), (5, 2), (4, 2)]
    disk = int(PaintsIntoTheDark.disk(28).sum())
    assert clean.select("n_painted", "n_pixels").rows() == 3 * [(2, 2 * disk)] + 3 * [(0, 0)]
    assert rows["pixel_mm3"].unique().to_list() == [12.0]
    assert cells(rows) == {cell for cell in cells(small.evaluate()) if cell[1] != "whitebox"}
    # Painted pixels enter the counts of their scan, and so lower its Dice.
    overlaps = small.evaluate().filter(perturbation="clean", structure="disk")
    more = overlaps.pivot("target", index="scan_id", values="n_pred")
    assert more.filter(pl.col("one") < pl.col("two") + disk).is_empty()


@pytest.mark.parametrize(
    ("spacing", "affine", "volume"),
    [
        ((2.0, 2.0), None, None),
        (None, None, None),
        ((2.0, 1.0, 0.5), None, 1.0),
        ((2.0, 2.0), lambda scan: np.diag([3.0, -2.0, 2.0, 1.0]), 12.0),
    ],
)
def test_volumes_are_known_where_the_data_say_how_far_slices_lie_apart(spacing, affine, volume) -> None:
    dataset = replace(scans(), spacing=spacing, affine=affine)
    assert pixel_volume(dataset, "s0") == (None if volume is None else pytest.approx(volume))
