"""Training on corrupted and noisy images."""

import numpy as np
import pytest
import torch
from scipy import stats

from made_data import squares
from medrobust.core import NetworkId, Role, Task, silent
from medrobust.models import model_spec
from medrobust.perturbations import requests
from medrobust.rng import generator
from medrobust.running.augment import corrupted, noisy
from medrobust.running.batches import stack
from medrobust.running.regimes import regime_of
from medrobust.running.setup import fresh_network
from medrobust.running.train import train
from medrobust.storage import RunFolder
from medrobust.study.training import TrainingConfig

CPU = torch.device("cpu")


def rngs(n, *key):
    return [generator(0, *key, place) for place in range(n)]


def families(*items, task=Task.CLASSIFICATION):
    return [each for item in items for each in requests(item, task)]


def test_noise_has_its_standard_deviation_everywhere_and_is_not_clipped():
    images = torch.zeros(4, 1, 40, 40)
    noise = noisy(images, 0.25, rngs(4))
    assert stats.kstest(noise.flatten().numpy() / 0.25, "norm").pvalue > 0.01
    assert noise.min() < -0.5
    assert torch.equal(noisy(images[2:], 0.25, rngs(4)[2:]), noise[2:])  # whatever the batch


def test_half_of_the_images_go_through_one_family_each_at_every_strength():
    images, labels = torch.full((600, 1, 11, 11), 0.5), torch.zeros(600, dtype=torch.int64)
    asked = families(
        {"name": "brightness_up", "severity": [1, 3]}, {"name": "brightness_down", "severity": 2}
    )
    after, same = corrupted(images, labels, asked, rngs(600))
    assert torch.equal(same, labels)
    alone = [each.perturbation.function(None, images[:1], labels[:1], **each.parameters) for each in asked]
    found = [int((after == made).all((1, 2, 3)).sum()) for made in alone]
    clean = int((after == images).all((1, 2, 3)).sum())
    assert clean + sum(found) == 600
    # Both families alike, and in the first both strengths.
    assert stats.chisquare([clean, *found], [300, 75, 75, 150]).pvalue > 0.01


def test_maps_move_with_the_pixels_and_are_unknown_outside():
    batch = stack(squares(), squares().cases[:6], CPU)
    asked = families({"name": "translation", "severity": 5}, task=Task.SEGMENTATION)
    images, labels = corrupted(batch.images, batch.labels, asked, rngs(6, "move"))
    moved = (images != batch.images).flatten(1).any(1)
    assert 0 < moved.sum() < 6
    assert torch.equal(labels[~moved], batch.labels[~moved])
    assert ((labels[moved] == -1).flatten(1).any(1)).all()


class Killed(BaseException):
    pass


def kill(done, note):
    if note.startswith("epoch 2/"):
        raise Killed


def test_a_training_goes_on_after_a_kill(tmp_path):
    data, name = squares(), NetworkId("unet", Role.TARGET, 0)
    spec = model_spec({"name": "unet", "preset": "tiny"}, data.task)
    augment = {"corruptions": [{"name": "rician_noise", "severity": [5]}], "gaussian": 0.1}

    def trained(folder, progress=silent):
        network = fresh_network(spec, data, network_id=name, seed=0)
        config = TrainingConfig(epochs=2, batch_size=8, augment=augment)
        common = {"network_id": name, "seed": 0, "folder": RunFolder(tmp_path / folder), "device": CPU}
        return train(network, data, data.cases, (), config=config, progress=progress, **common)

    straight = trained("straight")
    with pytest.raises(Killed):
        trained("killed", kill)
    assert trained("killed") == straight


def test_a_recipe_says_nothing_of_what_is_not_asked_for():
    plain = TrainingConfig(epochs=3)
    known = "recipe epochs batch_size learning_rate patience augment slices_per_scan precision devices"
    assert set(plain.deciding()) == set(known.split())
    regime = regime_of(plain, Task.SEGMENTATION).as_data()
    named = "epochs batch_size learning_rate patience optimizer schedule refresh_batch_norm augmentation"
    assert set(regime) == {*named.split(), "slices_per_scan"}
    assert isinstance(regime["augmentation"], dict)
    noise = regime_of(TrainingConfig(epochs=3, augment={"gaussian": "1/4"}), Task.SEGMENTATION).as_data()
    assert noise == regime | {"gaussian": 0.25}


def test_the_revision_of_a_corruption_is_part_of_the_regime():
    config = TrainingConfig(augment=[{"name": "jpeg", "severity": [1, 2]}])
    made = regime_of(config, Task.CLASSIFICATION).as_data()["corruptions"]
    assert [each["revision"] for each in made] == [1, 1]
    assert np.unique([each["parameters"]["quality"] for each in made]).size == 2
