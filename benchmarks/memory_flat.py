"""Peak memory of every stage of a study, and of the same study with ten times the test cases.

Run alone: `python benchmarks/memory_flat.py [--cases 300]`. Each stage is a process of its own, whose peak
the system knows. Both studies train on as many photographs; all are drawn before the first stage is measured.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

import medrobust as mr
from medrobust.core import Part
from medrobust.data import open_dataset
from medrobust.data.splitting.splits import split_csv
from medrobust.running.jobs import Kind
from medrobust.running.runner import run_study
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

STAGES: dict[str, tuple[Kind, ...]] = {
    "read and train": ("train", "selftest"),
    "craft": ("craft",),
    "match noise": ("noise",),
    "evaluate": ("evaluate",),
    "embed": ("embed",),
    "keep cases": ("examples",),
    "join rows": (),
}
"""Which jobs a stage does; the last one joins what all have left. Statistics and report follow."""

REPORT = "statistics, report"
TRAINED, WATCHED = 150, 50
STUDY: dict[str, Any] = {
    "task": "classification",
    "split": {"file": "split.csv"},
    "models": [{"name": "net", "architecture": "resnet10t", "weights": "none"}],
    "training": {"epochs": 1},
    "perturbations": [{"name": "fgsm", "eps": "4/255"}],
    "audit": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300, help="test cases of the smaller study")
    parser.add_argument("--stage", nargs=2, metavar=("NAME", "FOLDER"), help="print the peak of one, in MB")
    options = parser.parse_args()
    if options.stage:
        name, folder = options.stage
        do(name, Path(folder))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        prepare(small, options.cases)
        prepare(large, 10 * options.cases)
        for name in (*STAGES, REPORT):
            (one, _), (ten, seconds) = measured(name, small), measured(name, large)
            print(
                f"{name:20} {one:5.0f} MB {ten:5.0f} MB: {ten / one:.2f} times, {seconds:.0f} s", flush=True
            )


def prepare(folder: Path, cases: int) -> None:
    """Write a study with so many test cases into a new folder."""
    folder.mkdir()
    data = {"name": "phantom_lesions", "images": cases + TRAINED + WATCHED, "size": 32, "balance": 1.0}
    parts: dict[str, Part] = {}
    for number, case in enumerate(open_dataset(data, None, None).cases):
        later = Part.VALIDATION if number < TRAINED + WATCHED else Part.TEST
        parts.setdefault(case.patient_id, Part.TRAIN if number < TRAINED else later)
    (folder / "split.csv").write_text(split_csv([parts]), encoding="utf-8")
    (folder / "study.yaml").write_text(json.dumps(STUDY | {"data": data}), encoding="utf-8")


def measured(name: str, folder: Path) -> tuple[float, float]:
    """Peak memory in MB and seconds of a stage."""
    start = time.perf_counter()
    peak = subprocess.check_output([sys.executable, __file__, "--stage", name, str(folder)], text=True)
    return float(peak), time.perf_counter() - start


def do(name: str, folder: Path) -> None:
    """A stage, in this process."""
    run = folder / "run"
    if name == REPORT:
        mr.Run.open(run).write_report()
        return
    run_study(
        read_study(folder / "study.yaml"),
        RunFolder(run),
        data_dir=None,
        device=torch.device("cpu"),
        console=Console(quiet=True),
        only=STAGES[name],
    )


if __name__ == "__main__":
    main()
