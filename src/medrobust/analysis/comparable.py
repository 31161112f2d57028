"""A run as it takes part in a comparison."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from medrobust.analysis import crafting
from medrobust.analysis.comparisons import Network
from medrobust.analysis.remarks import audit_table, remarks
from medrobust.analysis.results import Results
from medrobust.core import Part, Role, Task
from medrobust.errors import RunError, unknown


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A finished run and what must be known to compare it.

    Attributes:
        name: What it is called; no other run of the comparison is.
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
        """Patients that some network was trained on, had it been trained here."""
        return frozenset(self.split.filter(part=str(Part.TRAIN))["patient_id"])

    def weights_of(self, role: Role, name: str) -> frozenset[str] | None:
        """Weights of all seeds and folds of a network; None where those of one are not known."""
        folders = [
            folder
            for folder, network in self.results.record["networks"].items()
            if (network["role"], network["name"]) == (role, name)
        ]
        if not folders or any(folder not in self.weights for folder in folders):
            return None
        return frozenset(self.weights[folder] for folder in folders)


def same_weights(role: Role, one: tuple[ComparedRun, str], other: tuple[ComparedRun, str]) -> bool:
    """Whether two runs have the very same trained network, all seeds and folds of it, by these names."""
    (first, name), (second, another) = one, other
    weights = first.weights_of(role, name)
    return weights is not None and weights == second.weights_of(role, another)


SHOWN = 3
"""Patients and cases that a message names."""

LONGEST = 40
"""Characters that a message shows of a fingerprint, or of the names of classes."""


def data_differences(first: ComparedRun, other: ComparedRun) -> list[str]:
    """One line for everything that differs; empty where both scored the same cases of the same data."""
    lines = [
        f"{what}: {_short(value)} in {first.name}, {_short(another)} in {other.name}"
        for what, value, another in _differing(_stated(first), _stated(other))
    ]
    same_name = first.results.record["data"]["name"] == other.results.record["data"]["name"]
    if lines and same_name:  # what the data set says of itself tells why
        facts = (run.results.record["data"]["facts"] for run in (first, other))
        lines += [
            f"data, {what}: {value} in {first.name}, {another} in {other.name}"
            for what, value, another in _differing(*facts)
        ]
    if first.results.task is not other.results.task:
        return lines  # rows of other columns
    return [*lines, *_case_differences(first, other)]


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Entries that differ."""
    values = ((what, one.get(what, "unknown"), other.get(what, "unknown")) for what in {**one, **other})
    return [(what, value, another) for what, value, another in values if value != another]


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"


def _stated(run: ComparedRun) -> dict[str, str]:
    data = run.results.record["data"]
    return {
        "task": str(run.results.task),
        "data set": data["name"],
        "fingerprint of images and labels": data["fingerprint"],
        "unit": run.results.unit,
        "classes": ", ".join(run.results.classes),
    }


def _case_differences(first: ComparedRun, other: ComparedRun) -> Iterable[str]:
    """Test patients; where these are the same their cases; where these are, the truth."""
    for what, keys in (("test patients", ["patient_id"]), ("evaluated cases", ["patient_id", "case_id"])):
        found = [_only_in(*pair, keys) for pair in ((first, other), (other, first))]
        if any(found):
            yield f"{what}: {'; '.join(each for each in found if each)}"
            return
    truth, truth_other = _truth(first), _truth(other)
    changed = truth.join(truth_other, on=truth.columns, how="anti")
    if changed.height:
        yield f"truth: {_some(changed[truth.columns[0]])} differs between {first.name} and {other.name}"


def _only_in(one: ComparedRun, other: ComparedRun, keys: list[str]) -> str:
    """What of the evaluated cases only one run has, or nothing."""
    frames = [_evaluated(run).select(keys).unique() for run in (one, other)]
    extra = frames[0].join(frames[1], on=keys, how="anti")
    return f"only {one.name} has {_some(extra[keys[-1]])}" if extra.height else ""


def _evaluated(run: ComparedRun) -> pl.DataFrame:
    """The cases behind every score; rows of segmentation are of scans."""
    results = run.results
    return results.rows if results.task is Task.CLASSIFICATION else results.crafted


def _truth(run: ComparedRun) -> pl.DataFrame:
    results = run.results
    photographs = results.task is Task.CLASSIFICATION
    columns = ["case_id", "label"] if photographs else ["scan_id", "structure", "n_true"]
    return results.rows.select(columns).unique()


def _some(names: pl.Series) -> str:
    every = sorted(names.unique())
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"{', '.join(every[:SHOWN])}{more}"


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
        compared: The same, limited by `shared.comparable`.
    """
    return (
        *_not_compared(given, compared),
        *_sources(given, compared),
        *_surrogates(compared),
        *_settings(given),
        *_training(given),
        *_versions(given),
        *_self_tests(compared),
        *_units(compared),
    )


def _not_compared(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> Iterable[str]:
    kept = {*(attack.label for attack in compared[0].results.attacks), *compared[0].results.noise}
    for kind, entries in (("attacks", attacks_of), ("noise", noise_of)):
        for run in given:
            others = [label for label in entries(run) if label not in kept]
            if others:
                yield f"Not compared, and left out of the {kind} of {run.name}: {', '.join(others)}."
    if not compared[0].results.noise:
        yield "The runs share no noise, so there is no noise score."


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
        alike = [name for name in shared if same_weights(Role.SURROGATE, (first, name), (other, name))]
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
        values = [_setting(run.study, keys) for run in runs]
        if any(value != values[0] for value in values):
            said = "; ".join(f"{run.name}: {_listed(value)}" for run, value in zip(runs, values, strict=True))
            yield f"Different {what} ({said}): {follows}."


def _setting(study: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = study
    for key in keys:
        value = value[key]
    return value


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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


def _self_tests(runs: Sequence[ComparedRun]) -> Iterable[str]:
    failed = runs[0].results.failed_columns
    columns = [
        f"{attack} from {source}"
        for attack in runs[0].results.averaged
        for source in dict.fromkeys(source for run in runs for source in run.results.sources)
        if (attack, source) in failed
    ]
    if columns:
        yield (
            "Left out of the verdict and of the mean adversarial scores that it rests on, since the attack"
            f" failed its self-tests there in a run: {', '.join(columns)}."
        )


def _units(runs: Sequence[ComparedRun]) -> Iterable[str]:
    results = runs[0].results
    yield (
        f"Intervals and tests are over the same {len(results.panel.patients)} {results.unit}s in all runs,"
        " paired; intervals are not adjusted for their number."
    )
    if results.unit != "patient":
        yield f"The data name no patients, the unit is the {results.unit}: intervals may be too narrow."
    yield (
        "The attacks were crafted on surrogates without a defence. A defence can look good merely"
        " by hiding its gradients: check the white-box scores, and attack it with its mechanism in mind."
    )
    yield "Nothing follows for architectures or defences in general: these are trained weights."


def warnings(runs: Iterable[ComparedRun]) -> tuple[str, ...]:
    """What must be known before the numbers of a run are trusted, with the name of the run."""
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
            },
            run.results.task,
        )
    )
