"""The step that tests an attack on a source and keeps what it saw."""

from dataclasses import replace
from pathlib import Path

import pytest

from medrobust.core import Case, NetworkId, Role, Task, silent
from medrobust.errors import RunError
from medrobust.perturbations import request
from medrobust.perturbations.selftest import CHECKS
from medrobust.running.estimate import Speed
from medrobust.running.selftest import IMAGES, selftest_job, selftest_part, tried_cases
from medrobust.storage import RunFolder
from medrobust.storage.rows import read_rows
from medrobust.storage.schemas import SELFTEST
from tiny_cases import ByBrightness, ByChannel, photos, scans, wrapped
from whole_steps import CraftJob, craft, crafted_set, setup_of


def job(name, task, **parameters):
    wanted = request({"name": name, **parameters}, task)
    return CraftJob(wanted, NetworkId("net", Role.SURROGATE, 1), "transfer", "made")


def rows_of(folder, wanted, network, dataset, cases, validation=()):
    images = crafted_set(wanted, dataset, cases, validation=validation)
    setup = setup_of(
        dataset, folder, {wanted.source: network}, cases=cases, validation=validation, batch_size=4
    )
    selftest_job(setup, images, {"net": Speed(0, 0, 0)}).open()(0, silent)
    return read_rows(folder, SELFTEST, *selftest_part(images)), images


def test_photos_and_a_budget_that_crafting_finds_solved(tmp_path: Path) -> None:
    folder, dataset, network = RunFolder(tmp_path), photos(30), wrapped(ByChannel(), 3)
    wanted = job("fgsm", Task.CLASSIFICATION, eps={"ssim": 0.9})
    cases, validation = dataset.cases[:10], dataset.cases[10:]
    rows, images = rows_of(folder, wanted, network, dataset, cases, validation)
    assert rows["check"].to_list() == list(CHECKS)
    assert rows["passed"].to_list().count(False) == 0
    assert set(rows.select("perturbation", "source", "source_seed", "cases", "n_images").iter_rows()) == {
        ("fgsm", "net", 1, "validation", IMAGES)
    }
    solved = tmp_path / Path(*images.folder) / "budget.json"
    written = solved.stat().st_mtime_ns
    craft(wanted, network, dataset, cases, folder, seed=0, validation=validation, batch_size=4)
    assert solved.stat().st_mtime_ns == written
    assert folder.exists(*selftest_part(images))
    with pytest.raises(RunError, match="was made with other weights of 'net-surrogate-s1'"):
        rows_of(folder, wanted, wrapped(ByChannel(3), 3), dataset, cases, validation)


def test_slices_without_validation_cases(tmp_path: Path) -> None:
    dataset = scans()
    wanted = job("dag_a", Task.SEGMENTATION, step="8/255", steps=10)
    rows, _ = rows_of(RunFolder(tmp_path), wanted, wrapped(ByBrightness(), 1), dataset, dataset.cases)
    assert rows.filter(passed=False).is_empty()
    assert rows["cases"].to_list() == ["test"] * len(CHECKS)


def test_cases_are_of_many_classes_or_show_something() -> None:
    cases = [Case(f"c{n:02}", f"c{n}", f"p{n}", label=n % 4) for n in range(40)]
    chosen, part = tried_cases(Task.CLASSIFICATION, cases, (), IMAGES)
    assert [case.label for case in chosen] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert part == "validation"
    slices = [Case(f"s{n}", "s", "p", position=n, foreground=10 * (n > 5)) for n in range(9)]
    assert [case.position for case in tried_cases(Task.SEGMENTATION, (), slices, IMAGES)[0]] == [6, 7, 8]
    empty = [replace(case, foreground=0) for case in slices]
    assert len(tried_cases(Task.SEGMENTATION, (), empty, IMAGES)[0]) == IMAGES
