"""A picture that cannot be made costs no run: the report says why it is missing."""

from pathlib import Path
from typing import Any

import pytest

import made_studies
import medrobust as mr
from medrobust.core import OnProgress, silent
from medrobust.errors import RunError
from medrobust.report import reading
from medrobust.running import explorer as exploring
from medrobust.running.jobs import LEFT_OUT, Job, as_picture, is_left_out, left_out
from medrobust.storage import RunFolder

STUDY = made_studies.TINY | {"models": [{"name": "net", "load": "own_networks:prototypes", "train": True}]}
NO_FEATURES = "No t-SNE of net (target, seed 0): The network has no linear or convolution layer of PyTorch"


def failing(*_: Any, **__: Any) -> Any:
    raise ValueError("no such font")


def test_a_run_ends_without_pictures_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(exploring, "keep_examples", failing)
        broken.setattr(exploring, "explore", failing)
        run = mr.run(STUDY, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert [warning for warning in run.warnings if warning.startswith("No ")] == [
        "No examples: ValueError: no such font.",
        "No images one by one: ValueError: no such font.",
        *(warning for warning in run.warnings if warning.startswith(NO_FEATURES)),
    ]
    assert all(sentence.split(":")[0] in page for sentence in run.warnings)
    assert NO_FEATURES in page
    assert run.table2().height == 1
    again = mr.run(STUDY, tmp_path / "run")
    assert [warning[: len(NO_FEATURES)] for warning in again.warnings if warning.startswith("No ")] == [
        NO_FEATURES
    ]
    assert "no such font" not in (tmp_path / "run" / "report.html").read_text()
    with monkeypatch.context() as broken:
        broken.setattr(reading, "read_examples", failing)
        again.write_report()
    assert "No examples: ValueError: no such font." in (tmp_path / "run" / "report.html").read_text()


def picture(folder: RunFolder, error: Exception) -> Job:
    def fail(piece: int, progress: OnProgress) -> None:
        raise error

    job = Job("examples", "e", "draw", 1.0, 0, set, lambda: fail, pieces=2)
    return as_picture(job, "picture", "mark", folder, about="examples", made=("results", "picture.json"))


def test_what_failed_is_not_shown_from_an_earlier_state_and_is_tried_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json({}, "results", "picture.json")
    job = picture(folder, ValueError("no"))
    assert set(job.left()) == {0, 1}
    job.open()(0, silent)
    assert not set(job.left())
    assert not folder.exists("results", "picture.json")
    assert [remark.sentence for remark in left_out(folder)] == ["No picture: ValueError: no."]
    folder.remove(*LEFT_OUT)  # as every run does at its beginning
    assert not is_left_out(folder, "mark")
    assert left_out(folder) == ()


@pytest.mark.parametrize("error", [RunError("The disk is full."), OSError("The disk is full.")])
def test_a_damaged_folder_or_a_full_disk_ends_a_run(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error), match="disk is full"):
        picture(RunFolder(tmp_path), error).open()(0, silent)
    assert left_out(RunFolder(tmp_path)) == ()
