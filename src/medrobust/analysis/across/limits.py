"""What limits a comparison without making it meaningless: said, not refused."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medrobust.analysis import crafting
from medrobust.analysis.across.runs import ComparedRun, same_weights
from medrobust.analysis.across.shared import attacks_of, common_sources, noise_of
from medrobust.analysis.findings import audit_table
from medrobust.analysis.remarks import remarks
from medrobust.core import Role

SETTINGS = (
    ("data of the surrogates", ("surrogates", "data"), "an attacker with the same patients transfers better"),
    ("seeds of the surrogates", ("surrogates", "seeds"), "the attacks were crafted on other trainings"),
    (
        "seed of the study",
        ("seed",),
        "draws of noise and of DAG's targets, initialisation and order of training are others",
    ),
    ("reduced precision", ("crafting", "autocast"), "the attacks were computed with another precision"),
    ("settings of the analysis", ("analysis",), "all numbers here are by those of the first run"),
)
"""Keys of a study that may differ, and what follows."""


def limits(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> tuple[str, ...]:
    """What differs between the runs, and what every comparison of runs leaves open.

    Args:
        given: The runs as they are.
        compared: The same, limited by `shared.comparable`.
    """
    return (
        *_left_out(given, compared),
        *_sources(given, compared),
        *_surrogates(compared),
        *_settings(given),
        *_training(given),
        *_versions(given),
        *_self_tests(compared),
        *_units(compared),
    )


def _left_out(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> Iterable[str]:
    kept = {*(attack.label for attack in compared[0].results.attacks), *compared[0].results.noise}
    for kind, entries in (("attacks", attacks_of), ("noise", noise_of)):
        for run in given:
            others = [label for label in entries(run) if label not in kept]
            if others:
                yield f"Left out of the {kind} of {run.name}, since it is not compared: {', '.join(others)}."
    if not compared[0].results.noise:
        yield "The runs share no noise, so there is no noise score."


def _sources(given: Sequence[ComparedRun], compared: Sequence[ComparedRun]) -> Iterable[str]:
    have = "; ".join(f"{run.name}: {', '.join(run.results.sources)}" for run in given)
    common = common_sources(given)
    if not common:
        yield (
            f"The sources of the attacks have no name in common ({have}). Each network is judged on attacks"
            " from the sources of its own run, so that part of a difference may be one of the sources."
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
                " are not the same, so that part of a difference may be one of the surrogates."
            )


def _settings(runs: Sequence[ComparedRun]) -> Iterable[str]:
    for what, keys, follows in SETTINGS:
        values = [_value(run.study, keys) for run in runs]
        if any(value != values[0] for value in values):
            said = "; ".join(f"{run.name}: {_said(value)}" for run, value in zip(runs, values, strict=True))
            yield f"Different {what} ({said}): {follows}."


def _value(study: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value: Any = study
    for key in keys:
        value = value[key]
    return value


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _training(runs: Sequence[ComparedRun]) -> Iterable[str]:
    if any(run.trained_on != runs[0].trained_on for run in runs):
        said = "; ".join(f"{run.name}: {len(run.trained_on)}" for run in runs)
        common = len(frozenset.intersection(*(run.trained_on for run in runs)))
        yield (
            f"The {runs[0].results.unit}s to train on differ ({said}; in common: {common}): so may the"
            " networks, for that alone."
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
        "The attacks were crafted on surrogates that know of no defence. A defence can look good because it"
        " only hides its gradients; look at the white-box scores, and attack it with what it does in mind."
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
