"""Which kind a file or folder is, what tells its versions apart, and what is said of others."""

import os
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from made_formats import CLASSES, classifier, images, network_of
from medrobust.core import Task
from medrobust.errors import ModelError, StudyError
from medrobust.models import model_spec, recipe
from medrobust.models.formats import content_digest, is_format
from medrobust.study.reading import read_study

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)


class Pickled(nn.Module):
    """A network that was pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, CLASSES)


def test_a_path_is_told_from_a_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").mkdir()
    assert is_format("a/b.pt")
    assert is_format("net.PT2")
    assert is_format("bundle")
    assert not is_format("package.module:function")
    assert not is_format("package.module:Class.make")
    assert not is_format("package.module")


def test_what_it_is_made_of_counts_and_not_where_it_lies(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first, second = tmp_path / "first.pt", tmp_path / "elsewhere" / "first.pt"
    torch.jit.script(classifier()).save(str(first))
    second.write_bytes(first.read_bytes())
    one, other = (
        recipe(model_spec({"name": "a", "load": str(path)}, Task.CLASSIFICATION)) for path in (first, second)
    )
    assert one == other
    assert one["weights"] == content_digest(first)
    changed = classifier()
    with torch.no_grad():
        changed[-1].bias += 1
    torch.jit.script(changed).save(str(second))
    assert recipe(model_spec({"name": "a", "load": str(second)}, Task.CLASSIFICATION)) != one


def test_paths_are_relative_to_the_study(tmp_path, monkeypatch):
    torch.jit.script(classifier()).save(str(tmp_path / "net.pt"))
    study = {"task": "classification", "data": {"name": "phantom_photos"}, "split": {"test": "all"}}
    study["surrogates"] = "others"
    models = [{"name": "file", "load": "net.pt"}, {"name": "function", "load": "made_networks:classifier"}]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**study, "models": models}))
    monkeypatch.chdir(os.sep)
    loads = [model["load"] for model in read_study(tmp_path / "study.yaml", []).models]
    assert loads == [str(tmp_path / "net.pt"), "made_networks:classifier"]


def _saved(path: Path, kind: str) -> Path:
    if kind == "weights":
        torch.save(classifier().state_dict(), path)
    elif kind == "pickled":
        torch.save(Pickled(), path)
    elif kind == "checkpoint":
        content = {
            "state_dict": {},
            "hyper_parameters": {"width": 16, "arch": "small"},
            "pytorch-lightning_version": "2",
        }
        torch.save(content, path)
    elif kind == "text":
        path.write_text("no network")
    elif kind == "cut":
        torch.jit.script(classifier()).save(str(path))
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("a.pt", "weights", r"'a\.pt' holds weights, but no network\. Name the function .* in `weights`\."),
        ("a.safetensors", "text", "holds weights, but no network"),
        ("a.pt", "pickled", r"pickled with .*Pickled.*Put `def build\(\): return torch\.load"),
        ("a.ckpt", "checkpoint", r"holds weights.*It was made with width=16, arch='small'"),
        ("a.pt", "text", "is damaged, or no file of PyTorch"),
        ("a.pt", "cut", "is damaged, or no file of PyTorch"),
        ("a.pt2", "cut", "is damaged, or no file of PyTorch"),
        ("a.pt", "", r"there is no file or folder '.*a\.pt'"),
        ("a.txt", "text", r"'a\.txt' is of no kind that is known. A network is a file"),
        ("a", "folder", r"the folder '.*a' holds no network that is known"),
    ],
)
def test_what_cannot_be_opened_is_refused_before_any_work(name, kind, message, tmp_path):
    path = _saved(tmp_path / name, kind)
    with pytest.raises(StudyError, match=r"models\.mine\.load: .*" + message) as raised:
        model_spec({"name": "mine", "load": str(path)}, Task.CLASSIFICATION)
    assert "\n" not in str(raised.value)


def test_no_format_is_trained(tmp_path):
    path = tmp_path / "net.pt"
    torch.jit.script(classifier()).save(str(path))
    with pytest.raises(StudyError, match=r"models\.mine\.train: 'net\.pt' is a trained network"):
        network_of(path, train=True)


def test_the_keys_of_a_format_are_its_own(tmp_path):
    path = tmp_path / "net.pt"
    torch.jit.script(classifier()).save(str(path))
    with pytest.raises(StudyError, match=r"models\.mine: Unknown key 'fold'"):
        network_of(path, fold=1)


def test_colour_images_for_a_grey_network_are_refused(tmp_path):
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(classifier(1), (images(2, 1),)), path)
    with pytest.raises(
        ModelError, match=r"models\.mine: the images have 3 channels, but the network takes 1"
    ):
        network_of(path)
