import polars as pl
import pytest

from medrobust.analysis.certificates import CERTIFICATES
from medrobust.analysis.remarks import remarks
from medrobust.core import Task

SUCCESS = {"perturbation": "fgsm", "source": "a", "role": "transfer", "fooled": 0.5, "fooled_of_right": 0.5}
BUDGET = {"perturbation": "fgsm", "source": "a", "role": "transfer", "parameter": "eps"}
BUDGET |= {"ssim_wanted": 0.98, "ssim_reached": 0.98}
MATCH = {"perturbation": "gaussian@fgsm", "source": "a", "role": "transfer", "n_missed": 0, "n_images": 50}


TEST = {"perturbation": "fgsm", "source": "a", "source_seed": 1, "check": "noise", "passed": True}
TEST |= {"seen": "It fools 88 %, noise 12 %."}


FOUND = {
    "severity": "note",
    "kind": "few test cases",
    "n_times": 1,
    "seen": "Few.",
    "what_to_do": "Bring more.",
}


def of(
    task=Task.CLASSIFICATION,
    success=(SUCCESS,),
    budgets=(BUDGET,),
    matching=(MATCH,),
    selftests=(TEST,),
    audit=(FOUND,),
):
    rows = {"success": success, "budgets": budgets, "matching": matching, "selftests": selftests}
    rows |= {"audit": audit, "transforms": (), "threats": (), "certificates": (), "overfitting": ()}
    frames = {"success": SUCCESS, "budgets": BUDGET, "matching": MATCH, "selftests": TEST, "audit": FOUND}
    frames["transforms"] = {"target": "a", "family": "coil", "search": "worst", "drop_points": 1.0}
    frames["certificates"] = dict.fromkeys(CERTIFICATES, 0) | {"model": "a", "radius": 0.0}
    frames["threats"] = {"target": "a", "rung": "white box", "drop_points": 1.0}
    frames["overfitting"] = {"model": "a", "one_step": 0.5, "several_steps": 0.5}
    tables = {name: pl.DataFrame([frames[name], *given])[1:] for name, given in rows.items()}
    return [(remark.about, remark.sentence) for remark in remarks(tables, task)]


def test_nothing_is_said_where_all_went_well():
    assert of() == []
    assert of(budgets=(), matching=()) == []


def test_errors_in_the_data_are_said_and_warnings_are_not():
    wrong = {"kind": "same image on both sides", "seen": "a.jpg and b.jpg.", "what_to_do": "Keep one."}
    rows = [FOUND | wrong | {"severity": "error", "n_times": 3}, FOUND | wrong | {"severity": "warning"}]
    text = "The data: same image on both sides. a.jpg and b.jpg. And 2 more like it. Keep one."
    assert of(audit=rows) == [("data", text)]


def test_attacks_that_fool_nobody_are_named_with_their_sources():
    success = [
        SUCCESS | {"role": "whitebox", "fooled_of_right": 0.0},
        SUCCESS | {"fooled_of_right": 0.0},
        SUCCESS | {"source": "b", "fooled_of_right": None},
        SUCCESS | {"source": "c", "fooled_of_right": 0.01},
    ]
    assert of(success=success) == [
        (
            "success",
            "fgsm fooled a, b, a (white-box) on no image that it gets right when clean: its cells say "
            "nothing about the targets.",
        )
    ]


def test_failed_self_tests_are_named_with_what_was_seen():
    rows = [
        TEST,
        TEST | {"check": "budget", "passed": None},
        TEST | {"source": "b", "passed": False, "seen": "Too weak."},
        TEST | {"source": "b", "check": "chance", "passed": False, "seen": "Far from chance."},
    ]
    assert of(selftests=rows) == [
        ("selftests", "fgsm fails its self-tests on b. noise: Too weak. chance: Far from chance.")
    ]


def test_in_segmentation_pixels_are_fooled():
    rows = [SUCCESS | {"fooled_of_right": None}, SUCCESS | {"source": "b", "fooled": 0.0}]
    assert of(Task.SEGMENTATION, success=rows) == [
        ("success", "fgsm fooled b on no pixel: its cells say nothing about the targets.")
    ]


@pytest.mark.parametrize(("reached", "said"), [(0.9751, False), (0.9749, True), (0.9851, True)])
def test_budgets_are_off_beyond_the_tolerance(reached, said):
    found = of(budgets=[BUDGET | {"ssim_reached": reached}])
    assert len(found) == said
    if said:
        assert found[0][1].startswith(
            "fgsm: eps, solved on validation cases of a for an SSIM of 0.98, gives "
        )
        assert f"gives {reached} on the test cases, more than 0.005 off" in found[0][1]


def test_one_sentence_is_about_all_sources_of_an_attack():
    rows = [BUDGET | {"ssim_reached": 0.96}, BUDGET | {"source": "b", "ssim_reached": 0.97}]
    ((_, sentence),) = of(budgets=rows)
    assert "of a, b for" in sentence
    assert "gives 0.9600 to 0.9700 on" in sentence


def test_unreachable_matches_are_counted():
    rows = [MATCH | {"n_missed": 2}, MATCH, MATCH | {"source": "b", "n_missed": 1}]
    assert of(matching=rows) == [
        (
            "noise",
            "gaussian@fgsm (a, b): for 3 of 100 images no strength matches the SSIM of the attack within the "
            "tolerance.",
        )
    ]
