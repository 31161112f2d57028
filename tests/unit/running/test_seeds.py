"""A study whose networks are trained several times: what is said of trainings, and of architectures."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import medrobust as mr
from medrobust.analysis.seeds import by_seed, variance
from medrobust.api import Run

STUDY: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"rule": "patient", "test": 0.4},
    "models": [
        {"name": name, "load": f"fitted_networks:{name}", "train": True} for name in ("fine", "coarse")
    ],
    "targets": {"seeds": [0, 3, 4]},
    "surrogates": {"seeds": [1, 2]},
    "training": {"epochs": 1},
    "perturbations": [{"name": "fgsm", "eps": 0.02}],
    "crafting": {"selftest": False},
    "cases": {"total": 40},
    "report": {"hardest": 1, "typical": 0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return mr.run(STUDY, out=tmp_path_factory.mktemp("seeds") / "run")


def test_every_training_is_a_network_of_its_own(run: Run) -> None:
    networks = run.results.record["networks"]
    assert sorted(networks) == sorted(
        f"{name}-{role}-s{seed}"
        for name in ("fine", "coarse")
        for role, seeds in (("target", (0, 3, 4)), ("surrogate", (1, 2)))
        for seed in seeds
    )
    cards = [run.folder.read_json("models", name, "card.json") for name in networks]
    assert len({card["weights_sha256"] for card in cards}) == len(networks)


def test_every_target_faces_every_surrogate_and_itself(run: Run) -> None:
    attacked = run.results.rows.filter(perturbation="fgsm")
    pairs = attacked.group_by("role").agg(
        pl.struct("target", "target_seed", "source", "source_seed").n_unique()
    )
    assert dict(pairs.rows()) == {"transfer": 6 * 4, "whitebox": 6}


def test_seeds_are_averaged_within_the_patient(run: Run) -> None:
    """Every case counts alike for every training, so that the mean over patients is that over trainings."""
    of_seeds = by_seed(run.results).group_by("model").agg(pl.col("clean", "adversarial").mean())
    table = run.table1().join(of_seeds, on="model", suffix="_of_seeds")
    assert table.height == 2
    for condition in ("clean", "adversarial"):
        assert table[condition].to_list() == pytest.approx(table[f"{condition}_of_seeds"].to_list())


def test_variance_between_trainings_is_shown(run: Run) -> None:
    clean = variance(run.results).filter(condition="clean")
    assert clean["n_targets"].to_list() == [3, 3]
    assert clean["sd_targets"].null_count() == 0


def test_the_verdict_speaks_of_architectures(run: Run) -> None:
    words = Path(run.report).read_text()
    assert "Nothing follows for architectures" not in words
    assert "trained here with seeds 0, 3, 4" in " ".join(words.split())
