"""What is read and checked before a run begins its work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import made_photos
import made_scans
import made_studies
from fitted_networks import save
from medrobust.core import Part, Role
from medrobust.data.reading import read_all
from medrobust.data.splitting.splits import make_split
from medrobust.errors import DataError, ModelError, RunError, StudyError
from medrobust.running import setup as module
from medrobust.running.check import check_networks
from medrobust.running.plan import make_plan
from medrobust.running.setup import Setup, set_up
from medrobust.running.training_folder import load_trained
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

LESIONS: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"rule": "patient", "test": 0.4},
    "models": [{"name": "mine", "load": "fitted_networks:coarse", "train": True}],
}
CPU = torch.device("cpu")


def setup_of(folder: Path, **keys: Any) -> Setup:
    return set_up(read_study(LESIONS | keys), RunFolder(folder / "run"), data_dir=None, device=CPU)


def test_surrogates_are_apart_from_targets(tmp_path: Path) -> None:
    setup = setup_of(tmp_path, surrogates={"seeds": [1, 2]})
    assert [network.id.role for network in setup.surrogates] == [Role.SURROGATE] * 2
    networks = (*setup.targets, *setup.surrogates)
    weights = [setup.fresh(network).body.head.weight for network in networks]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])
    assert networks[0].recipe != networks[1].recipe


def test_disjoint_surrogates_share_no_training_patient(tmp_path: Path) -> None:
    data = LESIONS["data"] | {"images": 240}
    setup = setup_of(tmp_path, surrogates={"data": "disjoint"}, data=data)
    target, surrogate = (
        {case.patient_id for case in setup.training_cases(network)}
        for network in (setup.targets[0], setup.surrogates[0])
    )
    assert target
    assert surrogate
    assert not target & surrogate
    assert not (target | surrogate) & {case.patient_id for case in setup.cases}


def test_a_brought_network_gets_surrogates_that_are_trained_here(tmp_path: Path) -> None:
    study = made_studies.classification(tmp_path)
    without = read_study(study, ["surrogates.weights={}"])
    setup = set_up(without, RunFolder(tmp_path / "run"), data_dir=None, device=CPU)
    assert [network.is_trained_here for network in (*setup.targets, *setup.surrogates)] == [False] * 2 + [
        True
    ] * 2
    assert all(network.spec.weights == "none" for network in setup.surrogates)
    with pytest.raises(
        StudyError, match=r"study\.targets\.seeds: 'fine' brings .* the same for every seed; got"
    ):
        read_study(study, ["surrogates.weights={}", "targets.seeds=[0, 2]"])


def test_a_surrogate_does_not_begin_as_the_trained_target(tmp_path: Path) -> None:
    made_studies.classification(tmp_path)

    def check_with(function: str) -> None:
        keys = {
            "models": [{"name": "mine", "load": function}],
            "split": {"file": str(tmp_path / "split.csv")},
        }
        setup = setup_of(tmp_path, data=made_studies.LESIONS, **keys)
        assert setup.surrogates[0].is_trained_here
        check_networks(setup, print)

    with pytest.raises(StudyError, match=r"models\.mine: made_networks:with_weights_of_its_own loads the"):
        check_with("made_networks:with_weights_of_its_own")
    with pytest.raises(
        StudyError, match=r"models\.mine: made_networks:the_same_again returns the same weights"
    ):
        check_with("made_networks:the_same_again")
    check_with("made_networks:classifier")


def test_what_keeps_a_network_from_being_trained_is_said_of_all_before_any_is(tmp_path: Path) -> None:
    """The second network, and what a recipe needs, would only be found hours later."""
    good = {"name": "good", "load": "fitted_networks:coarse", "train": True}
    frozen = {"name": "cold", "load": "own_networks:frozen", "train": True}
    with pytest.raises(ModelError, match=r"models\.cold cannot be trained: all of its weights are frozen"):
        check_networks(setup_of(tmp_path, models=[good, frozen]), print)
    setup = setup_of(tmp_path, training={"patience": 3})
    unwatched = replace(setup, folds=(replace(setup.folds[0], validation_cases=()),))
    with pytest.raises(DataError, match="mine-target-s0 has no labelled validation cases for early stopping"):
        check_networks(unwatched, print)


def test_what_was_changed_for_a_network_to_run_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    check_networks(
        setup_of(tmp_path, models=[{"name": "mine", "load": "own_networks:half", "train": True}]), said.append
    )
    assert said == ["models.mine: Its weights were torch.float16; they are used as float32."]


def test_a_damaged_test_image_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.open_dataset

    def with_a_damaged_case(*arguments: Any, **keywords: Any) -> Any:
        dataset = original(*arguments, **keywords)
        split = make_split(dataset, LESIONS["split"], 0)
        victim = next(case for case in dataset.cases if split[case.patient_id] == Part.TEST)

        def read(case: Any) -> Any:
            if case == victim:
                raise DataError(f"{victim.case_id}: cannot be read")
            return dataset.read(case)

        return replace(dataset, read=read)

    monkeypatch.setattr(module, "open_dataset", with_a_damaged_case)
    setup = setup_of(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_all(setup.dataset, setup.all_cases)


def test_trained_weights_are_verified(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    target = setup.targets[0]
    folder = tmp_path / "run" / "models" / target.id.folder
    folder.mkdir(parents=True)
    with pytest.raises(RunError, match=r"does not match its card|card\.json cannot be read"):
        setup.network(target)
    save(setup.fresh(target).body, folder / "weights.safetensors")
    (folder / "card.json").write_text('{"weights_sha256": "of something else"}')
    with pytest.raises(
        RunError, match=r"weights\.safetensors does not match its card.*to train the network again"
    ):
        load_trained(setup.fresh(target), RunFolder(folder))


def test_a_plan_has_every_cell_and_computes_nothing(tmp_path: Path) -> None:
    plan = make_plan(setup_of(tmp_path, surrogates={"seeds": [1, 2]}))
    transfer = [images for images in plan.attacks if images.role == "transfer"]
    whitebox = [images for images in plan.attacks if images.role == "whitebox"]
    assert (len(transfer), len(whitebox)) == (3 * 2, 1)
    assert len(plan.noise) == len(transfer)
    assert len({images.name for images in plan.sets}) == len(plan.sets)
    assert [images.perturbation for images in plan.shown] == [
        "clean",
        "gaussian@fgsm",
        "fgsm",
        "deepfool",
        "saliency_map",
    ]
    assert not (tmp_path / "run" / "crafted").exists()


def test_images_that_are_too_small_for_ssim_are_refused(tmp_path: Path) -> None:
    root = made_scans.nifti_pairs(tmp_path / "pairs")
    data = {"name": "nifti_pairs", "root": str(root), "axis": "volume", "patch": [8, 16, 16], "spacing": 1}
    study = {"task": "segmentation", "data": data, "models": [{"name": "unet"}]}
    with pytest.raises(StudyError, match=r"holds images of 8 x 16 x 16, .* at least 11 along every side"):
        set_up(read_study(study), RunFolder(tmp_path / "run"), data_dir=None, device=CPU)


def test_progress_of_opening_and_reading_rises_to_the_end(tmp_path: Path) -> None:
    root = made_photos.isic_segmentation(tmp_path / "isic")
    data = {"name": "isic_segmentation", "root": str(root), "size": 32}
    study = {"task": "segmentation", "data": data, "split": {"rule": "patient", "test": 0.4}}
    ticks: list[tuple[float, str]] = []
    set_up(
        read_study(study | {"models": [{"name": "unet"}]}),
        RunFolder(tmp_path / "run"),
        data_dir=None,
        device=CPU,
        progress=lambda done, note: ticks.append((done, note)),
    )
    shares = [done for done, _ in ticks]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.05
    kinds = dict.fromkeys(note.split()[0] for _, note in ticks)
    assert list(kinds) == ["checksum", "header", "mask"]
