"""The Python interface."""

from pathlib import Path

import pytest

import medrobust as mr
from medrobust import api
from medrobust.core import Task
from medrobust.data import DATASETS
from medrobust.errors import RunError, StudyError
from medrobust.models import MODELS
from medrobust.perturbations import PERTURBATIONS


def test_a_run_is_opened_by_its_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder.*Give the --out folder of `medrobust run`"):
        mr.Run.open(tmp_path)


def test_a_study_may_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.data: this key is required"):
        mr.run({"task": "segmentation"}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_device_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--device: 'abacus' cannot be used here"):
        mr.run(api.demo_study(Task.CLASSIFICATION), out=tmp_path / "run", device="abacus")
    assert not (tmp_path / "run").exists()


def test_attacks_beyond_the_paper_are_marked_in_the_catalogue() -> None:
    columns = api.catalogue_table("perturbations").columns
    marked = {
        name
        for name, summary in zip(columns[0].cells, columns[2].cells, strict=True)
        if str(summary).endswith("Beyond the paper.")
    }
    assert marked == {name for name, entry in PERTURBATIONS.items() if entry.beyond_paper}
    assert {"pgd", "mi_fgsm", "segpgd", "apgd"} <= marked
    assert not marked & {"fgsm", "deepfool", "saliency_map", "dag_a", "dag_b", "dag_c", "gaussian"}


@pytest.mark.parametrize("catalogue", ["models", "perturbations", "datasets"])
def test_catalogues_are_shown_whole(catalogue: str) -> None:
    known = {"models": MODELS, "perturbations": PERTURBATIONS, "datasets": DATASETS}[catalogue]
    shown = list(api.catalogue_table(catalogue).columns[0].cells)
    assert [name for name in shown if name != "..."] == list(known)
