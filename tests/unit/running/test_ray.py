"""A run on a Ray cluster gives the tables of a run without one, whatever happens to its nodes."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import medrobust as mr
from made_studies import TINY
from medrobust.errors import MedrobustError, RunError

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of sockets and files that Ray leaves open
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

STUDY = TINY | {
    "data": TINY["data"] | {"images": 160},
    "split": {"rule": "patient", "test": 0.5},
    "perturbations": [{"name": "fgsm", "eps": {"ssim": 0.95}}, {"name": "deepfool", "steps": 8}],
    "cases": {},
    "analysis": {"resamples": 200},
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in this process, on one thread as a worker's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("alone") / "run"
    mr.run(STUDY, folder, device="cpu")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(autouse=True)
def _as_important_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers are of low priority, and starve where tests share a machine."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three nodes on this machine, of one CPU each."""
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    logging.getLogger("ray").setLevel(logging.ERROR)
    yield made
    ray.shutdown()
    made.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    found = [*folder.glob("tables/*"), *folder.glob("results/*.parquet"), *folder.glob("models/*/weights*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if "timing" not in path.name}


def test_an_error_of_a_worker_is_one_message(tmp_path: Path) -> None:
    wrong = STUDY | {"training": {"epochs": 2, "learning_rate": 1e30}}
    with pytest.raises(MedrobustError, match=r"diverged|not finite") as raised:
        mr.run(wrong, tmp_path / "run", device="cpu", executor="ray")
    assert len(str(raised.value).splitlines()) == 1
    assert not ray.is_initialized()


def test_what_no_node_can_give_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"1 CPUs and 64 GPUs for each piece of work, but no node has them"):
        mr.run(STUDY | {"ray": {"gpus": 64}}, tmp_path / "run", device="cpu", executor="ray")


def test_an_address_that_answers_nothing_and_one_without_ray(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--address: no Ray cluster answers at '127\.0\.0\.1:1'"):
        mr.run(STUDY, tmp_path / "run", device="cpu", executor="ray", address="127.0.0.1:1")
    with pytest.raises(MedrobustError, match="Add --executor ray"):
        mr.run(STUDY, tmp_path / "other", device="cpu", address="127.0.0.1:1")


def test_an_address_has_no_protocol(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"--address: give the cluster's host:port, .*; got 'ray://head:10001'"
    ):
        mr.run(STUDY, tmp_path / "run", device="cpu", executor="ray", address="ray://head:10001")


def test_a_node_that_is_killed_changes_nothing(alone: Path, cluster: Any, tmp_path: Path) -> None:
    """Three nodes; one dies when the first chunk is crafted, and is not replaced."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    folder, killed = tmp_path / "run", threading.Event()

    def kill_one() -> None:
        while not list(folder.glob("crafted/*/done/*.json")):
            if killed.wait(0.02):
                return
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.set()

    killer = threading.Thread(target=kill_one)
    killer.start()
    mr.run(STUDY, folder, device="cpu", executor="ray", address=cluster.address)
    assert killed.is_set()
    killer.join()
    assert contents(folder) == contents(alone)
