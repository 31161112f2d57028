"""What several runs share: only this can be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from medrobust.analysis.across.runs import ComparedRun
from medrobust.analysis.across.same_data import data_differences
from medrobust.errors import RunError, unknown

Entries = Mapping[str, Mapping[str, Any]]
"""Attacks or kinds of noise with all their parameters, by label."""


def comparable(runs: Sequence[ComparedRun], perturbations: Sequence[str] = ()) -> tuple[ComparedRun, ...]:
    """The runs, limited to the attacks, noise and sources that all of them have.

    Sources are those that every run has by the same name; where there is none, each run keeps its own. All
    runs are judged by the analysis settings of the first, and an attack that failed its self-tests on a
    source in one run takes no part in the verdict in any.

    Args:
        runs: At least two.
        perturbations: Labels of attacks and noise; none: all that the runs share.

    Raises:
        RunError: The data or the parameters of what is compared differ (all differences are named), or the
            runs share no attack.
    """
    labels = _wanted(runs, perturbations)
    problems = [
        line
        for other in runs[1:]
        for line in (*data_differences(runs[0], other), *_other_parameters(runs[0], other, labels))
    ]
    if problems:
        raise RunError(
            "These runs cannot be compared:\n"
            + "\n".join(f"  {line}" for line in problems)
            + "\nRun the studies on the same data and split, with the same parameters"
            + ("." if perturbations else ", or name what is alike with --perturbation.")
        )
    _require_attack(runs, labels)
    return tuple(_limited(run, runs, labels) for run in runs)


def attacks_of(run: ComparedRun) -> Entries:
    """Attacks of a study by label."""
    return {entry["label"]: entry for entry in run.study["perturbations"]}


def noise_of(run: ComparedRun) -> Entries:
    """Noise of a study by label: that which is matched to its attacks, or kinds of fixed strength."""
    noise = run.study["noise"]
    kinds = {"matched": [noise]} if isinstance(noise, Mapping) else {"fixed": noise}
    return {entry["label"]: {"strength": how, **entry} for how, each in kinds.items() for entry in each}


def common_sources(runs: Iterable[ComparedRun]) -> tuple[str, ...]:
    """Sources that all targets of all runs face, by name, in the order of the first run."""
    first, *others = (run.results.sources for run in runs)
    return tuple(source for source in first if all(source in each for each in others))


def _wanted(runs: Sequence[ComparedRun], perturbations: Sequence[str]) -> set[str]:
    """Labels that all runs have, of those asked for."""
    shared = set.intersection(*({*attacks_of(run), *noise_of(run)} for run in runs))
    for label in perturbations:
        if label not in shared:
            raise RunError(f"--perturbation: {unknown('label (shared by all runs)', label, shared)}")
    return {*perturbations} or shared


def _other_parameters(first: ComparedRun, other: ComparedRun, labels: set[str]) -> Iterable[str]:
    if first.study["support"] != other.study["support"]:
        yield _differ("support", first, first.study["support"], other, other.study["support"])
    for entries in (attacks_of, noise_of):
        one, another = entries(first), entries(other)
        for label in (label for label in one if label in another and label in labels):
            for key in {**one[label], **another[label]}:
                values = one[label].get(key), another[label].get(key)
                if values[0] != values[1]:
                    yield _differ(f"{label}, {key}", first, values[0], other, values[1])


def _differ(what: str, first: ComparedRun, value: Any, other: ComparedRun, another: Any) -> str:
    return f"{what}: {_said(value)} in {first.name}, {_said(another)} in {other.name}"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _require_attack(runs: Sequence[ComparedRun], labels: set[str]) -> None:
    if not any(label in labels for label in attacks_of(runs[0])):
        have = "; ".join(f"{run.name} has {', '.join(attacks_of(run)) or 'none'}" for run in runs)
        raise RunError(f"These runs cannot be compared: no attack is compared. {have}.")


def _limited(run: ComparedRun, runs: Sequence[ComparedRun], labels: set[str]) -> ComparedRun:
    sources = common_sources(runs) or run.results.sources
    tested = [each.results.selftests for each in runs if each.results.selftests is not None]
    first = runs[0].results
    seen = pl.col("source").is_in(["", *sources]) | (pl.col("role") == "whitebox")
    results = run.results.restricted(seen)
    return replace(
        run,
        results=replace(
            results,
            attacks=tuple(attack for attack in first.attacks if attack.label in labels),
            noise=tuple(noise for noise in first.noise if noise in labels),
            crafted=results.crafted.filter(seen),
            selftests=pl.concat(tested) if tested else None,
            settings=first.settings,
        ),
    )
