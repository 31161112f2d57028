"""`pip install .` and the wheel bring all that a run needs, into an empty environment."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from made_studies import TINY

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def done(*command: str | Path, folder: Path) -> str:
    """What a command prints; where it fails, the test does and says why."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.parametrize("what", ["the folder", "the wheel"])
def test_an_empty_environment_runs_a_study(what: str, tmp_path: Path) -> None:
    pip = [tmp_path / "environment" / "bin" / "python", "-m", "pip"]
    done(sys.executable, "-m", "venv", tmp_path / "environment", folder=tmp_path)
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "src"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, sources / name)
    if what == "the wheel":
        done(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, sources, folder=tmp_path)
        shutil.rmtree(sources)
        (sources,) = tmp_path.glob("medrobust-*.whl")
    done(*pip, "install", "--constraint", ROOT / "constraints.txt", sources, folder=tmp_path)
    medrobust = tmp_path / "environment" / "bin" / "medrobust"
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    assert "fgsm" in done(medrobust, "list", "perturbations", folder=tmp_path)
    assert json.loads(done(medrobust, "schema", folder=tmp_path))["properties"]
    done(medrobust, "init", "mine.yaml", folder=tmp_path)
    assert "Report: " in done(medrobust, "run", "study.yaml", "--out", "run", folder=tmp_path)
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000
