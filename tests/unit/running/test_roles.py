"""Who attacks whom: surrogates, the other networks of a study, or nobody."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fitted_networks
import made_studies
from medrobust.core import Role
from medrobust.errors import ModelError, StudyError
from medrobust.running.check import check_networks
from medrobust.running.plan import Plan, cells_of, make_plan
from medrobust.running.setup import set_up
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

STUDY: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"rule": "patient", "test": 0.4},
    "models": [
        {"name": name, "load": f"fitted_networks:{kind}", "train": True}
        for name, kind in (("a", "coarse"), ("b", "fine"), ("c", "coarse"))
    ],
    "perturbations": [
        {"name": "fgsm", "eps": "2/255"},
        {"name": "pgd", "eps": "2/255"},
        {"name": "gaussian", "label": "weak", "strength": 0.01},
    ],
}


def planned(folder: Path, **keys: Any) -> Plan:
    setup = set_up(read_study(STUDY | keys), RunFolder(folder), data_dir=None, device=torch.device("cpu"))
    return make_plan(setup)


def cells(plan: Plan) -> set[tuple[str, str, str, str]]:
    return {
        (cell.image_set.perturbation, cell.image_set.role, cell.columns["source"], cell.target.id.name)
        for cell in cells_of(plan.sets, plan.setup.targets)
    }


def test_one_change_for_all_images_is_not_self_tested(tmp_path: Path) -> None:
    items = [{"name": "universal", "eps": "2/255"}, {"name": "fgsm", "eps": "2/255"}]
    plan = planned(tmp_path, perturbations=items)
    assert {images.perturbation for images in plan.attacks} == {"universal", "fgsm"}
    assert {images.perturbation for images in plan.tested} == {"fgsm"}


def test_others_attack_a_network_and_never_itself(tmp_path: Path) -> None:
    plan = planned(tmp_path, surrogates="others")
    assert [network.id.role for network in plan.setup.networks] == [Role.TARGET] * 3
    pairs = [(source, target) for source in "abc" for target in "abc" if source != target]
    expected = {
        (label, "transfer", source, target)
        for label in ("fgsm", "pgd", "gaussian@fgsm", "gaussian@pgd")
        for source, target in pairs
    }
    expected |= {("fgsm", "whitebox", name, name) for name in "abc"}
    expected |= {
        (label, role, "", name) for label, role in (("clean", "clean"), ("weak", "noise")) for name in "abc"
    }
    assert cells(plan) == expected
    assert len({images.name for images in plan.sets}) == len(plan.sets)


def test_none_attacks_each_network_itself_with_noise_as_its_control(tmp_path: Path) -> None:
    plan = planned(tmp_path, surrogates="none")
    expected = {
        (label, "whitebox", name, name)
        for label in ("fgsm", "pgd", "gaussian@fgsm", "gaussian@pgd")
        for name in "abc"
    }
    expected |= {
        (label, role, "", name) for label, role in (("clean", "clean"), ("weak", "noise")) for name in "abc"
    }
    assert cells(plan) == expected
    assert [images.perturbation for images in plan.shown] == ["clean", "gaussian@fgsm", "fgsm", "pgd"]
    assert {images.perturbation for images in plan.tested} == {"fgsm", "pgd"}


def test_copies_that_are_trained_apart_by_default(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert [network.id.role for network in plan.setup.networks] == [Role.TARGET] * 3 + [Role.SURROGATE] * 3
    assert {("fgsm", "transfer", source, target) for source in "abc" for target in "abc"} <= cells(plan)


ON: dict[str, Any] = {
    "perturbations": [
        {"name": "fgsm", "label": on, "eps": "2/255", "crafted_on": on}
        for on in ("surrogates", "targets", "both", "ensemble")
    ],
    "noise": {},
}


def test_an_attack_says_on_which_networks_it_is_crafted(tmp_path: Path) -> None:
    plan = planned(tmp_path, **ON)
    on_each = {("transfer", source, target) for source in "abc" for target in "abc"}
    on_itself = {("whitebox", name, name) for name in "abc"}
    expected = {
        "surrogates": on_each,
        "targets": on_itself,
        "both": on_each | on_itself,
        "ensemble": {("transfer", "ensemble", target) for target in "abc"},
    }
    for on, wanted in expected.items():
        assert {cell[1:] for cell in cells(plan) if cell[0] == on} == wanted
    assert {(images.perturbation, images.role) for images in plan.tested} == {
        ("surrogates", "transfer"),
        ("targets", "whitebox"),
        ("both", "transfer"),
        ("ensemble", "transfer"),
    }


def test_an_ensemble_of_others_leaves_its_target_out(tmp_path: Path) -> None:
    plan = planned(tmp_path, surrogates="others", **ON)
    faced = {cell[2:] for cell in cells(plan) if cell[0] == "ensemble"}
    assert faced == {(f"ensemble-without-{name}", name) for name in "abc"}


def test_an_ensemble_answers_with_the_mean_of_its_members_logits(tmp_path: Path) -> None:
    """As a source it costs what its members cost together."""
    keys = ON | {
        "surrogates": [{"name": name, "load": made(10, seed)} for name, seed in (("x", 5), ("y", 6))]
    }
    setup = planned(tmp_path / "run", **keys).setup
    (ensemble,) = setup.ensembles
    images = torch.rand(3, 3, 32, 32)
    own = [setup.network(member)(images) for member in ensemble.members]
    joined = setup.network(ensemble)
    assert torch.equal(joined(images), (own[0] + own[1]) / 2)
    assert joined.features(images).shape[1] == sum(
        setup.network(member).features(images).shape[1] for member in ensemble.members
    )


def test_ensembles_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"ensemble\.crafted_on: .* at least two .* there is one"):
        planned(tmp_path, **ON, surrogates=[{"name": "x", "load": made(10, 5)}])
    namesakes = [{"name": name, "load": made(10, 5)} for name in ("x", "ensemble")]
    with pytest.raises(StudyError, match="has the name of a network"):
        planned(tmp_path, **ON, surrogates=namesakes)


def test_roles_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.surrogates: with `others` .*'a' is the only one"):
        read_study(STUDY | {"models": STUDY["models"][:1], "surrogates": "others"})
    (tmp_path / "a.safetensors").touch()
    weights = {"a": str(tmp_path / "a.safetensors")}
    with pytest.raises(StudyError, match=r"with `models: none` no copy is made"):
        read_study(STUDY | {"surrogates": {"models": "none", "weights": weights}})
    with pytest.raises(StudyError, match="surrogates"):
        read_study(STUDY | {"surrogates": "nobody"})


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_the_given_surrogate_of_a_network_in_a_file_is_another_file(tmp_path: Path) -> None:
    for name in ("judged", "attacked"):
        torch.jit.script(fitted_networks.coarse(10, 3)).save(str(tmp_path / f"{name}.ts"))
    models = [{"name": "mine", "load": str(tmp_path / "judged.ts")}]
    given = {"models": models, "split": {"test": "all"}}

    def checked(file: str) -> None:
        study = read_study(STUDY | given | {"surrogates": {"weights": {"mine": str(tmp_path / file)}}})
        folder = RunFolder(tmp_path / f"run-{file}")
        check_networks(set_up(study, folder, data_dir=None, device=torch.device("cpu")), print)

    checked("attacked.ts")
    with pytest.raises(StudyError, match="'mine-target-s0' and 'mine-surrogate-s1' are the same network"):
        checked("judged.ts")


def test_one_network_under_two_names_does_not_attack_itself(tmp_path: Path) -> None:
    twins = [{"name": name, "load": "fitted_networks:coarse", "weights": "{}"} for name in "ab"]
    made_studies.classification(tmp_path)
    weights = next(tmp_path.rglob("*.safetensors"))
    models = [entry | {"weights": str(weights)} for entry in twins]
    keys = {"models": models, "surrogates": "others", "split": {"test": "all"}}
    setup = set_up(
        read_study(STUDY | keys), RunFolder(tmp_path / "run"), data_dir=None, device=torch.device("cpu")
    )
    with pytest.raises(StudyError, match="'a-target-s0' and 'b-target-s0' are the same network"):
        check_networks(setup, print)


class Own(nn.Module):
    """A small network; `unused` layers are part of its weights and of nothing else."""

    def __init__(self, classes: int, *, unused: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(8, classes)
        if unused:
            self.auxiliary = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).flatten(1))


class Detached(nn.Module):
    """Decodes what it is given, so that no gradient comes back."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return self.body(torch.from_numpy(images.detach().numpy()))


class Rounded(nn.Module):
    """Rounds what it is given: its gradient exists, and is zero."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return self.body((images * 32).round() / 32)


def made(classes: int = 2, seed: int = 0, **options: Any) -> Own:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Own(classes, **options)


def on_the_same_weights(change: Callable[[Own], object], **options: Any) -> Callable[[int], nn.Module]:
    """A builder of the user's that loads trained weights itself."""

    def build(classes: int) -> nn.Module:
        network = Own(classes, **options)
        network.load_state_dict(made(classes).state_dict(), strict=False)
        change(network)
        return network

    return build


PLAIN = STUDY | {
    "split": {"test": "all"},
    "data": {"name": "phantom_lesions", "images": 120, "size": 32, "balance": 1},
}


def checked(folder: Path, **keys: Any) -> Plan:
    plan = planned(folder, **PLAIN | keys)
    check_networks(plan.setup, print)
    return plan


@pytest.mark.parametrize(
    ("item", "uses"),
    [
        ({"name": "universal", "eps": 0.02}, "universal is fitted on"),
        ({"name": "mi_fgsm", "eps": 0.02, "preset": "admix"}, "mi_fgsm mixes in"),
    ],
)
def test_what_learns_from_validation_cases_needs_some(
    tmp_path: Path, item: dict[str, Any], uses: str
) -> None:
    models = [{"name": name, "load": made(10, seed)} for seed, name in enumerate("ab")]
    with pytest.raises(StudyError, match=rf"perturbations\.{uses} validation cases, but the split has none"):
        checked(tmp_path, models=models, surrogates="others", perturbations=[item])


def test_surrogates_of_any_architecture_attack_every_network(tmp_path: Path) -> None:
    judged = [{"name": name, "load": made(10, seed)} for seed, name in enumerate("ab")]
    surrogates = [{"name": "other", "load": made(10, 5)}, {"name": "third", "load": made(10, 6)}]
    plan = checked(tmp_path, models=judged, surrogates=surrogates)
    assert [network.id.folder for network in plan.setup.sources] == [
        "other-surrogate-s1",
        "third-surrogate-s1",
    ]
    pairs = [(source, target) for source in ("other", "third") for target in "ab"]
    expected = {(label, "transfer", *pair) for label in ("fgsm", "pgd") for pair in pairs}
    assert expected <= cells(plan)


def test_surrogates_are_trained_like_the_network_of_their_name_or_as_they_say() -> None:
    models = [{"name": "a", "load": "fitted_networks:coarse", "train": True, "training": {"epochs": 3}}]
    own = [
        {"name": "a", "load": "fitted_networks:coarse", "train": True},
        {"name": "b", "load": "fitted_networks:fine", "train": True, "training": {"epochs": 4}},
        {"name": "c", "load": "fitted_networks:fine", "train": True},
    ]
    study = read_study(STUDY | {"models": models, "surrogates": own, "training": {"epochs": 2}})
    epochs = {(role, name): each.epochs for (role, name), each in study.trainings.items()}
    surrogates = {(Role.SURROGATE, name): number for name, number in (("a", 3), ("b", 4), ("c", 2))}
    assert epochs == {(Role.TARGET, "a"): 3} | surrogates


@pytest.mark.parametrize(
    ("surrogates", "message"),
    [
        ([{"name": "a", "load": "fitted_networks:fine"}], "surrogates.models.a: has the name of a network"),
        ([{"name": "x y", "load": "fitted_networks:fine"}], "study.surrogates.models: a name may hold"),
        ([{"load": "fitted_networks:fine"}], "surrogates.models: every item needs a `name`"),
        ([{"name": "z", "load": "fitted_networks:fine"}] * 2, "study.surrogates.models: 'z' appears twice"),
        ([{"name": "resnet18", "wieghts": "x"}], "surrogates.models.resnet18.*Did you mean 'weights'"),
        ({"models": [{"name": "z", "load": "fitted_networks:fine"}], "seeds": [1, 2]}, "same for every seed"),
    ],
)
def test_surrogates_that_cannot_be(surrogates: object, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_study(STUDY | {"surrogates": surrogates})


def unused(network: Own) -> None:
    """Nothing that matters differs."""


def new_head(network: Own) -> None:
    nn.init.normal_(network.fc.weight)


def scaled_head(network: Own) -> None:
    network.fc.weight.data *= 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unused, "loads the trained weights itself"),
        (scaled_head, "loads the trained weights itself|begins with the trained features"),
        (new_head, "begins with the trained features"),
    ],
)
def test_a_surrogate_that_begins_as_its_target_is_told_by_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Own], object], message: str
) -> None:
    build = on_the_same_weights(change, unused=True)
    monkeypatch.setattr(fitted_networks, "coarse", build)
    keys = {"split": {"rule": "patient", "test": 0.4}, "surrogates": None}
    judged = [{"name": "mine", "load": made(10)}]
    training = [{"name": "other", "load": "fitted_networks:coarse", "train": True}]
    with pytest.raises(StudyError, match=message):
        checked(tmp_path, **keys | {"models": judged, "surrogates": training, "split": split_file(tmp_path)})


def split_file(folder: Path) -> dict[str, str]:
    """A split by file, since networks are brought."""
    setup = planned(
        folder / "whole", **PLAIN | {"surrogates": "none", "models": [{"name": "x", "load": made(10)}]}
    ).setup
    # Sorted by class, so that every part has all of them.
    patients = {case.patient_id: None for case in sorted(setup.cases, key=lambda case: case.label or 0)}
    parts = [("test", "train", "validation")[number % 3] for number in range(len(patients))]
    lines = ["patient_id,part", *(f"{patient},{part}" for patient, part in zip(patients, parts, strict=True))]
    (folder / "split.csv").write_text("\n".join(lines))
    return {"file": str(folder / "split.csv")}


@pytest.mark.parametrize("role", ["others", "brought"])
def test_a_network_in_other_words_is_the_same_network(tmp_path: Path, role: str) -> None:
    one, other = made(10), made(10, unused=True)
    other.load_state_dict(one.state_dict(), strict=False)
    judged = [{"name": "a", "load": one}, {"name": "b", "load": made(10, 3)}]
    keys: dict[str, Any] = (
        {"models": [*judged, {"name": "c", "load": other}], "surrogates": "others"}
        if role == "others"
        else {"models": judged, "surrogates": [{"name": "c", "load": other}]}
    )
    with pytest.raises(StudyError, match=r"'a-target-s0' and 'c-\w+-s\d' are the same network"):
        checked(tmp_path, **keys)


@pytest.mark.parametrize("kind", [Detached, Rounded])
def test_a_network_without_gradient_is_judged_and_never_attacked(tmp_path: Path, kind: Any) -> None:
    models = [{"name": "a", "load": made(10)}, {"name": "box", "load": kind(made(10, 1))}]
    plan = checked(tmp_path, models=models, surrogates="others")
    assert ("fgsm", "transfer", "a", "box") in cells(plan)
    assert not [cell for cell in cells(plan) if cell[2] == "box"]
    assert {source for _, role, source, _ in cells(plan) if role == "whitebox"} == {"a"}
    with pytest.raises(StudyError, match=r"fgsm follows a gradient, and box has none to follow"):
        checked(tmp_path / "alone", models=models[1:], surrogates="none")
    # Its white-box attack is no substitute for those on the surrogates that a study names.
    with pytest.raises(StudyError, match=r"fgsm follows .* and box has none .* `surrogates: none`, which"):
        checked(tmp_path / "surrogate", models=models[:1], surrogates=models[1:])


def test_a_ladder_has_the_rungs_that_its_networks_can_face(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "models": [{"name": name, "load": Detached(made(10, seed))} for seed, name in enumerate("ab")],
        "surrogates": "none",
        "perturbations": [],
    }
    with pytest.raises(StudyError, match=r"threats: mi_fgsm-2of255 asks for the gradient of a, b, .* rays"):
        checked(tmp_path, **keys, threats={"eps": "2/255", "validation_cases": 0})
    asked = {"preset": None, "attacks": ["random_signs", "rays", "square"], "validation_cases": 0}
    plan = checked(tmp_path / "able", **keys, threats={"eps": "2/255", **asked})
    assert {cell[0] for cell in cells(plan) if cell[1] == "whitebox"} >= {"rays-2of255", "square-2of255"}


def test_what_a_study_says_of_a_gradient_counts(tmp_path: Path) -> None:
    models = [{"name": "a", "load": made(10)}, {"name": "b", "load": made(10, 1), "attackable": False}]
    plan = checked(tmp_path, models=models, surrogates="others")
    assert not [cell for cell in cells(plan) if cell[2] == "b"]
    box = {"name": "b", "load": Detached(made(10, 1)), "attackable": True}
    with pytest.raises(ModelError, match=r"models\.b: It has no gradient .*attackable: false"):
        checked(tmp_path / "said", models=[models[0], box], surrogates="others")


def test_a_given_surrogate_on_the_features_of_its_target_is_refused(tmp_path: Path) -> None:
    judged, other = made(10), made(10, 1)
    other.features.load_state_dict(judged.features.state_dict())
    keys: dict[str, Any] = {"models": [{"name": "a", "load": judged}]}
    with pytest.raises(StudyError, match="begins with the trained features of 'a-target-s0'"):
        checked(tmp_path, **keys, surrogates=[{"name": "head", "load": other}])
    checked(tmp_path / "apart", **keys, surrogates=[{"name": "apart", "load": made(10, 2)}])
