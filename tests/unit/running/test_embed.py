"""Embedding: features of the same cases, clean, noisy and attacked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medrobust.core import NetworkId, Role, Task
from medrobust.errors import ModelError
from medrobust.perturbations import request
from medrobust.running import batches as chunks
from medrobust.running import embed as steps_embed
from medrobust.running.batches import stack
from medrobust.running.embed import embedded_chunks, embedding_parts
from medrobust.running.noise import CPU
from medrobust.storage import RunFolder, compact, read_results
from medrobust.storage.schemas import EMBEDDINGS
from tiny_cases import ByBrightness, ByChannel, counting, photos, scans, wrapped
from whole_steps import CraftJob, clean_set, craft, craft_noise, embed, matched_noise_set, member

TARGET = member(NetworkId("net", Role.TARGET, 0))


def test_features_of_clean_noisy_and_attacked_images(tmp_path: Path) -> None:
    folder, (dataset, reads) = RunFolder(tmp_path), counting(photos())
    network = wrapped(ByChannel(), 3)
    job = CraftJob(
        request({"name": "fgsm", "eps": 0.02}, Task.CLASSIFICATION),
        NetworkId("net", Role.SURROGATE, 1),
        "transfer",
        {},
    )
    attack = craft(job, network, dataset, dataset.cases, folder, seed=0)
    noise = matched_noise_set(
        request({"name": "gaussian"}, Task.CLASSIFICATION, control=True), attack, dataset
    )
    craft_noise(noise, dataset, folder)
    sets = [clean_set(dataset, dataset.cases), attack, noise]
    reads.clear()
    embed(sets, TARGET, network, dataset, folder, batch_size=4)
    assert set(reads.values()) == {len(sets)}
    embed(sets, TARGET, network, dataset, folder)
    assert set(reads.values()) == {len(sets)}
    compact(folder, EMBEDDINGS, embedding_parts(sets, TARGET))
    rows = read_results(folder, EMBEDDINGS)
    assert rows["perturbation"].value_counts().sort("perturbation").rows() == [
        ("clean", 10),
        ("fgsm", 10),
        ("gaussian@fgsm", 10),
    ]
    clean = rows.filter(perturbation="clean").sort("case_id")
    expected = network.features(stack(dataset, dataset.cases, CPU).images)
    np.testing.assert_allclose(np.stack(clean["embedding"].to_list()), expected.numpy(), atol=1e-6)
    assert clean["label"].to_list() == [case.label for case in dataset.cases]
    assert clean["source"].unique().to_list() == [""]


def test_of_many_cases_some_are_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 2)
    folder, dataset = RunFolder(tmp_path), photos()
    sets = [clean_set(dataset, dataset.cases)]
    assert embedded_chunks(sets[0].chunks) == (0, 1, 2, 3, 4)
    monkeypatch.setattr(steps_embed, "MOST_CASES", 5)
    assert embedded_chunks(sets[0].chunks) == (0, 2)
    embed(sets, TARGET, wrapped(ByChannel(), 3), dataset, folder)
    compact(folder, EMBEDDINGS, embedding_parts(sets, TARGET))
    some = [case.case_id for chunk in (0, 2) for case in sets[0].chunks[chunk]]
    assert read_results(folder, EMBEDDINGS)["case_id"].to_list() == sorted(some)


def test_slices_have_no_label(tmp_path: Path) -> None:
    folder, dataset = RunFolder(tmp_path), scans()
    sets = [clean_set(dataset, dataset.cases)]
    embed(sets, TARGET, wrapped(ByBrightness(), 1), dataset, folder)
    compact(folder, EMBEDDINGS, embedding_parts(sets, TARGET))
    rows = read_results(folder, EMBEDDINGS)
    assert rows["label"].null_count() == len(dataset.cases)


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network, dataset = wrapped(ByChannel(), 3), photos()
    network.body.conv.bias.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"'net-target-s0' returns non-finite values.*weights are not"):
        embed([clean_set(dataset, dataset.cases)], TARGET, network, dataset, RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (
            lambda _, images: images.flatten(1).log(),
            r"non-finite values for case 'p04'.*Its weights are finite, so the",
        ),
        (
            lambda _, images: images,
            r"shape \(10, 3, 16, 16\) for 10 images, so it is not one vector per image",
        ),
        (lambda _, images: images.flatten(1).repeat(1, 30), "has 23,040 features per image"),
    ],
)
def test_features_that_cannot_be_shown_are_refused(
    tmp_path: Path, embedding: Callable[..., torch.Tensor], message: str
) -> None:
    network, dataset = wrapped(ByChannel(), 3), photos()
    network.features_of = lambda body, images: embedding(body, images - images.amin())
    with pytest.raises(ModelError, match=message):
        embed([clean_set(dataset, dataset.cases)], TARGET, network, dataset, RunFolder(tmp_path))
