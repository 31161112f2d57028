"""What the demo is to show: attacks harm where noise of their SSIM does not, and networks are ranked."""

import json
from types import SimpleNamespace

import polars as pl
import pytest

import medrobust as mr
from medrobust.core import Task
from medrobust.study.templates import demo_study

FLOORS = {Task.SEGMENTATION: 0.65, Task.CLASSIFICATION: 0.60}
"""Dice and balanced accuracy on clean images of networks that are worth attacking."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(FLOORS))
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    run = mr.run(demo_study(request.param), out=tmp_path_factory.mktemp("demo") / "run", device="cpu")
    content = json.loads(run.folder.read_bytes("results.json"))
    return SimpleNamespace(task=request.param, run=run, content=content)


def test_networks_are_worth_attacking(demo: SimpleNamespace) -> None:
    scores = demo.run.table1()["clean"]
    if demo.task is Task.CLASSIFICATION:
        rows = pl.DataFrame(demo.content["tables"]["balanced"]["rows"]).filter(perturbation="clean")
        scores = rows["balanced_accuracy"]
    assert scores.min() >= FLOORS[demo.task]


def test_attacks_harm_and_noise_does_not(demo: SimpleNamespace) -> None:
    table1 = demo.run.table1()
    assert (table1["clean"] - table1["adversarial"]).min() >= 0.10
    assert (table1["clean"] - table1["noise"]).max() <= 0.02


def test_networks_are_ranked_and_every_cell_is_filled(demo: SimpleNamespace) -> None:
    assert demo.content["verdict"]["outcome"] == "ranked"
    cells = demo.run.table2()
    models, attacks = len(demo.run.study.models), len(demo.run.study.attacks)
    assert cells.height == models * models * attacks
    assert cells["score"].null_count() == 0
