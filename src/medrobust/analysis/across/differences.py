"""How the networks of several runs differ: pairs across runs, each later run against each earlier one.

Two families of pairs: networks that both runs have by the same name, and all others. Within each, tests of a
kind are adjusted together: mean adversarial scores (on which the verdict rests), clean scores, noise, single
attacks, white-box attacks. The same trained network in two runs is no pair: there is nothing to find out.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.across.runs import ComparedRun, same_weights
from medrobust.analysis.comparisons import Line, Network, adjusted, duels, sign_flip
from medrobust.analysis.patients import Cell, Scores
from medrobust.analysis.tables import bounded, conditions, frame, with_bounds
from medrobust.core import Role
from medrobust.storage.schemas import Schema

SAME, OTHER = "same network", "different networks"
ADVERSARIAL = "adversarial"

Families = Mapping[str, Sequence[tuple[Network, Network]]]
"""Pairs of networks of two runs, that of the later run first, by what kind of pair they are."""

_IN_POINTS = ("difference", "neutral_difference", "clean_difference")
_DIFFERENCE: Schema = {
    **dict.fromkeys(("first", "second", "kind", "condition", "perturbation"), pl.String),
    **dict.fromkeys(("first_score", "second_score"), pl.Float64),
    **bounded("difference_in_points"),
    **dict.fromkeys(("p", "p_holm"), pl.Float64),
}


def families(runs: Sequence[ComparedRun]) -> Families:
    """Every pair of networks across runs. Pairs within a run are for its own report."""
    pairs = [pair for pair, is_same in _across(runs) if not is_same]
    return {
        SAME: [pair for pair in pairs if pair[0].model == pair[1].model],
        OTHER: [pair for pair in pairs if pair[0].model != pair[1].model],
    }


def same_trained(runs: Sequence[ComparedRun]) -> list[tuple[Network, Network]]:
    """Networks that two runs have with the same weights, that of the later run first."""
    return [pair for pair, is_same in _across(runs) if is_same]


def _across(runs: Sequence[ComparedRun]) -> Iterable[tuple[tuple[Network, Network], bool]]:
    """Pairs across runs, that of the later run first, and whether both have the same weights."""
    for before, after in combinations(runs, 2):
        for later in after.networks:
            for earlier in before.networks:
                weights = (after, later.model), (before, earlier.model)
                yield (later, earlier), same_weights(Role.TARGET, *weights)


def pair_table(families: Families) -> pl.DataFrame:
    """The verdict on every pair: the columns of `comparisons.pairs`, differences in points, and `kind`."""
    tables = [
        duels(pairs).select("first", "second", pl.lit(kind).alias("kind"), pl.exclude("first", "second"))
        for kind, pairs in families.items()
    ]
    table = pl.concat(tables)
    points = {name: [f"{name}{end}" for end in ("", "_low", "_high")] for name in _IN_POINTS}
    scaled = [pl.col(column) * 100 for columns in points.values() for column in columns]
    names = {
        column: column.replace(name, f"{name}_in_points")
        for name, columns in points.items()
        for column in columns
    }
    return table.with_columns(scaled).rename(names)


def difference_table(families: Families) -> pl.DataFrame:
    """Both scores of every pair under every condition, and their paired difference.

    Returns:
        `first, second, kind` (of pair), `condition` ("clean", "noise", "adversarial" for the mean
        that the verdict rests on, "attack", "white-box"), `perturbation`, both scores,
        `difference_in_points` (first - second) with interval, `p`, `p_holm`.
    """
    lines = [
        line
        for kind, pairs in families.items()
        for of_condition in _by_condition(kind, pairs).values()
        for line in _with_holm(of_condition)
    ]
    return frame(lines, _DIFFERENCE)


def _by_condition(kind: str, pairs: Sequence[tuple[Network, Network]]) -> dict[str, list[Line]]:
    families: dict[str, list[Line]] = {}
    for first, second in pairs:
        every, others = scores_of(first), scores_of(second)
        for (condition, perturbation), scores in every.items():
            other = others[condition, perturbation]
            tests = len(pairs) * sum(of == condition for of, _ in every)
            if scores is not None and other is not None:
                line = _line(first, scores, second, other, condition, perturbation, tests)
                families.setdefault(condition, []).append({"kind": kind, **line})
    return families


def scores_of(network: Network) -> dict[tuple[str, str], Scores | None]:
    """Scores of a network's patients by condition and perturbation; None where there are none."""
    results, model, panel = network.results, network.model, network.results.panel
    clean, noise, _ = conditions(results, model)
    labels = [attack.label for attack in results.attacks]
    direct = {label: Cell(model, label, model, whitebox=True) for label in labels}
    return {
        ("clean", ""): clean,
        ("noise", ""): noise,
        (ADVERSARIAL, ""): network.attacked(),
        **{("attack", label): panel.mean(results.cells(model, [label])) for label in labels},
        **{("white-box", label): panel.cells.get(cell) for label, cell in direct.items()},
    }


def _line(
    first: Network,
    scores: Scores,
    second: Network,
    other: Scores,
    condition: str,
    perturbation: str,
    tests: int,
) -> Line:
    results = first.results
    # The draws of the verdict's own test, so that both tables have one p value; none depends on a run's name.
    key = () if condition == ADVERSARIAL else (condition, perturbation)
    return {
        "first": first.name,
        "second": second.name,
        "condition": condition,
        "perturbation": perturbation,
        "first_score": estimates.score(results, scores).value,
        "second_score": estimates.score(results, other).value,
        **with_bounds({"difference_in_points": estimates.difference(results, scores, other).scaled(100)}),
        "p": sign_flip(results, scores, other, first.model, second.model, *key, tests=tests),
    }


def _with_holm(lines: Sequence[Line]) -> list[Line]:
    return [{**line, "p_holm": p} for line, p in zip(lines, adjusted(lines), strict=True)]
