"""The one case set of a study: which of the test cases are attacked and scored."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from medrobust.core import Case, Dataset, Part
from medrobust.data.splitting.splits import Split, apportion, split_cases, strata_of
from medrobust.errors import StudyError
from medrobust.rng import generator
from medrobust.text import counted

PER_CLASS = 5
"""Test photographs that a class keeps, if it has so many."""


def select_cases(
    dataset: Dataset, split: Split, *, seed: int, per_patient: int | None = None, total: int | None = None
) -> tuple[Case, ...]:
    """The one case set of a study: the test cases that clean images, noise and every attack are scored on.

    Args:
        dataset: Data of the study.
        split: Its split.
        seed: Seed of the study.
        per_patient: Most cases of a patient, at least 1; None takes all. Slices are shared out among the
            patient's scans and equidistant in each, whatever is labelled; photographs are drawn at random.
        total: Most photographs altogether, stratified by class (of several findings by the rarest), with at
            least `PER_CLASS` of each if there are so many; None takes all.

    Raises:
        StudyError: There is no test case, `per_patient` is below 1, `total` is given for slices or is too
            small for `PER_CLASS`, or nothing is labelled in any of the slices.
    """
    cases = split_cases(dataset, split, Part.TEST)
    if not cases:
        raise StudyError("split: no test case. Give at least one patient the part 'test'.")
    if per_patient is not None and per_patient < 1:
        raise StudyError(f"cases.per_patient: must be at least 1; got {per_patient}.")
    if dataset.task.has_maps:
        if total is not None:
            raise StudyError(
                f"cases.total: applies to photographs only; got {total}. Limit slices with cases.per_patient."
            )
        chosen = cases if per_patient is None else _sorted(_equidistant(cases, per_patient))
        if not any(case.is_labelled for case in chosen):
            raise StudyError(
                f"cases.per_patient: nothing is labelled in any of the {len(chosen)} chosen test cases, of "
                f"{len(cases)} in all; got {per_patient}. Take more, or test other {dataset.unit}s."
            )
        return chosen
    if per_patient is not None:
        cases = _sorted(_at_most(cases, per_patient, seed))
    if total is None or total >= len(cases):
        return cases
    return _sorted(_stratified(cases, strata_of(dataset), total, seed, "cases.total"))


def fewer_cases(
    dataset: Dataset, cases: Sequence[Case], most: int, *, seed: int, where: str
) -> tuple[Case, ...]:
    """Some of a study's cases, for attacks that take long; all where there are no more than `most`.

    Photographs are stratified by class as in `select_cases`. Of slices whole scans are drawn at random, as
    many as hold at most `most`: a scan is scored as a whole.

    Args:
        dataset: Data of the study.
        cases: Cases of the study.
        most: Most cases to take.
        seed: Seed of the study.
        where: Key of the study that says `most`, for errors.

    Raises:
        StudyError: `most` is too small for `PER_CLASS` photographs of each class, or for a whole scan.
    """
    if most >= len(cases):
        return tuple(cases)
    if not dataset.task.has_maps:
        return _sorted(_stratified(cases, strata_of(dataset), most, seed, where))
    scans = list(_grouped(cases, attrgetter("scan_id")).values())
    chosen: list[Case] = []
    for place in generator(seed, "cases", "scans").permutation(len(scans)):
        if len(chosen) + len(scans[place]) > most:
            break
        chosen += scans[place]
    if not chosen:
        raise StudyError(
            f"{where}: must be at least {max(map(len, scans))}, the cases of a whole scan; got {most}."
        )
    return _sorted(chosen)


def described(cases: Sequence[Case], dataset: Dataset) -> str:
    """What a case set holds, e.g. "432 slices of 27 scans, 38 of them without any label"."""
    if not dataset.task.has_maps:
        return counted(len(cases), "case")
    scans = len({case.scan_id for case in cases})
    says = f"{counted(len(cases), 'slice')} of {counted(scans, 'scan')}"
    says = says if scans < len(cases) else counted(len(cases), "image")
    labelled = [case for case in cases if case.is_labelled]
    says += f", {len(cases) - len(labelled)} of them without any label"
    bare = len({case.patient_id for case in cases} - {case.patient_id for case in labelled})
    return f"{says}; no Dice is defined for {counted(bare, dataset.unit)}" if bare else says


def _equidistant(cases: Iterable[Case], count: int) -> Iterator[Case]:
    """`count` slices of each patient, in the middle of equal stretches of its scans."""
    for of_patient in _grouped(cases, attrgetter("patient_id")).values():
        scans = _grouped(of_patient, attrgetter("scan_id"))
        for place, scan in enumerate(scans.values()):
            slices = sorted(scan, key=attrgetter("position"))
            wanted = min((count + len(scans) - 1 - place) // len(scans), len(slices))
            yield from (slices[(2 * step + 1) * len(slices) // (2 * wanted)] for step in range(wanted))


def _at_most(cases: Iterable[Case], count: int, seed: int) -> Iterator[Case]:
    for patient, photographs in _grouped(cases, attrgetter("patient_id")).items():
        order = generator(seed, "cases", patient).permutation(len(photographs))
        yield from (photographs[place] for place in order[:count])


def _stratified(
    cases: Sequence[Case], strata: Mapping[str, int], total: int, seed: int, where: str
) -> Iterator[Case]:
    classes = _grouped(cases, lambda case: strata[case.case_id])
    sizes = [len(photographs) for photographs in classes.values()]
    low = [min(PER_CLASS, size) for size in sizes]
    if total < sum(low):
        raise StudyError(f"{where}: {PER_CLASS} per class need at least {sum(low)}; got {total}.")
    counts = apportion(sizes, total, low=low, high=sizes)
    for (label, photographs), count in zip(classes.items(), counts, strict=True):
        order = generator(seed, "cases", "class", label).permutation(len(photographs))
        yield from (photographs[place] for place in order[:count])


def _grouped(cases: Iterable[Case], key: Callable[[Case], Any]) -> dict[Any, list[Case]]:
    groups: defaultdict[Any, list[Case]] = defaultdict(list)
    for case in cases:
        groups[key(case)].append(case)
    return dict(sorted(groups.items()))


def _sorted(cases: Iterable[Case]) -> tuple[Case, ...]:
    return tuple(sorted(cases, key=attrgetter("case_id")))
