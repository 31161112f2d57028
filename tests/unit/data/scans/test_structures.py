"""The map from BrainCOLOR's labels to the 28 classes."""

from pathlib import Path

import numpy as np
import pytest

from medrobust.data.scans.structures import (
    BRAINCOLOR,
    BRAINCOLOR_LABELS,
    FREESURFER,
    FREESURFER_BACKGROUND,
    FREESURFER_LABELS,
    STRUCTURES,
)
from medrobust.errors import DataError


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


LEFT = {
    2: "Cerebral-White-Matter",
    3: "Cerebral-Cortex",
    4: "Lateral-Ventricle",
    5: "Inf-Lat-Vent",
    7: "Cerebellum-White-Matter",
    8: "Cerebellum-Cortex",
    9: "Thalamus",
    10: "Thalamus-Proper",
    11: "Caudate",
    12: "Putamen",
    13: "Pallidum",
    17: "Hippocampus",
    18: "Amygdala",
    28: "VentralDC",
}
RIGHT = {2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 9: 48, 10: 49, 28: 60} | {
    left: left + 39 for left in (11, 12, 13)
}
RIGHT |= {17: 53, 18: 54}
MIDDLE = {14: "3rd-Ventricle", 15: "4th-Ventricle", 16: "Brain-Stem"}
OURS = {
    "Inf-Lat-Vent": "lateral ventricle",
    "Cerebellum-White-Matter": "cerebellar white matter",
    "Cerebellum-Cortex": "cerebellar cortex",
    "Thalamus-Proper": "thalamus",
    "VentralDC": "ventral diencephalon",
    "3rd-Ventricle": "third ventricle",
    "4th-Ventricle": "fourth ventricle",
}
"""Numbers and names of FreeSurferColorLUT.txt (version 1.105), and those of our names that differ."""


def ours(name: str) -> str:
    return OURS.get(name, name.replace("-", " ").lower())


def test_freesurfers_numbers_mean_what_its_table_says():
    named = {number: ours(name) for number, name in MIDDLE.items()}
    for number, name in LEFT.items():
        named |= {number: f"left {ours(name)}", RIGHT[number]: f"right {ours(name)}"}
    for first, side in ((1000, "left"), (2000, "right")):  # ctx-lh-unknown to ctx-lh-insula, and ctx-rh
        named |= dict.fromkeys(range(first, first + 36), f"{side} cerebral cortex")
    assert {number: name for name, own in FREESURFER.items() for number in own} == named


@pytest.mark.parametrize("number", [19, 20, 32, 55, 56, 64, 65, 96, 1036, 3001])
def test_cortex_and_structures_that_are_no_class_are_never_taken_for_background(number):
    assert number not in FREESURFER_BACKGROUND
    with pytest.raises(DataError, match=rf"holds the label {number}.*Give `labels` in the study"):
        FREESURFER_LABELS(np.full((1, 1, 1), number, np.uint16), Path("aseg.mgz"))
