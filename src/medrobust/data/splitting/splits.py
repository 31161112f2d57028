"""Which patients train, validate and test: all cases of one are on the same side."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from medrobust.core import Case, Dataset, Part, Task
from medrobust.data.files import read_table
from medrobust.data.findings import quoted
from medrobust.errors import DataError, StudyError, nearest, unknown
from medrobust.parameters import parameter_model, resolve
from medrobust.rng import generator

Split = Mapping[str, Part]
"""Part of each patient."""

Fraction = Annotated[float, Gt(0), Lt(1)]


def make_split(dataset: Dataset, rule: Mapping[str, Any], seed: int) -> dict[str, Part]:
    """The split that a study's `split:` block asks for; it depends only on the patients, rule and seed.

    Args:
        dataset: What is split.
        rule: `{rule: patient, test: 0.2}`, `{rule: official}`, `{file: split.csv}` or `{test: all}`; the
            first three take `validation`, the fraction of the training patients that validates. `{folds: 5}`
            is for `make_folds`.
        seed: Seed of the study.

    Raises:
        StudyError: The rule or a key is unknown, a value is out of its range, or the data have no official
            split.
        DataError: Too few patients, a class that a part lacks, or a wrong split file.
    """
    function = _function_of(rule)
    split = function(dataset, seed, **resolve(parameter_model("split", function), rule, "split"))
    _check_classes(dataset, split)
    return dict(sorted(split.items()))


def make_folds(dataset: Dataset, rule: Mapping[str, Any], seed: int) -> tuple[dict[str, Part], ...]:
    """The splits of a study: one, or with `{folds: k}` k of them, in which every patient is tested once.

    Args:
        dataset: What is split.
        rule: As for `make_split`, or `{folds: 5}`, which takes `validation` and `stratify` too.
        seed: Seed of the study.

    Raises:
        StudyError: As for `make_split`.
        DataError: As for `make_split`, or there are fewer patients than folds.
    """
    if "folds" not in rule:
        return (make_split(dataset, rule, seed),)
    folds = by_fold(dataset, seed, **resolve(parameter_model("split", by_fold), rule, "split"))
    for split in folds:
        _check_classes(dataset, split, (Part.TRAIN,))
    return tuple(dict(sorted(split.items())) for split in folds)


def split_cases(dataset: Dataset, split: Split, part: Part) -> tuple[Case, ...]:
    """The cases of the patients of one part, in the data set's order."""
    return tuple(case for case in dataset.cases if split[case.patient_id] == part)


def halves(dataset: Dataset, split: Split, seed: int) -> tuple[dict[str, Part], dict[str, Part]]:
    """Two splits, for targets and for surrogates, with disjoint halves of the training patients.

    Validation and test patients are the same in both; the training patients of the other half are unused.

    Raises:
        DataError: Too few training patients, or a class that one half lacks.
    """
    training = [patient for patient, part in split.items() if part == Part.TRAIN]
    second = draw_patients(dataset, training, len(training) // 2, generator(seed, "halves"))
    if not second:
        raise DataError(
            "surrogates.data: 'disjoint' needs at least 2 training patients (of each class); the split has "
            f"{len(training)}. Use 'same', or a split with more."
        )
    first = set(training) - second
    targets = {patient: Part.UNUSED if patient in second else part for patient, part in split.items()}
    surrogates = {patient: Part.UNUSED if patient in first else part for patient, part in split.items()}
    for half in (targets, surrogates):
        _check_classes(dataset, half)
    return targets, surrogates


def by_patient(
    dataset: Dataset,
    seed: int,
    *,
    rule: Literal["patient"],
    test: Fraction,
    validation: Fraction = 0.15,
    stratify: bool = True,
) -> dict[str, Part]:
    """A random split: `test` of all patients test, and `validation` of the others validate.

    `stratify` preserves the proportions of the classes, by each patient's most frequent class.
    """
    patients = _patients(dataset)
    if len(patients) < 3:
        raise DataError(f"split: needs at least 3 {dataset.unit}s; '{dataset.name}' has {len(patients)}.")
    count = min(max(round(test * len(patients)), 1), len(patients) - 2)
    tested = draw_patients(dataset, patients, count, generator(seed, "split", "test"), stratify)
    split = {patient: Part.TEST if patient in tested else Part.TRAIN for patient in patients}
    return _with_validation(dataset, split, validation, seed, stratify)


def by_fold(
    dataset: Dataset,
    seed: int,
    *,
    folds: Annotated[int, Ge(2)],
    validation: Fraction = 0.15,
    stratify: bool = True,
) -> tuple[dict[str, Part], ...]:
    """Splits in which every patient tests exactly once; sizes of the test parts differ by at most one."""
    patients = _patients(dataset)
    if len(patients) < max(folds, 3):
        raise DataError(
            f"split.folds: {folds} folds need at least {max(folds, 3)} {dataset.unit}s; '{dataset.name}' has "
            f"{len(patients)}. Take fewer folds."
        )
    fold_of = deal(dataset, patients, folds, generator(seed, "split", "folds"), stratify)
    splits = []
    for fold in range(folds):
        split = {one: Part.TEST if fold_of[one] == fold else Part.TRAIN for one in patients}
        splits.append(_with_validation(dataset, split, validation, seed, stratify))
    return tuple(splits)


def official(
    dataset: Dataset, seed: int, *, rule: Literal["official"], validation: Fraction = 0.15
) -> dict[str, Part]:
    """The split that the data come with; validation patients are drawn from its training patients."""
    if dataset.official is None:
        raise StudyError(
            f"split.rule: '{dataset.name}' has no official split. Use {{rule: patient, test: 0.2}}."
        )
    return _with_validation(dataset, dict(dataset.official), validation, seed)


def from_file(dataset: Dataset, seed: int, *, file: Path, validation: Fraction = 0.15) -> dict[str, Part]:
    """The split in a CSV file; if it names no validation patients, they are drawn from the training ones."""
    return _with_validation(dataset, read_split(file, _patients(dataset)), validation, seed)


def all_test(dataset: Dataset, seed: int, *, test: Literal["all"]) -> dict[str, Part]:
    """Every patient tests, for networks that were trained on other data."""
    return dict.fromkeys(_patients(dataset), Part.TEST)


RULES: dict[str, Callable[..., dict[str, Part]]] = {"patient": by_patient, "official": official}


def _function_of(rule: Mapping[str, Any]) -> Callable[..., dict[str, Part]]:
    if "rule" in rule:
        name = str(rule["rule"])
        if name not in RULES:
            raise StudyError(f"split.rule: {unknown('rule', name, RULES)}")
        return RULES[name]
    if "file" in rule:
        return from_file
    if "test" in rule:
        return all_test
    raise StudyError(
        "split: needs one of {rule: patient, test: 0.2}, {rule: official}, {file: split.csv}, {folds: 5}, "
        f"{{test: all}}; got {dict(rule)}."
    )


def _patients(dataset: Dataset) -> list[str]:
    return sorted({case.patient_id for case in dataset.cases})


def _with_validation(
    dataset: Dataset, split: dict[str, Part], fraction: float, seed: int, stratify: bool = True
) -> dict[str, Part]:
    training = [patient for patient, part in split.items() if part == Part.TRAIN]
    if not training or Part.VALIDATION in split.values():
        return split
    count = max(round(fraction * len(training)), 1)
    drawn = draw_patients(dataset, training, count, generator(seed, "split", "validation"), stratify)
    if not drawn:
        raise DataError(
            f"split: no {dataset.unit} is left for validation: training needs at least one (of each class), "
            f"and there are only {len(training)}. Test fewer, or add more."
        )
    return split | dict.fromkeys(drawn, Part.VALIDATION)


def _check_classes(dataset: Dataset, split: Split, parts: Sequence[Part] = (Part.TRAIN, Part.TEST)) -> None:
    """Refuse a split in which a class cannot be learned, or cannot be scored."""
    if dataset.task.has_maps:
        return
    for part in parts:
        cases = split_cases(dataset, split, part)
        questions = len(dataset.classes) if dataset.labelspace else 1
        labels = np.array([case.label for case in cases]).reshape(len(cases), questions)
        # Of a class some image, of a finding some that shows it and some that does not.
        wanted = (1, 0) if dataset.labelspace else range(dataset.answers)
        seen = np.stack([(labels == answer).any(0) for answer in wanted])
        has = np.asarray(seen.all(0) if dataset.labelspace else seen[:, 0])
        lacking = [name for place, name in enumerate(dataset.classes) if not has[place]]
        if lacking and (cases or part == Part.TEST):
            what = (
                "finding {} is not both present and absent" if dataset.labelspace else "class {} has no case"
            )
            raise DataError(
                f"split: {what.format(quoted(lacking))} in the {part} part. "
                "Change the fractions or the seed, add more cases, or leave the class out."
            )


def apportion(sizes: Sequence[int], total: int, *, low: Sequence[int], high: Sequence[int]) -> list[int]:
    """Divide `total` among groups in proportion to their sizes, with each count in [low, high].

    Beyond `low`, one at a time goes to the group that is furthest behind (Webster's method), so that no group
    gets less when the total grows. If the bounds make `total` impossible, the bounds win.

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
    """Draw `count` of the patients at random, in the proportions of their classes; their order is irrelevant.

    One patient of every class is left, and one is drawn if there are two, even if that changes `count`.
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
    """The hand of each patient, dealt at random, class after class; sizes differ by at most one."""
    strata = _strata(dataset, sorted(patients), stratify)
    shuffled = [stratum[index] for stratum in strata for index in rng.permutation(len(stratum))]
    return {patient: place % hands for place, patient in enumerate(shuffled)}


def _strata(dataset: Dataset, patients: Sequence[str], stratify: bool) -> list[list[str]]:
    """Patients by the most frequent stratum of their cases; one stratum if nothing is to be stratified."""
    of_cases = strata_of(dataset)
    labels: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for case in dataset.cases:
        labels[case.patient_id][of_cases[case.case_id]] += 1
    strata: defaultdict[int, list[str]] = defaultdict(list)
    for patient in patients:
        strata[labels[patient].most_common(1)[0][0] if stratify else -1].append(patient)
    return [strata[label] for label in sorted(strata)]


def strata_of(dataset: Dataset) -> dict[str, int]:
    """The class of each case; of several findings the rarest that it shows; -1 without any."""
    if dataset.task is not Task.MULTILABEL:
        return {case.case_id: case.label if isinstance(case.label, int) else -1 for case in dataset.cases}
    shown = np.array([case.label for case in dataset.cases]) == 1
    rarest_first = np.argsort(shown.sum(0), kind="stable")
    first = shown[:, rarest_first].argmax(1)
    strata = np.where(shown.any(1), rarest_first[first], -1).tolist()
    return {case.case_id: stratum for case, stratum in zip(dataset.cases, strata, strict=True)}


COLUMNS = ("patient_id", "part")

PARTS = {
    "train": Part.TRAIN,
    "training": Part.TRAIN,
    "val": Part.VALIDATION,
    "valid": Part.VALIDATION,
    "validation": Part.VALIDATION,
    "test": Part.TEST,
    "testing": Part.TEST,
    "unused": Part.UNUSED,
}
"""Words for the parts of a split, in lower case."""


def split_csv(folds: Sequence[Mapping[str, Part]]) -> str:
    """The text of a split's CSV file, sorted by patient; with several folds, a column `fold` comes first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = len(folds) > 1
    writer.writerow((*(("fold",) if several else ()), *COLUMNS))
    for number, split in enumerate(folds):
        fold = (number,) if several else ()
        writer.writerows((*fold, patient, str(split[patient])) for patient in sorted(split))
    return text.getvalue()


def read_split(path: Path, patients: Collection[str]) -> dict[str, Part]:
    """The split of a CSV file `patient_id,part`, which must name each of the data set's patients.

    Raises:
        DataError: The file is missing or has other columns, names an unknown patient or part, puts a patient
            in two parts, leaves patients out, or has no test patient.
    """
    patients, split = frozenset(patients), dict[str, Part]()
    for row in read_table(path, COLUMNS):
        patient, word = row["patient_id"], row["part"]
        if patient not in patients:
            raise DataError(
                f"{row.where}: Unknown patient '{patient}'.{nearest(patient, patients)} The data set has "
                f"{len(patients)}: {quoted(sorted(patients))}."
            )
        part = PARTS.get(word.lower())
        if part is None:
            raise DataError(f"{row.where}: {unknown('part', word, Part)}")
        if split.setdefault(patient, part) != part:
            raise DataError(
                f"{row.where}: patient '{patient}' is in both {split[patient]} and {part}. Keep one."
            )
    if missing := sorted(set(patients) - set(split)):
        raise DataError(
            f"{path}: {len(missing)} patients of the data set have no part: {quoted(missing)}. "
            "Give each one of train, validation, test, unused."
        )
    if Part.TEST not in split.values():
        raise DataError(
            f"{path}: no patient has the part 'test'. Give it to those that the networks are judged on."
        )
    return split
