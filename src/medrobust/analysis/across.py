"""How the networks of several runs differ: pairs across runs, each later run against each earlier one.

Two families of pairs: networks that both runs have by the same name, and all others. Within each, tests of a
kind are adjusted together: mean adversarial scores (on which the verdict rests), clean scores, noise, single
attacks, white-box attacks. The same trained network in two runs is no pair: there is nothing to find out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import polars as pl

from medrobust.analysis import crafting, tables
from medrobust.analysis.comparable import ComparedRun, same_weights
from medrobust.analysis.comparisons import (
    RANKED,
    TIED,
    TOO_FEW,
    UNRANKED,
    Network,
    adjusted,
    duels,
    sign_flip,
)
from medrobust.analysis.results import Results
from medrobust.analysis.scores import Cell, Scores
from medrobust.analysis.table import Line, Table, bounded, frame, with_bounds
from medrobust.analysis.verdict import p_value
from medrobust.core import Role
from medrobust.stats.significance import patients_for_significance

SAME, OTHER = "same network", "different networks"
ADVERSARIAL = "adversarial"

Families = Mapping[str, Sequence[tuple[Network, Network]]]
"""Pairs of networks of two runs, that of the later run first, by what kind of pair they are."""

_IN_POINTS = ("difference", "neutral_difference", "clean_difference")
_DIFFERENCES = (
    *("first", "second", "kind", "condition", "perturbation", "first_score", "second_score"),
    *(*bounded("difference_in_points"), "p", "p_holm"),
)


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
    return frame(lines, *_DIFFERENCES)


def _by_condition(kind: str, pairs: Sequence[tuple[Network, Network]]) -> dict[str, list[Line]]:
    families: dict[str, list[Line]] = {}
    for first, second in pairs:
        every, others = scores_of(first), scores_of(second)
        for (condition, perturbation), scores in every.items():
            other = others[condition, perturbation]
            tests = len(pairs) * sum(of == condition for of, _ in every)
            if scores is not None and other is not None:
                line = _difference_line(first, scores, second, other, condition, perturbation, tests)
                families.setdefault(condition, []).append({"kind": kind, **line})
    return families


def scores_of(network: Network) -> dict[tuple[str, str], Scores | None]:
    """Scores of a network's patients by condition and perturbation; None where there are none."""
    results, model, panel = network.results, network.model, network.results.panel
    clean, noise, _ = results.conditions(model)
    labels = [attack.label for attack in results.attacks]
    direct = {label: Cell(model, label, model, whitebox=True) for label in labels}
    return {
        ("clean", ""): clean,
        ("noise", ""): noise,
        (ADVERSARIAL, ""): network.attacked(),
        **{("attack", label): panel.mean(results.cells(model, [label])) for label in labels},
        **{("white-box", label): panel.cells.get(cell) for label, cell in direct.items()},
    }


def _difference_line(
    first: Network,
    scores: Scores,
    second: Network,
    other: Scores,
    condition: str,
    perturbation: str,
    tests: int,
) -> Line:
    results, panel = first.results, first.results.panel
    # The draws of the verdict's own test, so that both tables have one p value; none depends on a run's name.
    key = () if condition == ADVERSARIAL else (condition, perturbation)
    return {
        "first": first.name,
        "second": second.name,
        "condition": condition,
        "perturbation": perturbation,
        "first_score": panel.estimate(scores).value,
        "second_score": panel.estimate(other).value,
        **with_bounds({"difference_in_points": panel.difference(scores, other).scaled(100)}),
        "p": sign_flip(results, scores, other, first.model, second.model, *key, tests=tests),
    }


def _with_holm(lines: Sequence[Line]) -> list[Line]:
    return [{**line, "p_holm": p} for line, p in zip(lines, adjusted(lines), strict=True)]


NO_PAIR = "the same networks"
TRANSFERRED = "against these transferred attacks, for these trained weights"


@dataclass(frozen=True)
class Conclusion:
    """What may be concluded from a comparison.

    Attributes:
        outcome: "different" (at least one pair), "too few patients", "not distinguishable", "not ranked", or
            "the same networks", where there is no pair.
        sentences: One or more for every pair, the same network in both runs first.
        pairs: From `differences.pair_table`.
        differences: From `differences.difference_table`.
    """

    outcome: str
    sentences: tuple[str, ...]
    pairs: pl.DataFrame
    differences: pl.DataFrame


def conclude(runs: Sequence[ComparedRun]) -> Conclusion:
    """Compare the networks of runs that `shared.comparable` has made comparable."""
    of_kind = families(runs)
    pairs, differences = pair_table(of_kind), difference_table(of_kind)
    found = set(pairs["verdict"])
    outcome = next((each for each in (RANKED, TOO_FEW, TIED, UNRANKED) if each in found), NO_PAIR)
    clean = {
        (row["first"], row["second"]): row
        for row in differences.filter(condition="clean").iter_rows(named=True)
    }
    said = _Words(runs, clean)
    sentences = [
        *said.too_few(pairs),
        *(said.of(row) for row in pairs.iter_rows(named=True)),
        *(_same_network(later.name, earlier.name) for later, earlier in same_trained(runs)),
    ]
    return Conclusion("different" if outcome == RANKED else outcome, tuple(sentences), pairs, differences)


@dataclass(frozen=True)
class _Words:
    """Sentences about pairs; `clean` holds the rows of their clean scores."""

    runs: Sequence[ComparedRun]
    clean: Mapping[tuple[str, str], Mapping[str, Any]]

    def of(self, row: Mapping[str, Any]) -> str:
        """What may be said of a pair: under attack, and on clean images."""
        words = {RANKED: self._ranked, TIED: self._tied, TOO_FEW: self._too_few, UNRANKED: self._unranked}
        return f"{words[row['verdict']](row)} {self._on_clean(row)}"

    def too_few(self, pairs: pl.DataFrame) -> Iterable[str]:
        """Families of pairs for which no outcome could be significant."""
        results = self.runs[0].results
        for kind in pairs.filter(verdict=TOO_FEW)["kind"].unique(maintain_order=True):
            tests = pairs.filter(pl.col("kind") == kind).height
            needed = patients_for_significance(results.settings.alpha, tests)
            which = "the same network in two runs" if kind == SAME else "different networks"
            yield (
                f"Too few {results.unit}s to tell {which} apart: with {len(results.panel.patients)}"
                f" {results.unit}s and {tests} pair{'s' if tests > 1 else ''} no outcome of the exact test"
                f" could be significant; at least {needed} are needed."
            )

    def _ranked(self, row: Mapping[str, Any]) -> str:
        more = "more" if row["better"] == row["first"] else "less"
        return (
            f"{row['first']} is {more} robust than {row['second']} {TRANSFERRED}: mean adversarial score"
            f" {_points(row)}, {p_value(row['p_holm'])} (Holm). {_by_drop(row)}"
        )

    def _tied(self, row: Mapping[str, Any]) -> str:
        text = (
            f"{row['first']} and {row['second']} are not distinguishable under attack: {_points(row)},"
            f" {p_value(row['p_holm'])} (Holm)."
        )
        if row["patients_needed"] is None:
            return text
        relevant = 100 * self.runs[0].results.relevant_difference
        unit = self.runs[0].results.unit
        return (
            f"{text} Detecting a difference of {relevant:g} points with 80 % power takes about "
            f"{row['patients_needed']} {unit}s."
        )

    def _too_few(self, row: Mapping[str, Any]) -> str:
        return f"{row['first']} against {row['second']} under attack: {_points(row)}, no verdict."

    def _unranked(self, row: Mapping[str, Any]) -> str:
        if row["p"] is None:
            why = "no attack passed its self-tests"
        else:
            why = "a clean score does not exceed that of always answering with the majority class"
        return f"{row['first']} and {row['second']} are not ranked: {why}."

    def _on_clean(self, row: Mapping[str, Any]) -> str:
        """Of the first network of a pair, against the second."""
        test = self.clean[row["first"], row["second"]]
        if row["equally_good"]:
            margin = 100 * self.runs[0].results.relevant_difference
            found = f"equally good (TOST within {margin:g} points, {p_value(row['p_equal_holm'])}, Holm)"
        elif row["verdict"] == TOO_FEW:
            found = f"too few {self.runs[0].results.unit}s for a test"
        elif test["p_holm"] <= self.runs[0].results.settings.alpha:
            word = "better" if test["difference_in_points"] > 0 else "worse"
            found = f"{word}, {p_value(test['p_holm'])} (Holm)"
        else:
            found = f"not distinguishable, {p_value(test['p_holm'])} (Holm)"
        return f"On clean images {_points(test)}: {found}."


def _same_network(later: str, earlier: str) -> str:
    return (
        f"{later} is the same trained network as {earlier} (same weights): clean scores are equal by "
        "construction, a difference under attack would come from the attacks, so nothing is tested."
    )


def _by_drop(row: Mapping[str, Any]) -> str:
    """Whether the loss from the clean score, too, tells two networks apart that the attacked scores do."""
    low, high = row["drop_difference_low"], row["drop_difference_high"]
    if low is None or low <= 0 <= high:
        text = "The drops from the clean score do not differ clearly"
    elif row["drops_agree"]:
        text = "By the drop from the clean score too"
    else:
        text = "By the drop from the clean score the order is reversed"
    return f"{text}: {_points(row, 'drop_difference')}."


def _points(row: Mapping[str, Any], name: str = "difference_in_points") -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    interval = "" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]"
    return f"{value:+.1f} points{interval}"


def comparison_tables(runs: Sequence[ComparedRun], conclusion: Conclusion) -> dict[str, Table]:
    """Every table of a comparison by the name of its file; budgets only where some were solved.

    Networks of the same name stand together, in the order of the runs.
    """
    found = {
        "scores": _together(runs, tables.table1, "model").select("model", "run", pl.exclude("model", "run")),
        "pairs": conclusion.pairs,
        "differences": conclusion.differences,
        "table2": _named(_together(runs, tables.table2, "target")),
        "whitebox": _named(_together(runs, tables.whitebox_table, "target")),
        "budgets": of_all(runs, crafting.budgets),
    }
    unit = runs[0].results.unit
    return {name: Table.of(name, rows, unit) for name, rows in found.items() if rows.height}


def of_all(runs: Sequence[ComparedRun], table: Callable[[Results], pl.DataFrame]) -> pl.DataFrame:
    """A table of every run, one below the other, with the name of the run in front."""
    each = [table(run.results).select(pl.lit(run.name).alias("run"), pl.all()) for run in runs]
    return pl.concat(each, how="diagonal")  # only runs with folds have a column for them


def _together(
    runs: Sequence[ComparedRun], table: Callable[[Results], pl.DataFrame], column: str
) -> pl.DataFrame:
    """A table of every run, networks of the same name one below the other."""
    order = dict.fromkeys(model for run in runs for model in run.results.models)
    places = {model: place for place, model in enumerate(order)}
    return of_all(runs, table).sort(pl.col(column).replace_strict(places), maintain_order=True)


def _named(cells: pl.DataFrame) -> pl.DataFrame:
    """Cells whose target names its run, as they are laid out in a cross table."""
    return cells.with_columns(pl.col("target") + " of " + pl.col("run")).drop("run")
