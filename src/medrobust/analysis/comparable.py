"""A run as it takes part in a comparison: what must be alike, and what may differ and must be said."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import polars as pl

from medrobust.analysis import crafting
from medrobust.analysis.certificates import certificates
from medrobust.analysis.comparisons import Network
from medrobust.analysis.corruptions import corruption_tables
from medrobust.analysis.defences import overfitting
from medrobust.analysis.remarks import audit_table, remarks
from medrobust.analysis.results import Results
from medrobust.analysis.table import shown
from medrobust.analysis.threats import threats
from medrobust.analysis.transforms import transforms
from medrobust.core import Part, Role
from medrobust.errors import RunError, unknown
from medrobust.storage.schemas import SCORED

SHOWN = 3
"""Patients and cases that a message names."""

LONGEST = 40
"""Characters that a message shows of a fingerprint, or of the names of classes."""

Entries = Mapping[str, Mapping[str, Any]]
"""Attacks or kinds of noise with all their parameters, by label."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A finished run and what must be known to compare it.

    Attributes:
        name: Its name in the comparison, which no other run has.
        results: Its rows. `results.record` is its `record.json`.
        study: As resolved.
        split: `patient_id` and `part`, as text; with folds also `fold`.
        weights: SHA-256 of the weights file of each network by the name of its folder, where it is known.
    """

    name: str
    results: Results
    study: Mapping[str, Any]
    split: pl.DataFrame
    weights: Mapping[str, str]

    @property
    def networks(self) -> list[Network]:
        """Its targets, in the order of the study."""
        return [Network(self.results, model, f"{model} of {self.name}") for model in self.results.models]

    @property
    def trained_on(self) -> frozenset[str]:
        """Patients in the training part of the split; networks with given weights may have seen others."""
        return frozenset(self.split.filter(part=str(Part.TRAIN))["patient_id"])

    def weights_of(self, role: Role, name: str) -> frozenset[str] | None:
        """Weights of all seeds and folds of a network; None if any are unknown."""
        folders = [
            folder
            for folder, network in self.results.record["networks"].items()
            if (network["role"], network["name"]) == (role, name)
        ]
        if not folders or any(folder not in self.weights for folder in folders):
            return None
        return frozenset(self.weights[folder] for folder in folders)


def have_same_weights(role: Role, one: tuple[ComparedRun, str], other: tuple[ComparedRun, str]) -> bool:
    """Whether two runs have the very same trained network, with all its seeds and folds, by these names."""
    (first, name), (second, another) = one, other
    weights = first.weights_of(role, name)
    return weights is not None and weights == second.weights_of(role, another)


def attacks_of(run: ComparedRun) -> Entries:
    """Attacks of a study by label."""
    return {entry["label"]: entry for entry in run.study["perturbations"]}


def noise_of(run: ComparedRun) -> Entries:
    """The noise that is matched to the attacks of a study, by label; empty if there is none."""
    noise = run.study["noise"]
    return {noise["label"]: noise} if noise else {}


def common_sources(runs: Iterable[ComparedRun]) -> tuple[str, ...]:
    """Sources that all targets of all runs face, by name, in the order of the first run."""
    first, *others = (run.results.sources for run in runs)
    return tuple(source for source in first if all(source in each for each in others))


def comparable(runs: Sequence[ComparedRun], perturbations: Sequence[str] = ()) -> tuple[ComparedRun, ...]:
    """The runs, limited to the attacks, noise and sources that all of them have.

    Sources are shared if they have the same name; if none are, each run keeps its own. All runs are judged by
    the analysis settings of the first, and an attack that failed its self-tests on a source in one run takes
    no part in any verdict.

    Args:
        runs: At least two.
        perturbations: Labels of attacks and noise on all cases; none: all that the runs share.

    Raises:
        RunError: The data or the parameters of what is compared differ (all differences are named), or the
            runs share no attack.
    """
    shared = set.intersection(*({*attacks_of(run), *noise_of(run)} - _on_fewer_cases(run) for run in runs))
    for label in perturbations:
        if label not in shared:
            raise RunError(f"--perturbation: {unknown('label (shared by all runs)', label, shared)}")
    labels = {*perturbations} or shared
    first, *others = runs
    problems = [
        line
        for other in others
        for line in (
            *_data_differences(first, other),
            *_differences(first, other, _parameters(first, labels), _parameters(other, labels)),
        )
    ]
    if problems:
        raise RunError(
            "These runs cannot be compared:\n"
            + "\n".join(f"  {line}" for line in problems)
            + "\nRun the studies on the same data and split, with the same parameters"
            + ("." if perturbations else ", or name what is alike with --perturbation.")
        )
    if not any(label in labels for label in attacks_of(first)):
        have = "; ".join(f"{run.name} has {', '.join(attacks_of(run)) or 'none'}" for run in runs)
        raise RunError(f"These runs cannot be compared: no attack is compared. {have}.")
    return tuple(_limited(run, runs, labels) for run in runs)


def _on_fewer_cases(run: ComparedRun) -> set[str]:
    """Attacks on fewer cases than the others, which are in no average."""
    return {label for part in run.results.fewer for label in part.attack_labels}


def _limited(run: ComparedRun, runs: Sequence[ComparedRun], labels: set[str]) -> ComparedRun:
    sources = common_sources(runs) or run.results.sources
    tested = [each.results.selftests for each in runs if each.results.selftests is not None]
    first = runs[0].results
    seen = pl.col("source").is_in(["", *sources]) | (pl.col("role") == "whitebox")
    results = replace(
        run.results.restricted(seen),
        attacks=tuple(attack for attack in first.attacks if attack.label in labels),
        noise=tuple(noise for noise in first.noise if noise in labels),
        ladder=run.results.ladder and run.results.ladder.limited(labels),
        crafted=run.results.crafted.filter(seen),
        selftests=pl.concat(tested) if tested else None,
        settings=first.settings,
    )
    return replace(run, results=results)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    if value is None:
        return "not given"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"


def _differences(
    first: ComparedRun,
    other: ComparedRun,
    one: Mapping[str, Any],
    another: Mapping[str, Any],
    said: Callable[[Any], str] = _said,
) -> Iterable[str]:
    """A line for every entry that differs between two runs."""
    for what in {**one, **another}:
        value, value_other = one.get(what), another.get(what)
        if value != value_other:
            yield f"{what}: {said(value)} in {first.name}, {said(value_other)} in {other.name}"


def _parameters(run: ComparedRun, labels: set[str]) -> dict[str, Any]:
    entries = {**attacks_of(run), **noise_of(run)}
    return {"support": run.study["support"]} | {
        f"{label}, {key}": value
        for label, entry in entries.items()
        if label in labels
        for key, value in entry.items()
    }


def _data_differences(first: ComparedRun, other: ComparedRun) -> list[str]:
    """One line for everything that differs; empty if both scored the same cases of the same data."""
    stated = [
        {
            "task": str(run.results.task),
            "data set": run.results.record["data"]["name"],
            "fingerprint of images and labels": run.results.record["data"]["fingerprint"],
            "unit": run.results.unit,
            "classes": ", ".join((*run.results.classes, *run.results.regions)),
        }
        for run in (first, other)
    ]
    lines = [*_differences(first, other, stated[0], stated[1], _short)]
    if lines and stated[0]["data set"] == stated[1]["data set"]:
        # What the data set says about itself tells why.
        facts = [
            {f"data, {what}": value for what, value in run.results.record["data"]["facts"].items()}
            for run in (first, other)
        ]
        lines += _differences(first, other, facts[0], facts[1])
    if first.results.task is not other.results.task:
        return lines  # rows of other columns
    return [*lines, *_case_differences(first, other)]


def _case_differences(first: ComparedRun, other: ComparedRun) -> Iterable[str]:
    """Test patients; if these are the same, their cases; if these are too, the truth."""
    for what, keys in (("test patients", ["patient_id"]), ("evaluated cases", ["patient_id", "case_id"])):
        found = [_only_in(*pair, keys) for pair in ((first, other), (other, first))]
        if any(found):
            yield f"{what}: {'; '.join(each for each in found if each)}"
            return
    task = first.results.task
    columns = [*SCORED[task].items, "n_true" if task.has_maps else "label"]
    truth, truth_other = (run.results.rows.select(columns).unique() for run in (first, other))
    changed = truth.join(truth_other, on=columns, how="anti")
    if changed.height:
        yield f"truth: {_some(changed[columns[0]])} differs between {first.name} and {other.name}"


def _only_in(one: ComparedRun, other: ComparedRun, keys: list[str]) -> str:
    """The evaluated cases that only one run has, or nothing."""
    cases, cases_other = (
        # Rows of segmentation are of scans.
        (results.crafted if results.task.has_maps else results.rows).select(keys).unique()
        for results in (one.results, other.results)
    )
    extra = cases.join(cases_other, on=keys, how="anti")
    return f"only {one.name} has {_some(extra[keys[-1]])}" if extra.height else ""


def _some(names: pl.Series) -> str:
    every = sorted(names.unique())
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"{', '.join(every[:SHOWN])}{more}"


SETTINGS = (
    ("data of the surrogates", ("surrogates", "data"), "an attacker with the same patients transfers better"),
    (
        "seeds of the surrogates",
        ("surrogates", "seeds"),
        "the attacks were crafted on other trained networks",
    ),
    (
        "seed of the study",
        ("seed",),
        "noise, DAG's targets, initialisation and the order of training were drawn anew",
    ),
    ("reduced precision", ("crafting", "autocast"), "the attacks were computed at another precision"),
    ("settings of the analysis", ("analysis",), "all numbers here follow those of the first run"),
)
"""Keys of a study that may differ, and what follows."""


def limits(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> tuple[str, ...]:
    """What differs between the runs, and what every comparison of runs leaves open.

    Args:
        given: The runs as they are.
        compared: The same, limited by `comparable`.
    """
    return (
        *_not_compared(given, compared),
        *_ladders(given, compared),
        *_sources(given, compared),
        *_surrogates(compared),
        *_settings(given),
        *_training(given),
        *_versions(given),
        *_failed_selftests(compared),
        *_always(compared[0].results),
    )


def _not_compared(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> Iterable[str]:
    first = compared[0].results
    kept = {*first.attack_labels, *first.noise, *(first.ladder.noise if first.ladder else ())}
    for kind, entries in (("attacks", attacks_of), ("noise", noise_of)):
        for run in given:
            others = [label for label in entries(run) if label not in kept]
            if others:
                yield f"Not compared, and left out of the {kind} of {run.name}: {', '.join(others)}."
    if not first.noise:
        yield "The runs share no noise, so there is no noise score."


def _ladders(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> Iterable[str]:
    """Why no rung is compared, or how a rung is that differs from those of the runs' own reports."""
    ladders = {run.name: run.results.ladder for run in given}
    if not any(ladders.values()):
        return
    kept = compared[0].results.ladder
    if kept is None:
        have = "; ".join(
            f"{name}: " + (f"within {shown(each.eps, 'setting')}" if each else "no ladder")
            for name, each in ladders.items()
        )
        yield f"Of the threat-model ladder ({have}) no attack is compared, so no rung is."
    elif any(each and each.attacks != kept.attacks for each in ladders.values()):
        yield (
            "Not all attacks of the threat-model ladders are compared: every rung is of those that are, so"
            " its score may be another than in the report of a run."
        )


def _sources(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> Iterable[str]:
    have = "; ".join(f"{run.name}: {', '.join(run.results.sources)}" for run in given)
    common = common_sources(given)
    if not common:
        yield (
            f"The sources of the attacks have no name in common ({have}). Each network is judged on attacks"
            " from the sources of its own run, so part of a difference may be due to the sources."
        )
    elif any(set(run.results.sources) != set(common) for run in given):
        yield f"Sources of attacks differ ({have}); scores are over those of all runs: {', '.join(common)}."


def _surrogates(runs: Sequence[ComparedRun]) -> Iterable[str]:
    first, *others = runs
    for other in others:
        shared = [source for source in first.results.sources if source in other.results.sources]
        alike = [name for name in shared if have_same_weights(Role.SURROGATE, (first, name), (other, name))]
        apart = [name for name in shared if name not in alike]
        both = f"{first.name} and {other.name}"
        if alike:
            yield f"Crafted on the same trained surrogates in {both}: {', '.join(alike)}."
        if apart:
            yield (
                f"Crafted on surrogates of their own in {both}: {', '.join(apart)}. The adversarial images"
                " differ, so part of a difference may be due to the surrogates."
            )


def _settings(runs: Sequence[ComparedRun]) -> Iterable[str]:
    for what, keys, follows in SETTINGS:
        values = [reduce(lambda value, key: value[key], keys, run.study) for run in runs]
        if any(value != values[0] for value in values):
            said = "; ".join(f"{run.name}: {_said(value)}" for run, value in zip(runs, values, strict=True))
            yield f"Different {what} ({said}): {follows}."


def _training(runs: Sequence[ComparedRun]) -> Iterable[str]:
    if any(run.trained_on != runs[0].trained_on for run in runs):
        said = "; ".join(f"{run.name}: {len(run.trained_on)}" for run in runs)
        common = len(frozenset.intersection(*(run.trained_on for run in runs)))
        yield (
            f"Training {runs[0].results.unit}s differ ({said}; in common: {common}): the networks may differ"
            " for that reason alone."
        )
    folds = [run.results.folds for run in runs]
    if any(folds):
        said = "; ".join(f"{run.name}: {number or 'none'}" for run, number in zip(runs, folds, strict=True))
        yield (
            f"Folds ({said}): scores of different folds come from different networks, whose training data"
            " overlap, so that intervals may be too narrow."
        )


def _versions(runs: Sequence[ComparedRun]) -> Iterable[str]:
    versions = [run.results.record["versions"] for run in runs]
    changed = [name for name in versions[0] if any(each.get(name) != versions[0][name] for each in versions)]
    said = (f"{name} {', '.join(str(each.get(name)) for each in versions)}" for name in changed)
    if changed:
        yield (
            f"Different versions ({'; '.join(said)}): numbers may differ in their last digits, and between"
            " versions of medrobust by what its changelog says."
        )


def _failed_selftests(runs: Sequence[ComparedRun]) -> Iterable[str]:
    columns = runs[0].results.failed(dict.fromkeys(source for run in runs for source in run.results.sources))
    if columns:
        yield (
            "Left out of the verdict and of the mean adversarial scores that it rests on, because the attack"
            f" failed its self-tests there in a run: {', '.join(columns)}."
        )


def _always(results: Results) -> Iterable[str]:
    yield (
        f"Intervals and tests are over the same {len(results.panel.patients)} {results.unit}s in all runs,"
        " paired; intervals are not adjusted for their number."
    )
    if results.unit != "patient":
        yield f"The data name no patients, the unit is the {results.unit}: intervals may be too narrow."
    yield (
        "A defence can look good merely by hiding its gradients, or because it is not that of the surrogates:"
        " check the white-box scores, and attack it with its mechanism in mind."
    )
    yield "Nothing follows for architectures or defences in general: these are trained weights."


def warnings(runs: Iterable[ComparedRun]) -> tuple[str, ...]:
    """The warnings of each run, after its name."""
    return tuple(
        f"{run.name}: {remark.sentence}"
        for run in runs
        for remark in remarks(
            {
                "audit": audit_table(run.results),
                "success": crafting.success(run.results),
                "budgets": crafting.budgets(run.results),
                "matching": crafting.matching(run.results),
                "selftests": crafting.selftests(run.results),
                "transforms": transforms(run.results),
                "overfitting": overfitting(run.results),
                "threats": threats(run.results, corruption_tables(run.results)["corruptions"]),
                "certificates": certificates(run.results),
            },
            run.results.task,
            run.results.pixels,
        )
    )
