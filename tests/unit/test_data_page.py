"""The example of docs/data.md, as it stands there: saved, run, and exported."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import medrobust as mr
from medrobust.core import Task
from medrobust.data import open_dataset
from medrobust.data.splitting.splits import make_split
from medrobust.errors import DataError
from medrobust.rng import generator
from medrobust.study.reading import read_study

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
TINY = ("training.epochs=1", "crafting.selftest=false", "crafting.whitebox=false", "analysis.resamples=100")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a person who follows the page has: data, module and study."""
    rng = generator(0, "tiles")
    labels = np.arange(40) % 2
    images = rng.integers(0, 100, (40, 32, 32)) + 100 * labels[:, None, None]
    images[:, 0, :2] = 0, 255
    np.savez(
        tmp_path / "tiles.npz", images=images.astype(np.uint8), labels=labels, patients=np.arange(40) // 2
    )
    (tmp_path / "my_data.py").write_text(blocks("python")[0])
    study = next(text for text in blocks("yaml") if "load:" in text)
    (tmp_path / "study.yaml").write_text(study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "my_data", raising=False)
    return tmp_path


def test_the_study_names_the_function(folder: Path) -> None:
    study = read_study(folder / "study.yaml")
    dataset = open_dataset(study.data, None, folder)
    assert (dataset.name, dataset.task, len(dataset.cases)) == ("tiles", Task.CLASSIFICATION, 40)
    assert dataset.read(dataset.cases[1]).image.max() > 100 / 255
    assert len(make_split(dataset, study.split, study.seed)) == 20


def test_the_data_set_is_given_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = yaml.safe_load((folder / "study.yaml").read_text())
    del study["data"]
    study["models"] = [{"name": "tiny", "load": "made_networks:classifier", "train": True}]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    real = mr.run
    monkeypatch.setattr(mr, "run", lambda *given, **named: real(*given, **named, changes=TINY, device="cpu"))
    script = folder / "script.py"
    script.write_text(blocks("python")[1])
    said = runpy.run_path(str(script), init_globals={"folder": folder})
    assert said["run"].table1().height == 1
    assert (folder / "runs" / "tiles" / "report.html").exists()


def test_the_message_that_the_page_quotes(folder: Path) -> None:
    module = folder / "my_data.py"
    module.write_text(module.read_text().replace(" / 255", ""))
    dataset = open_dataset({"load": "my_data:open_tiles", "file": "tiles.npz"}, None, folder)
    quoted = re.search(r"`(Data set 'tiles', case 'tile00007': .*?)`", PAGE.read_text(encoding="utf-8"))
    assert quoted
    with pytest.raises(DataError, match="^" + re.escape(quoted[1])):
        dataset.read(dataset.cases[7])
