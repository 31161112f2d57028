"""Every entry of the catalogue with every preset, and what it is tried on."""

from functools import cache

import pytest

from medrobust.core import Task
from medrobust.perturbations import PERTURBATIONS, aimed, moved, perturb
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
    "FEW_STEPS",
    "SIZE",
    "apply",
    "ask",
    "each",
    "each_of_networks",
    "each_within_support",
    "every",
    "left_half",
    "make_batch",
    "make_network",
    "make_rngs",
    "plain",
    "trial",
]

FEW_STEPS = {
    "pgd": {"steps": 5},
    "mi_fgsm": {"steps": 2},
    "segpgd": {"steps": 5},
    "saliency_map": {"steps": 8},
    "fab": {"steps": 3},
    "square": {"steps": 12},
    "rays": {"steps": 12},
    "hopskipjump": {"steps": 2, "draws": 4},
    "universal": {"steps": 5},
    "worst_case": {"steps": 3, "candidates": 3, "boundary_steps": 1, "queries": 4},
    "dag_a": {"steps": 8},
    "dag_b": {"steps": 8},
    "dag_c": {"steps": 8, "radius_mm": 2},
    "apgd": {"steps": 4},
    "cospgd": {"steps": 3},
    "sea": {"steps": 3, "losses": ("dice",)},
    "fmn": {"steps": 5},
    "ddn": {"steps": 5},
    "sigma_zero": {"steps": 12},
    "alma_prox": {"steps": 5},
    "pdpgd": {"steps": 5},
}
FEW_COPIES = {
    "vmi": {"neighbours": 2},
    "admix": {"partners": 1, "copies": 2},
    "si": {"copies": 2},
    "ssm": {"copies": 2},
    "bsr": {"copies": 2},
}
make_network, make_batch = smooth_network, smooth_batch


def make_rngs(n):
    return [generator(0, "contract", number) for number in range(n)]


def trial(name, task, preset=None):
    changed = FEW_STEPS.get(name, {})
    if name == "mi_fgsm" and preset is not None:
        parts = PERTURBATIONS[name].presets[preset].parameters["transfer"]
        changed = changed | {"transfer": {part: FEW_COPIES.get(part, {}) for part in parts}}
    return trial_of(PERTURBATIONS[name], task, preset, **changed)


@cache
def plain(name, task, preset=None):
    """What an entry makes of the images of its trial, made once for all tests that compare with it."""
    return trial(name, task, preset).made


def apply(wanted, network, images, labels, **given):
    """The images that a request makes, its labels moved or not; of several findings, one if it turns one."""
    labels = aimed(wanted, labels, [str(finding) for finding in range(labels.shape[-1])])
    if wanted.perturbation.moves_labels:
        given.pop("support", None)
        return moved(wanted, images, labels, network, **given).images
    return perturb(wanted, network, images, labels, **given)


def ask(name, task, preset=None):
    return trial(name, task, preset).request


def tasks_of(entry):
    """Corruptions do not look at networks, and at label maps only to move them: one task shows all."""
    return (Task.SEGMENTATION,) if entry.role == "corruption" else entry.tasks


def entries():
    for name, entry in PERTURBATIONS.items():
        if entry.role == "corruption":  # presets in tests/contract/test_corruptions.py
            yield pytest.param(name, Task.SEGMENTATION, None, id=name)
            continue
        for task in entry.tasks:
            for preset in [None, *(entry.presets if task is entry.tasks[0] else ())]:
                yield pytest.param(name, task, preset, id=f"{name}-{task}-{preset or 'default'}")


every = pytest.mark.parametrize(("name", "task", "preset"), list(entries()))
each = pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(n, t, id=f"{n}-{t}") for n, entry in PERTURBATIONS.items() for t in tasks_of(entry)],
)
each_of_networks = pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(n, t, id=f"{n}-{t}")
        for n, entry in PERTURBATIONS.items()
        for t in entry.tasks
        if entry.needs != "nothing"
    ],
)
"""What looks at networks, however these are written."""
each_within_support = pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(n, t, id=f"{n}-{t}")
        for n, entry in PERTURBATIONS.items()
        for t in entry.tasks
        if entry.role not in ("corruption", "transform")
    ],
)
