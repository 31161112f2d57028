from dataclasses import replace

import pytest

import made_rows
from medrobust.analysis.crafting import transfer_conditions

TRAIN = {"p1": "train", "p2": "train", "p3": "train", "p4": "train", "p5": "validation"}
OTHER = {"p4": "train", "p5": "train", "p6": "train", "p7": "train", "p1": "validation"}


def network(name, role, *, weights="none", patients=None):
    known = {"name": name, "role": role, "network": {"weights": weights}}
    return known if patients is None else known | {"training": {}, "patients": patients}


def conditions(*networks, **changes):
    record = {"networks": {f"{each['name']}-{each['role']}": each for each in networks}}
    results = made_rows.classification(lambda *_: True, {"p9": 2}, models=("a", "b"))
    table = transfer_conditions(replace(results, record=record, **changes))
    return {(row["target"], row["source"]): row for row in table.iter_rows(named=True)}


@pytest.fixture
def mixed():
    """a is trained here from ImageNet weights; so is the surrogate of b; the target b was brought."""
    return conditions(
        network("a", "target", weights="imagenet", patients=TRAIN),
        network("a", "surrogate", weights="imagenet", patients=TRAIN),
        network("b", "target", weights="0f3c"),
        network("b", "surrogate", weights="none", patients=OTHER),
    )


def test_all_pairs_stand_there_in_order(mixed):
    assert list(mixed) == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]


def test_architectures_are_compared_and_not_names(mixed):
    assert [row["same_architecture"] for row in mixed.values()] == [True, False, False, True]
    same = conditions(architectures={"a": "unet", "b": "unet"})
    assert all(row["same_architecture"] for row in same.values())


def test_pretraining_is_the_same_only_from_the_same_weights(mixed):
    assert mixed["a", "a"]["same_pretraining"] is True
    assert mixed["a", "b"]["same_pretraining"] is False
    scratch = conditions(*(network("a", role, patients=TRAIN) for role in ("target", "surrogate")))
    assert scratch["a", "a"]["same_pretraining"] is False


def test_shared_patients_are_those_that_trained_both(mixed):
    assert mixed["a", "a"]["shared_training"] == 1.0
    assert mixed["a", "b"]["shared_training"] == 0.25


def test_of_networks_that_were_brought_nothing_is_known(mixed):
    for source in "ab":
        row = mixed["b", source]
        assert (row["same_pretraining"], row["shared_training"]) == (None, None)
