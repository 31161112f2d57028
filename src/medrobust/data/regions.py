"""Structures that are unions of classes, such as "tumour core", and that may overlap.

A label map gives every pixel one class. Where structures overlap, classes are the combinations that occur
(core, core and tumour, ...), and each structure is the region of all combinations that it is part of.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from annotated_types import MinLen

from medrobust.core import Dataset
from medrobust.data.scans.labels import BACKGROUND, called_after
from medrobust.errors import StudyError, unknown

Regions = dict[Annotated[str, MinLen(1)], Annotated[str, MinLen(1)] | Annotated[list[str], MinLen(1)]]
"""Names of the classes of each region, as a study gives them: `{tumour: [oedema, core], core: core}`."""


def with_regions(dataset: Dataset, *, regions: Regions | None = None) -> Dataset:
    """The same data with regions as the structures that are scored.

    Args:
        dataset: A data set for segmentation.
        regions: Structures that are unions of classes, and what is scored in place of the classes, e.g.
            {whole tumour: [oedema, core], core: core}; None: those that the data declare, if any.

    Raises:
        StudyError: A region holds an unknown class, the background, or the same classes as another one.
    """
    if regions is None:
        return dataset
    found = numbers_of(regions, dataset.classes)
    identity = f"{dataset.fingerprint} {sorted(found.items())}"
    return replace(dataset, regions=found, fingerprint=hashlib.sha256(identity.encode()).hexdigest())


def numbers_of(
    regions: Mapping[str, str | list[str]], classes: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """The numbers of the classes of each region; raises as `with_regions`."""
    found: dict[str, tuple[int, ...]] = {}
    background, *structures = classes
    for region, named in regions.items():
        own = [named] if isinstance(named, str) else named
        if region == background:
            raise StudyError(f"data.regions: '{region}' is the name of the background. Rename the region.")
        for name in own:
            if name == background:
                raise StudyError(
                    f"data.regions.{region}: holds '{background}', but that is what lies outside of all "
                    "regions. Leave it out."
                )
            if name not in structures:
                raise StudyError(f"data.regions.{region}: {unknown('class', name, structures)}")
        numbers = tuple(sorted({classes.index(name) for name in own}))
        if same := next((other for other, others in found.items() if others == numbers), None):
            raise StudyError(
                f"data.regions: '{region}' and '{same}' hold the same classes. Leave one of them out."
            )
        found[region] = numbers
    return found


MOST_MASKS = 15
"""Structures with a mask each: a combination of them is a number of 16 bits, with one to spare."""


def combined(
    combinations: Sequence[int], structures: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Classes for combinations of masks, and the classes that each structure consists of.

    Args:
        combinations: Those that occur, in rising order, the first being 0: the bit 2^i is the structure i.
        structures: Names of the structures; those that never occur have no class, and are left out.

    >>> combined([0, 1, 3], ["tumour", "core", "cyst"])
    (('background', 'tumour', 'tumour + core'), {'tumour': (1, 2), 'core': (2,)})
    """
    of_each = [
        [name for bit, name in enumerate(structures) if number >> bit & 1] for number in combinations[1:]
    ]
    regions = {
        name: numbers
        for name in structures
        if (numbers := tuple(place for place, own in enumerate(of_each, 1) if name in own))
    }
    return (BACKGROUND, *map(called_after, of_each)), regions
