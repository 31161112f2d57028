"""Crafting: what is measured, what the policies do, and what a killed run leaves."""

import errno
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from medrobust.core import Case, Dataset, NetworkId, Role, Task
from medrobust.errors import ModelError, RunError, StudyError
from medrobust.metrics.similarity import ssim
from medrobust.models import Network
from medrobust.perturbations import request
from medrobust.running import batches as chunks
from medrobust.running.batches import stack, work_chunks
from medrobust.running.noise import CPU
from medrobust.running.plan import ImageSet
from medrobust.storage import RunFolder, compact, read_results
from medrobust.storage.schemas import CRAFTED
from tiny_cases import ByBrightness, ByChannel, counting, photos, scans, wrapped
from whole_steps import CraftJob, craft, craft_noise, crafted_set, left, matched_noise_set, read_images

SURROGATE = NetworkId("net", Role.SURROGATE, 1)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)


def job_of(entry: Mapping[str, Any], task: Task = Task.CLASSIFICATION, **changes: Any) -> CraftJob:
    return replace(CraftJob(request(entry, task), SURROGATE, "transfer", "made"), **changes)


FGSM = {"name": "fgsm", "eps": "8/255"}
DAG = {"name": "dag_c", "steps": 6, "radius_mm": 4, "step": "4/255"}


def crafted(folder: RunFolder, entry: Mapping[str, Any] = FGSM, **keywords: Any) -> ImageSet:
    dataset = keywords.pop("dataset", None) or photos()
    network = keywords.pop("network", None)
    if network is None:
        classifies = dataset.task is Task.CLASSIFICATION
        network = wrapped(ByChannel(), 3) if classifies else wrapped(ByBrightness(), 1)
    job = keywords.pop("job", None) or job_of(entry, dataset.task)
    cases = keywords.pop("cases", dataset.cases)
    return craft(job, network, dataset, cases, folder, **{"seed": 0, "batch_size": 3, **keywords})


def rows_of(image_set: ImageSet, folder: RunFolder) -> pl.DataFrame:
    compact(folder, CRAFTED, [image_set.rows_part(chunk) for chunk in range(len(image_set.chunks))])
    return read_results(folder, CRAFTED)


def images(image_set: ImageSet, dataset: Dataset, folder: RunFolder) -> torch.Tensor:
    """All images of a set, in the order of its chunks."""
    return torch.cat(
        [
            read_images(image_set, number, stack(dataset, chunk, CPU), dataset, folder)
            for number, chunk in enumerate(image_set.chunks)
        ]
    )


def clean(image_set: ImageSet, dataset: Dataset) -> torch.Tensor:
    return torch.cat([stack(dataset, chunk, CPU).images for chunk in image_set.chunks])


def content(folder: RunFolder) -> dict[str, bytes]:
    """Every file below `crafted/` that is to be equal between runs, by its path."""
    root = folder.local("crafted")
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and "timing" not in path.parts]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_rows_are_measured_on_the_images_as_stored(tmp_path: Path) -> None:
    folder, dataset = RunFolder(tmp_path), photos()
    image_set = crafted(folder, dataset=dataset)
    rows = rows_of(image_set, folder)
    stored, before = images(image_set, dataset, folder), clean(image_set, dataset)
    by_case = {case.case_id: i for i, case in enumerate(case for chunk in image_set.chunks for case in chunk)}
    network = wrapped(ByChannel(), 3)
    for row in rows.iter_rows(named=True):
        i = by_case[row["case_id"]]
        difference = (stored[i] - before[i]).double()
        assert row["l2"] == pytest.approx(float(difference.norm()), rel=1e-5)
        assert row["linf"] == pytest.approx(8 / 255, abs=1e-6)
        assert row["mse"] == pytest.approx(float(difference.square().mean()), rel=1e-5)
        assert row["l0"] == int((difference != 0).sum())
        assert (
            row["ssim"]
            == row["ssim_image"]
            == pytest.approx(float(ssim(before[i : i + 1], stored[i : i + 1])))
        )
        case = next(case for case in dataset.cases if case.case_id == row["case_id"])
        assert row["already_wrong"] == float(int(network(before[i : i + 1]).argmax()) != case.label)
        assert row["fooled_source"] == float(int(network(stored[i : i + 1]).argmax()) != case.label)
        assert row["patient_id"] == case.patient_id
    assert rows["already_wrong"].sum() == 1
    assert rows["fooled_source"].sum() >= 5
    assert set(rows["strength"]) == {8 / 255}
    assert rows.select("perturbation", "source", "source_seed", "fold", "role").unique().row(0) == (
        "fgsm",
        "net",
        1,
        None,
        "transfer",
    )


@pytest.mark.parametrize(
    ("on_misclassified", "outcome", "moved"), [("attack", "crafted", True), ("keep", "kept_clean", False)]
)
def test_images_that_the_source_gets_wrong(
    tmp_path: Path, on_misclassified: str, outcome: str, moved: bool
) -> None:
    folder = RunFolder(tmp_path)
    rows = rows_of(crafted(folder, {**FGSM, "on_misclassified": on_misclassified}), folder).filter(
        pl.col("already_wrong") == 1
    )
    assert rows["outcome"].to_list() == [outcome]
    assert (rows["l2"].item() > 0) is moved
    assert moved or rows["ssim"].item() == 1


def test_dropped_images_are_marked_and_change_nothing_else(tmp_path: Path) -> None:
    plain, marked = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "marked")
    dropping = job_of(FGSM, request=replace(request(FGSM, Task.CLASSIFICATION), on_misclassified="drop"))
    one = rows_of(crafted(plain), plain)
    other = rows_of(crafted(marked, job=dropping), marked)
    assert one.drop("outcome").equals(other.drop("outcome"))
    assert other.filter(pl.col("outcome") == "dropped")["already_wrong"].to_list() == [1.0]
    assert (other["outcome"] == "dropped").sum() == 1


@pytest.mark.parametrize(("on_failure", "moved"), [("last", True), ("clean", False)])
def test_failed_attacks(tmp_path: Path, on_failure: str, moved: bool) -> None:
    folder = RunFolder(tmp_path)
    rows = rows_of(crafted(folder, {"name": "fgsm", "eps": 1e-4, "on_failure": on_failure}), folder)
    right = rows.filter(pl.col("already_wrong") == 0)
    assert set(right["outcome"]) == {"failed"}
    assert set(right["fooled_source"]) == {0.0}
    assert bool((right["l2"] > 0).all()) is moved
    assert bool((right["l2"] == 0).all()) is not moved


def test_dag_counts_steps_and_active_pixels_and_stays_in_its_support(tmp_path: Path) -> None:
    folder, dataset = RunFolder(tmp_path), scans()
    image_set = crafted(folder, DAG, dataset=dataset)
    rows = rows_of(image_set, folder)
    changed = images(image_set, dataset, folder) != clean(image_set, dataset)
    outside = clean(image_set, dataset) == 0
    assert not bool((changed & outside).any())
    assert rows["steps"].is_between(1, 6).all()
    assert (rows["n_active"] > 0).all()
    assert rows["fooled_source"].is_between(0, 1).all()
    assert (rows["ssim"] < rows["ssim_image"]).any()


def test_a_case_without_active_pixels_is_counted_as_undefined(tmp_path: Path) -> None:
    folder, dataset = RunFolder(tmp_path), scans()
    rows = rows_of(crafted(folder, {**DAG, "min_pixels": 10_000}, dataset=dataset), folder)
    assert rows["fooled_source"].is_null().all()
    assert set(rows["n_active"]) == {0}
    assert set(rows["outcome"]) == {"crafted"}
    assert set(rows["l2"]) == {0.0}


class KilledError(Exception):
    """Stands for a kill in the middle of a step."""


@pytest.mark.parametrize("which", ["photos", "scans"])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, which: str, after: int
) -> None:
    dataset, entry = (photos(), FGSM) if which == "photos" else (scans(), DAG)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    rows_whole = rows_of(crafted(whole, entry, dataset=dataset), whole)

    calls = 0

    def kill(done: float, note: str) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KilledError("here")

    with pytest.raises(KilledError, match="here"):
        crafted(broken, entry, dataset=dataset, progress=kill)
    watched, reads = counting(dataset)
    image_set = crafted_set(job_of(entry, dataset.task), dataset, dataset.cases)
    finished = {
        case.case_id
        for number, chunk in enumerate(image_set.chunks)
        if number in image_set.finished(broken)
        for case in chunk
    }
    assert rows_of(crafted(broken, entry, dataset=watched), broken).equals(rows_whole)
    assert set(reads) == {case.case_id for case in dataset.cases} - finished
    assert set(reads.values()) <= {1}
    assert content(broken) == content(whole)
    assert broken.read_bytes("results", "crafted.parquet") == whole.read_bytes("results", "crafted.parquet")


def test_a_finished_run_reads_nothing_again(tmp_path: Path) -> None:
    folder, (dataset, reads) = RunFolder(tmp_path), counting(photos())
    crafted(folder, dataset=dataset)
    assert set(reads.values()) == {1}
    ticks: list[float] = []
    crafted(folder, dataset=dataset, progress=lambda done, note: ticks.append(done))
    assert set(reads.values()) == {1}
    assert ticks[-1] == 1.0


def test_only_a_chunk_without_marker_is_crafted_again(tmp_path: Path) -> None:
    folder, (dataset, reads) = RunFolder(tmp_path), counting(photos())
    image_set = crafted(folder, dataset=dataset)
    before = content(folder)
    folder.local(*image_set.folder, "done", "00001.json").unlink()
    folder.local(*image_set.folder, "images", "c", "1", "0", "0", "0").write_bytes(b"half of a chunk")
    with pytest.raises(RunError, match=r"chunk 1 is not finished"):
        images(image_set, dataset, folder)
    reads.clear()
    crafted(folder, dataset=dataset)
    assert set(reads) == {case.case_id for case in image_set.chunks[1]}
    assert content(folder) == before


def test_other_batch_sizes_give_the_same_rows(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path / "1"), RunFolder(tmp_path / "2")
    dataset = scans()
    first = rows_of(crafted(one, DAG, dataset=dataset, batch_size=1), one)
    second = rows_of(crafted(other, DAG, dataset=dataset, batch_size=64), other)
    exact = ["case_id", "outcome", "steps", "n_active", "already_wrong"]
    assert first.select(exact).equals(second.select(exact))
    np.testing.assert_allclose(first["ssim"].to_numpy(), second["ssim"].to_numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"support": "image"},
        {"cases": photos().cases[:8]},
        {"dataset": replace(photos(), fingerprint="photos-2")},
        {"job": job_of({**FGSM, "eps": "9/255"})},
        {"job": job_of({**FGSM, "on_misclassified": "keep"})},
        {"job": job_of({**FGSM, "on_failure": "clean"})},
        {"job": job_of({**FGSM, "label": "other"})},
        {"job": job_of(FGSM, source_recipe={"weights": "v"})},
        {"job": job_of(FGSM, source=replace(SURROGATE, seed=2))},
        {"job": job_of(FGSM, autocast=True)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_recipe_gives_another_folder(change: dict[str, Any]) -> None:
    def name(**arguments: Any) -> str:
        chosen: dict[str, Any] = {
            "job": job_of(FGSM),
            "dataset": photos(),
        } | arguments
        cases: tuple[Case, ...] = chosen.pop("cases", chosen["dataset"].cases)
        return crafted_set(chosen.pop("job"), chosen.pop("dataset"), cases, **chosen).name

    assert name() == name()
    assert name() != name(**change)


def test_success_of_an_attack_in_reduced_precision_is_measured_in_float32(tmp_path: Path) -> None:
    folder, dataset = RunFolder(tmp_path), photos()
    network, dtypes = wrapped(ByChannel(), 3), []
    network.body.register_forward_hook(lambda *seen: dtypes.append(seen[2].dtype))
    image_set = crafted(folder, dataset=dataset, network=network, job=job_of(FGSM, autocast=True))
    batches = len(dtypes) // 3  # one pass to attack each batch, between one before and one after
    assert dtypes == [torch.float32, torch.bfloat16, torch.float32] * batches
    stored, labels = images(image_set, dataset, folder), []
    for chunk in image_set.chunks:
        labels += [case.label for case in chunk]
    wrong = (wrapped(ByChannel(), 3)(stored).argmax(1) != torch.tensor(labels)).tolist()
    by_case = dict(zip((case.case_id for chunk in image_set.chunks for case in chunk), wrong, strict=True))
    rows = rows_of(image_set, folder)
    assert rows["fooled_source"].to_list() == [by_case[case] for case in rows["case_id"]]


def test_the_order_of_cases_does_not_matter() -> None:
    dataset = scans()
    assert work_chunks(dataset, dataset.cases) == work_chunks(dataset, reversed(dataset.cases))


def test_chunks_hold_whole_scans() -> None:
    dataset = scans((3, 1, 5, 2, 2, 4))
    chunks = work_chunks(dataset, dataset.cases)
    assert [len(chunk) for chunk in chunks] == [4, 5, 4, 4]
    of_scan = {case.scan_id: {n for n, chunk in enumerate(chunks) if case in chunk} for case in dataset.cases}
    assert all(len(numbers) == 1 for numbers in of_scan.values())


def test_retrained_source_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    crafted(folder)
    with pytest.raises(RunError, match=r"other weights of 'net-surrogate-s1'.*delete crafted/fgsm--"):
        crafted(folder, network=wrapped(ByChannel(seed=1), 3))


def test_network_that_gives_nan_is_named_with_the_case(tmp_path: Path) -> None:
    network: Network = wrapped(ByChannel(), 3)
    network.body.conv.bias.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"'net-surrogate-s1'.*non-finite values for case 'p00'"):
        crafted(RunFolder(tmp_path), network=network)


def test_full_disk_is_said_and_finished_work_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, (dataset, reads) = RunFolder(tmp_path), counting(photos())
    write, refused = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        if ".00001.parquet" in path.name:
            refused.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"disk is full.*free some space"):
        crafted(folder, dataset=dataset)
    monkeypatch.undo()
    assert refused
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)
    reads.clear()
    image_set = crafted(folder, dataset=dataset)
    assert set(reads) == {case.case_id for chunk in image_set.chunks[1:] for case in chunk}


def test_budget_is_solved_once_and_recorded(tmp_path: Path) -> None:
    folder, (dataset, reads) = RunFolder(tmp_path), counting(photos(14))
    arguments = {
        "dataset": dataset,
        "cases": dataset.cases[:8],
        "validation": dataset.cases[8:],
        "entry": {"name": "fgsm", "eps": {"ssim": 0.9}},
    }
    image_set = crafted(folder, **arguments)
    record = folder.read_json(*image_set.folder, "budget.json")
    rows = rows_of(image_set, folder)
    assert record["cases"] == [case.case_id for case in dataset.cases[8:]]
    assert set(rows["strength"]) == {record["budget"]}
    assert rows["ssim"].mean() == pytest.approx(0.9, abs=0.01)
    assert all(reads[case.case_id] == 1 for case in dataset.cases)
    folder.local(*image_set.folder, "done", "00000.json").unlink()
    crafted(folder, **arguments)
    assert all(reads[case.case_id] == 1 for case in dataset.cases[8:])


def test_budget_needs_validation_cases(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"perturbations.fgsm: .*solved on validation cases.*Give eps as a number"
    ):
        crafted(RunFolder(tmp_path), {"name": "fgsm", "eps": {"ssim": 0.9}})


@pytest.mark.parametrize(("which", "noise"), [("photos", "gaussian"), ("scans", "rician")])
def test_matched_noise_has_the_ssim_of_its_attack(tmp_path: Path, which: str, noise: str) -> None:
    dataset = photos() if which == "photos" else scans()
    entry = {**FGSM, "on_misclassified": "keep"} if which == "photos" else DAG
    folder = RunFolder(tmp_path)
    attack = crafted(folder, entry, dataset=dataset)
    matched = matched_noise_set(request({"name": noise}, dataset.task, control=True), attack, dataset)
    assert left(matched, folder)
    craft_noise(matched, dataset, folder, batch_size=3)
    assert not left(matched, folder)
    rows, wanted = rows_of(matched, folder), rows_of(attack, folder)
    assert rows["case_id"].equals(wanted["case_id"])
    assert set(rows["perturbation"]) == {f"{noise}@{attack.perturbation}"}
    assert set(rows["source"]) == {"net"}
    tolerance = np.maximum(0.05 * (1 - wanted["ssim"].to_numpy()), 1e-5) + 1e-6
    assert (np.abs(rows["ssim"].to_numpy() - wanted["ssim"].to_numpy()) <= tolerance).all()
    kept = wanted["l2"] == 0
    assert (rows.filter(kept)["strength"] == 0).all()
    assert set(rows.filter(kept)["outcome"]) <= {"kept_clean"}
    made = images(matched, dataset, folder)
    assert torch.equal(made, images(matched, dataset, folder))
    difference = (made - clean(matched, dataset)).flatten(1).norm(dim=1)
    order = {case.case_id: i for i, case in enumerate(case for chunk in matched.chunks for case in chunk)}
    for row in rows.iter_rows(named=True):
        assert float(difference[order[row["case_id"]]]) == pytest.approx(row["l2"], rel=1e-5)


def test_noise_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    folder, other = RunFolder(tmp_path / "1"), RunFolder(tmp_path / "2")
    dataset = photos()
    for place, size in ((folder, 1), (other, 64)):
        matched = matched_noise_set(
            request({"name": "gaussian"}, dataset.task, control=True), crafted(place, batch_size=4), dataset
        )
        craft_noise(matched, dataset, place, batch_size=size)
    first, second = rows_of(matched, folder), rows_of(matched, other)
    np.testing.assert_allclose(first["strength"].to_numpy(), second["strength"].to_numpy(), rtol=1e-4)


def test_noise_before_its_attack_is_refused(tmp_path: Path) -> None:
    dataset = photos()
    attack = crafted_set(job_of(FGSM), dataset, dataset.cases)
    matched = matched_noise_set(request({"name": "gaussian"}, dataset.task, control=True), attack, dataset)
    with pytest.raises(RunError, match=r"matched to 'fgsm' only after its images are crafted"):
        craft_noise(matched, dataset, RunFolder(tmp_path))


def test_one_change_is_fitted_on_validation_cases_and_kept(tmp_path: Path) -> None:
    folder, (dataset, reads) = RunFolder(tmp_path), counting(photos())
    cases, validation = dataset.cases[5:], dataset.cases[:5]
    entry = {"name": "universal", "eps": "8/255", "steps": 4}
    arguments = {"dataset": dataset, "entry": entry, "cases": cases}
    image_set = crafted(folder, validation=validation, **arguments)
    change = images(image_set, dataset, folder) - clean(image_set, dataset)
    assert torch.allclose(change, change[:1].expand_as(change), atol=1e-6)
    assert change.abs().max() == pytest.approx(8 / 255, abs=1e-6)
    folder.local(*image_set.folder, "done", "00000.json").unlink()
    crafted(folder, validation=validation, **arguments)
    assert all(reads[case.case_id] == 1 for case in validation)
    assert crafted(folder, validation=validation[:4], **arguments).name != image_set.name


def test_admix_mixes_in_validation_cases(tmp_path: Path) -> None:
    dataset, folder = photos(), RunFolder(tmp_path)
    entry = {"name": "mi_fgsm", "eps": "8/255", "steps": 2, "transfer": ["admix"]}
    sets = [
        crafted(folder, entry, cases=dataset.cases[5:], validation=dataset.cases[:some]) for some in (5, 4)
    ]
    assert sets[0].name != sets[1].name
    assert rows_of(sets[0], folder)["linf"].to_list() == pytest.approx([8 / 255] * 5, abs=1e-6)
