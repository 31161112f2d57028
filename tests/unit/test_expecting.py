"""What networks are known to reach on clean images is compared before any work."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.errors import ModelError, StudyError
from medrobust.study.reading import read_study

pytestmark = pytest.mark.usefixtures("blank_figures")

NOISE = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)) / 10
IMAGES = torch.linspace(0.2, 0.8, 40).view(-1, 1, 1, 1) + NOISE - NOISE.mean((1, 2, 3), keepdim=True)
LABELS = (torch.arange(40) >= 20).long()


class Bright(nn.Module):
    """Says 1 where the mean, of a corner perhaps, is above a threshold."""

    def __init__(self, threshold: float, corner: int = 16) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([-20.0, 20.0]))
        self.threshold, self.corner = threshold, corner

    def forward(self, images: Tensor) -> Tensor:
        seen = images[:, :, : self.corner, : self.corner]
        return (seen.mean((1, 2, 3))[:, None] - self.threshold) * self.scale


def evaluate(folder: Path, score: str = "accuracy", threshold: float = 0.5, **expect: float) -> mr.Run:
    networks = {"right": {"load": Bright(threshold), "expect": expect}, "shifted": Bright(0.62)}
    return mr.evaluate(
        networks,
        (IMAGES, LABELS),
        attacks=["fgsm"],
        surrogates=[Bright(0.5, corner=3)],
        out=folder,
        analysis={"resamples": 200, "score": score},
        noise={},
    )


def test_a_network_that_does_as_well_as_it_should_is_attacked(tmp_path: Path) -> None:
    run = evaluate(tmp_path, clean=1.0)
    assert run.table1()["clean"].to_list() == [1.0, 0.8]
    assert run.table2()["source"].unique().to_list() == ["surrogate1"]
    assert [*(tmp_path / "results" / "expected").iterdir()]


def test_one_that_does_not_stops_the_run_before_any_attack(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"models\.right\.expect: its clean accuracy on 40 test cases is 1\.0000, not 0\.9 "
    ):
        evaluate(tmp_path, clean=0.9)
    assert not [*tmp_path.glob("crafted/*/done/*")]
    assert evaluate(tmp_path, clean=0.9, tolerance=0.1).table1()["clean"][0] == 1.0


def test_another_score_is_compared_anew_in_the_same_folder(tmp_path: Path) -> None:
    """Of a network whose threshold is wrong, but not its order."""
    evaluate(tmp_path, threshold=0.56, clean=0.9)
    with pytest.raises(ModelError, match=r"its clean AUROC on 40 test cases is 1\.0000, not 0\.9 "):
        evaluate(tmp_path, "auroc", threshold=0.56, clean=0.9)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"expect": 0.9}, r"models\.a\.expect must hold `clean`"),
        ({"expect": {"claen": 0.9}}, r"models\.a\.expect.*Did you mean 'clean'"),
        ({"expect": {"clean": 0.9, "tolerance": 0}}, r"models\.a\.expect\.tolerance.*greater than 0"),
        (
            {"expect": {"clean": 0.9}, "train": True},
            r"study\.models\.a\.expect: is for networks that are judged",
        ),
        ({"attackable": "perhaps"}, r"models\.a\.attackable must be true, false or auto, got 'perhaps'"),
    ],
)
def test_what_cannot_be_said_of_a_network(keys: dict[str, Any], message: str) -> None:
    network = {"name": "a", "load": "fitted_networks:coarse", **keys}
    study = {"task": "classification", "data": {"name": "phantom_lesions"}, "models": [network]}
    with pytest.raises(StudyError, match=message):
        read_study(study)
