"""What a study may say of training."""

from typing import Any

import pytest

from medrobust.core import Role
from medrobust.errors import StudyError
from medrobust.running.folder import trained_on
from medrobust.study.config import Study, resolved
from medrobust.study.reading import read_study


def study(augment: Any, **changes: Any) -> Study:
    return read_study(
        {
            "task": "classification",
            "data": {"name": "phantom_lesions", "images": 20, "size": 32},
            "models": [
                {"name": "mobilenet_v1"},
                {"name": "b", "architecture": "mobilenet_v1", "training": {"augment": augment}},
            ],
            "perturbations": [{"name": "fgsm", "eps": 0.01}],
            "corruptions": {"suite": "dermoscopy", "severities": [2]},
        }
        | changes
    )


@pytest.mark.parametrize(
    "augment",
    [True, {"rotation": 3}, {"gaussian": "1/4"}, ["jpeg"], "corruptions", {"affine": False, "gaussian": 0.1}],
)
def test_a_resolved_study_trains_as_the_one_that_was_written(augment: Any) -> None:
    one = study(augment)
    assert read_study(resolved(one)).trainings == one.trainings
    assert one.trainings[Role.SURROGATE, "b"] == one.trainings[Role.TARGET, "b"]
    assert one.trainings[Role.TARGET, "mobilenet_v1"].augment is True


def test_families_are_trained_on_as_they_are_tested_at_every_severity() -> None:
    trained = study("corruptions").trainings[Role.TARGET, "b"].corrupting.corruptions
    assert isinstance(trained, tuple)
    assert {"name": "jpeg", "preset": "medmnist-c-derma", "severity": [1, 2, 3, 4, 5]} in trained
    assert len(trained) == 15
    (alone,) = study([{"name": "jpeg", "quality": 50}]).trainings[Role.TARGET, "b"].corrupting.corruptions  # type: ignore[misc]
    assert alone == {"name": "jpeg", "quality": 50}


@pytest.mark.parametrize(
    ("augment", "says"),
    [
        ("corruption", "study|training.augment"),
        (3, "must be true, false, `corruptions`, a list of families, or a block; got 3"),
        (["jpg"], "Did you mean 'jpeg'"),
        (["fgsm"], "must be corruptions, or noise of a given strength; got fgsm"),
        (["gaussian"], "strength: this key is required"),
        (["jpeg", "jpeg"], "'jpeg-1' appears twice"),
        ([{"load": print}], "name a function of yours as `load: package.module:function`"),
        ({"gaussian": 0}, "greater than 0; got 0"),
        ({"gaussian": 1, "rotation": 3}, "Corrupting.rotation"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(augment: Any, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        study(augment)


def test_without_tested_families_there_are_none_to_train_on() -> None:
    with pytest.raises(StudyError, match="it tests none"):
        study("corruptions", corruptions={})


def test_a_record_knows_who_was_trained_on_what_it_tests() -> None:
    seen = {each.name: trained_on(each, one) for one in [study(["jpeg"])] for each in one.requests}
    assert (seen["jpeg"], seen["gaussian_noise"], seen["fgsm"]) == (["b"], [], [])
    noisy = study({"gaussian": 0.1})
    assert {each.name: trained_on(each, noisy) for each in noisy.requests}["gaussian_noise"] == ["b"]
    assert noisy.matched_noise is not None
    assert trained_on(noisy.matched_noise, noisy) == ["b"]


def adversarial(given: Any) -> Any:
    return study(True, training={"adversarial": given}).trainings[Role.TARGET, "b"].adversarial


def test_adversarial_training_is_written_with_every_number() -> None:
    fast = adversarial({"method": "fast", "eps": "2/255"})
    assert (fast.steps, fast.step, fast.beta, fast.support) == (1, pytest.approx(2.5 / 255), None, "auto")
    pgd = adversarial({"method": "pgd", "eps": 0.01, "support": "image"})
    assert (pgd.steps, pgd.step, pgd.support) == (7, pytest.approx(0.025 / 7), "image")
    trades = adversarial({"method": "trades", "eps": 0.01, "steps": 5})
    assert (trades.steps, trades.step, trades.beta) == (5, pytest.approx(0.005), 6)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "pgd"}, "eps"),
        ({"method": "free", "eps": 0.1}, "'fast', 'pgd' or 'trades'"),
        ({"method": "pgd", "eps": 4}, "less than 1; got 4"),
        ({"method": "fast", "eps": 0.1, "steps": 3}, "`fast` takes one step; got steps: 3. Use `pgd`"),
        ({"method": "pgd", "eps": 0.1, "beta": 3}, "beta is of `trades`, not of `pgd`"),
    ],
)
def test_what_no_method_has_is_refused(given: Any, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        adversarial(given)


def test_noise_beyond_the_range_and_a_budget_within_it_are_not_combined() -> None:
    with pytest.raises(StudyError, match="are not combined"):
        study(True, training={"adversarial": {"method": "pgd", "eps": 0.1}, "augment": {"gaussian": 0.1}})
