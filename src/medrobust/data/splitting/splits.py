"""Which patients train, validate and test: all cases of one are on the same side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from medrobust.core import Case, Dataset, Part, Task
from medrobust.data.splitting.split_file import read_split
from medrobust.data.splitting.strata import deal, draw_patients
from medrobust.errors import DataError, StudyError, unknown
from medrobust.parameters import parameter_model, resolve
from medrobust.rng import generator

Split = Mapping[str, Part]
"""Part of each patient."""

Share = Annotated[float, Gt(0), Lt(1)]


def make_split(dataset: Dataset, rule: Mapping[str, Any], seed: int) -> dict[str, Part]:
    """The split that a study's `split:` block asks for; depends on its patients, the rule and the seed only.

    Args:
        dataset: What is split.
        rule: `{rule: patient, test: 0.2}`, `{rule: official}`, `{file: split.csv}` or `{test: all}`; the
            first three take `validation`, the share of the training patients that validates. `{folds: 5}` is
            for `make_folds`.
        seed: Seed of the study.

    Raises:
        StudyError: Unknown rule or key, a value out of its range, or an official split that the data do not
            have.
        DataError: Too few patients, a class that a part lacks, or a wrong split file.
    """
    function, given = _rule(rule)
    split = function(dataset, seed, **resolve(parameter_model("split", function), given, "split"))
    _check_classes(dataset, split)
    return dict(sorted(split.items()))


def make_folds(dataset: Dataset, rule: Mapping[str, Any], seed: int) -> tuple[dict[str, Part], ...]:
    """The splits of a study: one, or with `{folds: k}` k of them, in which every patient is tested once.

    Args:
        dataset: What is split.
        rule: As for `make_split`, or `{folds: 5}`, which takes `validation` and `stratify` too.
        seed: Seed of the study.

    Raises:
        StudyError: As `make_split`.
        DataError: As `make_split`; fewer patients than folds, or a class that is tested in no fold.
    """
    if "folds" not in rule:
        return (make_split(dataset, rule, seed),)
    given = resolve(parameter_model("split", by_fold), rule, "split")
    folds = by_fold(dataset, seed, **given)
    for split in folds:
        _check_classes(dataset, split, (Part.TRAIN,))
    return tuple(dict(sorted(split.items())) for split in folds)


def split_cases(dataset: Dataset, split: Split, part: Part) -> tuple[Case, ...]:
    """The cases of the patients of one part, in the data set's order."""
    return tuple(case for case in dataset.cases if split[case.patient_id] == part)


def halves(dataset: Dataset, split: Split, seed: int) -> tuple[dict[str, Part], dict[str, Part]]:
    """Two splits, for targets and for surrogates, that share out the training patients in disjoint halves.

    Validation and test patients are the same in both; the other half's training patients are unused.

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
    test: Share,
    validation: Share = 0.15,
    stratify: bool = True,
) -> dict[str, Part]:
    """A random split.

    Args:
        dataset: What is split.
        seed: Seed of the study.
        rule: Its name.
        test: Share of all patients that test.
        validation: Share of the other patients that validate.
        stratify: Keep the classes' proportions, by each patient's most frequent class; segmentation has none.
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
    validation: Share = 0.15,
    stratify: bool = True,
) -> tuple[dict[str, Part], ...]:
    """Splits of which every patient tests in exactly one; sizes of their test parts differ by at most one.

    Args:
        dataset: What is split.
        seed: Seed of the study.
        folds: Their number.
        validation: Share of the patients not tested that validate.
        stratify: Keep the classes' proportions, by each patient's most frequent class; segmentation has none.
    """
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
    dataset: Dataset, seed: int, *, rule: Literal["official"], validation: Share = 0.15
) -> dict[str, Part]:
    """The split that the data come with; validation patients are drawn from its training patients."""
    if dataset.official is None:
        raise StudyError(
            f"split.rule: '{dataset.name}' has no official split. Use {{rule: patient, test: 0.2}}."
        )
    return _with_validation(dataset, dict(dataset.official), validation, seed)


def from_file(dataset: Dataset, seed: int, *, file: Path, validation: Share = 0.15) -> dict[str, Part]:
    """The split of a CSV file; validation patients are drawn from the training ones where it names none."""
    return _with_validation(dataset, read_split(file, _patients(dataset)), validation, seed)


def all_test(dataset: Dataset, seed: int, *, test: Literal["all"]) -> dict[str, Part]:
    """Every patient tests: for networks that were trained on other data."""
    return dict.fromkeys(_patients(dataset), Part.TEST)


RULES: dict[str, Callable[..., dict[str, Part]]] = {"patient": by_patient, "official": official}


def _rule(given: Mapping[str, Any]) -> tuple[Callable[..., dict[str, Part]], Mapping[str, Any]]:
    if "rule" in given:
        rule = str(given["rule"])
        if rule not in RULES:
            raise StudyError(f"split.rule: {unknown('rule', rule, RULES)}")
        return RULES[rule], given
    if "file" in given:
        return from_file, given
    if "test" in given:
        return all_test, given
    raise StudyError(
        "split: needs one of {rule: patient, test: 0.2}, {rule: official}, {file: split.csv}, {folds: 5}, "
        f"{{test: all}}; got {dict(given)}."
    )


def _patients(dataset: Dataset) -> list[str]:
    return sorted({case.patient_id for case in dataset.cases})


def _with_validation(
    dataset: Dataset, split: dict[str, Part], share: float, seed: int, stratify: bool = True
) -> dict[str, Part]:
    training = [patient for patient, part in split.items() if part == Part.TRAIN]
    if not training or Part.VALIDATION in split.values():
        return split
    count = max(round(share * len(training)), 1)
    drawn = draw_patients(dataset, training, count, generator(seed, "split", "validation"), stratify)
    if not drawn:
        raise DataError(
            f"split: no {dataset.unit} can validate, as training needs at least one (of each class) and has "
            f"{len(training)} in all. Let fewer test, or bring more."
        )
    return split | dict.fromkeys(drawn, Part.VALIDATION)


def _check_classes(dataset: Dataset, split: Split, parts: Sequence[Part] = (Part.TRAIN, Part.TEST)) -> None:
    """Refuse a split in which a class cannot be learned, or cannot be scored."""
    if dataset.task != Task.CLASSIFICATION:
        return
    for part in parts:
        cases = split_cases(dataset, split, part)
        seen = {case.label for case in cases}
        lacking = [name for label, name in enumerate(dataset.classes) if label not in seen]
        if lacking and (cases or part == Part.TEST):
            raise DataError(
                f"split: class {', '.join(repr(name) for name in lacking)} has no case in the {part} part. "
                "Change the shares or the seed, bring more cases, or leave the class out."
            )
