"""A run as it takes part in a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from medrobust.analysis.comparisons import Network
from medrobust.analysis.results import Results
from medrobust.core import Part, Role


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A finished run and what must be known to compare it.

    Attributes:
        name: What it is called; no other run of the comparison is.
        results: Its rows. `results.record` is its `record.json`.
        study: As resolved.
        split: `patient_id` and `part`, as text; with folds also `fold`.
        weights: SHA-256 of the weights file of each network by the name of its folder, where it is known.
    """

    name: str
    results: Results
    study: Mapping[str, Any]
    split: pl.DataFrame
    weights: Mapping[str, str]

    @property
    def networks(self) -> list[Network]:
        """Its targets, in the order of the study."""
        return [Network(self.results, model, f"{model} of {self.name}") for model in self.results.models]

    @property
    def trained_on(self) -> frozenset[str]:
        """Patients that some network was trained on, had it been trained here."""
        return frozenset(self.split.filter(part=str(Part.TRAIN))["patient_id"])

    def weights_of(self, role: Role, name: str) -> frozenset[str] | None:
        """Weights of all seeds and folds of a network; None where those of one are not known."""
        folders = [
            folder
            for folder, network in self.results.record["networks"].items()
            if (network["role"], network["name"]) == (role, name)
        ]
        if not folders or any(folder not in self.weights for folder in folders):
            return None
        return frozenset(self.weights[folder] for folder in folders)


def same_weights(role: Role, one: tuple[ComparedRun, str], other: tuple[ComparedRun, str]) -> bool:
    """Whether two runs have the very same trained network, all seeds and folds of it, by these names."""
    (first, name), (second, another) = one, other
    weights = first.weights_of(role, name)
    return weights is not None and weights == second.weights_of(role, another)
