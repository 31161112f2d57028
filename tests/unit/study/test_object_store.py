"""A run folder on an object store holds what one on a disk does, byte for byte."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import medrobust as mr
from medrobust.cli import app
from medrobust.storage import RunFolder
from object_store import BUCKET, Requests, object_store

STUDY: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"rule": "patient", "test": 0.4},
    "models": [{"name": "net", "architecture": "resnet10t", "weights": "none"}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "fgsm", "eps": 0.02}],
    "crafting": {"selftest": False, "whitebox": False},
    "cases": {"total": 50},
    "report": {"hardest": 1, "typical": 0},
}
URL = f"s3://{BUCKET}/studies/run"


@pytest.fixture(scope="module")
def store() -> Iterator[Requests]:
    with object_store() as requests:
        yield requests


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def on_disk(study: Path) -> Path:
    folder = study.parent / "run"
    mr.run(study, folder)
    return folder


@pytest.fixture(scope="module")
def behind_url(store: Requests, study: Path) -> str:
    """Interrupted by an error in the third piece, and gone on with."""
    from medrobust.study.executors import local

    work = local._tick

    def third(shown: Any, over: float, job: Any) -> Any:
        third.pieces += 1  # type: ignore[attr-defined]
        if third.pieces == 3:  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return work(shown, over, job)

    third.pieces = 0  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(local, "_tick", third)
        mr.run(study, URL)
    ended = CliRunner().invoke(app, ["run", str(study), "--out", URL, "--device", "cpu"])
    assert ended.exit_code == 0, ended.output
    assert f"Report: {URL}/report.html" in ended.output
    return URL


def contents(folder: RunFolder) -> dict[str, bytes]:
    found = {"/".join(parts): folder.read_bytes(*parts) for parts in folder.files() if parts[0] != "cache"}
    return {name: content for name, content in found.items() if "timing" not in name and name != ".lock"}


def test_the_same_bytes_as_on_a_disk_after_an_interruption(on_disk: Path, behind_url: str) -> None:
    here, there = contents(RunFolder(on_disk)), contents(RunFolder(behind_url))
    assert there.keys() == here.keys()
    assert [name for name in here if here[name] != there[name]] == []
