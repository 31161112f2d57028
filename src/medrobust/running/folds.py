"""The splits of a study: one, or several in which every patient is tested once."""

from dataclasses import dataclass

from medrobust.core import Case, Dataset, Part
from medrobust.data.splitting.case_sets import select_cases
from medrobust.data.splitting.splits import Split, make_folds, split_cases
from medrobust.running.chunks import Chunks, work_chunks
from medrobust.study.config import Study


@dataclass(frozen=True)
class Fold:
    """A split of the patients, with networks of its own.

    Attributes:
        number: Which one; None where a study has a single split.
        split: Part of each patient.
        cases: The test cases that everything is scored on.
        test_cases: All cases of its test patients; `cases` are some or all of them.
        validation_cases: Cases that scores are watched on in training and budgets are solved on.
        chunks: `cases`, cut into chunks of work.
        test_chunks: `test_cases`, cut into chunks of work.
    """

    number: int | None
    split: Split
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    validation_cases: tuple[Case, ...]
    chunks: Chunks
    test_chunks: Chunks


def folds_of(study: Study, dataset: Dataset) -> tuple[Fold, ...]:
    """The splits of a study with their cases, which are chosen among all that are tested in any fold."""
    splits = make_folds(dataset, study.split, study.seed)
    tested = {patient for split in splits for patient, part in split.items() if part == Part.TEST}
    chosen = select_cases(
        dataset,
        {patient: Part.TEST if patient in tested else Part.UNUSED for patient in splits[0]},
        seed=study.seed,
        per_patient=study.cases.per_patient,
        total=study.cases.total,
    )
    return tuple(
        _fold(dataset, split, chosen, number if len(splits) > 1 else None)
        for number, split in enumerate(splits)
    )


def _fold(dataset: Dataset, split: Split, chosen: tuple[Case, ...], number: int | None) -> Fold:
    cases = tuple(case for case in chosen if split[case.patient_id] == Part.TEST)
    tested = split_cases(dataset, split, Part.TEST)
    chunks = work_chunks(dataset, cases)
    return Fold(
        number,
        split,
        cases,
        tested,
        split_cases(dataset, split, Part.VALIDATION),
        chunks,
        chunks if len(tested) == len(cases) else work_chunks(dataset, tested),
    )
