import pytest

import made_rows
from medrobust.analysis.classes import QUALITIES, quality_table
from medrobust.errors import RunError

PATIENTS = {"p1": 4, "p2": 3, "p3": 2}


def right(cell, patient, image):
    return cell.perturbation == "clean" or image == 0


def test_scores_of_a_network_that_is_always_right_when_clean():
    table = quality_table(made_rows.classification(right, PATIENTS))
    clean = table.filter(perturbation="clean").row(0, named=True)
    assert clean["macro_f1"] == clean["macro_auroc"] == 1
    assert clean["brier"] == pytest.approx(0.02)
    assert clean["calibration_error"] == pytest.approx(0.1)
    assert clean["confidence_when_wrong"] is None
    attacked = table.filter(perturbation="fgsm").row(0, named=True)
    assert attacked["confidence_when_wrong"] == pytest.approx(0.9)
    assert attacked["macro_auroc"] < 0.5
    assert list(table.columns) == ["target", "perturbation", "source", *QUALITIES]
    assert table.height == 3 * (1 + 2 * 2 * 3)


def test_seeds_are_scored_apart_and_averaged():
    once = quality_table(made_rows.classification(right, PATIENTS))
    twice = quality_table(
        made_rows.classification(lambda c, p, i: right(c, p.split("/")[0], i), PATIENTS, seeds=2)
    )
    assert once.equals(twice)


def test_segmentation_has_no_such_scores():
    brains = made_rows.segmentation(lambda cell, scan, structure: (9, 9, 9), {"p1": ["s"], "p2": ["t"]})
    with pytest.raises(RunError, match="labels of whole images; this study is one of segmentation"):
        quality_table(brains)
