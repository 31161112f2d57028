"""What README, CONTRIBUTING and docs say exists, exists; and what they show, runs."""

import re
import shlex
import sys
import tomllib
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

import medrobust as mr
from made_networks import classifier, segmenter
from made_studies import TINY
from medrobust.cli import app
from medrobust.core import Task
from medrobust.data import list_dataset
from medrobust.errors import DataError, StudyError
from medrobust.perturbations import PERTURBATIONS
from medrobust.study.config import Study
from medrobust.study.reading import read_study
from medrobust.study.templates import demo_study

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
BASE: dict[Task, dict[str, Any]] = {
    Task.CLASSIFICATION: {
        "data": {"name": "phantom_lesions"},
        "models": [{"name": "resnet10t"}, {"name": "mobilenet_v1"}],
    },
    Task.SEGMENTATION: {"data": {"name": "phantom_brains"}, "models": [{"name": "unet"}, {"name": "segnet"}]},
}
"""What a part of a study is completed with."""

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def shown(document: Path, program: str) -> list[str]:
    """Every line of shell and every inline piece of code that calls a program."""
    text = document.read_text(encoding="utf-8")
    lines = "\n".join([*blocks(document, "sh"), *re.findall(r"^ {4}(.+)", text, re.MULTILINE)])
    return [
        *re.findall(rf"^({program} [a-z].*)", lines, re.MULTILINE),
        *re.findall(rf"`({program} [a-z][^`\n]*)`", text),
    ]


def commands() -> dict[str, set[str]]:
    """Commands of the program, each with its options."""
    group: Any = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }


@documents
def test_files_that_are_linked_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [*re.findall(r"\]\(([^)#]+)[^)]*\)", text), *re.findall(r'<img src="([^"]+)"', text)]
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (document.parent / link).exists()]


@documents
def test_commands_that_are_shown_exist(document: Path) -> None:
    known = commands()
    for line in shown(document, "medrobust"):
        _, command, *arguments = shlex.split(line, comments=True)
        assert command in known, line
        options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert options <= known[command], line


@documents
def test_make_targets_that_are_shown_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in shown(document, "make")} <= targets


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the files and modules that the pages speak of."""
    networks = "from libraries import Residual as UNet\nfrom made_networks import classifier as build\n"
    *attacks, scores = blocks(ROOT / "docs" / "extend.md", "python")
    for name, text in (
        ("my_package/nets.py", f"{networks}other = build\n"),
        ("my.py", blocks(ROOT / "docs" / "networks.md", "python")[0]),
        ("my_data.py", blocks(ROOT / "docs" / "data.md", "python")[0]),
        ("my_attacks.py", "\n\n".join(attacks)),
        ("my_scores.py", scores),
        ("study.yaml", yaml.safe_dump(TINY)),
        ("mine.safetensors", ""),
        ("best.ckpt", ""),
        ("surrogate.safetensors", ""),
        ("theirs.safetensors", ""),
        ("net.onnx", ""),
        ("net.keras", ""),
        ("spleen_ct_segmentation/configs/inference.json", ""),
        ("nnUNetTrainer__nnUNetPlans__3d_fullres/plans.json", ""),
        ("vit-finetuned/config.json", ""),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, member in (("net.pt", "net/code/net.py"), ("net.pt2", "net/models/model.json")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for name in ("my", "my_package", "my_package.nets", "my_data", "my_attacks", "my_scores"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@documents
def test_studies_that_are_shown_can_be_read(document: Path, workplace: Path) -> None:
    for text in blocks(document, "yaml"):
        part = yaml.safe_load(text)
        if not part.keys() <= Study.model_fields.keys():  # keys of a data set
            part = {"data": {"name": "nifti_pairs", "root": ".", **part}}
        errors = refusals(part, workplace)
        assert not errors, f"{text}\n{errors}"
        if "root" in part.get("data", {}):
            with pytest.raises(DataError, match=r"folder of '\w+' does not exist"):
                list_dataset({**part["data"], "root": "nowhere"}, workplace)


def refusals(part: dict[str, Any], folder: Path) -> list[str]:
    """What is wrong with a study, or a part of one, however it is completed; nothing if one way works."""
    mine = [{"name": "mine", "load": "my_package.nets:build", "weights": "mine.safetensors"}]
    errors = []
    for task, base in BASE.items():
        for rest in ({}, {"split": {"test": "all"}}, {"models": mine, "split": {"test": "all"}}):
            path = folder / "shown.yaml"
            path.write_text(yaml.safe_dump({"task": str(task), **base, **rest, **part}))
            try:
                read_study(path)
            except StudyError as error:
                errors.append(str(error))
            else:
                return []
    return errors


def pages() -> dict[Path, dict[str, Any]]:
    """Pages with Python to run, each with the names that it takes for granted."""
    torch.manual_seed(0)
    images = torch.rand(12, 3, 16, 16)
    photographs = {
        "net_a": classifier(3, 3).eval(),
        "net_b": classifier(3, 3).eval(),
        "images": images,
        "labels": torch.arange(12) % 3,
        "patients": [n // 2 for n in range(12)],
        "scores_a": torch.rand(12).numpy(),
        "scores_b": torch.rand(12).numpy(),
    }
    scans = {
        "unet": segmenter(3, 3).eval(),
        "segnet": segmenter(3, 3).eval(),
        "images": images,
        "labels": images.argmax(1),
        "patients": [n // 2 for n in range(12)],
    }
    return {
        ROOT / "README.md": scans,
        ROOT / "docs" / "python.md": photographs,
        ROOT / "docs" / "extend.md": photographs,
        ROOT / "docs" / "certificates.md": photographs,
        ROOT / "docs" / "corruptions.md": photographs,
        ROOT / "docs" / "transforms.md": photographs,
        ROOT / "docs" / "selftest.md": {**photographs, "model": photographs["net_a"]},
        ROOT / "docs" / "statistics.md": {},
        ROOT / "docs" / "networks.md": {},
        ROOT / "docs" / "attacks.md": {},
    }


@pytest.mark.parametrize("document", pages(), ids=lambda path: path.name)
@pytest.mark.usefixtures("blank_figures")
def test_python_that_is_shown_runs(document: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = partial(mr.evaluate, crafting={"selftest": False}, analysis={"resamples": 100})
    monkeypatch.setattr(mr, "evaluate", quick)
    code = "\n".join(blocks(document, "python"))
    exec(compile(code, str(document), "exec"), dict(pages()[document]))


def test_all_python_that_is_shown_is_tested() -> None:
    shown_in = {document for document in DOCUMENTS if blocks(document, "python")}
    assert shown_in == {*pages(), ROOT / "docs" / "data.md"}  # the latter in tests/unit/test_data_page.py


@documents
def test_toml_that_is_shown_can_be_read(document: Path) -> None:
    for text in blocks(document, "toml"):
        tomllib.loads(text)


def test_every_command_of_the_design_is_there() -> None:
    assert {"audit", "compare", "demo", "init", "run", "report", "list", "schema"} <= commands().keys()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_studies_can_be_read(path: Path) -> None:
    try:
        study = read_study(path)
    except StudyError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert f"medrobust run studies/{path.name}" in path.read_text(encoding="utf-8")
    assert study.attacks


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.SEGMENTATION])
def test_the_studies_of_the_demo_can_be_read(task: Task, full: bool) -> None:
    study = read_study(demo_study(task, full=full))
    assert study.task is task
    assert study.data["name"].startswith("phantom_")


def test_the_readme_names_every_study() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"studies/{path.name}" in readme for path in STUDIES)


def test_corruptions_and_suites_are_listed_from_the_catalogue() -> None:
    page = (ROOT / "docs" / "corruptions.md").read_text(encoding="utf-8")
    hooks = (ROOT / "docs" / "hooks.py").read_text(encoding="utf-8")
    for mark in ("corruptions", "suites"):
        assert f"<!-- {mark} -->" in page
        assert f'"{mark}": _{mark}' in hooks


def test_every_attack_and_preset_is_described() -> None:
    described = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    attacks = {name: entry for name, entry in PERTURBATIONS.items() if entry.role == "attack"}
    names = {*attacks, *(preset for entry in attacks.values() for preset in entry.presets)}
    assert not [name for name in names if f"`{name}`" not in described]
