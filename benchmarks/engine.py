"""What a study takes beyond the passes through its networks: `python benchmarks/engine.py --help`.

Crafts, stores and evaluates a few attacks and their matched noise on phantoms, with the steps that `medrobust
run` takes, and prints where the processor time of each step went. Its cost is the whole time over that inside
of the network, in forward passes and gradients.
"""

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medrobust.core import NetworkId, Role, Task
from medrobust.models import prepare
from medrobust.perturbations import fgsm, request
from medrobust.running.batches import stack
from medrobust.running.plan import ImageSet
from medrobust.storage import RunFolder
from subjects import CPU, RECIPES, Trained, trained
from whole_steps import (
    CraftJob,
    clean_set,
    craft,
    craft_noise,
    evaluate,
    matched_noise_set,
    member,
    setup_of,
)

ATTACKS: Mapping[Task, list[dict[str, Any]]] = {
    Task.CLASSIFICATION: [{"name": "fgsm", "eps": 2 / 255}, {"name": "deepfool"}],
    Task.SEGMENTATION: [{"name": "fgsm", "eps": 2 / 255}, {"name": "dag_a", "steps": 20}],
}
NOISE: Mapping[Task, str] = {Task.CLASSIFICATION: "gaussian", Task.SEGMENTATION: "rician"}

STAGES = {
    "network": [("models/network.py", "forward"), ("torch/autograd/__init__.py", "grad")],
    "loading": [
        ("concurrent/futures/_base.py", "result"),  # for the batch that a thread reads ahead
        ("running/batches.py", "stack"),
        ("storage/images.py", "read"),
    ],
    "measuring": [("running/craft.py", "distances")],
    "storing": [
        ("storage/images.py", "write"),
        ("storage/rows.py", "frame_of"),
        ("storage/rows.py", "write_rows"),
    ],
}
"""Functions whose time, with all that they call, makes up a stage: end of the file's name, and name."""

HEADER = ("step", "seconds", *STAGES, "rest", "passes per image", "whole / network")


class Study(NamedTuple):
    """The networks and images of a study of one attack: a surrogate to attack, and a target to judge."""

    name: str
    data: Trained
    surrogate: nn.Module
    target: nn.Module


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=RECIPES, default=["lite0", "unet"])
    parser.add_argument("--cases", type=int, default=128, help="test cases that are attacked")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="keeps pictures and weights")
    parser.add_argument("--threads", type=int, default=2, help="1 where others work on the machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.networks:
        data = trained(name, options.folder)
        data = data._replace(cases=data.cases[: options.cases])
        networks = [prepare(deepcopy(data.network), CPU) for _ in range(2)]
        print(f"\n{name}, {len(data.cases)} cases of {data.dataset.shape}\n")
        print_line(*HEADER)
        print_line(*["---"] * len(HEADER))
        for entry in ATTACKS[data.dataset.task]:
            with tempfile.TemporaryDirectory() as folder:
                run(Study(name, data, *networks), entry, RunFolder(folder))


def run(study: Study, entry: dict[str, Any], folder: RunFolder) -> None:
    """Craft an attack and its noise, and evaluate them and the clean images; prints a line for each step."""
    dataset, cases, task = study.data.dataset, study.data.cases, study.data.dataset.task
    surrogate, judged = NetworkId(study.name, Role.SURROGATE, 0), NetworkId(study.name, Role.TARGET, 0)
    job = CraftJob(request(entry, task), surrogate, "transfer", {})
    sets: list[ImageSet] = []

    def crafting() -> None:
        sets.append(craft(job, study.surrogate, dataset, cases, folder, seed=0))

    def matching() -> None:
        sets.append(matched_noise_set(request({"name": NOISE[task]}, task), sets[0], dataset))
        craft_noise(sets[1], dataset, folder)

    def evaluating() -> None:
        setup = setup_of(dataset, folder, {judged: study.target}, targets=[member(judged)])
        evaluate(setup, [clean_set(dataset, cases), *sets])

    warm_up(study)
    for step, work in {"craft": crafting, "match noise": matching, "evaluate": evaluating}.items():
        print_step(f"{step}, {entry['name']}", len(cases), study, work)


def warm_up(study: Study) -> None:
    """The first pass of a network takes longer, and torch loads parts of itself then."""
    batch = stack(study.data.dataset, study.data.cases[:16], CPU)
    for network in (study.surrogate, study.target):
        fgsm(network, batch.images, batch.labels, eps=0)


def print_step(step: str, cases: int, study: Study, work: Callable[[], None]) -> None:
    """Do the work of a step and print where its time went."""
    shown = 0

    def count(_: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal shown
        shown += len(inputs[0])

    hooks = [network.register_forward_pre_hook(count) for network in (study.surrogate, study.target)]
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    for hook in hooks:
        hook.remove()
    statistics = pstats.Stats(profile)
    whole = statistics.total_tt  # type: ignore[attr-defined]
    stages = {name: sum(seconds(statistics, *place) for place in places) for name, places in STAGES.items()}
    inside = stages["network"]
    print_line(
        step,
        f"{whole:.2f}",
        *(f"{part / whole:.1%}" for part in (*stages.values(), whole - sum(stages.values()))),
        f"{shown / cases:.1f}",
        f"{whole / inside:.2f}" if inside else f"{1000 * whole / cases:.1f} ms an image",
    )


def seconds(statistics: pstats.Stats, file: str, function: str) -> float:
    """Time inside of a function and of all that it calls."""
    entries: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]] = statistics.stats  # type: ignore[attr-defined]
    return sum(
        entry[3] for place, entry in entries.items() if place[0].endswith(file) and place[2] == function
    )


def print_line(*cells: str) -> None:
    print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
