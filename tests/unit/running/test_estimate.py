"""How long one image takes, measured before a run."""

from pathlib import Path

import pytest
import torch

from made_studies import TINY
from medrobust.models import Network
from medrobust.running import estimate
from medrobust.running.setup import set_up
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study


@pytest.mark.parametrize(("enough", "passes"), [(3600.0, 7), (0.0, 3)])
def test_a_slow_network_is_timed_once(
    enough: float, passes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = set_up(read_study(TINY), RunFolder(tmp_path), data_dir=None, device=torch.device("cpu"))
    asked, forward = [], Network.forward

    def counted(network: Network, images: torch.Tensor) -> torch.Tensor:
        asked.append(network)
        return forward(network, images)

    for each in setup.networks:
        setup.has_gradient(each)
    monkeypatch.setattr(Network, "forward", counted)
    monkeypatch.setattr(estimate, "ENOUGH", enough)
    speeds = estimate.measured_speeds(setup)
    assert len(asked) == passes * len(speeds)
    assert all(speed.forward > 0 and speed.gradient > 0 for speed in speeds.values())
