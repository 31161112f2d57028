"""Every entry of the catalogue with every preset, and what it is tried on."""

import pytest

from medrobust.core import Task
from medrobust.perturbations import PERTURBATIONS
from medrobust.perturbations.contract import (
    CLASSES,
    SIZE,
    left_half,
    smooth_batch,
    smooth_network,
    trial_of,
)
from medrobust.rng import generator

__all__ = [
    "CLASSES",
    "SIZE",
    "ask",
    "each",
    "every",
    "left_half",
    "make_batch",
    "make_network",
    "make_rngs",
    "trial",
]

FEW_STEPS = {"dag_a": {"steps": 8}, "dag_b": {"steps": 8}, "dag_c": {"steps": 8, "radius_mm": 2}}
make_network, make_batch = smooth_network, smooth_batch


def make_rngs(n):
    return [generator(0, "contract", number) for number in range(n)]


def trial(name, task, preset=None):
    changed = {"steps": 40} if name == "saliency_map" else FEW_STEPS.get(name, {})
    return trial_of(PERTURBATIONS[name], task, preset, **changed)


def ask(name, task, preset=None):
    return trial(name, task, preset).request


def entries():
    for name, entry in PERTURBATIONS.items():
        for task in entry.tasks:
            for preset in [None, *entry.presets]:
                if (name, preset) != ("fgsm", "foolbox-0.8") or task is Task.CLASSIFICATION:
                    yield pytest.param(name, task, preset, id=f"{name}-{task}-{preset or 'default'}")


every = pytest.mark.parametrize(("name", "task", "preset"), list(entries()))
each = pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(n, t, id=f"{n}-{t}") for n, entry in PERTURBATIONS.items() for t in entry.tasks],
)
