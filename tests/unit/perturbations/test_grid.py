import pytest

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.perturbations import request, requests

CLASSIFICATION, SEGMENTATION = Task.CLASSIFICATION, Task.SEGMENTATION


def test_a_list_of_budgets_is_one_attack_per_budget():
    found = requests({"name": "pgd", "eps": ["0.5/255", "2 / 255", 0.01, 1e-5], "steps": 7}, CLASSIFICATION)
    assert [each.label for each in found] == ["pgd-0.5of255", "pgd-2of255", "pgd-0.01", "pgd-1e-05"]
    assert [each.parameters["eps"] for each in found] == [0.5 / 255, 2 / 255, 0.01, 1e-5]
    assert {each.curve for each in found} == {"pgd"}
    assert {(each.name, each.parameters["steps"], each.ssim) for each in found} == {("pgd", 7, None)}


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi_fgsm", "segpgd"])
def test_every_attack_with_a_budget_takes_a_list(name):
    found = requests({"name": name, "label": "mine", "eps": [0.1, 0.2]}, SEGMENTATION)
    assert [(each.label, each.curve) for each in found] == [("mine-0.1", "mine"), ("mine-0.2", "mine")]


def test_numbers_have_four_digits_in_labels_and_all_of_them_in_the_budget():
    (found,) = requests({"name": "fgsm", "eps": [0.123456]}, CLASSIFICATION)
    assert (found.label, found.parameters["eps"]) == ("fgsm-0.1235", 0.123456)


def test_one_budget_is_what_request_makes_of_it():
    entry = {"name": "fgsm", "eps": {"ssim": 0.9}, "label": "a"}
    assert requests(entry, CLASSIFICATION) == (request(entry, CLASSIFICATION),)


def test_a_point_may_be_written_out():
    listed = requests({"name": "fgsm", "label": "a", "eps": [0.1, 0.2]}, CLASSIFICATION)
    written = [
        requests({"name": "fgsm", "label": f"a-{eps}", "curve": "a", "eps": eps}, CLASSIFICATION)[0]
        for eps in (0.1, 0.2)
    ]
    assert listed == tuple(written)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "pgd", "eps": []}, r"perturbations\.pgd\.eps: a list must hold at least one budget"),
        (
            {"name": "pgd", "eps": ["1/255", "2/510"]},
            r"pgd\.eps: budgets must differ in their first 4",
        ),
        (
            {"name": "pgd", "eps": [0.10001, 0.10002]},
            r"pgd\.eps: budgets must differ in their first 4",
        ),
        ({"name": "fgsm", "eps": [0.1, 2]}, r"fgsm-2\.eps: .*less than or equal to 1; got 2"),
        ({"name": "pgd", "eps": [0, 0.1]}, r"pgd\.eps: a list holds numbers above 0, .*clean image.*got 0\."),
        ({"name": "pgd", "eps": [-0.1]}, r"a list holds numbers above 0.*got -0\.1"),
        ({"name": "pgd", "eps": ["much"]}, r"a list holds numbers above 0.*got 'much'"),
        ({"name": "pgd", "eps": [{"ssim": 0.9}]}, r"a list holds numbers above 0.*got \{'ssim': 0\.9\}"),
        ({"name": "pgd", "eps": [True]}, r"a list holds numbers above 0.*got True"),
        ({"name": "pgd", "steps": [5, 9]}, r"pgd\.steps: takes no list; .*Only its budget, eps, does"),
        (
            {"name": "deepfool", "steps": [5, 9]},
            r"deepfool\.steps: takes no list; got \[5, 9\]\. .*with a budget: fgsm, pgd, mi_fgsm, segpgd",
        ),
        ({"name": "deepfool", "eps": [0.1]}, r"deepfool\.eps: takes no list"),
        ({"name": "fgsn", "eps": [0.1]}, r"Unknown perturbation 'fgsn'\. Did you mean 'fgsm'"),
        ({"name": "pgd", "label": "a b", "eps": [0.1]}, r"label: may hold letters"),
        ({"name": "pgd", "eps": 0.1, "curve": "a b"}, r"pgd\.curve: may hold letters.*got 'a b'"),
        ({"name": "pgd", "curve": "a"}, r"pgd\.curve: applies to attacks whose budget is a number"),
        ({"name": "deepfool", "curve": "a"}, r"deepfool\.curve: applies to attacks whose budget is a number"),
    ],
)
def test_what_makes_no_grid_is_refused(entry, message):
    with pytest.raises(StudyError, match=message):
        requests(entry, CLASSIFICATION)
