from pathlib import Path
from typing import Any

import pytest

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.study.config import PAPER_ATTACKS, resolved
from medrobust.study.reading import read_study

SEGMENTATION: dict[str, Any] = {
    "task": "segmentation",
    "data": {"name": "phantom_brains"},
    "models": [{"name": "unet", "preset": "tiny"}, {"name": "segnet", "preset": "tiny"}],
}


def changed(**keys: Any) -> dict[str, Any]:
    return SEGMENTATION | keys


@pytest.mark.parametrize("task", list(Task))
def test_task_data_and_models_are_enough_and_the_rest_is_the_paper(task: Task) -> None:
    model = "unet" if task is Task.SEGMENTATION else "mobilenet_v1"
    study = read_study({"task": task, "data": {"name": "x"}, "models": [{"name": model}]})
    assert tuple(attack.name for attack in study.attacks) == PAPER_ATTACKS[task]
    assert study.matched_noise is not None
    assert study.matched_noise.name == ("rician" if task is Task.SEGMENTATION else "gaussian")
    assert study.split == {"rule": "patient", "test": 0.2 if task is Task.SEGMENTATION else 0.5}


@pytest.mark.parametrize(
    ("task", "margin"), [("segmentation", 0.02), ("classification", 0.05), ("multilabel", 0.05)]
)
def test_the_difference_that_matters_is_that_of_the_task(task: str, margin: float) -> None:
    model = "unet" if task == "segmentation" else "mobilenet_v1"
    study: dict[str, Any] = {"task": task, "data": {"name": "x"}, "models": [{"name": model}]}
    for analysis, wanted in (
        ({}, margin),
        ({"resamples": 500}, margin),
        ({"relevant_difference": None}, margin),
        ({"relevant_difference": 0.1}, 0.1),
    ):
        read = read_study(study | ({"analysis": analysis} if analysis else {}))
        assert read.analysis.relevant_difference == wanted
        assert resolved(read)["analysis"]["relevant_difference"] == wanted
        assert read.analysis.resamples == analysis.get("resamples", 10_000)
    with pytest.raises(StudyError, match=r"analysis\.relevant_difference"):
        read_study(study | {"analysis": {"relevant_difference": 0}})


def test_what_is_resolved_is_read_back_the_same() -> None:
    study = read_study(
        changed(perturbations=[{"name": "dag_a", "step": "4/255", "label": "a4"}, {"name": "dag_b"}])
    )
    again = read_study(resolved(study))
    assert resolved(again) == resolved(study)
    assert again.attacks == study.attacks


def test_a_budget_given_as_an_ssim_is_read_back_the_same() -> None:
    study = read_study(changed(perturbations=[{"name": "fgsm", "eps": {"ssim": 0.97}}]))
    assert read_study(resolved(study)).attacks == study.attacks
    assert study.attacks[0].ssim == 0.97


def test_a_grid_of_budgets_is_read_back_as_its_points() -> None:
    grid = {"name": "pgd", "eps": ["0.5/255", "2/255"]}
    study = read_study(changed(perturbations=[{"name": "dag_a"}, grid]), ["perturbations.pgd.steps=3"])
    assert [attack.label for attack in study.attacks] == ["dag_a", "pgd-0.5of255", "pgd-2of255"]
    written = resolved(study)["perturbations"]
    assert [entry.get("curve") for entry in written] == [None, "pgd", "pgd"]
    assert [entry.get("steps") for entry in written] == [200, 3, 3]
    assert read_study(resolved(study)).attacks == study.attacks


@pytest.mark.parametrize(
    "second", [{"eps": 0.1}, {"eps": 0.2, "steps": 7}, {"eps": 0.2, "on_failure": "clean"}]
)
def test_points_of_a_curve_differ_in_the_budget_only(second: dict[str, Any]) -> None:
    points = [
        {"name": "pgd", "label": "weak", "curve": "c", "eps": 0.1},
        {"name": "pgd", "label": "strong", "curve": "c", **second},
    ]
    with pytest.raises(StudyError, match=r"points of the curve 'c' must be one attack.*got weak, strong"):
        read_study(changed(perturbations=points))
    read_study(changed(perturbations=[points[0], {"name": "fgsm", "eps": 0.1, "curve": "d"}]))


def test_set_reaches_keys_of_named_items() -> None:
    study = read_study(
        SEGMENTATION, ["models.unet.width=12", "seed=4", "cases.per_patient=3", "surrogates.seeds=[7]"]
    )
    assert study.specs[0].parameters["width"] == 12
    assert (study.seed, study.cases.per_patient, study.surrogates.seeds) == (4, 3, (7,))


def test_set_reaches_perturbations_by_label() -> None:
    entries = [{"name": "dag_a", "label": "weak"}, {"name": "dag_a", "label": "strong"}]
    study = read_study(changed(perturbations=entries), ["perturbations.strong.steps=99"])
    assert [attack.parameters["steps"] for attack in study.attacks] == [200, 99]


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (changed(modles=[]), r"study: Unknown key 'modles'\. Did you mean 'models'\?"),
        (
            changed(surrogates={"seed": [1]}),
            r"study\.surrogates: Unknown key 'seed'\. Did you mean 'seeds'\?",
        ),
        (changed(training={"epoch": 3}), r"study\.training: Unknown key 'epoch'\. Did you mean 'epochs'\?"),
        (
            changed(task="segmentaton"),
            r"study\.task: .*'multilabel' or 'segmentation'.*got 'segmentaton'",
        ),
        ({"task": "segmentation"}, r"study\.data: this key is required"),
        (changed(models=[]), r"study\.models: .*at least 1 item"),
        (changed(seed=-1), r"study\.seed: .*greater than or equal to 0; got -1"),
        (changed(models=[{"name": "unett"}]), r"Did you mean 'unet'\?"),
        (changed(models=[{"name": "unet"}, {"name": "unet"}]), r"'unet' appears twice.*another `name`"),
        (changed(perturbations=[{"name": "dag_d"}]), r"Unknown perturbation 'dag_d'\. Did you mean 'dag_"),
        (changed(perturbations=[{"name": "dag_a"}] * 2), r"'dag_a' appears twice.*another `label`"),
        (
            changed(perturbations=[{"name": "dag_a", "stps": 3}]),
            r"Unknown key 'stps'\. Did you mean 'steps'\?",
        ),
        (
            changed(perturbations=[{"name": "deepfool"}]),
            r"deepfool is not for segmentation; these are: .*dag_a",
        ),
        (changed(noise={"name": "rican"}), r"Unknown perturbation 'rican'\. Did you mean 'rician'\?"),
        (changed(surrogates={"seeds": [0]}), r"must differ from the targets' seeds \(both have 0\)"),
        (
            changed(targets={"seeds": [4, 1]}, surrogates={"seeds": [1]}),
            r"must differ from the targets' seeds \(both have 1\)",
        ),
        (
            changed(targets={"seeds": [2, 2]}),
            r"study\.targets\.seeds: give every seed only once; got \[2, 2\]",
        ),
        (changed(targets={"seeds": []}), r"study\.targets\.seeds"),
        (
            changed(analysis={"endpoints": {"name": "x"}}),
            r"endpoints: must be a list of endpoints, such as \[",
        ),
        (
            changed(analysis={"costs": [[0, 1], [1, 0]]}),
            r"costs: must name the costs by true, then .*\[\[0, 1",
        ),
        (changed(surrogates={"weights": {"unt": "x"}}), r"Unknown model 'unt'\. Did you mean 'unet'\?"),
        (
            changed(surrogates={"weights": "x.pt"}),
            r"surrogates\.weights must name the file of each model's surrogate.*got 'x\.pt'",
        ),
        (
            changed(surrogates={"weights": {"unet": "imagenet"}}),
            r"weights\.unet: there is no file 'imagenet'",
        ),
        (
            changed(surrogates={"weights": {"unet": {"fil": "x"}}}),
            r"surrogates\.weights\.unet: Unknown key 'fil'\. Did you mean 'file'\?",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_advice(study: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_study(study)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", r"--set takes key\.path=value, got 'seed'"),
        ("models.unett.width=1", r"Unknown item 'unett'\. Did you mean 'unet'\?"),
        ("models.unet=3", r"would replace a whole item"),
        ("task.x=3", r"'task' holds 'segmentation', which has no keys"),
    ],
)
def test_wrong_assignments(change: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_study(SEGMENTATION, [change])


def test_files_that_are_missing_or_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"There is no study file .*medrobust init"):
        read_study(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("task: [")
    with pytest.raises(StudyError, match="is not valid YAML"):
        read_study(broken)
    broken.write_text("just words")
    with pytest.raises(StudyError, match="must hold keys and values"):
        read_study(broken)


def test_the_report_shows_so_many_cases() -> None:
    assert read_study(changed()).report.model_dump(include={"hardest", "typical", "slices"}) == {
        "hardest": 3,
        "typical": 3,
        "slices": 12,
    }
    assert read_study(changed(), ["report.hardest=0", "report.typical=5"]).report.typical == 5
    with pytest.raises(
        StudyError, match=r"report\.slices: Input should be greater than or equal to 1; got 0"
    ):
        read_study(changed(report={"slices": 0}))
    with pytest.raises(StudyError, match=r"report: Unknown key 'hardst'\. Did you mean 'hardest'"):
        read_study(changed(report={"hardst": 1}))


@pytest.mark.parametrize(
    ("keys", "targets", "surrogates"),
    [
        ({}, (0,), (1,)),
        ({"seed": 1}, (1,), (2,)),
        ({"seed": 1, "surrogates": {"data": "disjoint"}}, (1,), (2,)),
        ({"seed": 1, "targets": {}}, (1,), (2,)),
        ({"targets": {"seeds": [0, 2, 3]}}, (0, 2, 3), (1,)),
        ({"targets": {"seeds": [0, 1, 2]}}, (0, 1, 2), (3,)),
        ({"seed": 5, "targets": {"seeds": [6]}}, (6,), (7,)),
        ({"seed": 1, "surrogates": {"seeds": [4, 0]}}, (1,), (4, 0)),
    ],
)
def test_surrogates_get_a_seed_that_no_target_has(keys, targets, surrogates):
    study = read_study(changed(**keys))
    assert (study.targets.seeds, study.surrogates.seeds) == (targets, surrogates)
