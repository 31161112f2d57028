import doctest
import math

import numpy as np
import pytest

import made_rows
import medrobust.metrics
from medrobust import stats
from medrobust.analysis.tables import table1
from medrobust.analysis.verdict import verdict
from medrobust.metrics import overlap, scores, similarity, surfaces
from medrobust.metrics.scores import dice_of_counts, mean_defined
from medrobust.rng import generator
from medrobust.stats import vectors

ENDS = ("", "_low", "_high")


@pytest.mark.parametrize("module", [vectors, scores, overlap, surfaces, similarity])
def test_examples_in_the_documentation(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 == found.failed


def test_every_public_name_is_there():
    assert all(callable(getattr(medrobust.metrics, name)) for name in medrobust.metrics.__all__)
    with pytest.raises(AttributeError, match="no attribute 'dise'"):
        _ = medrobust.metrics.dise


def brains(patients):
    """A study of networks a, b and c, each a little worse under attack."""
    names = [f"p{place:02}" for place in range(patients)]
    scans = {name: [f"{name}-s{scan}" for scan in range(1 + place % 2)] for place, name in enumerate(names)}
    rng = generator(0, "brains")
    luck = {(m, s): int(rng.integers(0, 1200)) for m in "abc" for n in names for s in scans[n]}

    def counts(cell, scan, structure):
        loss = 0 if cell.perturbation == "clean" else 400 + 200 * "abc".index(cell.target)
        return 4007, 3803, 3803 - luck[cell.target, scan] - loss - (structure == "left")

    return made_rows.segmentation(counts, scans), counts


@pytest.mark.parametrize("patients", [8, 20])
def test_the_numbers_of_a_report_follow_from_two_vectors(patients):
    """Dice of scans, with patients counted once; p also where patterns of signs are drawn."""
    results, counts = brains(patients)
    rows = results.overlaps.filter(perturbation="clean", target="a", structure="left").sort("scan_id")
    whose = rows["patient_id"].to_list()

    def vector(model, perturbation):
        cell = made_rows.Cell(model, perturbation, "" if perturbation == "clean" else "a")
        of_structures = [
            [float(dice_of_counts(*map(np.array, counts(cell, scan, one)))) for one in ("left", "right")]
            for scan in rows["scan_id"]
        ]
        return mean_defined(np.array(of_structures))

    pairs = verdict(results).pairs
    settings = {"resamples": 600, "seed": results.settings.seed}  # 10 for each test at its level
    row = pairs.filter(first="a", second="b").row(0, named=True)
    attacked = stats.compare_paired(
        vector("a", "dag_a"), vector("b", "dag_a"), whose, names=("a", "b"), **settings
    )
    wanted = [row[f"difference{end}"] for end in ENDS]
    assert [attacked.difference, *attacked.interval] == pytest.approx(wanted, rel=1e-12)
    assert attacked.p == row["p"]
    clean = stats.compare_paired(vector("a", "clean"), vector("b", "clean"), whose)
    wanted = [row[f"clean_difference{end}"] for end in ENDS]
    assert [clean.difference, *clean.interval] == pytest.approx(wanted, rel=1e-12)
    of_model = table1(results).filter(model="a").row(0, named=True)
    interval = stats.mean_interval(vector("a", "clean"), whose)
    assert interval == pytest.approx([of_model[f"clean{end}"] for end in ENDS], rel=1e-12)


def test_accuracies_are_counted_by_cases_in_clusters():
    rng = generator(1, "photographs")
    sizes = {f"p{place}": 1 + place % 3 for place in range(12)}
    luck = {(m, p, i): rng.random() for m in "abc" for p, n in sizes.items() for i in range(n)}

    def right(cell, patient, image):
        return luck[cell.target, patient, image] < (0.9 if cell.perturbation == "clean" else 0.5)

    results = made_rows.classification(right, sizes)
    cases = [(patient, image) for patient, n in sizes.items() for image in range(n)]
    whose = [patient for patient, _ in cases]
    first, second = (
        np.array([right(made_rows.Cell(model, "fgsm", "a"), *case) for case in cases]) for model in "ab"
    )
    row = verdict(results).pairs.filter(first="a", second="b").row(0, named=True)
    found = stats.compare_paired(first, second, whose)
    assert [found.difference, *found.interval] == pytest.approx([row[f"difference{end}"] for end in ENDS])
    assert found.p == row["p"]
    assert stats.compare_paired(first * 1.0, second * 1.0, whose, per_case=True) == found
    of_model = table1(results).filter(model="a").row(0, named=True)
    clean = [right(made_rows.Cell("a", "clean"), *case) for case in cases]
    wanted = [of_model[f"clean{end}"] for end in ENDS]
    assert stats.accuracy_interval(clean, whose) == pytest.approx(wanted)


def test_ranks_are_those_that_the_tests_leave_open():
    base = np.linspace(0.5, 0.7, 8)
    ranked = stats.rank({"low": base, "high": base + 0.2, "same": base + 0.0}, range(8))
    assert [(each.name, each.low, each.high) for each in ranked] == [
        ("high", 1, 1),
        ("low", 2, 3),
        ("same", 2, 3),
    ]
    assert ranked[0].score == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.compare_paired([0.5, math.nan], [0.1, 0.2], "ab"), "patients must be vectors"),
        (lambda: stats.compare_paired([0.5, math.nan], [0.1, 0.2], ["a", "b"]), "scores_a has 1 undefined"),
        (lambda: stats.compare_paired([True], [0.5], ["a"]), "both be booleans"),
        (lambda: stats.mean_interval([1.5, 2.0]), r"must lie in \[0, 1\]; got 1.5 to 2"),
        (lambda: stats.accuracy_interval([]), "with a case or more"),
    ],
)
def test_wrong_vectors_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_distances_are_compared_without_bounds():
    found = stats.compare_paired([3.0, 9.0, 4.0], [1.0, 2.0, 2.0], ["a", "b", "c"])
    assert found.difference == pytest.approx(11 / 3)
    assert found.interval.high > 5
