"""Two one-core workers of a Ray cluster against one: crafted images per second.

Run alone: `python benchmarks/ray_scaling.py`. Timed is what crafting leaves, from the first finished chunk to
the last, so that the start of processes does not count.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray.cluster_utils import Cluster

import medrobust as mr

ROUNDS = 2
STUDY: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 1000, "size": 64},
    "split": {"rule": "patient", "test": 0.8},
    "models": [{"name": "net", "architecture": "resnet10t", "weights": "none"}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "pgd", "eps": "4/255", "steps": 40}],
    "crafting": {"selftest": False, "whitebox": False, "quantise": False},
    "analysis": {"resamples": 200},
    "audit": False,
}


def throughput(folder: Path, workers: int) -> tuple[float, int]:
    """Images per second of crafting with so many one-core workers, and the number of chunks."""
    head = {"num_cpus": workers, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    mr.run(STUDY, folder, device="cpu", executor="ray", address=cluster.address)
    cluster.shutdown()
    markers = sorted(folder.glob("crafted/pgd--*/done/*.json"), key=lambda path: path.stat().st_mtime_ns)
    skipped = 2 * workers  # while processes start and open the study
    done = markers[skipped:]
    images = sum(len(json.loads(path.read_text())["cases"]) for path in done)
    seconds = (done[-1].stat().st_mtime_ns - markers[skipped - 1].stat().st_mtime_ns) / 1e9
    return images / seconds, len(markers)


def main() -> None:
    """Print the throughput of one and of two workers, and their ratio."""
    for _ in range(ROUNDS):
        with TemporaryDirectory() as folder:
            (one, chunks), (two, _chunks) = (throughput(Path(folder) / str(n), n) for n in (1, 2))
            print(
                f"one worker {one:.1f}, two {two:.1f} images per second ({chunks} chunks): {two / one:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
