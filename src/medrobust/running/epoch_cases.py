"""Which cases an epoch trains on, and in which order."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medrobust.core import Case


def epoch_cases(
    cases: Sequence[Case], slices_per_scan: int | None, at_once: int, rng: np.random.Generator
) -> list[Case]:
    """Cases in random order, at most `slices_per_scan` of a scan, in whole batches.

    A remainder is left out, as batch norm cannot take a single image at its coarsest level; it is another
    one in every epoch.

    Args:
        cases: All cases to train on.
        slices_per_scan: Random cases of every scan that are used; None is all.
        at_once: Cases per step, all devices together.
        rng: Draws the order.
    """
    kept, seen = [], Counter[str]()
    for index in rng.permutation(len(cases)):
        case = cases[index]
        seen[case.scan_id] += 1
        if slices_per_scan is None or seen[case.scan_id] <= slices_per_scan:
            kept.append(case)
    return kept[: len(kept) // at_once * at_once] or kept
