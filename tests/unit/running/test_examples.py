"""Examples: the arrays that the figure of examples is drawn from."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from medrobust.core import Dataset, NetworkId, Role, Task
from medrobust.models import Network
from medrobust.perturbations import request
from medrobust.running import batches as chunks
from medrobust.running.explorer import EXAMPLES, example_cases, example_files, keep_examples
from medrobust.running.plan import ImageSet
from medrobust.storage import RunFolder
from tiny_cases import ByBrightness, ByChannel, photos, scans, wrapped
from whole_steps import CraftJob, clean_set, craft, craft_noise, matched_noise_set, member, setup_of

TARGET = member(NetworkId("net", Role.TARGET, 0))


def sets_of(dataset: Dataset, network: Network, attack: str, noise: str, folder: RunFolder) -> list[ImageSet]:
    entry = {"name": attack, "eps": 0.02} if attack == "fgsm" else {"name": attack, "steps": 2}
    job = CraftJob(request(entry, dataset.task), NetworkId("other", Role.SURROGATE, 1), "transfer", "made")
    attacked = craft(job, network, dataset, dataset.cases, folder, seed=0)
    noisy = matched_noise_set(request({"name": noise}, dataset.task, control=True), attacked, dataset)
    craft_noise(noisy, dataset, folder)
    return [clean_set(dataset, dataset.cases), noisy, attacked]


@pytest.mark.parametrize("which", ["photos", "scans"])
def test_arrays_and_facts(tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)
    folder = RunFolder(tmp_path)
    if which == "photos":
        dataset, network = photos(), wrapped(ByChannel(), 3)
        sets = sets_of(dataset, network, "fgsm", "gaussian", folder)
    else:
        dataset, network = scans(), wrapped(ByBrightness(), 1)
        sets = sets_of(dataset, network, "dag_a", "rician", folder)
    cases = example_cases(dataset.cases, dataset.task, 3)
    keep_examples(setup_of(dataset, folder, {TARGET.id: network}), sets, TARGET, cases)

    facts = folder.read_json(*example_files(EXAMPLES)[0])
    assert facts["target"] == "net"
    assert facts["source"] == "other"
    assert facts["columns"] == [image_set.perturbation for image_set in sets]
    assert facts["cases"] == [{"case_id": case.case_id, "label": case.label} for case in cases]
    arrays = np.load(io.BytesIO(folder.read_bytes(*example_files(EXAMPLES)[1])))
    assert arrays["images"].shape == (3, 3, dataset.channels, *dataset.shape)
    for row, case in enumerate(cases):
        sample = dataset.read(case)
        np.testing.assert_array_equal(arrays["images"][row, 0], sample.image)
        np.testing.assert_array_equal(arrays["labels"][row], sample.label)
        logits = network(torch.from_numpy(arrays["images"][row]))
        np.testing.assert_array_equal(arrays["predictions"][row], logits.argmax(1).numpy())
        if which == "photos":
            expected = logits.softmax(1).amax(1).numpy()
            np.testing.assert_allclose(arrays["probabilities"][row], expected, atol=1e-6)
    assert ("probabilities" in arrays) is (which == "photos")


def test_photos_of_different_classes_and_slices_of_different_patients() -> None:
    shown = example_cases(photos().cases, Task.CLASSIFICATION, 4)
    assert [case.label for case in shown] == [0, 1, 2, 0]
    shown = example_cases(scans().cases, Task.SEGMENTATION, 3)
    assert [case.case_id for case in shown] == ["s0-2", "s1-4", "s2-3"]
    assert len(example_cases(scans().cases, Task.SEGMENTATION, 100)) == 12


def test_a_case_outside_of_the_sets_is_refused(tmp_path: Path) -> None:
    dataset, network = photos(), wrapped(ByChannel(), 3)
    sets = [clean_set(dataset, dataset.cases[:5])]
    with pytest.raises(ValueError, match="must have the same cases, and all that are to be shown"):
        keep_examples(
            setup_of(dataset, RunFolder(tmp_path), {TARGET.id: network}), sets, TARGET, dataset.cases[5:6]
        )
