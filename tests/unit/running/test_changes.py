"""A study that changes: what still holds is used, what does not is named, and nothing is lost."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from made_studies import TINY
from medrobust.errors import RunError
from medrobust.running.runner import run_study
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study


def run(folder: Path, **changes: Any) -> str:
    """Run, and return what was said."""
    console = Console(record=True, width=400, file=io.StringIO())
    run_study(
        read_study(TINY | changes),
        RunFolder(folder),
        data_dir=None,
        device=torch.device("cpu"),
        console=console,
    )
    return console.export_text()


def written(folder: Path, pattern: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.glob(pattern) if path.is_file()}


def test_another_attack_leaves_networks_and_images_as_they_are(tmp_path: Path) -> None:
    run(tmp_path)
    networks, images = written(tmp_path, "models/*/*"), written(tmp_path, "crafted/*/done/*")
    said = run(
        tmp_path, perturbations=[{"name": "fgsm", "eps": 0.02}, {"name": "fgsm", "eps": 0.04, "label": "far"}]
    )
    assert "has changed since this run folder was begun: perturbations." in said
    assert "Of 4 sets of perturbed images, 2 are still valid and 2 will be made; 0 are no longer used" in said
    assert written(tmp_path, "models/*/*") == networks
    assert images.items() <= written(tmp_path, "crafted/*/done/*").items()


def test_another_training_puts_networks_aside_and_undoing_it_brings_them_back(tmp_path: Path) -> None:
    run(tmp_path)
    weights = {path: path.read_bytes() for path in tmp_path.glob("models/*/weights.safetensors")}
    assert len(weights) == 2
    said = run(tmp_path, training={"epochs": 2})
    assert "are out of date and will be made again: net-surrogate-s1, net-target-s0." in said
    assert all(path.read_bytes() != content for path, content in weights.items())
    said = run(tmp_path)
    assert "Of 2 sets of perturbed images, 2 are still valid and 0 will be made; 2 are no longer used" in said
    assert {path: path.read_bytes() for path in weights} == weights
    assert run(tmp_path).count("has changed") == 0


def test_other_data_or_another_task_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(RunError, match="was made with other data"):
        run(tmp_path, data={**TINY["data"], "images": 120})
