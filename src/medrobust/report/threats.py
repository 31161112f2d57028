"""What the attacker of each cell knows, wants and may do."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from medrobust.perturbations import PERTURBATIONS
from medrobust.perturbations.entry import Perturbation
from medrobust.report.display import fraction, setting

COLUMNS = ("attack", "cells", "attacker_knows", "wants", "may_change", "norm")
SURROGATE = "task, classes and {data}; neither the weights nor the answers of the judged network"
WHITEBOX = "everything: architecture and weights of the judged network"
NORMS = {"inf": "L∞", "2": "L2"}
TRAINING = {"same": "the training data", "disjoint": "data like the training data, of other patients"}


def threat_table(study: Mapping[str, Any]) -> pl.DataFrame:
    """A row per attack and place where it was crafted.

    Args:
        study: As resolved.
    """
    knows = SURROGATE.format(data=TRAINING[study["surrogates"]["data"]])
    rows = [
        (each["label"], cells, known, *_aim(PERTURBATIONS[each["name"]], each))
        for each in study["perturbations"]
        for cells, known in _places(PERTURBATIONS[each["name"]], study, knows)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _places(entry: Perturbation, study: Mapping[str, Any], knows: str) -> Iterable[tuple[str, str]]:
    yield "Tables 1 and 2", knows
    if entry.whitebox and study["crafting"]["whitebox"]:
        yield "white-box", WHITEBOX


def _aim(entry: Perturbation, parameters: Mapping[str, Any]) -> tuple[str, str, str]:
    """What an attack wants, how much it may change, and in which norm that is measured."""
    wants = "chosen classes in chosen pixels" if entry.targets else "any wrong answer"
    if entry.budget is None:
        steps = parameters.get("steps")
        end = f", at most {setting(steps)} steps" if steps is not None else ""
        aim = "as little as it can" if entry.minimal else "no bound: until it has what it wants"
        return wants, aim + end, "none"
    budget, norm = parameters[entry.budget], NORMS[parameters.get("norm", "inf")]
    if isinstance(budget, Mapping):
        return wants, f"{entry.budget} solved for a mean SSIM of {setting(budget['ssim'])}", norm
    return wants, f"{entry.budget} = {fraction(float(budget))}", norm
