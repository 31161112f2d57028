"""How the networks of several runs differ: pairs across runs, each later run against each earlier one.

There are two families of pairs: networks that both runs have by the same name, and all others. Within each,
the tests of one condition are adjusted together: mean adversarial scores (on which the verdict rests), clean
scores, noise, single attacks, white-box attacks, rungs of the threat-model ladder. The same trained network
in two runs is not a pair, since nothing could differ; pairs within a run are for its own report.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import polars as pl

from medrobust.analysis import crafting, tables
from medrobust.analysis.comparable import ComparedRun, have_same_weights
from medrobust.analysis.comparisons import (
    RANKED,
    TIED,
    TOO_FEW,
    UNRANKED,
    Network,
    Pair,
    adjusted,
    duels,
    p_value,
    sign_flip,
)
from medrobust.analysis.defences import price, price_sentences, twins_of
from medrobust.analysis.results import Results
from medrobust.analysis.scores import CLEAN, Cell, Scores
from medrobust.analysis.table import Line, Table, bounded, frame, shown, with_bounds
from medrobust.analysis.threats import MEAN, STRONGEST, WHITE_BOX, steps, threats
from medrobust.core import Role
from medrobust.stats.significance import patients_for_significance
from medrobust.text import counted

SAME, OTHER = "same network", "different networks"
ADVERSARIAL, RUNG = "adversarial", "rung"

Pairs = list[tuple[Network, Network]]
"""Networks of two runs, that of the later run first."""

_DIFFERENCES = (
    *("first", "second", "kind", "condition", "perturbation", "first_score", "second_score"),
    *(*bounded("difference_in_points"), "p", "p_holm"),
)
NO_PAIR = "the same networks"


@dataclass(frozen=True)
class Conclusion:
    """What may be concluded from a comparison.

    Attributes:
        outcome: "different" (at least one pair), "too few patients", "not distinguishable", "not ranked", or
            "the same networks", where there is no pair.
        sentences: One or more for every pair, then one for every network that two runs share.
        pairs: From `pair_table`.
        differences: From `difference_table`.
        price: What defences cost and bring, from `defences.price`; empty where no two networks are twins.
    """

    outcome: str
    sentences: tuple[str, ...]
    pairs: pl.DataFrame
    differences: pl.DataFrame
    price: pl.DataFrame


def conclude(runs: Sequence[ComparedRun]) -> Conclusion:
    """Compare the networks of runs that `comparable` has made comparable."""
    families: dict[str, Pairs] = {SAME: [], OTHER: []}
    same_weights: Pairs = []
    for before, after in combinations(runs, 2):
        for later, earlier in product(after.networks, before.networks):
            if have_same_weights(Role.TARGET, (after, later.model), (before, earlier.model)):
                same_weights.append((later, earlier))
            else:
                families[SAME if later.model == earlier.model else OTHER].append((later, earlier))
    pairs, differences = pair_table(families), difference_table(families)
    found = set(pairs["verdict"])
    outcome = next((each for each in (RANKED, TOO_FEW, TIED, UNRANKED) if each in found), NO_PAIR)
    results = runs[0].results
    of_pair = differences.partition_by("first", "second", as_dict=True)
    sentences = [
        *_too_few(pairs, results),
        *(
            " ".join(_on(row, of_pair[row["first"], row["second"]], results))
            for row in pairs.iter_rows(named=True)
        ),
        *(
            f"{later.name} is the same trained network as {earlier.name} (same weights): clean scores are"
            " equal by construction, and a difference under attack would come from the attacks, so nothing is"
            " tested."
            for later, earlier in same_weights
        ),
    ]
    every = twins_of([network for run in runs for network in run.networks])
    paid = price([each for each in every if each.defended.results is not each.plain.results])
    sentences += price_sentences(paid, results.score.heading)
    outcome = "different" if outcome == RANKED else outcome
    return Conclusion(outcome, tuple(sentences), pairs, differences, paid)


def pair_table(families: Mapping[str, Pairs]) -> pl.DataFrame:
    """The verdict on every pair: the columns of `comparisons.pairs`, differences in points, and `kind`."""
    tables = [
        duels(pairs).select("first", "second", pl.lit(kind).alias("kind"), pl.exclude("first", "second"))
        for kind, pairs in families.items()
    ]
    columns = bounded("difference", "neutral_difference", "clean_difference")
    names = {name: name.replace("difference", "difference_in_points") for name in columns}
    return pl.concat(tables).with_columns(pl.col(columns) * 100).rename(names)


def difference_table(families: Mapping[str, Pairs]) -> pl.DataFrame:
    """Both scores of every pair under every condition, and their paired difference.

    Returns:
        `first, second, kind` (of pair), `condition` ("clean", "noise", "adversarial" for the mean
        that the verdict rests on, "attack", "white-box", "rung" of the ladder), `perturbation` or rung,
        both scores,
        `difference_in_points` (first - second) with interval, `p`, `p_holm`.
    """
    lines: list[Line] = []
    for kind, pairs in families.items():
        of_condition: dict[str, list[Line]] = {}
        for first, second in pairs:
            for line in _differences(first, second, len(pairs)):
                of_condition.setdefault(line["condition"], []).append({"kind": kind, **line})
        for family in of_condition.values():
            lines += [{**line, "p_holm": p} for line, p in zip(family, adjusted(family), strict=True)]
    return frame(lines, *_DIFFERENCES)


def _differences(first: Network, second: Network, n_pairs: int) -> Iterable[Line]:
    """A line per condition and perturbation that both networks have scores of."""
    results, panel = first.results, first.results.panel
    every, others = scores_of(first), scores_of(second)
    for (condition, perturbation), scores in every.items():
        other = others.get((condition, perturbation))
        if scores is None or other is None:
            continue
        tests = n_pairs * sum(of == condition for of, _ in every)
        # The verdict's own draws, so that both tables have one p value; no draws depend on a run's name.
        key = () if condition == ADVERSARIAL else (condition, perturbation)
        yield {
            "first": first.name,
            "second": second.name,
            "condition": condition,
            "perturbation": perturbation,
            "first_score": panel.estimate(scores).value,
            "second_score": panel.estimate(other).value,
            **with_bounds({"difference_in_points": panel.difference(scores, other).scaled(100)}),
            "p": sign_flip(results, scores, other, first.model, second.model, *key, tests=tests),
        }


def scores_of(network: Network) -> dict[tuple[str, str], Scores | None]:
    """Scores of a network's patients by condition and perturbation; None where there are none."""
    results, model, panel = network.results, network.model, network.results.panel
    conditions = results.conditions(model)
    found = {("clean", ""): conditions["clean"], ("noise", ""): conditions["noise"]}
    found[ADVERSARIAL, ""] = network.attacked()
    for label in results.attack_labels:
        found["attack", label] = panel.mean(results.cells(model, [label]))
    for label in results.attack_labels:
        found["white-box", label] = panel.cells.get(Cell(model, label, model, whitebox=True))
    found |= {(RUNG, step.rung): step.scores for step in steps(results, model) if step.rung != CLEAN}
    return found


def _too_few(pairs: pl.DataFrame, results: Results) -> Iterable[str]:
    """Families of pairs for which no outcome could be significant."""
    for kind in pairs.filter(verdict=TOO_FEW)["kind"].unique(maintain_order=True):
        tests = pairs.filter(kind=kind).height
        needed = patients_for_significance(results.settings.alpha, tests)
        which = "the same network in two runs" if kind == SAME else "different networks"
        yield (
            f"Too few {results.unit}s to tell {which} apart: with {len(results.panel.patients)}"
            f" {results.unit}s and {counted(tests, 'pair')} no outcome of the exact test"
            f" could be significant; at least {needed} are needed."
        )


def _on(row: Pair, differences: pl.DataFrame, results: Results) -> Iterable[str]:
    """What is said of a pair, whose rows in the table of differences are given."""
    yield _under_attack(row, results)
    yield _on_clean(row, differences.row(by_predicate=pl.col("condition") == "clean", named=True), results)
    rungs = {each["perturbation"]: each for each in differences.filter(condition=RUNG).iter_rows(named=True)}
    without = STRONGEST if STRONGEST in rungs else MEAN
    told = [
        f"{rung} {_points(rungs[rung])}, {p_value(rungs[rung]['p_holm'])}"
        for rung in (without, WHITE_BOX)
        if rung in rungs and rungs[rung]["p"] is not None
    ]
    if told and results.ladder is not None:
        yield f"On the ladder, within {shown(results.ladder.eps, 'setting')}: {'; '.join(told)} (Holm)."


def _under_attack(row: Pair, results: Results) -> str:
    first, second = row["first"], row["second"]
    if row["verdict"] == UNRANKED:
        why = "a clean score does not exceed that of always answering with the majority class"
        if row["clean_difference_in_points"] is None:
            why = "their score is undefined"
        elif row["p"] is None:
            failed = results.failed(results.sources)
            why = "no attack passed its self-tests" if failed else "no attack on other networks is compared"
        return f"{first} and {second} are not ranked: {why}."
    if row["verdict"] == TOO_FEW:
        return f"{first} against {second} under attack: {_points(row)}, no verdict."
    found = f"{_points(row)}, {p_value(row['p_holm'])} (Holm)."
    if row["verdict"] == RANKED:
        more = "more" if row["better"] == first else "less"
        return (
            f"{first} is {more} robust than {second} against these transferred attacks, for these trained"
            f" weights: mean adversarial score {found} {_by_drop(row)}"
        )
    text = f"{first} and {second} are not distinguishable under attack: {found}"
    if row["patients_needed"] is None:
        return text
    return (
        f"{text} Detecting a difference of {100 * results.relevant_difference:g} points with 80 % power takes"
        f" about {row['patients_needed']} {results.unit}s."
    )


def _on_clean(row: Pair, test: Mapping[str, Any], results: Results) -> str:
    """`test` is the row of the pair's clean scores in the table of differences."""
    if test["p"] is None:
        return "On clean images, too, the score is undefined."
    if row["equally_good"]:
        margin = 100 * results.relevant_difference
        found = f"equally good (TOST within {margin:g} points, {p_value(row['p_equal_holm'])}, Holm)"
    elif row["verdict"] == TOO_FEW:
        found = f"too few {results.unit}s for a test"
    elif test["p_holm"] <= results.settings.alpha:
        word = "better" if test["difference_in_points"] > 0 else "worse"
        found = f"{word}, {p_value(test['p_holm'])} (Holm)"
    else:
        found = f"not distinguishable, {p_value(test['p_holm'])} (Holm)"
    return f"On clean images {_points(test)}: {found}."


def _by_drop(row: Pair) -> str:
    """Whether the drop from the clean score, too, tells two networks apart that the attacked scores do."""
    low, high = row["drop_difference_low"], row["drop_difference_high"]
    if low is None or low <= 0 <= high:
        text = "The drops from the clean score do not differ clearly"
    elif row["drops_agree"]:
        text = "By the drop from the clean score too"
    else:
        text = "By the drop from the clean score the order is reversed"
    return f"{text}: {_points(row, 'drop_difference')}."


def _points(row: Mapping[str, Any], name: str = "difference_in_points") -> str:
    value, low, high = (row[column] for column in bounded(name))
    interval = "" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]"
    return f"{value:+.1f} points{interval}"


def comparison_tables(runs: Sequence[ComparedRun], conclusion: Conclusion) -> dict[str, Table]:
    """Every table of a comparison by the name of its file; budgets and prices only where there are some.

    Networks of the same name stand together, in the order of the runs.
    """
    found = {
        "scores": _together(runs, tables.table1, "model").select("model", "run", pl.exclude("model", "run")),
        "pairs": conclusion.pairs,
        "differences": conclusion.differences,
        "table2": _named(_together(runs, tables.table2, "target")),
        "whitebox": _named(_together(runs, tables.whitebox_table, "target")),
        "threats": _named(_together(runs, _rungs, "target")),
        "budgets": of_all(runs, crafting.budgets),
        "price": conclusion.price,
    }
    unit = runs[0].results.unit
    return {name: Table.of(name, rows, unit) for name, rows in found.items() if rows.height}


def _rungs(results: Results) -> pl.DataFrame:
    """Rungs of a ladder; those of corruptions, which are not compared, are left out."""
    return threats(results, frame([], "model"))


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
    """Cells whose target names its run, as a cross table lays them out."""
    return cells.with_columns(pl.col("target") + " of " + pl.col("run")).drop("run")
