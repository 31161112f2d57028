"""What may be said of networks of several runs, in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from medrobust.analysis.across.differences import SAME, difference_table, families, pair_table, same_trained
from medrobust.analysis.across.runs import ComparedRun
from medrobust.analysis.comparisons import RANKED, TIED, TOO_FEW, UNRANKED
from medrobust.analysis.verdict import p_value
from medrobust.stats.significance import patients_for_significance

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
        *(_same(later.name, earlier.name) for later, earlier in same_trained(runs)),
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
            f"{text} To see a difference of {relevant:g} points with 80 % power takes about"
            f" {row['patients_needed']} {unit}s."
        )

    def _too_few(self, row: Mapping[str, Any]) -> str:
        return f"{row['first']} against {row['second']} under attack: {_points(row)}, no verdict."

    def _unranked(self, row: Mapping[str, Any]) -> str:
        if row["p"] is None:
            why = "no attack is left that passed its self-tests"
        else:
            why = "a clean score is not above that of always answering with the majority class"
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


def _same(later: str, earlier: str) -> str:
    return (
        f"{later} is the same trained network as {earlier} (same weights): clean scores are equal by"
        " construction, a difference under attack would be one of the attacks, and nothing is tested."
    )


def _by_drop(row: Mapping[str, Any]) -> str:
    """Whether the loss from the clean score, too, tells two networks apart that the attacked scores do."""
    low, high = row["drop_difference_low"], row["drop_difference_high"]
    if low is None or low <= 0 <= high:
        text = "The drops from the clean score do not differ clearly"
    elif row["drops_agree"]:
        text = "By the drop from the clean score too"
    else:
        text = "By the drop from the clean score it is the other way round"
    return f"{text}: {_points(row, 'drop_difference')}."


def _points(row: Mapping[str, Any], name: str = "difference_in_points") -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    interval = "" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]"
    return f"{value:+.1f} points{interval}"
