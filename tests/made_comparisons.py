"""Two finished runs on the same phantoms, without reports; in the second a network was made more robust."""

from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

import made_studies
from fitted_networks import coarse, fit_classifier, save
from medrobust.core import Part
from medrobust.data import open_dataset
from medrobust.data.splitting.splits import read_split
from medrobust.running.runner import run_study
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

STRONG_RIDGE = 0.5
"""Small weights: little changes of many pixels add up to little."""

QUICK: dict[str, Any] = {
    "perturbations": [{"name": "fgsm", "eps": "6/255"}, {"name": "deepfool"}],
    "threats": {
        "eps": "3/255",
        "preset": None,
        "attacks": ["random_signs", "fgsm", {"name": "pgd", "steps": 3, "crafted_on": "targets"}],
    },
    "crafting": {"selftest": False, "quantise": False},
    "report": {"hardest": 0, "typical": 0},
}


def before_and_after(folder: Path) -> tuple[Path, Path]:
    """Run folders: `before`, and `after`, whose `coarse` has smaller weights; `fine` is the same in both."""
    study = yaml.safe_load(made_studies.classification(folder).read_text(encoding="utf-8")) | QUICK
    dataset = open_dataset(made_studies.LESIONS, folder / "cache", None)
    split = read_split(folder / "split.csv", {case.patient_id for case in dataset.cases})
    cases = [case for case in dataset.cases if split[case.patient_id] == Part.TRAIN]
    save(
        fit_classifier(coarse(10, 3), dataset, cases, STRONG_RIDGE),
        folder / "weights" / "hardened.safetensors",
    )
    hardened = [dict(model) for model in study["models"]]
    hardened[1]["weights"] = "weights/hardened.safetensors"
    further = {"name": "mi_fgsm", "eps": "6/255"}
    changed = study | {"models": hardened, "perturbations": [*study["perturbations"], further]}
    for name, content in (("before", study), ("after", changed)):
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        run_study(
            read_study(file),
            RunFolder(folder / name),
            data_dir=None,
            device=torch.device("cpu"),
            console=Console(quiet=True),
        )
    return folder / "before", folder / "after"
