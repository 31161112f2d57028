"""What README, CONTRIBUTING and docs say exists, exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from medrobust.cli import app
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.perturbations import PERTURBATIONS
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
documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def commands() -> dict[str, set[str]]:
    """Commands of the program, each with its options."""
    group: Any = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }


@documents
def test_files_that_are_linked_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (document.parent / link).exists()]


@documents
def test_commands_that_are_shown_exist(document: Path) -> None:
    known = commands()
    for line in re.findall(
        r"(?:^ {4}|`)(medrobust [a-z][^`\n]*)", document.read_text(encoding="utf-8"), re.MULTILINE
    ):
        _, command, *arguments = shlex.split(line, comments=True)
        assert command in known, line
        options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert options <= known[command], line


@documents
def test_make_targets_that_are_shown_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown <= targets


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


@pytest.mark.parametrize("task", list(Task))
def test_the_studies_of_the_demo_can_be_read(task: Task) -> None:
    study = read_study(demo_study(task))
    assert study.task is task
    assert study.data["name"].startswith("phantom_")


def test_the_readme_names_every_study() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"studies/{path.name}" in readme for path in STUDIES)


def test_every_attack_and_preset_is_described() -> None:
    described = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    attacks = {name: entry for name, entry in PERTURBATIONS.items() if entry.kind == "attack"}
    names = {*attacks, *(preset for entry in attacks.values() for preset in entry.presets)}
    assert not [name for name in names if f"`{name}`" not in described]
