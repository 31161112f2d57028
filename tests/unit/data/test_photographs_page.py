"""Every data set of photographs is described, and the YAML that is shown reads the tree that is shown."""

import re
from pathlib import Path

import pytest
import yaml

import made_folders
import made_photos
from medrobust.core import Task
from medrobust.data import DATASETS, open_dataset
from medrobust.data.photographs.photo_cases import open_masked_photos, open_photos

PAGE = (Path(__file__).parents[3] / "docs" / "data" / "photographs.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The folders that the page's studies name."""
    home = tmp_path_factory.mktemp("home")
    made_folders.ham10000(home / "ham10000")
    made_photos.dermofit(home / "dermofit")
    made_photos.isic(home / "isic2019")
    made_photos.medmnist(home / "medmnist")
    made_photos.dicom_images(home / "xrays")
    made_photos.isic_segmentation(home / "isic2018-task1")
    photos = made_photos.image_folder(home / "photos")
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    rows = [
        (name, name.split("/")[0], n // 3, ("train", "test")[n // 3 % 3 == 0]) for n, name in enumerate(names)
    ]
    made_photos.write_table(photos / "list.csv", ("file", "diagnosis", "patient", "part"), rows)
    chest = made_photos.image_folder(home / "chest")
    found = sorted(path.relative_to(chest).as_posix() for path in chest.rglob("*.*"))
    findings = ("Effusion|Mass", "No Finding", "Mass")
    made_photos.write_table(
        chest / "labels.csv",
        ("path", "label", "patient"),
        [(name, findings[n % 3], n // 3) for n, name in enumerate(found)],
    )
    return home


def test_every_data_set_of_photographs_has_a_section() -> None:
    names = {
        name
        for name, entry in DATASETS.items()
        if entry.list and entry.open in (open_photos, open_masked_photos)
    }
    assert set(re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)) == names
    assert {block["data"]["name"] for block in BLOCKS} == names | {"phantom_chests"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["data"]["name"])
def test_what_is_shown_can_be_read(block, home) -> None:
    dataset = open_dataset(block["data"], None, home, task=Task(block.get("task", "classification")))
    assert dataset.read(dataset.cases[0]).image.shape == (dataset.channels, *dataset.shape)
    assert block.get("task", "classification") == dataset.task
    if block.get("split") == {"rule": "official"}:
        assert dataset.official
