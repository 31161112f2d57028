"""Attacks on fewer cases than the others: beside clean images and noise on the very same cases.

They enter no average, no test between networks and no ranking, all of which stay on the study's cases.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import polars as pl

from medrobust.analysis.comparisons import noise_control
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell, Scores
from medrobust.analysis.table import Line, bounded, frame, with_bounds

FEWER = (
    *("target", "perturbation", "setting", *bounded("clean", "noise", "attacked", "drop_points")),
    *(*bounded("extra_drop_points"), "p", "p_holm", "n_cases", "n_patients"),
)
TRANSFERRED, WHITE_BOX = "transferred", "white box"


class Faced(NamedTuple):
    """How a network was attacked, and its scores under the attack and under noise matched to it."""

    setting: str
    attacked: Scores
    noise: Scores | None


def fewer_cases(results: Results) -> pl.DataFrame:
    """Every network under every attack on fewer cases.

    Returns:
        `target, perturbation`; `setting`, transferred (a mean over the sources that all targets face) or
        white box; scores `clean`, `noise` (matched to the attack; null without) and `attacked`, all on the
        attack's own cases; `drop_points` from clean images and `extra_drop_points` beyond the noise, paired;
        of transferred attacks `p` of the latter, and `p_holm`, adjusted among attacks on as many cases;
        `n_cases, n_patients`. Empty where all attacks are on all cases.
    """
    lines: list[Line] = []
    for part in map(_all_tested, results.fewer):
        tested = {(row["target"], row["perturbation"]): row for row in noise_control(part).rows(named=True)}
        panel, counts = part.panel, {"n_cases": part.n_cases, "n_patients": len(part.panel.patients)}
        for model, label in product(part.models, part.attack_labels):
            clean = part.clean(model)
            for setting, attacked, noise in _faced(part, model, label):
                values = {
                    "clean": panel.estimate(clean),
                    "noise": panel.estimate(noise),
                    "attacked": panel.estimate(attacked),
                    "drop_points": panel.drop(clean, attacked).scaled(100),
                }
                if noise is not None:
                    values["extra_drop_points"] = panel.drop(noise, attacked).scaled(100)
                line = {"target": model, "perturbation": label, "setting": setting, **with_bounds(values)}
                if setting == TRANSFERRED and (model, label) in tested:
                    line |= {name: tested[model, label][name] for name in ("p", "p_holm")}
                lines.append(line | counts)
    return frame(lines, *FEWER)


def fewer_sentences(results: Results) -> list[str]:
    """Which attacks are on fewer cases, and what follows."""
    if not results.fewer:
        return []
    said = "; ".join(f"{', '.join(part.attack_labels)}: {part.n_cases}" for part in results.fewer)
    return [
        f"Crafted on fewer than the study's {results.n_cases} cases, hence in no average, test between "
        f"networks or ranking: {said}. A table of its own has clean images and noise on the same cases."
    ]


def _all_tested(part: Results) -> Results:
    """The part with all attacks alike, also those that enter no average in a study of their own."""
    return replace(
        part, attacks=tuple(each._replace(beyond_paper=False, curve=None) for each in part.attacks)
    )


def _faced(part: Results, model: str, label: str) -> Iterator[Faced]:
    def own(*labels: str) -> list[Cell]:
        cells = (Cell(model, name, model, whitebox=True) for name in labels)
        return [cell for cell in cells if cell in part.panel.cells]

    for setting, attacked, noisy in (
        (TRANSFERRED, part.cells(model, [label]), part.matched_cells(model, [label])),
        (WHITE_BOX, own(label), own(*part.matched([label]))),
    ):
        scores = part.panel.mean(attacked)
        if scores is not None:
            yield Faced(setting, scores, part.panel.mean(noisy))
