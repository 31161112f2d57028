"""What a source shares with a target: an attack transfers more easily between networks that are alike."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import polars as pl

from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.core import Part, Role

CONDITIONS = {
    "target": pl.String,
    "source": pl.String,
    "same_architecture": pl.Boolean,
    "same_pretraining": pl.Boolean,
    "shared_training": pl.Float64,
}


def transfer_conditions(results: Results) -> pl.DataFrame:
    """For every target and source of Table 2: what both share.

    Returns:
        `target, source, same_architecture, same_pretraining` (trained from the same weights; false where
        either started from random ones), `shared_training`: share, in [0, 1], of the patients that the source
        was trained on that the target was trained on too. Null is what nobody knows: of networks that
        were not trained here.
    """
    rows = []
    for model in results.models:
        target = _network(results, model, Role.TARGET)
        for name in (*results.sources, *results.other_sources):
            if any(cell.source == name for cell in results.transfer(model)):
                source = _network(results, name, Role.SURROGATE)
                same = results.architecture(model) == results.architecture(name)
                rows.append(
                    {"target": model, "source": name, "same_architecture": same}
                    | {"same_pretraining": _same_pretraining(target, source)}
                    | {"shared_training": _shared_training(target, source)}
                )
    return frame(rows, CONDITIONS)


def shared_between_folds(results: Results) -> float | None:
    """Mean share of the training patients that two folds' targets of one name have in common, in [0, 1].

    None without folds, and where nobody knows who trained them.
    """
    recorded = [
        network
        for network in results.record.get("networks", {}).values()
        if network.get("role") == Role.TARGET and network.get("name") == results.models[0]
    ]
    shares = [_shared_training(first, second) for first, second in permutations(recorded, 2)]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None


def _network(results: Results, name: str, role: Role) -> Mapping[str, Any]:
    """What `record.json` says of a network; seeds of one network differ in nothing that matters here."""
    recorded = results.record.get("networks", {}).values()
    return next((each for each in recorded if (each.get("name"), each.get("role")) == (name, role)), {})


def _same_pretraining(target: Mapping[str, Any], source: Mapping[str, Any]) -> bool | None:
    if "training" not in target or "training" not in source:
        return None
    first, second = (network["network"]["weights"] for network in (target, source))
    return bool(first == second != "none")


def _shared_training(target: Mapping[str, Any], source: Mapping[str, Any]) -> float | None:
    if "patients" not in target or "patients" not in source:
        return None
    of_target, of_source = (
        {patient for patient, part in network["patients"].items() if part == Part.TRAIN}
        for network in (target, source)
    )
    return len(of_target & of_source) / len(of_source)
