"""The map from BrainCOLOR's labels to the 28 classes."""

from pathlib import Path

import numpy as np
import pytest

from medrobust.data.scans.structures import (
    BRAINCOLOR,
    BRAINCOLOR_LABELS,
    FREESURFER,
    FREESURFER_LABELS,
    STRUCTURES,
)


def to_structures(labels):
    return BRAINCOLOR_LABELS(labels, Path("file"))


def test_the_28_classes_begin_with_the_background_and_have_their_order():
    assert len(STRUCTURES) == 28
    assert STRUCTURES[:3] == ("background", "left cerebral white matter", "left cerebral cortex")
    assert STRUCTURES.index("brain stem") == 14
    assert STRUCTURES[-1] == "right ventral diencephalon"


def test_no_label_belongs_to_two_structures():
    labels = [label for own in BRAINCOLOR.values() for label in own]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (0, "background"),
        (47, "right hippocampus"),
        (48, "left hippocampus"),
        (44, "right cerebral white matter"),
        (49, "right lateral ventricle"),
        (50, "left lateral ventricle"),
        (100, "right cerebral cortex"),
        (207, "left cerebral cortex"),
        (23, "background"),
        (74, "background"),
    ],
)
def test_labels_become_their_structure(label, name):
    assert STRUCTURES[to_structures(np.full((1, 1, 1), label, np.uint16)).item()] == name


def test_above_100_the_cortex_is_left_where_odd_and_right_where_even():
    cortex = to_structures(np.arange(100, 208, dtype=np.uint16))
    assert {STRUCTURES[index] for index in cortex[::2]} == {"right cerebral cortex"}
    assert {STRUCTURES[index] for index in cortex[1::2]} == {"left cerebral cortex"}


def test_every_structure_has_a_mirrored_partner_or_lies_in_the_middle():
    middle = {"background", "third ventricle", "fourth ventricle", "brain stem"}
    for name in set(STRUCTURES) - middle:
        side, _, region = name.partition(" ")
        assert f"{'right' if side == 'left' else 'left'} {region}" in STRUCTURES


def test_numbers_that_braincolor_does_not_use_are_unknown():
    labels = np.array([0, 4, 2, 45, 99, 208, 1001, 207], np.uint16)
    assert BRAINCOLOR_LABELS.unknown(labels) == (2, 99, 208, 1001)


def test_freesurfer_has_the_same_structures_in_the_same_order():
    assert tuple(FREESURFER) == STRUCTURES[1:]
    assert FREESURFER_LABELS.names == STRUCTURES


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (2, "left cerebral white matter"),
        (1035, "left cerebral cortex"),
        (2001, "right cerebral cortex"),
        (5, "left lateral ventricle"),
        (10, "left thalamus"),
        (49, "right thalamus"),
        (17, "left hippocampus"),
        (60, "right ventral diencephalon"),
        (251, "background"),
        (24, "background"),
    ],
)
def test_freesurfer_s_numbers_become_their_structure(number, name):
    assert STRUCTURES[FREESURFER_LABELS(np.full((1, 1, 1), number, np.uint16), Path("file")).item()] == name


@pytest.mark.parametrize("labels", [BRAINCOLOR_LABELS, FREESURFER_LABELS])
def test_no_number_means_two_things(labels):
    numbers = [number for own in labels.numbers for number in own]
    assert len(numbers) == len(set(numbers))
