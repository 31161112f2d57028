"""The examples work as said: a package with entry points, a study that names what it brings, a notebook."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import medrobust as mr

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGE = EXAMPLES / "my_attack"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which the package is installed, as far as Python can tell; nothing is downloaded."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = tmp_path / "packages" / f"my_attack-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    paths = [str(about.parent), str(PACKAGE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def printed(*arguments: str | Path, env: dict[str, str], cwd: Path) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_a_package_brings_keeps_the_contract(installed: dict[str, str], tmp_path: Path) -> None:
    code = """
from medrobust.perturbations import PERTURBATIONS, check_perturbation
names = [name for name in PERTURBATIONS.names() if name not in PERTURBATIONS]
print(names, [check_perturbation(name) for name in names])
"""
    shown = printed("-c", code, env=installed, cwd=tmp_path)
    assert shown.strip() == "['darker', 'speckle', 'towards_the_mean'] [(), (), ()]"


def test_a_study_names_what_a_package_brings(installed: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed("-m", "medrobust", "run", EXAMPLES / "study.yaml", "--out", out, env=installed, cwd=tmp_path)
    assert "towards_the_mean,wider," in (out / "tables" / "table2.csv").read_text(encoding="utf-8")
    assert "probability of truth" in (out / "report.html").read_text(encoding="utf-8")
    shown = mr.Run.open(out).results.predictions["perturbation"].unique()
    assert {"towards_the_mean", "darker", "faint", "speckle@fgsm"} <= set(shown)
    assert "towards_the_mean" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_runs(installed: dict[str, str], tmp_path: Path) -> None:
    notebook = json.loads((EXAMPLES / "two_networks.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    # Each cell is a file of its own, so that the source of its functions can be read, as in a notebook.
    lines = []
    for number, cell in enumerate(cells):
        (tmp_path / f"cell_{number}.py").write_text("".join(cell["source"]), encoding="utf-8")
        lines.append(f"exec(compile(open('cell_{number}.py').read(), 'cell_{number}.py', 'exec'))")
    printed("-c", "\n".join([*lines, "print(run.report)"]), env=installed, cwd=tmp_path)
