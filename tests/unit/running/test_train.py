import csv
import json
import logging
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from made_data import squares, stripes
from medrobust.core import NetworkId, Role, Task
from medrobust.errors import DataError, ModelError, RunError
from medrobust.models import load_weights, model_spec
from medrobust.running.regimes import SCHEDULES, learning_rate, regime_of
from medrobust.running.setup import fresh_network
from medrobust.running.train import train
from medrobust.storage import RunFolder
from medrobust.study.training import TrainingConfig

ID = NetworkId("unet", Role.TARGET, 0)
CPU = torch.device("cpu")


class Killed(BaseException):
    pass


def kill_after(epochs):
    """A progress that ends the process, as it were, in the middle of an epoch."""

    def progress(done, note):
        if note.startswith(f"epoch {epochs + 1}/"):
            raise Killed

    return progress


def network_for(dataset, network_id=ID, seed=0, **entry):
    task = dataset.task
    tiny = {"name": "unet", "preset": "tiny", "keep_probability": 0.8}
    named = tiny if task == "segmentation" else {"name": "mobilenet_v1"}
    spec = model_spec({**named, **entry}, task)
    return fresh_network(spec, dataset, network_id=network_id, seed=seed)


def run(
    folder,
    dataset,
    network=None,
    *,
    network_id=ID,
    seed=0,
    held_out=2,
    device=CPU,
    progress=lambda *_: None,
    **config,
):
    patients = sorted({case.patient_id for case in dataset.cases})
    validation = patients[:held_out]
    network = network or network_for(dataset, network_id, seed)
    card = train(
        network,
        dataset,
        [case for case in dataset.cases if case.patient_id not in validation],
        [case for case in dataset.cases if case.patient_id in validation],
        config=TrainingConfig(**({"epochs": 4, "batch_size": 4} | config)),
        network_id=network_id,
        seed=seed,
        folder=RunFolder(folder),
        device=device,
        progress=progress,
    )
    return network, card


def weights_of(folder):
    return (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("config", [{"recipe": "quick"}, {"recipe": "paper", "patience": 9}])
def test_going_on_after_a_kill_changes_nothing(tmp_path, config):
    data = squares()
    run(tmp_path / "straight", data, **config)
    with pytest.raises(Killed):
        run(tmp_path / "killed", data, progress=kill_after(2), **config)
    assert (tmp_path / "killed" / "last.ckpt.gz").exists()
    run(tmp_path / "killed", data, **config)
    for file in ("weights.safetensors", "card.json", "log.csv"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()


def test_a_kill_between_the_last_epoch_and_the_end(tmp_path, monkeypatch):
    data = squares()
    run(tmp_path / "straight", data)
    with monkeypatch.context() as patch:
        patch.setattr("medrobust.running.train.finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(tmp_path / "killed", data)
    run(tmp_path / "killed", data)
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "straight")


def test_the_folder_of_a_finished_network(tmp_path):
    network, card = run(tmp_path, squares())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "log.csv", "weights.safetensors"]
    assert json.loads((tmp_path / "card.json").read_text()) == card
    with (tmp_path / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[-1]["loss"]) == card["curve"][-1]["loss"]
    assert card["identity"]["data"] == squares().fingerprint
    assert card["train_cases"] == 12
    assert card["parameters"] == sum(p.numel() for p in network.parameters())
    assert not network.training
    again = network_for(squares(), seed=5)
    load_weights(again, tmp_path / "weights.safetensors")
    images = torch.rand(1, 1, 20, 18)
    torch.testing.assert_close(again(images), network(images))


def test_a_finished_network_is_not_trained_again(tmp_path):
    network, card = run(tmp_path, squares())
    ticks = []
    again, same_card = run(tmp_path, squares(), progress=lambda *progress: ticks.append(progress))
    assert (same_card, ticks) == (card, [])
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), network.parameters(), strict=True))


def test_changed_weights_are_noticed(tmp_path):
    run(tmp_path, squares(), epochs=1)
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="does not match its card"):
        run(tmp_path, squares(), epochs=1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 2}, "regime"),
        ({"augment": False}, "regime"),
        ({"slices_per_scan": 3}, "regime"),
        ({"seed": 3}, "seed"),
        ({"held_out": 1}, "train_cases, validation_cases"),
        ({"network_id": replace(ID, role=Role.SURROGATE)}, "network_id"),
    ],
)
def test_the_folder_of_another_training_is_refused(tmp_path, change, named):
    run(tmp_path, squares(), epochs=1)
    with pytest.raises(RunError, match=f"belongs to another training: {named} differ"):
        run(tmp_path, squares(), **({"epochs": 1} | change))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, squares(), progress=kill_after(1))
    with pytest.raises(RunError, match=r"last\.ckpt\.gz belongs to another training: regime differ"):
        run(tmp_path, squares(), learning_rate=0.1)


def test_seed_role_and_fold_make_other_networks(tmp_path):
    ids = [ID, replace(ID, role=Role.SURROGATE), replace(ID, seed=1), replace(ID, fold=1)]
    made = set()
    for network_id in ids:
        run(tmp_path / network_id.folder, squares(), network_id=network_id, epochs=1)
        made.add(weights_of(tmp_path / network_id.folder))
    run(tmp_path / "other", squares(), seed=1, epochs=1)
    made.add(weights_of(tmp_path / "other"))
    assert len(made) == 5


def test_global_state_is_left_alone(tmp_path):
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    filters, level = list(warnings.filters), logging.getLogger("lightning.fabric").level
    run(tmp_path, squares(), epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert (warnings.filters, logging.getLogger("lightning.fabric").level) == (filters, level)


def test_the_global_generator_does_not_matter(tmp_path):
    run(tmp_path / "a", squares(), epochs=1)
    torch.rand(3)
    run(tmp_path / "b", squares(), epochs=1)
    assert weights_of(tmp_path / "a") == weights_of(tmp_path / "b")


def test_squares_are_learnt(tmp_path):
    _, card = run(tmp_path, squares(scans=6), epochs=12, learning_rate=0.02)
    assert card["score"] > 0.9
    assert card["score_name"] == "mean Dice"
    assert card["curve"][-1]["loss"] < card["curve"][0]["loss"]


def test_stripes_are_learnt(tmp_path):
    network = network_for(
        stripes(), load="made_networks:classifier", train=True, input={"mean": 0.5, "std": 0.3}
    )
    _, card = run(tmp_path, stripes(), network, epochs=30, learning_rate=0.05, augment=False)
    assert card["score"] == 1.0
    assert card["score_name"] == "balanced accuracy"


def test_patience_keeps_the_best_epoch(tmp_path, monkeypatch):
    scores = iter([0.2, 0.6, 0.5, 0.6, 0.9])
    monkeypatch.setattr("medrobust.running.train.score", lambda *_: next(scores))
    _, card = run(tmp_path / "stopped", squares(), recipe="paper", epochs=9, patience=2)
    assert [row["score"] for row in card["curve"]] == [0.2, 0.6, 0.5, 0.6]
    assert (card["best_epoch"], card["score"]) == (2, 0.9)
    scores = iter([0.2, 0.6, 0.6])
    run(tmp_path / "short", squares(), recipe="paper", epochs=2, patience=2)
    assert weights_of(tmp_path / "stopped") == weights_of(tmp_path / "short")


def test_batch_norm_statistics_are_estimated_again(tmp_path):
    """After one epoch running means lag behind; the quick recipe's are those of the training images."""
    quick, _ = run(tmp_path, stripes(), epochs=1, augment=False, network_id=replace(ID, name="mobilenet_v1"))
    norm = quick.body.bn1
    images = torch.stack([torch.from_numpy(stripes().read(case).image) for case in stripes().cases[4:]])
    seen = []
    quick.body.conv_stem.register_forward_hook(lambda *_: seen.append(_[2]))
    quick(images)
    torch.testing.assert_close(norm.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert norm.momentum == 0.1


def test_progress_says_loss_and_score(tmp_path):
    ticks = []
    run(tmp_path, squares(), epochs=2, progress=lambda *progress: ticks.append(progress))
    done, notes = zip(*ticks, strict=True)
    assert done == tuple(sorted(done))
    assert 0 <= done[0] < done[-1] <= 1
    assert notes[0] == "epoch 1/2"
    assert notes[-1].startswith("epoch 2/2, loss ")
    assert "mean Dice" in notes[-1]


def test_without_validation_cases_there_is_no_score(tmp_path):
    _, card = run(tmp_path / "quick", squares(), epochs=1, held_out=0)
    assert card["score"] is None
    with pytest.raises(DataError, match="no labelled validation cases for early stopping"):
        run(tmp_path / "paper", squares(), recipe="paper", held_out=0)


def test_validation_cases_without_any_label_have_no_score(tmp_path):
    data = squares()
    first = data.cases[0].patient_id
    blank = tuple(replace(case, foreground=0) if case.patient_id == first else case for case in data.cases)

    def read(case):
        sample = data.read(case)
        return sample if case.foreground else sample._replace(label=0 * sample.label)

    empty = replace(data, cases=blank, read=read)
    _, card = run(tmp_path / "quick", empty, epochs=1, held_out=1)
    assert card["validation_cases"] > 0
    assert card["score"] is None
    with pytest.raises(DataError, match="no labelled validation cases for early stopping"):
        run(tmp_path / "paper", empty, recipe="paper", held_out=1)


def test_an_empty_class_is_an_error(tmp_path):
    data = stripes()
    only = replace(data, cases=tuple(case for case in data.cases if case.label == 0))
    with pytest.raises(DataError, match="No training case of stripes is of class horizontal"):
        run(tmp_path, only)


def test_too_few_cases(tmp_path):
    data = squares(scans=2)
    empty = replace(data, cases=tuple(replace(case, foreground=0) for case in data.cases))
    with pytest.raises(DataError, match="has 0 training cases with labels"):
        run(tmp_path, empty, held_out=1)


def test_divergence_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"diverged: its loss is .* Lower training\.learning_rate"):
        run(tmp_path, squares(), recipe="paper", learning_rate=1e30, patience=4)


def test_a_loss_that_is_no_number_from_the_start_is_no_matter_of_the_learning_rate(tmp_path):
    network = network_for(squares())
    network.body.register_forward_hook(
        lambda _, inputs, logits: logits + inputs[0].sub(inputs[0].amin()).log()
    )
    with pytest.raises(
        ModelError, match=r"cannot begin: its loss is nan in the first batch, before any step"
    ):
        run(tmp_path, squares(), network)


def test_bfloat16_trains_too(tmp_path):
    run(tmp_path / "a", squares(), epochs=1, precision="bf16-mixed")
    run(tmp_path / "b", squares(), epochs=1)
    assert weights_of(tmp_path / "a") != weights_of(tmp_path / "b")


@pytest.mark.parametrize(
    ("key", "value"), [("epochs", 0), ("learning_rate", 0), ("epoch", 3), ("precision", 8)]
)
def test_wrong_settings(key, value):
    with pytest.raises(ValidationError, match=key):
        TrainingConfig(**{key: value})


@pytest.mark.parametrize("task", list(Task))
def test_every_setting_reaches_the_regime(task):
    given = {"epochs": 3, "batch_size": 5, "learning_rate": 0.5, "patience": 7, "slices_per_scan": 2}
    regime = regime_of(TrainingConfig(**given, augment={"rotation": 3}), task)
    assert {key: getattr(regime, key) for key in given} == given
    assert regime.augmentation.rotation == 3
    assert regime_of(TrainingConfig(augment=False), task).augmentation is None
    assert regime_of(TrainingConfig(), task).augmentation.flip == (task == "classification")


def test_learning_rates_start_peak_and_end_where_they_should():
    quick = regime_of(TrainingConfig(learning_rate=2.0), Task.SEGMENTATION)
    rates = [learning_rate(quick, done) for done in np.linspace(0, 1, 101)]
    assert (rates[0], max(rates), rates[25]) == (0.08, 2.0, 2.0)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert SCHEDULES["decaying"](0.5, 4) == pytest.approx(0.94)
    assert SCHEDULES["constant"](0.7, 4) == 1
    assert all(math.isfinite(rate) for rate in rates)
