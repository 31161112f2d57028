"""Drawing in the proportions of the classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from medrobust.core import Dataset


def apportion(sizes: Sequence[int], total: int, *, low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Share `total` out to groups in proportion to their sizes, each group's count in [low, high].

    After `low`, one at a time goes to the group that is furthest behind (Webster): with a larger total, no
    group gets less. Where the bounds leave no way to reach `total`, they win.

    >>> apportion([60, 30, 10], 10, low=[0, 0, 2], high=[60, 30, 10])
    [5, 3, 2]
    """
    counts, highest, weights = np.array(low), np.asarray(high), np.maximum(sizes, 1)
    while counts.sum() < total and (counts < highest).any():
        behind = np.where(counts < highest, (counts + 0.5) / weights, np.inf)
        counts[np.argmin(behind)] += 1
    return [int(count) for count in counts]


def draw_patients(
    dataset: Dataset, patients: Iterable[str], count: int, rng: np.random.Generator, stratify: bool = True
) -> set[str]:
    """Draw `count` of the patients at random, in the proportions of their classes.

    Of every class one patient is left, and one is drawn where it has two; `count` gives way to that.

    Args:
        dataset: Whose cases tell the patients' classes.
        patients: From whom to draw; their order plays no part.
        count: How many, where the classes allow it.
        rng: Source of randomness.
        stratify: False ignores the classes.
    """
    strata = _strata(dataset, sorted(patients), stratify)
    sizes = [len(stratum) for stratum in strata]
    counts = apportion(
        sizes, count, low=[min(1, size - 1) for size in sizes], high=[size - 1 for size in sizes]
    )
    return {
        stratum[index]
        for stratum, wanted in zip(strata, counts, strict=True)
        for index in rng.permutation(len(stratum))[:wanted]
    }


def deal(
    dataset: Dataset, patients: Iterable[str], hands: int, rng: np.random.Generator, stratify: bool = True
) -> dict[str, int]:
    """Deal the patients out at random, class by class and in turn; hands differ by at most one.

    Args:
        dataset: Whose cases tell the patients' classes.
        patients: Who is dealt out; their order plays no part.
        hands: To how many.
        rng: Source of randomness.
        stratify: False ignores the classes.

    Returns:
        The hand, from 0 on, of each patient.
    """
    strata = _strata(dataset, sorted(patients), stratify)
    shuffled = [stratum[index] for stratum in strata for index in rng.permutation(len(stratum))]
    return {patient: place % hands for place, patient in enumerate(shuffled)}


def _strata(dataset: Dataset, patients: Sequence[str], stratify: bool) -> list[list[str]]:
    """Patients by their most frequent class; one stratum in segmentation."""
    labels: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for case in dataset.cases:
        labels[case.patient_id][case.label] += 1
    strata: defaultdict[int, list[str]] = defaultdict(list)
    for patient in patients:
        majority = labels[patient].most_common(1)[0][0] if stratify else None
        strata[-1 if majority is None else majority].append(patient)
    return [strata[label] for label in sorted(strata)]
