"""The 28 brain structures of the paper's segmentation task, and how BrainCOLOR's labels map onto them.

Shared by the real scans (`malc2012`) and the phantoms (`phantom_brains`): tables of both have the same rows.

Source: order of the classes from QuickNAT v2 (Roy et al., NeuroImage 2019; the paper's group); label numbers
from the BrainCOLOR protocol as released with the MICCAI 2012 Multi-Atlas Labelling Challenge.
"""

import numpy as np
from jaxtyping import UInt8, UInt16

BRAINCOLOR: dict[str, tuple[int, ...]] = {
    "background": (),
    "left cerebral white matter": (45,),
    "left cerebral cortex": tuple(range(101, 208, 2)),
    "right cerebral white matter": (44,),
    "right cerebral cortex": tuple(range(100, 208, 2)),
    "left lateral ventricle": (52, 50),
    "left cerebellar white matter": (41,),
    "left cerebellar cortex": (39,),
    "left thalamus": (60,),
    "left caudate": (37,),
    "left putamen": (58,),
    "left pallidum": (56,),
    "third ventricle": (4,),
    "fourth ventricle": (11,),
    "brain stem": (35,),
    "left hippocampus": (48,),
    "left amygdala": (32,),
    "left ventral diencephalon": (62,),
    "right lateral ventricle": (51, 49),
    "right cerebellar white matter": (40,),
    "right cerebellar cortex": (38,),
    "right thalamus": (59,),
    "right caudate": (36,),
    "right putamen": (57,),
    "right pallidum": (55,),
    "right hippocampus": (47,),
    "right amygdala": (31,),
    "right ventral diencephalon": (61,),
}
"""BrainCOLOR labels of each structure. The inferior horns (49, 50) belong to the lateral ventricles."""

STRUCTURES: tuple[str, ...] = tuple(BRAINCOLOR)
"""Names of the classes; the place in the tuple is the class index, 0 the background."""

BACKGROUND_LABELS: tuple[int, ...] = (
    *(0, 42, 43, 46, 74),  # air, head outside of the brain, CSF, vitamin E tablet
    *(15, 23, 30, 33, 34, 53, 54),  # fifth ventricle, accumbens, anterior amygdala, lesions
    *(
        63,
        64,
        65,
        66,
        67,
        68,
        69,
        70,
    ),  # vessels, strays of insula and operculum, optic chiasm, basal forebrain
    *(71, 72, 73, 75, 76),  # vermis, basal forebrain
)
"""Regions that the protocol names but the 27 structures leave out. Its sulcal lines (2, 3, 5, ...) are no
regions and count as unknown, so that FreeSurfer's numbers are refused instead of read as something else."""

UNKNOWN = 255
"""Entry of `lookup_table` for numbers that BrainCOLOR does not use."""


def lookup_table() -> UInt8[np.ndarray, "256"]:
    """Class index of each label number below 256; `UNKNOWN` where BrainCOLOR has no such label."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(BACKGROUND_LABELS)] = 0
    for index, labels in enumerate(BRAINCOLOR.values()):
        table[list(labels)] = index
    return table


def unknown_labels(labels: UInt16[np.ndarray, "*space"]) -> tuple[int, ...]:
    """Label numbers that BrainCOLOR does not use, in rising order."""
    present = np.flatnonzero(np.bincount(labels.ravel()))
    table = lookup_table()
    return tuple(int(label) for label in present if label >= len(table) or table[label] == UNKNOWN)


def to_structures(labels: UInt16[np.ndarray, "*space"]) -> UInt8[np.ndarray, "*space"]:
    """Class indices in [0, 27] of BrainCOLOR labels, all of which must be known."""
    classes: UInt8[np.ndarray, "*space"] = lookup_table()[labels]
    return classes
