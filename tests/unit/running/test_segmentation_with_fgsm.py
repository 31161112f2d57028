"""An attack of both tasks in a study of segmentation, whose features no t-SNE shows."""

from pathlib import Path
from typing import Any

import polars as pl

from medrobust import api

STUDY: dict[str, Any] = {
    "task": "segmentation",
    "data": {"name": "phantom_brains", "subjects": 4, "spacing": 4.0},
    "split": {"rule": "patient", "test": 0.5},
    "models": [{"name": "unet", "preset": "tiny"}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "fgsm", "eps": "4/255"}],
    "cases": {"per_patient": 8},
}


def test_it_runs_to_its_report(tmp_path: Path) -> None:
    run = api.run(STUDY, tmp_path)
    assert run.report.exists()
    assert run.table2()["perturbation"].unique().to_list() == ["fgsm"]
    assert pl.read_parquet(tmp_path / "results" / "embeddings.parquet").is_empty()
    assert not (tmp_path / "figures" / "tsne.png").exists()
