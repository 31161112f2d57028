"""Data that a function of the user's opens, and what a person sees where it does not."""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

import medrobust as mr
from made_data import squares, stripes
from medrobust.cli import app
from medrobust.core import Task
from medrobust.data import DATASETS, DatasetEntry, catalogue, check_data, list_dataset, open_dataset
from medrobust.data.own import fingerprint
from medrobust.errors import DataError, StudyError
from medrobust.running import runner
from medrobust.running.export import Exported, Wanted, export

pytestmark = pytest.mark.usefixtures("blank_figures")

BLOCK = {"load": "own_data:open_stripes", "cases": 24}
MODULE = """
import made_data
from medrobust.errors import DataError

def open_stripes(*, cases, shape=(32, 32)):
    return made_data.stripes(cases, tuple(shape))

def open_squares():
    return made_data.squares()

def open_anything(**keys):
    return keys

def open_folders(cache, data_dir, *, seen):
    seen.append((cache, data_dir))
    return made_data.stripes()

def open_broken():
    raise KeyError("the user's bug")

def open_missing():
    raise DataError("table.csv is missing.")
"""


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module lies beside the study."""
    (tmp_path / "own_data.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "own_data", raising=False)


def test_it_is_opened_with_its_arguments_and_held_to_the_contract() -> None:
    dataset = open_dataset({**BLOCK, "shape": [40, 36]}, None, None)
    assert (dataset.name, dataset.shape, len(dataset.cases)) == ("stripes", (40, 36), 24)
    expected = stripes(24, (40, 36))
    np.testing.assert_array_equal(
        dataset.read(dataset.cases[3]).image, expected.read(expected.cases[3]).image
    )
    assert list_dataset(BLOCK, None) is None


def test_arguments_and_code_are_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_dataset(BLOCK, None, None).fingerprint
    assert open_dataset({**BLOCK, "shape": [32, 32]}, None, None).fingerprint != first
    assert open_dataset(BLOCK, None, None).fingerprint == first
    (tmp_path / "own_data.py").write_text(MODULE + "\n# changed\n")
    assert open_dataset(BLOCK, None, None).fingerprint != first


def test_folders_are_given_to_who_takes_them(tmp_path: Path) -> None:
    seen: list[Any] = []
    open_dataset({"load": "own_data:open_folders", "seen": seen}, tmp_path / "cache", tmp_path)
    open_dataset({"load": "own_data:open_folders", "seen": seen}, None, None)
    assert seen == [(tmp_path / "cache", tmp_path), (None, Path())]


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ({"load": "own_data"}, StudyError, r"data\.load must be `package\.module:function`, got 'own_data'"),
        ({"load": "nowhere:open_it"}, StudyError, r"data\.load: there is no Python module 'nowhere'"),
        ({"load": "own_data:open_it"}, StudyError, r"`own_data:open_it` cannot be imported: AttributeError"),
        ({"load": "own_data:open_stripes"}, StudyError, r"data\.cases: this key is required"),
        ({**BLOCK, "shpae": 3}, StudyError, r"data: Unknown key 'shpae'\. Did you mean 'shape'\?"),
        ({**BLOCK, "name": "x"}, StudyError, r"data: Unknown key 'name'"),
        ({**BLOCK, "cache": "x"}, StudyError, r"data\.cache: medrobust itself passes this argument"),
        (
            {"load": "own_data:open_anything", "a": 1},
            DataError,
            r"must return a medrobust\.core\.Dataset, got dict",
        ),
        (
            {"load": "own_data:open_broken"},
            DataError,
            r"`own_data:open_broken` failed: KeyError: .*the user's bug",
        ),
        ({"load": "own_data:open_missing"}, DataError, r"^table\.csv is missing\."),
        (
            {**BLOCK, "shape": [0, 1]},
            DataError,
            r"Data set 'stripes': shape must be a tuple of whole numbers",
        ),
        ({"given": "tiles"}, StudyError, r"a study of 'tiles', a data set that was given in Python"),
    ],
)
def test_what_cannot_be(block: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_dataset(block, None, None)


class TestEntries:
    def offer(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        point = EntryPoint("of_a_package", value, DATASETS.group)
        monkeypatch.setattr(type(DATASETS), "_points", lambda catalogue: (point,))

    def test_an_installed_package_offers_a_function(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offer(monkeypatch, "own_data:open_stripes")
        block = {"name": "of_a_package", "cases": 24}
        dataset = open_dataset(block, None, None)
        assert (dataset.name, len(dataset.cases)) == ("stripes", 24)
        assert list_dataset(block, None) is None
        with pytest.raises(StudyError, match=r"data: Unknown key 'root'"):
            open_dataset({**block, "root": "x"}, None, None)
        with pytest.raises(StudyError, match=r"data\.name: Unknown data set .* Did you mean 'of_a_package'"):
            open_dataset({"name": "of_a_pakage"}, None, None)

    def test_an_installed_package_offers_an_entry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offer(monkeypatch, "medrobust.data.catalogue:PHANTOM_LESIONS")
        monkeypatch.setattr(catalogue, "PHANTOM_LESIONS", DATASETS["phantom_lesions"], raising=False)
        dataset = open_dataset({"name": "of_a_package", "images": 20, "size": 32}, None, None)
        assert len(dataset.cases) == 20

    def test_objects(self) -> None:
        assert isinstance(DATASETS.loaded(stripes, "data"), DatasetEntry)
        assert open_dataset({"load": stripes, "cases": 6}, None, None).name == "stripes"
        assert open_dataset({"load": squares()}, None, None).name == "squares"
        with pytest.raises(StudyError, match=r"data\.load: `int`: must be a function .* got int"):
            open_dataset({"load": 3}, None, None)


BRIGHTNESS = (np.float32(1 - step / 1000) for step in count())


class TestCheckData:
    def kinds(self, subject: Any, **options: Any) -> list[str]:
        return [finding.kind for finding in check_data(subject, **options)[1]]

    def test_sound_data(self) -> None:
        data, findings = check_data(BLOCK)
        assert data is not None
        assert findings == ()
        assert check_data(DATASETS["phantom_lesions"], most=3)[1] == ()

    def test_what_cannot_be_opened(self) -> None:
        data, (finding,) = check_data({"load": "own_data:open_broken"})
        assert data is None
        assert "`own_data:open_broken` failed: KeyError" in finding.says
        assert self.kinds(replace(stripes(), bits=0)) == ["cannot be opened"]

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            (lambda image: image * 2, "broken sample"),
            (
                lambda image: np.random.default_rng().random(image.shape, np.float32),
                "changes when read again",
            ),
        ],
    )
    def test_samples(self, change: Callable[[Any], Any], kind: str) -> None:
        made = stripes()
        broken = replace(
            made, read=lambda case: made.read(case)._replace(image=change(made.read(case).image))
        )
        assert self.kinds(broken) == [kind] * 5
        assert self.kinds(broken, most=1) == [kind]

    def test_other_data_every_time(self) -> None:
        sizes = count(8, 2)
        kinds = self.kinds({"load": lambda: stripes(next(sizes))}, most=1)
        assert kinds[0] == "changes when opened again"


def test_a_fingerprint_changes_with_every_image_label_and_case() -> None:
    data = squares()
    first = fingerprint(data.cases, data.read)
    assert first == fingerprint(data.cases, data.read)

    def changed(place: int, by: float) -> Callable[..., Any]:
        def read(case: Any) -> Any:
            sample = data.read(case)
            if case == data.cases[-1]:
                sample[place].ravel()[-1] += by
            return sample

        return read

    others = [
        fingerprint(data.cases, changed(0, 1e-3)),
        fingerprint(data.cases, changed(1, 1)),
        fingerprint(data.cases[:-1], data.read),
        fingerprint([replace(data.cases[0], patient_id="x"), *data.cases[1:]], data.read),
    ]
    assert len({first, *others}) == 5


STUDY: dict[str, Any] = {
    "task": "classification",
    "split": {"rule": "patient", "test": 0.5},
    "models": [{"name": "tiny", "load": "made_networks:classifier", "train": True}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "fgsm", "eps": "2/255"}],
    "crafting": {"selftest": False, "whitebox": False},
    "analysis": {"resamples": 100},
}


def run(tmp_path: Path, **data: Any) -> Result:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "data": data}))
    return CliRunner().invoke(app, ["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "run")])


def test_a_study_names_the_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(runner, "_execute", lambda plan, jobs, *_: done.append(jobs))
    monkeypatch.setattr(runner, "join_selftests", lambda plan: sys.exit(0))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    result = run(tmp_path, **BLOCK)
    assert result.exit_code == 0, result.output
    assert "classification on stripes: 1 network," in result.stdout
    assert done


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"load": "own_data:open_squares"},
            "study.task is classification, but 'squares' is labelled for segm",
        ),
        ({"load": "own_data:open_broken"}, "data.load: `own_data:open_broken` failed: KeyError"),
        ({"load": ["x"]}, "data.load: `list`: must be a function that returns a medrobust.core.Dataset"),
    ],
)
def test_what_a_person_sees(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    result = run(tmp_path, **data)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_data_set_is_given_in_python(tmp_path: Path) -> None:
    """From the run to an exported image."""
    dataset = stripes()
    finished = mr.run(STUDY, out=tmp_path / "run", dataset=dataset, device="cpu")
    assert finished.table2().height == 1
    assert finished.study.data == {"given": "stripes"}
    assert mr.run(STUDY, out=tmp_path / "run", dataset=dataset).table1().equals(finished.table1())
    done = export(
        tmp_path / "run",
        tmp_path / "out",
        Wanted(["clean"], cases=[finished.results.predictions["case_id"][0]]),
        dataset=dataset,
    )
    assert [type(one) for one in done] == [Exported]
    with pytest.raises(StudyError, match=r"study\.data: the data set is given in Python"):
        mr.run({**STUDY, "data": {"name": "ham10000"}}, out=tmp_path / "other", dataset=dataset)
    with pytest.raises(StudyError, match="'squares' is labelled for segmentation"):
        mr.run(STUDY, out=tmp_path / "other", dataset=squares())
    with pytest.raises(DataError, match="bits must be a whole number"):
        mr.run(STUDY, out=tmp_path / "other", dataset=replace(dataset, bits=0))
    assert squares().task is Task.SEGMENTATION
