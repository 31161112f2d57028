"""Whatever a study file holds: it is read, or refused with a message."""

import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from medrobust.data import open_dataset
from medrobust.data.splitting.case_sets import select_cases
from medrobust.data.splitting.splits import make_split
from medrobust.errors import MedrobustError, RunError, StudyError
from medrobust.storage import RunFolder
from medrobust.study.config import Study, resolved
from medrobust.study.reading import STORED, read_stored_study, read_study

FULL: dict[str, Any] = {
    "task": "classification",
    "seed": 0,
    "data": {"name": "phantom_lesions", "images": 20, "size": 32},
    "split": {"rule": "patient", "test": 0.4, "validation": 0.2, "stratify": True},
    "models": [
        {"name": "inception_v3", "weights": "none", "training": {"epochs": 2}},
        {"name": "mine", "load": "made_networks:classifier", "train": True, "input": {"size": 8}},
    ],
    "targets": {"seeds": [0]},
    "surrogates": {"seeds": [1], "data": "same", "weights": {}},
    "training": {"recipe": "quick", "epochs": 3, "batch_size": 4, "augment": {"rotation": 3}},
    "perturbations": [
        {"name": "fgsm", "label": "f", "eps": {"ssim": 0.98}},
        {
            "name": "deepfool",
            "preset": "foolbox-0.8",
            "steps": 9,
            "on_misclassified": "keep",
            "on_failure": "last",
        },
        {"name": "gaussian", "strength": 0.1},
    ],
    "noise": {"name": "rician"},
    "support": "auto",
    "cases": {"per_patient": 1, "total": None},
    "crafting": {"batch_size": 4},
    "analysis": {"resamples": 100},
}  # fmt: skip
JUNK = (None, [], {}, [1], {"a": 1}, "x", "", "4/255", -1, 0, 1.5, 10**30, True, float("nan"), float("inf"))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything that a study holds."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


def put(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    study = deepcopy(FULL)
    node: Any = study
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return study


@pytest.mark.parametrize("path", list(places(FULL)), ids=lambda path: ".".join(map(str, path)))
def test_junk_anywhere_is_read_or_refused(path: tuple[Any, ...]) -> None:
    for junk in JUNK:
        try:
            study = read_study(put(path, junk))
            resolved(study)
            dataset = open_dataset(study.data, None, None)
            split = make_split(dataset, study.split, study.seed)
            select_cases(dataset, split, seed=0, per_patient=study.cases.per_patient, total=study.cases.total)
        except MedrobustError as error:
            assert len(str(error)) > 15  # noqa: PT017


def at(path: tuple[Any, ...]) -> Any:
    return reduce(lambda node, key: node[key], path, FULL)


def split_of(study: Study) -> None:
    make_split(open_dataset(study.data, None, None), study.split, study.seed)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in places(FULL)
        if isinstance(at(path), dict) and path[-1] != "eps" and path != ("surrogates", "weights")
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_an_unknown_key_anywhere_is_refused(path: tuple[Any, ...]) -> None:
    with pytest.raises(MedrobustError, match=r"Unknown key 'nmae'"):
        split_of(read_study(put((*path, "nmae"), 1)))


def test_the_study_given_is_left_as_it_was() -> None:
    given = deepcopy(FULL)
    read_study(given, ["models.inception_v3.training.epochs=9", "analysis.confidence=0.9"])
    assert given == FULL


def test_paths_are_relative_to_the_study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a.pt", "b.pt"):
        (folder / name).touch()
    content = FULL | {
        "split": {"file": "split.csv"},
        "models": [{"name": "mine", "load": "made_networks:classifier", "weights": "a.pt"}],
        "surrogates": {"weights": {"mine": "b.pt"}},
        "data": {"name": "ham10000", "root": "stays"},
    }
    (folder / "s.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    study = read_study("studies/s.yaml")
    assert study.split["file"] == str(folder / "split.csv")
    assert study.specs[0].weights_file == folder / "a.pt"
    assert [spec.weights_file for spec in study.surrogate_specs] == [folder / "b.pt"]
    assert study.data["root"] == "stays"  # relative to --data
    assert resolved(read_study(resolved(study))) == resolved(study)


def test_the_file_of_weights_is_relative_to_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    weights = {"file": "best.ckpt", "prefix": "net.", "ignore": ["criterion.*"]}
    models = [{"name": "mine", "load": "made_networks:classifier", "weights": weights}]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(FULL | {"models": models}))
    (spec,) = read_study(tmp_path / "s.yaml").specs
    assert spec.weights_file == tmp_path / "best.ckpt"
    assert (spec.prefix, spec.ignore, spec.train) == ("net.", ("criterion.*",), False)


def test_weights_of_a_surrogate_say_which_tensors_they_are_or_are_read_as_those_of_its_model(
    tmp_path: Path,
) -> None:
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).touch()
    models = [
        {"name": name, "load": "made_networks:classifier", "weights": {"file": "a.ckpt", "prefix": "ema."}}
        for name in ("one", "two")
    ]
    given = {"one": "b.ckpt", "two": {"file": "b.ckpt", "prefix": "net.", "ignore": ["criterion.*"]}}
    content = FULL | {"models": models, "surrogates": {"weights": given}, "split": {"test": "all"}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    study = read_study(tmp_path / "s.yaml")
    one, two = study.surrogate_specs
    assert one.weights_file == two.weights_file == tmp_path / "b.ckpt"
    assert (one.prefix, one.ignore, one.train) == ("ema.", (), False)
    assert (two.prefix, two.ignore, two.train) == ("net.", ("criterion.*",), False)
    assert read_study(resolved(study)).surrogate_specs == study.surrogate_specs


@pytest.mark.parametrize("weights", ["none", "imagenet", "package:x"])
def test_weights_that_are_no_file_stay_as_they_are(tmp_path: Path, weights: str) -> None:
    content = FULL | {"models": [{"name": "mobilenet_v1", "weights": weights}]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    try:
        assert read_study(tmp_path / "s.yaml").models[0]["weights"] == weights
    except MedrobustError as error:
        assert "package 'x' is not installed" in str(error)  # noqa: PT017


def test_a_stored_study_needs_none_of_its_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match="is not a run folder"):
        read_stored_study(folder)
    content = FULL | {"models": [{"name": "mine", "load": "gone.away:build", "weights": "/gone.pt"}]}
    folder.write_bytes(yaml.safe_dump(content).encode(), STORED)
    assert read_stored_study(folder).models[0]["load"] == "gone.away:build"


def test_a_network_may_lie_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_study.py").write_text("from torch.nn import Conv2d as build\n")
    (tmp_path / "mine.pt").touch()
    entry = {"name": "mine", "load": "beside_the_study:build", "weights": str(tmp_path / "mine.pt")}
    content = {"task": "segmentation", "data": {"name": "phantom_brains"}, "models": [entry]}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content | {"split": {"test": "all"}}))
    with pytest.raises(
        StudyError, match=r"there is no Python module 'beside_the_study'\. Install it, or put it"
    ):
        read_study(content)
    read_study(path)
    read_study(path)
    assert sys.path.count(str(tmp_path)) == 1
