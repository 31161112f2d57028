"""Intervals, tests and ranks over patients: the numbers of a report, also from plain vectors.

`compare_paired`, `rank`      two networks, or more, on the same cases
`false_claim`, `rank_stability`     how probably "better" is false, and how ranks depend on the patients
`mean_interval`               mean of scores such as Dice
`accuracy_interval`           fraction of cases that are right
`patients_for_claim`, `patients_needed`, `patients_for_significance`, `patients_for_equivalence`
                              how many patients it takes

docs/statistics.md says why these methods, and how often their intervals cover the truth.
"""

from medrobust.stats.intervals import Estimate
from medrobust.stats.significance import (
    patients_for_equivalence,
    patients_for_significance,
    patients_needed,
)
from medrobust.stats.vectors import (
    Comparison,
    Ranked,
    Stability,
    accuracy_interval,
    compare_paired,
    false_claim,
    mean_interval,
    patients_for_claim,
    rank,
    rank_stability,
)

__all__ = [
    "Comparison",
    "Estimate",
    "Ranked",
    "Stability",
    "accuracy_interval",
    "compare_paired",
    "false_claim",
    "mean_interval",
    "patients_for_claim",
    "patients_for_equivalence",
    "patients_for_significance",
    "patients_needed",
    "rank",
    "rank_stability",
]
