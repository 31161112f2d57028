"""Every structure by every measure at once: clean, and under the attack that harms a network most."""

import math

import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.patients import CLEAN
from medrobust.analysis.results import Results
from medrobust.analysis.structures import CONDITION
from medrobust.analysis.tables import bounded


def structure_overview(results: Results, dice: pl.DataFrame, boundaries: pl.DataFrame) -> pl.DataFrame:
    """Dice, boundaries and volume of every structure.

    Args:
        results: The study.
        dice: From `structures.structures`.
        boundaries: From `surfaces.surfaces`, with a row per structure.

    Returns:
        `target, perturbation` (clean, then the attack of the averages under which the target has its lowest
        mean Dice), `structure`; `dice`, `nsd` and `hd95` with intervals; `volume_error`, `n_patients`,
        `tolerance` and `unit` as in the two tables. Empty where the run has no rows of boundaries.
    """
    shown = [(model, name) for model in results.models for name in (CLEAN, worst_attack(results, model))]
    wanted = pl.DataFrame(shown, schema=dict.fromkeys(CONDITION[:2], pl.String), orient="row")
    scores = dice.rename({"score": "dice", "low": "dice_low", "high": "dice_high"})
    measured = boundaries.select(*CONDITION, *bounded("nsd", "hd95"), "tolerance", "unit")
    return (
        wanted.join(scores, on=CONDITION[:2], maintain_order="left_right")
        .join(measured, on=CONDITION, maintain_order="left")
        .select(
            *CONDITION,
            *bounded("dice", "nsd", "hd95"),
            *("volume_error", "n_patients", "tolerance", "unit"),
        )
    )


def worst_attack(results: Results, model: str) -> str | None:
    """Label of the attack under which a target has its lowest mean score; None where it faced none."""
    scores = {
        label: estimates.score(results, results.panel.mean(results.cells(model, [label]))).value
        for label in results.averaged
    }
    known = {label: value for label, value in scores.items() if not math.isnan(value)}
    return min(known, key=known.__getitem__, default=None)
