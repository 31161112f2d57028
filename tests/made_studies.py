"""Small studies: one that trains, and one per task of networks "trained elsewhere", in files of a user's."""

from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from fitted_networks import blurred as blurred_network
from fitted_networks import coarse, fine, fit_classifier, fit_findings, fit_segmenter, save, sharp
from medrobust.core import Case, Dataset, Part
from medrobust.data import open_dataset
from medrobust.data.splitting.splits import split_csv
from medrobust.perturbations import PERTURBATIONS

TINY: dict[str, Any] = {  # trains a network in a second
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"rule": "patient", "test": 0.4},
    "models": [{"name": "net", "architecture": "resnet10t", "weights": "none"}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "fgsm", "eps": 0.02}],
    "crafting": {"selftest": False, "whitebox": False},
    "cases": {"total": 50},
    "report": {"hardest": 1, "typical": 0},
}

LESIONS = {"name": "phantom_lesions", "images": 240, "size": 32}
CHESTS = {"name": "phantom_chests", "images": 320, "size": 32}
BRAINS = {"name": "phantom_brains", "subjects": 5, "spacing": 4.0}


def run_whole(study: Mapping[str, Any], folder: Path) -> None:
    """A whole run on one thread, for a process of its own, which cannot import a file of tests."""
    import torch

    import medrobust as mr

    torch.set_num_threads(1)
    mr.run(dict(study), folder, device="cpu")


def classification(folder: Path) -> Path:
    """A study of two classifiers of phantom lesions; returns its file."""
    dataset = open_dataset(LESIONS, folder / "cache", None)
    builders = {"fine": lambda: fine(10, 3), "coarse": lambda: coarse(10, 3)}
    content = {
        "task": "classification",
        "data": LESIONS,
        "perturbations": [
            {"name": "fgsm", "eps": "6/255"},
            {"name": "deepfool"},
            {"name": "saliency_map", "entries_per_step": 8, "steps": 40},
        ],
        "noise": {"name": "gaussian"},
        "cases": {"total": 60},
    }
    return _write(folder, content, dataset, builders, fit_classifier)


def multilabel(folder: Path) -> Path:
    """A study of two networks that name findings in phantom chest X-rays; returns its file."""
    dataset = open_dataset(CHESTS, folder / "cache", None)
    builders = {"fine": lambda: fine(4, 1), "coarse": lambda: coarse(4, 1)}
    content = {
        "task": "multilabel",
        "data": CHESTS,
        "perturbations": [
            {"name": "fgsm", "eps": "6/255"},
            {"name": "pgd", "eps": "4/255", "steps": 5},
            {"name": "mi_fgsm", "label": "on_mass", "eps": "6/255", "steps": 5, "finding": "mass"},
        ],
        "noise": {"name": "gaussian"},
        "cases": {"total": 60},
    }
    return _write(folder, content, dataset, builders, fit_findings)


def segmentation(folder: Path) -> Path:
    """A study of two segmenters of phantom brains; returns its file."""
    dataset = open_dataset(BRAINS, folder / "cache", None)
    builders = {"sharp": lambda: sharp(28), "blurred": lambda: blurred_network(28)}
    content = {
        "task": "segmentation",
        "data": BRAINS,
        "perturbations": [
            {"name": name, "step": "16/255", "steps": 6} for name in ("dag_a", "dag_b", "dag_c")
        ],
        "noise": {"name": "rician"},
        "cases": {"per_patient": 3},
    }
    return _write(folder, content, dataset, builders, fit_segmenter)


def _write(
    folder: Path,
    content: Mapping[str, Any],
    dataset: Dataset,
    builders: Mapping[str, Callable[[], nn.Module]],
    fit: Callable[..., nn.Module],
) -> Path:
    """Fit a target and a surrogate of every network on patients of their own, and write it all down."""
    by_class = sorted(dataset.cases, key=lambda case: (case.label or 0, case.case_id))
    patients = dict.fromkeys(case.patient_id for case in by_class)
    split = dict(zip(patients, cycle((Part.TRAIN, Part.TEST, Part.UNUSED, Part.TEST)), strict=False))
    for name, build in builders.items():
        for role, part in (("target", Part.TRAIN), ("surrogate", Part.UNUSED)):
            cases: list[Case] = [case for case in dataset.cases if split[case.patient_id] == part]
            save(fit(build(), dataset, cases), folder / "weights" / f"{name}-{role}.safetensors")
    study = {
        **content,
        "split": {"file": "split.csv"},
        "models": [
            {"name": name, "load": f"fitted_networks:{name}", "weights": f"weights/{name}-target.safetensors"}
            for name in builders
        ],
        "surrogates": {"weights": {name: f"weights/{name}-surrogate.safetensors" for name in builders}},
        "analysis": {"resamples": 200},
    }
    (folder / "split.csv").write_text(split_csv([split]), encoding="utf-8")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def told(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the record of a run says about perturbations."""
    return [
        {
            "label": each["label"],
            "role": entry.role,
            "budget": entry.budget,
            "minimal": entry.minimal,
            "crafted_on": entry.crafted_on,
            "needs": entry.needs,
            "targeted": entry.targets is not None,
            "norm": entry.norm_of({"norm": "inf", **each}),
        }
        for each in entries
        for entry in [PERTURBATIONS[each["name"]]]
    ]
