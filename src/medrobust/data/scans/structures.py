"""The 28 brain structures of the paper's segmentation task, and the labels that map onto them.

Shared by the real scans (`malc2012`) and the phantoms (`phantom_brains`): tables of both have the same rows.

Source: order of the classes from QuickNAT v2 (Roy et al., NeuroImage 2019; the paper's group); label numbers
from the BrainCOLOR protocol as released with the MICCAI 2012 Multi-Atlas Labelling Challenge, and from
FreeSurferColorLUT.txt.
"""

from medrobust.data.scans.labels import LabelMap

NUMBERS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "left cerebral white matter": ((45,), (2,)),
    "left cerebral cortex": (tuple(range(101, 208, 2)), (3, *range(1000, 1036))),
    "right cerebral white matter": ((44,), (41,)),
    "right cerebral cortex": (tuple(range(100, 208, 2)), (42, *range(2000, 2036))),
    "left lateral ventricle": ((52, 50), (4, 5)),
    "left cerebellar white matter": ((41,), (7,)),
    "left cerebellar cortex": ((39,), (8,)),
    "left thalamus": ((60,), (9, 10)),
    "left caudate": ((37,), (11,)),
    "left putamen": ((58,), (12,)),
    "left pallidum": ((56,), (13,)),
    "third ventricle": ((4,), (14,)),
    "fourth ventricle": ((11,), (15,)),
    "brain stem": ((35,), (16,)),
    "left hippocampus": ((48,), (17,)),
    "left amygdala": ((32,), (18,)),
    "left ventral diencephalon": ((62,), (28,)),
    "right lateral ventricle": ((51, 49), (43, 44)),
    "right cerebellar white matter": ((40,), (46,)),
    "right cerebellar cortex": ((38,), (47,)),
    "right thalamus": ((59,), (48, 49)),
    "right caudate": ((36,), (50,)),
    "right putamen": ((57,), (51,)),
    "right pallidum": ((55,), (52,)),
    "right hippocampus": ((47,), (53,)),
    "right amygdala": ((31,), (54,)),
    "right ventral diencephalon": ((61,), (60,)),
}
"""Labels of each structure: BrainCOLOR's, whose inferior horns (49, 50) belong to the lateral ventricles, and
FreeSurfer's (aseg, and aparc+aseg with the Desikan-Killiany atlas)."""

BRAINCOLOR = {"background": (), **{name: own for name, (own, _) in NUMBERS.items()}}
FREESURFER = {name: own for name, (_, own) in NUMBERS.items()}

STRUCTURES: tuple[str, ...] = tuple(BRAINCOLOR)
"""Names of the classes; the place in the tuple is the class index, 0 the background."""

BACKGROUND_LABELS: tuple[int, ...] = (
    *(0, 42, 43, 46, 74),  # air, head outside of the brain, CSF, vitamin E tablet
    *(15, 23, 30, 33, 34, 53, 54),  # fifth ventricle, accumbens, anterior amygdala, lesions
    *range(63, 71),  # vessels, strays of insula and operculum, optic chiasm, basal forebrain
    *(71, 72, 73, 75, 76),  # vermis, basal forebrain
)
"""Regions that the protocol names but the 27 structures leave out. Its sulcal lines (2, 3, 5, ...) are not
regions and count as unknown, so that FreeSurfer's numbers are refused instead of misread."""

BRAINCOLOR_LABELS = LabelMap(
    STRUCTURES,
    (BACKGROUND_LABELS, *list(BRAINCOLOR.values())[1:]),
    advice="Are these FreeSurfer labels? Use the challenge's *_glm files.",
)
"""BrainCOLOR's numbers as classes."""

FREESURFER_BACKGROUND: tuple[int, ...] = (
    *(0, 1, 6, 40, 45),  # outside, and the rims of cerebrum and cerebellum
    *(21, 22, 23),  # lines
    *(24, 26, 58, 72, 85),  # CSF, accumbens of either side, fifth ventricle, optic chiasm
    *(25, 57, 27, 59, 29, 61),  # lesion, substantia nigra and what is undetermined, of either side
    *(30, 62, 31, 63),  # vessel and choroid plexus of either side
    *(77, 78, 79, 80, 81, 82),  # hypointensities
    *(192, 251, 252, 253, 254, 255),  # corpus callosum
)
"""Numbers that FreeSurfer uses and the 27 structures leave out. Those of insula, operculum and gyri of the
orbit (19, 20, 32 to 39, 55, 56, 64 to 71) are cortex that aseg no longer tells apart: unknown, so refused."""

FREESURFER_LABELS = LabelMap(
    STRUCTURES,
    (FREESURFER_BACKGROUND, *FREESURFER.values()),
    advice="Give `labels` in the study for other atlases than aseg and aparc+aseg.",
)
"""FreeSurfer's numbers as classes."""
