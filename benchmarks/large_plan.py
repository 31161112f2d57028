"""The plan of a study at a hospital's scale: 1,000,000 slices, nine attack cells, six networks.

Run alone: `python benchmarks/large_plan.py`. Nothing is read, trained or crafted. The data are made before
the clock starts; what is timed is the split, the case set, all sets of images and all jobs, and a walk over
every piece of work that is left.
"""

import resource
import time
from itertools import islice
from tempfile import TemporaryDirectory

import torch

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.running.estimate import Speed
from medrobust.running.plan import make_plan
from medrobust.running.runner import jobs_of
from medrobust.running.setup import Setup, folds_of
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

PATIENTS, SLICES = 10_000, 100
STUDY = {
    "task": "segmentation",
    "split": {"test": "all"},
    "models": [{"name": f"net{n}", "architecture": "unet", "preset": "small"} for n in range(6)],
    "perturbations": [
        {"name": name, "label": f"{name}-{steps}", "steps": steps}
        for name in ("dag_a", "dag_b", "dag_c")
        for steps in (10, 20, 40)
    ],
}


def never(case: Case) -> Sample:
    """No image is read."""
    raise AssertionError(case)


def cases() -> tuple[Case, ...]:
    """A million slices of ten thousand patients."""
    return tuple(
        Case(f"{patient}-s{number:03d}", patient, patient, position=number, foreground=9)
        for patient in (f"p{number:05d}" for number in range(PATIENTS))
        for number in range(SLICES)
    )


def main() -> None:
    """Print what planning costs."""
    dataset = Dataset(
        name="hospital",
        task=Task.SEGMENTATION,
        classes=("background", "structure"),
        unit="patient",
        channels=1,
        shape=(256, 256),
        spacing=(1.0, 1.0),
        cases=cases(),
        read=never,
        fingerprint="0" * 64,
    )
    study = read_study(STUDY, given="hospital")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        setup = Setup(study, RunFolder(folder), dataset, folds_of(study, dataset), torch.device("cpu"))
        plan = make_plan(setup)
        jobs = jobs_of(plan, dict.fromkeys((spec.name for spec in study.specs), Speed(0.01, 0.03, 10**6)))
        planned = time.perf_counter() - start
        pieces = sum(1 for job in jobs for _ in job.left())
        first = [piece for job in islice(jobs, 1) for piece in islice(job.left(), 3)]
        walked = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{len(dataset.cases):,} cases, {len(jobs)} jobs, {pieces:,} pieces; the first are {first}")
    print(f"planned in {planned:.1f} s, with a walk over all pieces {walked:.1f} s")
    print(
        f"peak memory {peak / 2**20:.2f} GB, {before / 2**20:.2f} GB of it for imports and the list of cases"
    )


if __name__ == "__main__":
    main()
