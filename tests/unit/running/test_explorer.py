"""Which scans are kept for the explorer, and what is kept of them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from medrobust.core import Dataset, NetworkId, Role, Task, silent
from medrobust.models import Network
from medrobust.perturbations import request
from medrobust.running import batches as chunks
from medrobust.running.explorer import (
    EXPLORED,
    LEVELS,
    Chosen,
    Wanted,
    _made_of,
    _scan_part,
    chosen_scans,
    explore,
    is_explored,
    names_of,
    pairs_of,
    read_views,
    scan_scores,
    shown_cases,
    views,
)
from medrobust.running.plan import ImageSet
from medrobust.storage import RunFolder
from tiny_cases import ByBrightness, ByChannel, photos, scans, wrapped
from whole_steps import CraftJob, clean_set, craft, craft_noise, matched_noise_set, member, setup_of

IDS = tuple(NetworkId(name, Role.TARGET, 0) for name in ("one", "two"))
TARGETS = tuple(member(each) for each in IDS)
WANTED = Wanted(1, 1, 3)


def made(which: str, folder: RunFolder) -> tuple[Dataset, dict[NetworkId, Network], list[ImageSet]]:
    """A data set, two targets, and clean, noisy, attacked and white-box images."""
    if which == "photos":
        dataset, bodies, channels = photos(), (ByChannel(), ByChannel(3)), 3
        attack, noise = {"name": "fgsm", "eps": 0.02}, "gaussian"
    else:
        dataset, bodies, channels = scans(), (ByBrightness(), ByBrightness(3)), 1
        attack, noise = {"name": "dag_a", "steps": 2}, "rician"
    networks = {each: wrapped(body, channels) for each, body in zip(IDS, bodies, strict=True)}
    wish = request(attack, dataset.task)
    jobs = (
        CraftJob(wish, NetworkId("one", Role.SURROGATE, 1), "transfer", "made"),
        CraftJob(wish, IDS[1], "whitebox", "made"),
    )
    transfer, whitebox = (
        craft(job, networks[each], dataset, dataset.cases, folder, seed=0)
        for job, each in zip(jobs, IDS, strict=True)
    )
    noisy = matched_noise_set(request({"name": noise}, dataset.task, control=True), transfer, dataset)
    craft_noise(noisy, dataset, folder)
    return dataset, networks, [clean_set(dataset, dataset.cases), noisy, transfer, whitebox]


def test_white_box_images_are_paired_with_their_own_target(tmp_path: Path) -> None:
    _, _, sets = made("photos", RunFolder(tmp_path))
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 1)]
    assert pairs_of(sets, TARGETS) == pairs
    of_sets, of_targets, same = names_of(sets, TARGETS)
    assert same == pairs
    assert [each["role"] for each in of_sets] == ["clean", "transfer", "transfer", "whitebox"]
    assert of_targets == [{"name": "one", "seed": 0}, {"name": "two", "seed": 0}]


@pytest.mark.parametrize("which", ["photos", "scans"])
def test_a_view_is_the_image_in_255ths_and_the_answers_of_the_networks(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_CASES", 4)
    folder = RunFolder(tmp_path)
    dataset, networks, sets = made(which, folder)
    cases = dataset.cases[1:3]
    seen = views(setup_of(dataset, folder, networks, targets=TARGETS), sets, TARGETS, cases)
    # The same cases, each set read whole, without the code under test.
    for case, view in zip(cases, seen, strict=True):
        sample = dataset.read(case)
        np.testing.assert_array_equal(view.clean, np.rint(255 * sample.image))
        np.testing.assert_array_equal(view.truth, sample.label)
        assert (view.largest[0], view.changes[0].any()) == (0, False)
        assert (np.abs(view.changes[1:]).reshape(3, -1).max(1) == LEVELS).all()
        with torch.inference_mode():
            logits = networks[IDS[1]](torch.from_numpy(sample.image)[None])[0]
        expected = logits.softmax(0) if which == "photos" else logits.argmax(0)
        np.testing.assert_allclose(view.answers[1], expected.numpy(), atol=1e-6)
        assert len(view.answers) == 7


def test_what_is_kept_comes_back_and_other_wishes_are_told_apart(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    dataset, networks, sets = made("scans", folder)
    of = _made_of(sets, TARGETS)
    assert not is_explored(folder, WANTED, of)
    done: list[float] = []
    chosen = [Chosen("s1", "hardest"), Chosen("s0", "typical")]
    setup = setup_of(dataset, folder, networks, targets=TARGETS)
    explore(setup, chosen, sets, WANTED, lambda part, _: done.append(part))
    assert is_explored(folder, WANTED, of)
    assert not is_explored(folder, WANTED, _made_of(sets[:2], TARGETS))
    assert not is_explored(folder, WANTED._replace(slices=4), of)
    assert done == [0.5, 1.0]
    facts = folder.read_json(*EXPLORED)
    assert [(scan["scan_id"], scan["why"]) for scan in facts["scans"]] == [
        ("s1", "hardest"),
        ("s0", "typical"),
    ]
    assert [case["position"] for case in facts["scans"][0]["cases"]] == [0, 2, 4]
    (first, *_), direct = (
        read_views(folder, WANTED, 1),
        views(setup, sets, TARGETS, dataset.cases[:1]),
    )
    for name in ("clean", "changes", "largest", "truth", "answers"):
        np.testing.assert_array_equal(getattr(first, name), getattr(direct[0], name))


def test_other_wishes_do_not_write_over_what_is_told_of(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    dataset, networks, sets = made("scans", folder)
    of = _made_of(sets, TARGETS)
    setup = setup_of(dataset, folder, networks, targets=TARGETS)
    explore(setup, [Chosen("s1", "hardest")], sets, WANTED, silent)

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    chosen = [Chosen("s2", "hardest"), Chosen("s0", "typical")]
    with pytest.raises(RuntimeError, match="killed"):
        explore(setup, chosen, sets, WANTED._replace(slices=4), killed)
    assert is_explored(folder, WANTED, of)
    assert len(read_views(folder, WANTED, 0)) == 3
    folder.local(*_scan_part(WANTED, 0)).unlink()
    assert not is_explored(folder, WANTED, of)


def test_slices_are_evenly_spaced_in_the_order_of_their_positions() -> None:
    cases = scans((9,)).cases
    assert [case.position for case in shown_cases(cases[::-1], "s0", 3)] == [0, 4, 8]
    assert len(shown_cases(cases, "s0", 100)) == 9


def test_the_worst_come_first_and_the_typical_are_nearest_to_the_median() -> None:
    scores = pl.DataFrame({"scan_id": list("edcba"), "score": [0.9, 0.5, 0.1, 0.1, 0.4]})
    assert chosen_scans(scores, 2, 2) == [
        ("b", "hardest"),
        ("c", "hardest"),
        ("a", "typical"),
        ("d", "typical"),
    ]
    assert chosen_scans(scores, 9, 9) == [(scan, "hardest") for scan in "bcade"]
    assert chosen_scans(scores, 0, 0) == []


def test_scores_of_scans() -> None:
    cell = {"perturbation": "x", "source": "a", "source_seed": 1, "target_seed": 0}
    photos = pl.DataFrame(
        {
            "scan_id": ["p", "p", "q"],
            "label": [1, 0, 0],
            "probabilities": [[0.4, 0.6], [0.2, 0.8], [0.9, 0.1]],
        }
    )
    assert scan_scores(photos, Task.CLASSIFICATION, "").rows() == [("p", 0.4), ("q", pytest.approx(0.9))]
    counts = [
        *(("a", "ground", 90, 90, 90), ("a", "x", 10, 10, 5), ("a", "y", 4, 0, 0), ("a", "z", 0, 7, 0)),
        *(("b", "ground", 90, 90, 90), ("b", "x", 10, 10, 10), ("b", "y", 4, 4, 4), ("b", "z", 0, 0, 0)),
    ]
    rows = pl.DataFrame(
        {"scan_id": "s", "target": target, "structure": structure, **cell}
        | {"n_true": true, "n_pred": predicted, "n_both": both}
        for target, structure, true, predicted, both in counts
    )
    # a: (0.5 + 0) / 2, b: (1 + 1) / 2; what the truth lacks does not count
    assert scan_scores(rows, Task.SEGMENTATION, "ground").rows() == [("s", 0.625)]
