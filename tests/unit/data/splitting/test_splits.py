"""Splits by patient, their files, and the one case set of a study."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.core import Case, Dataset, Part, Sample, Task
from medrobust.data.splitting.case_sets import described, fewer_cases, select_cases
from medrobust.data.splitting.splits import (
    apportion,
    halves,
    make_folds,
    make_split,
    read_split,
    split_cases,
    split_csv,
)
from medrobust.errors import DataError, StudyError


def dataset_of(cases, classes=("a", "b"), task=Task.CLASSIFICATION, official=None):
    return Dataset(
        name="made_up",
        task=task,
        classes=tuple(classes),
        unit="patient",
        channels=1,
        shape=(2, 2),
        spacing=None,
        cases=tuple(sorted(cases, key=lambda case: case.case_id)),
        read=lambda case: Sample(np.zeros((1, 2, 2), np.float32), np.array(case.label or 0)),
        fingerprint="0",
        official=official,
    )


def photographs(labels_of_patients, classes="ab"):
    """A data set with one entry per patient: the labels of its photographs."""
    return dataset_of(
        [
            Case(f"p{patient:03d}-{number}", f"p{patient:03d}-{number}", f"p{patient:03d}", label)
            for patient, labels in enumerate(labels_of_patients)
            for number, label in enumerate(labels)
        ],
        classes,
    )


def scans(slices_of_patients):
    """As `photographs`; a patient has scans, and a scan the foreground of each of its slices."""
    return dataset_of(
        [
            Case(f"p{patient}s{scan}-{z:03d}", f"p{patient}s{scan}", f"p{patient}", None, z, foreground)
            for patient, own in enumerate(slices_of_patients)
            for scan, stack in enumerate(own)
            for z, foreground in enumerate(stack)
        ],
        task=Task.SEGMENTATION,
        official=None,
    )


EVEN = photographs([[patient % 2] * (1 + patient % 3) for patient in range(40)])
BRAINS = scans([[[0, *[9] * 30, 0]]] * 10)

# At least four patients of each class, so that each has one for every part.
patients_with_labels = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), max_size=20).map(
    lambda drawn: [[0], [1], [2]] * 4 + drawn
)


@settings(max_examples=60)
@given(patients_with_labels, st.floats(0.15, 0.7), st.floats(0.1, 0.4), st.integers(0, 2**31), st.booleans())
def test_a_split_is_over_patients_and_has_every_class_on_both_sides(labels, test, validation, seed, turned):
    dataset = photographs(labels, "abc")
    rule = {"rule": "patient", "test": test, "validation": validation}
    split = make_split(dataset, rule, seed)
    assert set(split) == {case.patient_id for case in dataset.cases}
    parts = {part: split_cases(dataset, split, part) for part in (Part.TRAIN, Part.VALIDATION, Part.TEST)}
    assert sum(len(cases) for cases in parts.values()) == len(dataset.cases)
    for part, cases in parts.items():
        assert {case.patient_id for case in cases} == {patient for patient in split if split[patient] == part}
    assert (
        {case.label for case in parts[Part.TRAIN]} == {case.label for case in parts[Part.TEST]} == {0, 1, 2}
    )
    assert parts[Part.VALIDATION]
    if turned:
        reordered = dataset_of(reversed(dataset.cases), "abc")
        assert make_split(reordered, rule, seed) == split


@given(st.integers(10, 60), st.integers(10, 60), st.sampled_from([0.2, 0.5]))
@settings(max_examples=30)
def test_proportions_of_the_classes_are_kept(first, second, share):
    dataset = photographs([[0]] * first + [[1]] * second)
    split = make_split(dataset, {"rule": "patient", "test": share, "validation": 0.2}, 0)
    tested = Counter(case.label for case in split_cases(dataset, split, Part.TEST))
    assert sum(tested.values()) == round(share * (first + second))
    assert abs(tested[0] - share * first) < 1
    assert abs(tested[1] - share * second) < 1


def test_without_strata_proportions_vary():
    dataset = photographs([[patient % 2] for patient in range(40)])
    counts = {
        Counter(
            case.label
            for case in split_cases(
                dataset,
                make_split(dataset, {"rule": "patient", "test": 0.5, "stratify": False}, seed),
                Part.TEST,
            )
        )[0]
        for seed in range(10)
    }
    assert len(counts) > 1


def test_the_seed_decides():
    rule = {"rule": "patient", "test": 0.5}
    assert make_split(EVEN, rule, 3) == make_split(EVEN, rule, 3)
    assert make_split(EVEN, rule, 3) != make_split(EVEN, rule, 4)


def test_more_test_patients_leave_the_draw_of_the_others():
    small, large = (make_split(BRAINS, {"rule": "patient", "test": share}, 0) for share in (0.2, 0.4))
    tested = [{patient for patient, part in split.items() if part == Part.TEST} for split in (small, large)]
    assert tested[0] < tested[1]


@pytest.mark.parametrize(("test", "validation", "expected"), [(0.2, 0.15, (7, 1, 2)), (0.01, 0.9, (1, 8, 1))])
def test_shares_are_of_all_and_of_the_training_patients(test, validation, expected):
    split = make_split(BRAINS, {"rule": "patient", "test": test, "validation": validation}, 0)
    counts = Counter(split.values())
    assert (counts[Part.TRAIN], counts[Part.VALIDATION], counts[Part.TEST]) == expected


def test_the_official_split_lends_its_training_patients_for_validation():
    official = {f"p{patient}": Part.TEST if patient > 5 else Part.TRAIN for patient in range(10)}
    dataset = dataset_of(BRAINS.cases, task=Task.SEGMENTATION, official=official)
    split = make_split(dataset, {"rule": "official"}, 0)
    assert {patient for patient, part in split.items() if part == Part.TEST} == {"p6", "p7", "p8", "p9"}
    assert Counter(split.values())[Part.VALIDATION] == 1


def test_all_test():
    assert set(make_split(EVEN, {"test": "all"}, 0).values()) == {Part.TEST}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rule": "pateint", "test": 0.2}, "Unknown rule 'pateint'. Did you mean 'patient'"),
        ({"rule": "patient"}, r"split\.test: this key is required"),
        ({"rule": "patient", "test": 1.5}, r"split\.test.*less than 1; got 1\.5"),
        ({"rule": "patient", "test": 0.2, "stratfy": True}, "Unknown key 'stratfy'. Did you mean 'stratify'"),
        ({"rule": "official", "test": 0.2}, "Unknown key 'test'"),
        ({"rule": "official"}, "'made_up' has no official split"),
        ({"test": 0.2}, r"split\.test.*'all'; got 0\.2"),
        ({}, "split: needs one of"),
    ],
)
def test_wrong_rules_are_refused(rule, message):
    with pytest.raises(StudyError, match=message):
        make_split(EVEN, rule, 0)


def test_a_class_that_one_side_lacks_is_named():
    dataset = photographs([[0]] * 10 + [[1]])
    with pytest.raises(DataError, match=r"class 'b' has no case in the (train|test) part"):
        make_split(dataset, {"rule": "patient", "test": 0.5}, 0)
    with pytest.raises(DataError, match="class 'c', 'd' has no case in the test part"):
        make_split(photographs([[0], [1]], "abcd"), {"test": "all"}, 0)


def test_too_few_patients_are_refused():
    with pytest.raises(DataError, match="at least 3 patients; 'made_up' has 2"):
        make_split(scans([[[1]]] * 2), {"rule": "patient", "test": 0.5}, 0)
    official = {"p0": Part.TRAIN, "p1": Part.TEST}
    dataset = dataset_of(scans([[[1]]] * 2).cases, task=Task.SEGMENTATION, official=official)
    with pytest.raises(DataError, match=r"no patient is left for validation: .* there are only 1"):
        make_split(dataset, {"rule": "official"}, 0)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_halves_share_no_training_patient(seed):
    split = make_split(EVEN, {"rule": "patient", "test": 0.25}, seed)
    targets, surrogates = halves(EVEN, split, seed)
    trained = [
        {patient for patient, part in half.items() if part == Part.TRAIN} for half in (targets, surrogates)
    ]
    assert not trained[0] & trained[1]
    assert trained[0] | trained[1] == {patient for patient, part in split.items() if part == Part.TRAIN}
    assert abs(len(trained[0]) - len(trained[1])) <= 1
    for part in (Part.VALIDATION, Part.TEST):
        assert (
            split_cases(EVEN, targets, part)
            == split_cases(EVEN, surrogates, part)
            == split_cases(EVEN, split, part)
        )


def test_halves_of_one_patient_are_refused():
    with pytest.raises(DataError, match=r"'disjoint' needs at least 2 training patients .* the split has 1"):
        halves(BRAINS, {"p0": Part.TRAIN, "p1": Part.TEST}, 0)
    with pytest.raises(DataError, match=r"'disjoint' needs at least 2 training patients .* the split has 2"):
        halves(photographs([[0], [1]]), {"p000": Part.TRAIN, "p001": Part.TRAIN}, 0)


@given(
    st.dictionaries(st.text("abc,\"' é", min_size=1).filter(lambda t: t == t.strip()), st.sampled_from(Part))
)
def test_a_split_file_gives_back_the_split(tmp_path_factory, split):
    with_test = split | {"tested": Part.TEST}
    path = tmp_path_factory.getbasetemp() / "split.csv"
    path.write_text(split_csv([with_test]), encoding="utf-8")
    assert read_split(path, with_test) == with_test


def test_a_split_file_of_a_study(tmp_path):
    path = tmp_path / "split.csv"
    split = make_split(EVEN, {"rule": "patient", "test": 0.5}, 0)
    path.write_text("\ufeff" + split_csv([split]), encoding="utf-8")  # as spreadsheets write it
    assert make_split(EVEN, {"file": str(path)}, 1) == split


def test_a_split_file_without_validation_patients_gets_some(tmp_path):
    path = tmp_path / "split.csv"
    split = {f"p{patient}": Part.TEST if patient < 4 else Part.TRAIN for patient in range(10)}
    path.write_text(split_csv([split]))
    assert Counter(make_split(BRAINS, {"file": str(path)}, 0).values()) == {
        Part.TEST: 4,
        Part.TRAIN: 5,
        Part.VALIDATION: 1,
    }


@pytest.mark.parametrize(
    "text",
    [
        "patient_id;part\r\n1000;test\r\n1001;train\r\n",
        "Patient_ID\tPart\n1000\tTesting\n1001\tTrain\n1000\ttest\n",
        "\npart|note|patient_id\ntest|x|1000\ntraining||1001\n",
    ],
)
def test_a_split_file_is_read_as_any_table(tmp_path, text):
    path = tmp_path / "split.csv"
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert read_split(path, ["1000", "1001"]) == {"1000": Part.TEST, "1001": Part.TRAIN}


def test_the_order_of_a_split_file_plays_no_part(tmp_path):
    rows = [f"p{patient},{'test' if patient < 4 else 'train'}" for patient in range(10)]
    splits = []
    for order in (rows, rows[::-1]):
        path = tmp_path / "split.csv"
        path.write_text("\n".join(["patient_id,part", *order]))
        splits.append(make_split(BRAINS, {"file": str(path)}, 0))
    assert splits[0] == splits[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'patient_id', 'part' is missing; found none"),
        ("id,part\n1000,test\n", "column 'patient_id' is missing; found 'id', 'part'"),
        ("patient_id,part\n1000,test\n1010,train\n", "row 3: Unknown patient '1010'. Did you mean '1001'"),
        ("patient_id,part\n1000,tests\n", "row 2: Unknown part 'tests'. Did you mean 'test'"),
        ("patient_id,part\n1000\n", "row 2: Unknown part ''"),
        (
            "patient_id,part\n1000,test\n1001,train\n1000,train\n",
            "row 4: patient '1000' is in both test and train",
        ),
        ("patient_id,part\n1000,test\n", "1 patients of the data set have no part: '1001'"),
        ("patient_id,part\n1000,train\n1001,unused\n", "no patient has the part 'test'"),
    ],
)
def test_wrong_split_files_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"mine\.csv.*{message}"):
        read_split(path, ["1000", "1001"])


def test_a_missing_split_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        read_split(tmp_path / "none.csv", [])


sized = st.lists(st.integers(0, 30), min_size=1, max_size=6)


@given(sized, st.integers(0, 60))
def test_apportioned_counts_add_up_and_grow_with_the_total(sizes, total):
    counts, more = (apportion(sizes, n, low=[0] * len(sizes), high=sizes) for n in (total, total + 1))
    assert sum(counts) == min(total, sum(sizes))
    assert all(first <= second for first, second in zip(counts, more, strict=True))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.floats(0, 1))
def test_apportioned_counts_are_within_one_of_their_share(sizes, share):
    total = round(share * sum(sizes))
    counts = apportion(sizes, total, low=[0] * len(sizes), high=sizes)
    assert all(abs(count - total * size / sum(sizes)) < 1 for count, size in zip(counts, sizes, strict=True))


def test_bounds_win_over_shares():
    assert apportion([90, 5, 5], 20, low=[0, 5, 5], high=[90, 5, 5]) == [10, 5, 5]
    assert apportion([2, 2], 1, low=[1, 1], high=[1, 1]) == [1, 1]


def all_tested(dataset):
    return dict.fromkeys({case.patient_id for case in dataset.cases}, Part.TEST)


@given(st.lists(st.integers(0, 9), min_size=40, max_size=40))
def test_slices_are_equidistant_whatever_is_labelled_in_them(foreground):
    dataset = scans([[[*foreground, 1]], [[1] * 41]])
    chosen = select_cases(dataset, all_tested(dataset), seed=0, per_patient=4)
    assert [case.position for case in chosen] == [5, 15, 25, 35] * 2


def test_what_a_case_set_holds_is_said():
    dataset = scans([[[0, 0, 5, 5], [0, 0, 0, 0]], [[0, 0, 0, 0]], [[3, 0]]])
    assert described(dataset.cases, dataset) == (
        "14 slices of 4 scans, 11 of them without any label; no Dice is defined for 1 patient"
    )
    assert described(photographs([[0], [1, 1]]).cases, photographs([[0], [1, 1]])) == "3 cases"
    masked = scans([[[0]], [[2]], [[0]]])
    assert described(masked.cases, masked) == (
        "3 images, 2 of them without any label; no Dice is defined for 2 patients"
    )


def test_a_case_set_without_any_label_is_refused():
    dataset = scans([[[0] * 9 + [4]]])
    with pytest.raises(
        StudyError, match=r"per_patient: nothing is labelled in any of the 2 chosen .* 10 in all"
    ):
        select_cases(dataset, all_tested(dataset), seed=0, per_patient=2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 50))
def test_chosen_slices_are_distinct_and_evenly_apart(stack, count):
    dataset = scans([[stack]])
    positions = [
        case.position for case in select_cases(dataset, all_tested(dataset), seed=0, per_patient=count)
    ]
    assert len(set(positions)) == len(positions) == min(count, len(stack))
    gaps = np.diff(positions)
    assert gaps.size == 0 or np.ptp(gaps) <= 1


def test_scans_of_a_patient_share_its_number():
    dataset = scans([[[1] * 20, [1] * 20, [1] * 20], [[1] * 20]])
    chosen = select_cases(dataset, all_tested(dataset), seed=0, per_patient=8)
    assert Counter(case.scan_id for case in chosen) == {"p0s0": 3, "p0s1": 3, "p0s2": 2, "p1s0": 8}


def test_only_test_patients_are_chosen_and_all_of_their_cases_without_a_limit():
    split = {f"p{patient}": Part.TEST if patient < 2 else Part.TRAIN for patient in range(10)}
    assert {case.patient_id for case in select_cases(BRAINS, split, seed=0, per_patient=3)} == {"p0", "p1"}
    assert select_cases(BRAINS, split, seed=0) == split_cases(BRAINS, split, Part.TEST)


@given(patients_with_labels, st.integers(1, 3), st.integers(0, 100))
@settings(max_examples=30)
def test_at_most_so_many_photographs_of_a_patient(labels, count, seed):
    dataset = photographs(labels, "abc")
    chosen = select_cases(dataset, all_tested(dataset), seed=seed, per_patient=count)
    available, taken = (Counter(case.patient_id for case in cases) for cases in (dataset.cases, chosen))
    assert taken == {patient: min(count, number) for patient, number in available.items()}
    assert list(chosen) == sorted(chosen, key=lambda case: case.case_id)
    assert chosen == select_cases(dataset, all_tested(dataset), seed=seed, per_patient=count)


def test_a_total_is_stratified_and_keeps_five_of_each_class():
    dataset = photographs([[0]] * 100 + [[1]] * 60 + [[2]] * 8 + [[3]] * 3, "abcd")
    chosen = select_cases(dataset, all_tested(dataset), seed=0, total=40)
    assert Counter(case.label for case in chosen) == {0: 20, 1: 12, 2: 5, 3: 3}
    assert len(select_cases(dataset, all_tested(dataset), seed=0, total=1000)) == 171


def test_a_larger_total_holds_the_smaller_one():
    dataset = photographs([[0]] * 50 + [[1]] * 50)
    small, large = (set(select_cases(dataset, all_tested(dataset), seed=0, total=n)) for n in (20, 40))
    assert small < large


def test_fewer_cases_are_stratified_and_drawn_from_those_of_the_study():
    dataset = photographs([[0]] * 100 + [[1]] * 60 + [[2]] * 8 + [[3]] * 3, "abcd")
    cases = select_cases(dataset, all_tested(dataset), seed=0, total=80)
    few = fewer_cases(dataset, cases, 20, seed=0, where="here")
    assert set(few) < set(cases)
    assert list(few) == sorted(few, key=lambda case: case.case_id)
    assert Counter(case.label for case in few) == {0: 7, 1: 5, 2: 5, 3: 3}
    assert few == fewer_cases(dataset, cases, 20, seed=0, where="here")
    assert few != fewer_cases(dataset, cases, 20, seed=1, where="here")
    assert fewer_cases(dataset, cases, 80, seed=0, where="here") == cases
    with pytest.raises(StudyError, match=r"^here: 5 per class need at least 18; got 17"):
        fewer_cases(dataset, cases, 17, seed=0, where="here")


def test_fewer_slices_are_those_of_whole_scans():
    dataset = scans([[[1] * 4] for _ in range(6)])
    few = fewer_cases(dataset, dataset.cases, 10, seed=0, where="here")
    assert list(Counter(case.scan_id for case in few).values()) == [4, 4]
    assert len({fewer_cases(dataset, dataset.cases, 10, seed=seed, where="here") for seed in range(9)}) > 1
    with pytest.raises(StudyError, match=r"^here: must be at least 4, the cases of a whole scan; got 3"):
        fewer_cases(dataset, dataset.cases, 3, seed=0, where="here")


def test_patients_draw_independently_of_each_other():
    dataset = photographs([[0, 1, 0, 1, 1]] * 30)
    chosen = select_cases(dataset, all_tested(dataset), seed=0, per_patient=1)
    numbers = defaultdict(int)
    for case in chosen:
        numbers[case.case_id[-1]] += 1
    assert len(numbers) > 3


@pytest.mark.parametrize(
    ("dataset", "limits", "message"),
    [
        (EVEN, {"per_patient": 0}, r"cases\.per_patient: must be at least 1; got 0"),
        (EVEN, {"total": 7}, r"cases\.total: 5 per class need at least 10; got 7"),
        (BRAINS, {"total": 7}, r"cases\.total: applies to photographs only; got 7"),
    ],
)
def test_wrong_limits_are_refused(dataset, limits, message):
    with pytest.raises(StudyError, match=message):
        select_cases(dataset, all_tested(dataset), seed=0, **limits)


def test_a_split_without_test_patients_has_no_cases():
    with pytest.raises(StudyError, match="no test case"):
        select_cases(BRAINS, dict.fromkeys({case.patient_id for case in BRAINS.cases}, Part.TRAIN), seed=0)


# Folds


@pytest.mark.parametrize("dataset", [EVEN, BRAINS], ids=["photographs", "scans"])
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_patient_tests_in_exactly_one_fold(dataset, folds):
    splits = make_folds(dataset, {"folds": folds}, 0)
    patients = {case.patient_id for case in dataset.cases}
    assert len(splits) == folds
    assert all(split.keys() == patients for split in splits)
    tested = Counter(patient for split in splits for patient, part in split.items() if part == Part.TEST)
    assert tested == dict.fromkeys(patients, 1)
    sizes = [Counter(split.values()) for split in splits]
    assert max(size[Part.TEST] for size in sizes) - min(size[Part.TEST] for size in sizes) <= 1
    assert all(size[Part.VALIDATION] and size[Part.TRAIN] for size in sizes)


def test_folds_keep_the_proportions_of_the_classes():
    dataset = photographs([[0]] * 30 + [[1]] * 10)
    for split in make_folds(dataset, {"folds": 5}, 1):
        labels = Counter(case.label for case in split_cases(dataset, split, Part.TEST))
        assert labels == {0: 6, 1: 2}


def test_folds_depend_on_the_seed_only():
    assert make_folds(EVEN, {"folds": 3}, 1) == make_folds(EVEN, {"folds": 3}, 1)
    assert make_folds(EVEN, {"folds": 3}, 1) != make_folds(EVEN, {"folds": 3}, 2)


def test_other_rules_are_one_fold():
    rule = {"rule": "patient", "test": 0.3}
    assert make_folds(EVEN, rule, 0) == (make_split(EVEN, rule, 0),)


def test_a_rare_class_may_be_tested_in_some_folds_only():
    dataset = photographs([[0]] * 20 + [[1]] * 3)
    assert len(make_folds(dataset, {"folds": 5}, 0)) == 5


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ({"folds": 1}, StudyError, r"split\.folds.*greater than or equal to 2; got 1"),
        ({"folds": 3, "test": 0.2}, StudyError, "split: Unknown key 'test'"),
        ({"folds": 50}, DataError, r"split\.folds: 50 folds need at least 50 patients; 'made_up' has 40"),
    ],
)
def test_wrong_folds(rule, error, message):
    with pytest.raises(error, match=message):
        make_folds(EVEN, rule, 0)


def test_a_class_that_a_fold_cannot_learn_is_refused():
    with pytest.raises(DataError, match="class 'b' has no case in the train part"):
        make_folds(photographs([[0]] * 9 + [[1]]), {"folds": 2}, 0)


def test_the_file_of_several_folds_names_them():
    lines = split_csv(make_folds(EVEN, {"folds": 2}, 0)).splitlines()
    assert lines[0] == "fold,patient_id,part"
    assert len(lines) == 1 + 2 * 40
    assert {line.partition(",")[0] for line in lines[1:]} == {"0", "1"}
