"""The threat-model ladder: every network against attackers who know more and more, all with one budget.

Which rung images belong to is read off what is known of them: noise that asks no network, attacks on other
networks, attacks on the network itself that see its decisions, its scores or its weights. Of several attacks
on the network itself the one that leaves least stands for its rung. Noise matched to the transferred attacks,
and corruptions, have a measure of their own; they stand apart and enter no test.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import polars as pl

from medrobust.analysis.comparisons import (
    RANKED,
    TOO_FEW,
    UNRANKED,
    above_majority,
    adjusted,
    judged,
    led,
    other_of,
    p_value,
    sign_flip,
)
from medrobust.analysis.results import Results
from medrobust.analysis.scores import CLEAN, Cell, Scores
from medrobust.analysis.table import Line, bounded, frame, shown, with_bounds
from medrobust.errors import Remark
from medrobust.study.analysis import Ladder
from medrobust.text import counted

NOISE, MEAN, STRONGEST = "random noise", "transferred, mean", "transferred, strongest"
DIRECT: Mapping[str, str] = {
    "decisions": "decisions only",
    "scores": "scores only",
    "gradient": "white box",
}
"""Rungs of attacks on the network itself, by what they use of it."""
WHITE_BOX = DIRECT["gradient"]
MATCHED, CORRUPTED = "matched noise", "corruptions"

LADDER = (
    *("target", "rung", "bound", "perturbation", "source", "score", "low", "high"),
    *(*bounded("drop_points"), "n_cases", "n_patients"),
)
PAIRS = ("rung", "first", "second", *bounded("difference"), "p", "p_holm", "verdict", "better")
TRANSFER = (
    *("target", "perturbation", "source", "validation", "score", "low", "high"),
    *bounded("average", "beyond_average_points", "adversarial"),
)


class Step(NamedTuple):
    """What stands for a network on a rung: a perturbation and its source, or how many cells are averaged."""

    rung: str
    perturbation: str
    source: str
    scores: Scores


def threats(results: Results, corrupted: pl.DataFrame) -> pl.DataFrame:
    """Every network on every rung.

    Args:
        results: The rows of a run.
        corrupted: The table `corruptions`, which has a row for each network or none.

    Returns:
        `target, rung`; `bound`, the budget that the rung shares with the others, or what it has instead;
        `perturbation` and `source` that stand for it, or how many are averaged; `score` with `low` and
        `high`, and `drop_points` from clean images, paired, with bounds; `n_cases, n_patients`. Rungs apart
        come last. Empty without a ladder.
    """
    ladder = results.ladder
    if ladder is None:
        return frame([], *LADDER)
    panel, within = results.panel, f"L∞ ≤ {shown(ladder.eps, 'setting')}"
    counts = {"n_cases": results.n_cases, "n_patients": len(panel.patients)}
    of_corruptions = {row["model"]: row for row in corrupted.iter_rows(named=True)}
    lines: list[Line] = []
    for model in results.models:
        for step in (*steps(results, model), *matched(results, model)):
            values = {"score": panel.estimate(step.scores)}
            if step.rung != CLEAN:
                values["drop_points"] = panel.drop(results.clean(model), step.scores).scaled(100)
            bound = {CLEAN: "none", MATCHED: "SSIM of the transferred attacks"}.get(step.rung, within)
            named = {"rung": step.rung, "perturbation": step.perturbation, "source": step.source or None}
            lines.append({"target": model, "bound": bound, **named, **with_bounds(values), **counts})
        if model in of_corruptions:
            row = of_corruptions[model]
            score = dict(
                zip(("score", "low", "high"), (row[name] for name in bounded("corrupted")), strict=True)
            )
            lines.append(
                {"target": model, "rung": CORRUPTED, "bound": "severities", "perturbation": "mean of all"}
                | score
                | {name: row[name] for name in bounded("drop_points")}
                | {"n_cases": results.n_cases, "n_patients": len(results.corrupted_panel.patients)}
            )
    return frame(lines, *LADDER)


def steps(results: Results, model: str) -> Iterator[Step]:
    """A network from clean images up: what stands for it on every rung that shares the budget."""
    ladder, panel = results.ladder, results.panel
    if ladder is None:
        return
    yield Step(CLEAN, CLEAN, "", results.clean(model))
    for cell in results.cells(model, ladder.noise, sources=[""])[:1]:
        yield Step(NOISE, cell.perturbation, "", panel.cells[cell])
    cells = transferred(results, model)
    mean = panel.mean(cells)
    if mean is not None:
        yield Step(MEAN, _counted(cells), "", mean)
    chosen = strongest(results, model)
    if chosen is not None:
        yield Step(STRONGEST, chosen.perturbation, chosen.source, panel.cells[chosen])
    needs = {attack.label: attack.needs for attack in results.attacks}
    for used, rung in DIRECT.items():
        own = [
            cell
            for label in ladder.attacks
            if (cell := Cell(model, label, model, whitebox=True)) in panel.cells and needs[label] == used
        ]
        if own:
            worst = min(own, key=lambda cell: results.score.sign * panel.value(panel.cells[cell]))
            yield Step(rung, worst.perturbation, model, panel.cells[worst])


def matched(results: Results, model: str) -> Iterator[Step]:
    """The noise that is matched to the transferred attacks."""
    cells = [
        Cell(model, name, cell.source)
        for cell in transferred(results, model)
        for name in results.matched([cell.perturbation])
    ]
    found = [cell for cell in cells if cell in results.panel.cells]
    mean = results.panel.mean(found)
    if mean is not None:
        yield Step(MATCHED, _counted(found), "", mean)


def transferred(results: Results, model: str) -> list[Cell]:
    """Attacks of the ladder on other networks that a network faces, in the order of the study."""
    labels = results.ladder.attacks if results.ladder else ()
    return results.cells(model, labels, [*results.sources, *results.other_sources])


def strongest(results: Results, model: str) -> Cell | None:
    """The transferred attack that left a network least on validation cases, the first of equal ones."""
    known = [cell for cell in transferred(results, model) if cell in results.on_validation]
    sign = results.score.sign
    return min(known, key=lambda cell: sign * results.on_validation[cell], default=None)


def strongest_transfer(results: Results) -> pl.DataFrame:
    """The transferred attack chosen for each network on validation cases, and what it does on test cases.

    Returns:
        `target`, chosen `perturbation` and `source`, score on `validation` cases; `score` on test cases with
        `low` and `high`; `average` over all transferred attacks of the ladder, and `beyond_average_points`
        that the chosen one takes more, paired; `adversarial`, the study's average of Table 1, whose attacks
        may have other budgets. Empty where nothing was chosen.
    """
    panel, lines = results.panel, list[Line]()
    for model in results.models:
        chosen = strongest(results, model)
        if chosen is None:
            continue
        scores, average = panel.cells[chosen], panel.mean(transferred(results, model))
        values = {
            "score": panel.estimate(scores),
            "average": panel.estimate(average),
            "beyond_average_points": panel.drop(average, scores).scaled(100),
            "adversarial": panel.estimate(panel.mean(results.attack_cells(model))),
        }
        lines.append(chosen.names | {"validation": results.on_validation[chosen], **with_bounds(values)})
    return frame(lines, *TRANSFER)


def transfer_candidates(results: Results) -> pl.DataFrame:
    """Score of every network on validation cases under every transferred attack of the ladder."""
    lines = [
        cell.names | {"validation": results.on_validation[cell]}
        for model in results.models
        for cell in transferred(results, model)
        if cell in results.on_validation
    ]
    return frame(lines, "target", "perturbation", "source", "validation")


def threat_pairs(results: Results) -> pl.DataFrame:
    """All pairs of networks on every rung with the budget: a family of tests of its own.

    Returns:
        `rung, first, second`; `difference` of scores (first - second, paired over patients), `p`, `p_holm`,
        `verdict` and `better` (null unless ranked).
    """
    of = {model: {step.rung: step.scores for step in steps(results, model)} for model in results.models}
    rungs = [rung for rung in RUNGS if sum(rung in own for own in of.values()) > 1]
    asked = [
        (rung, first, second)
        for rung in rungs
        for first, second in combinations([model for model in results.models if rung in of[model]], 2)
    ]
    lines: list[Line] = []
    for rung, first, second in asked:
        one, other = of[first][rung], of[second][rung]
        p = sign_flip(results, one, other, first, second, "ladder", rung, tests=len(asked))
        values = with_bounds({"difference": results.panel.difference(one, other)})
        lines.append({"rung": rung, "first": first, "second": second, **values, "p": p})
    if lines:
        sound, patients = above_majority(results), len(results.panel.patients)
        for line, p_holm in zip(lines, adjusted(lines), strict=True):
            both = sound[line["first"]] and sound[line["second"]]
            line |= {"p_holm": p_holm} | judged(results, line, p_holm, patients, len(lines), sound=both)
    return frame(lines, *PAIRS)


RUNGS = (CLEAN, NOISE, MEAN, STRONGEST, *DIRECT.values())
"""Rungs with the budget, from the one who knows nothing up."""


def threat_sentences(results: Results) -> list[str]:
    """What transferred attacks leave, what one who has the weights leaves, and whether the order changes."""
    if results.ladder is None:
        return []
    climbed = {model: {step.rung: step for step in steps(results, model)} for model in results.models}
    return [*_levels(results, results.ladder, climbed), *_order(results, threat_pairs(results))]


Climbed = Mapping[str, Mapping[str, Step]]


def _levels(results: Results, ladder: Ladder, climbed: Climbed) -> Iterator[str]:
    """A sentence for attackers with other networks only, and one for those who know most of each network."""
    panel, eps = results.panel, shown(ladder.eps, "setting")
    heading = results.score.heading

    def of_all(rung: str, models: Iterable[str] = climbed, *, named: bool = False) -> str:
        said = []
        for model in models:
            if rung in climbed[model]:
                step = climbed[model][rung]
                by = f" ({step.perturbation} from {step.source})" if named else ""
                said.append(f"{model} {panel.value(step.scores):.3f}{by}")
        return ", ".join(said)

    clean = of_all(CLEAN)
    worst, mean = of_all(STRONGEST, named=True), of_all(MEAN)
    if mean:
        seen = 0 if results.validation is None else results.validation["patient_id"].n_unique()
        on = counted(seen, f"validation {results.unit}")
        chosen = f"; under the strongest of them, chosen on {on}, {worst}" if worst else ""
        yield (
            f"Against an attacker without the weights, who changes no entry by more than {eps} (transferred "
            f"attacks), {heading} is on average {mean}{chosen}. Clean it is {clean}."
        )
    told: set[str] = set()
    for rung in reversed([*DIRECT.values()]):  # from the one who knows most down
        who = "one who has the weights" if rung == WHITE_BOX else "one who may ask for answers"
        models = [model for model in climbed if model not in told and rung in climbed[model]]
        if models and mean:
            other = " To withstand the one is not to withstand the other." if not told else ""
            yield f"Against {who} ({rung}, the same budget) it is {of_all(rung, models)}.{other}"
        elif models:
            before = f" Clean it is {clean}." if not told else ""
            level = of_all(rung, models)
            yield f"Against {who} ({rung}, at most {eps} an entry) {heading} is {level}.{before}"
        told |= {*models}


def _order(results: Results, pairs: pl.DataFrame) -> Iterator[str]:
    """Whether networks change places from rung to rung, in one sentence."""
    if pairs.is_empty() or (pairs["verdict"] == UNRANKED).all():
        return
    tests = f"{pairs.height} comparisons (Holm, a family of their own)"
    if (pairs["verdict"] == TOO_FEW).any():
        yield f"Too few {results.unit}s to say whether networks change places from rung to rung, in {tests}."
        return
    changes = []
    ranked = pairs.filter(verdict=RANKED)
    for _, rows in ranked.group_by("first", "second", maintain_order=True):
        for before, after in zip(rows.rows(named=True), rows.rows(named=True)[1:], strict=False):
            if before["better"] != after["better"]:
                (value, *_), (later, *_) = led(before, "difference"), led(after, "difference")
                changes.append(
                    f"{before['better']} is ahead of {other_of(before)} by {abs(value):.3f} on the rung "
                    f"'{before['rung']}' ({p_value(before['p_holm'])}) and behind by {abs(later):.3f} on "
                    f"'{after['rung']}' ({p_value(after['p_holm'])})"
                )
    if changes:
        yield f"Networks change places from rung to rung, in {tests}: {'; '.join(changes)}."
    elif ranked.height:
        yield f"No two networks demonstrably change places from rung to rung, in {tests}."
    else:
        yield f"On no rung can networks be told apart, so neither can their order, in {tests}."


def weak_rungs(rows: pl.DataFrame) -> Iterable[Remark]:
    """Where one who knows less takes more: the gradient of a network may be masked, or an attack too short.

    Args:
        rows: From `threats`.
    """
    for (model,), of in rows.filter(pl.col("rung").is_in(RUNGS)).group_by("target", maintain_order=True):
        lost = dict(of.select("rung", "drop_points").drop_nulls().iter_rows())
        most = lost.pop(WHITE_BOX, math.inf)
        rung, points = max(lost.items(), key=lambda each: each[1], default=("", -math.inf))
        if points > most:
            yield Remark(
                "ladder",
                f"{model}: '{rung}' takes {points:.1f} points, more than '{WHITE_BOX}' ({most:.1f}), "
                "although it knows less. Go by the larger. If it is not chance, the network's gradient is "
                "masked or the attack too short.",
            )


def _counted(cells: list[Cell]) -> str:
    one = {(cell.perturbation, cell.source) for cell in cells}
    return cells[0].perturbation if len(one) == 1 else f"mean of {len(one)}"
