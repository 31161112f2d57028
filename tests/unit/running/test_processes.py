"""Several processes that train one network together: started here, or by torchrun on several nodes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from medrobust.core import NetworkId, Role, Task
from medrobust.data import open_dataset
from medrobust.errors import StudyError
from medrobust.models import model_spec
from medrobust.running.processes import make_fabric, require_launcher
from medrobust.running.setup import fresh_network
from medrobust.running.train import train
from medrobust.storage import RunFolder
from medrobust.study.training import TrainingConfig

CPU = torch.device("cpu")
ID = NetworkId("net", Role.TARGET, 0)


def trained(folder: Path, **config: Any) -> tuple[dict[str, Any], bytes]:
    """Card and weights of a small network."""
    dataset = open_dataset({"name": "phantom_lesions", "images": 60, "size": 32, "balance": 1.0}, None, None)
    spec = model_spec({"name": "net", "architecture": "resnet10t", "weights": "none"}, Task.CLASSIFICATION)
    card = train(
        fresh_network(spec, dataset, network_id=ID, seed=0),
        dataset,
        dataset.cases[:40],
        dataset.cases[40:],
        config=TrainingConfig(**{"epochs": 1, "batch_size": 4} | config),
        network_id=ID,
        seed=0,
        folder=RunFolder(folder),
        device=CPU,
    )
    return card, (folder / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    card, weights = trained(tmp_path / "two", devices=2, strategy="ddp")
    assert card["processes"] == 2
    assert trained(tmp_path / "one", batch_size=8)[1] != weights


@pytest.mark.parametrize("name", ["dpp", "fsdp"])
def test_strategies_are_those_that_keep_whole_networks(name: str) -> None:
    with pytest.raises(ValidationError, match=r"Unknown strategy.*fsdp, deepspeed"):
        TrainingConfig(strategy=name)


def test_a_typing_error_gets_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match=r"'ddp'"):
        TrainingConfig(strategy="dpp")


def test_nodes_reach_fabric() -> None:
    fabric = make_fabric(CPU, TrainingConfig(nodes=2, devices=3, strategy="ddp_find_unused_parameters_true"))
    strategy: Any = fabric._strategy
    assert (strategy.num_nodes, strategy.num_processes, strategy._start_method) == (2, 3, "popen")
    assert strategy._ddp_kwargs == {"find_unused_parameters": True}


def test_several_nodes_need_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(nodes=2, devices=2)
    with pytest.raises(StudyError, match=r"training.nodes: 2 nodes .* are 4 processes, .*; got 1"):
        require_launcher(config)
    monkeypatch.setenv("WORLD_SIZE", "4")
    require_launcher(config)


def test_how_devices_work_together_decides_no_weights() -> None:
    plain = TrainingConfig()
    assert TrainingConfig(strategy="ddp").deciding() == plain.deciding()
    assert TrainingConfig(nodes=2).deciding() != plain.deciding()
