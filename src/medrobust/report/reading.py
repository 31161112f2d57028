"""What a report shows: plain data, so that rendering it is a pure function."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from medrobust.analysis.embedding import (
    compared_pair,
    displacement_table,
    frequent_classes,
    joint_tsne,
    of_target,
)
from medrobust.analysis.results import Results
from medrobust.analysis.table import ABSENT, shown
from medrobust.core import Task, Unit
from medrobust.errors import Remark, RunError
from medrobust.metrics.catalogue import Score
from medrobust.report.examples import Examples, Row
from medrobust.report.plots import Projection
from medrobust.report.style import Picture, structure_colours
from medrobust.stats.significance import patients_for_equivalence
from medrobust.storage.folder import RunFolder
from medrobust.storage.rows import read_results
from medrobust.storage.schemas import EMBEDDINGS
from medrobust.study.analysis import primary_score


@dataclass(frozen=True)
class ReportContext:
    """Everything that stands in a report.

    Attributes:
        title: Headline.
        task: What the networks do.
        unit: What splits and intervals are made over.
        phantom: True for generated data.
        confidence: Of all intervals, in (0, 1).
        outcome: The verdict in a word, e.g. "ranked" or "not distinguishable".
        verdict: The sentences of the verdict, the most important one first.
        remarks: Warnings, each with the section that it belongs to.
        data: What must be stated about the data, e.g. name, spacing, intensity normalisation.
        split: A row per part of the split: `part`, `n_patients` and what else is known.
        networks: A row per network.
        attacks: A row per attack: its label and every parameter.
        tables: Frames by the name of their file; `table1` and `table2` must be there.
        pictures: Plots by name.
        study: The study as resolved.
        record: Versions, seeds and hashes.
        threats: A row per attack and place where it was crafted, from `threats.threat_table`.
        examples: Rows of example images, from `examples.example_rows`.
        explorer: What the explorer shows, from `explorer.read_explorer`; None: nothing.
        subgroups: What the scores of groups of patients show, a sentence per attribute.
        beyond_paper: Labels of the attacks that the paper did not have, and of points of curves.
    """

    title: str
    task: Task
    unit: Unit
    phantom: bool
    confidence: float
    outcome: str
    verdict: tuple[str, ...]
    remarks: tuple[Remark, ...]
    data: Mapping[str, str]
    split: pl.DataFrame
    networks: pl.DataFrame
    attacks: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    pictures: Mapping[str, Picture]
    study: Mapping[str, Any]
    record: Mapping[str, Any]
    threats: pl.DataFrame
    explorer: Mapping[str, Any] | None = None
    examples: tuple[Row, ...] = ()
    subgroups: tuple[str, ...] = ()
    beyond_paper: tuple[str, ...] = ()

    @property
    def judged_by(self) -> Score:
        """What the networks are judged by."""
        return primary_score(self.study.get("analysis", {}).get("score"), self.task)

    @property
    def score(self) -> str:
        """The score, as people read it."""
        return self.judged_by.heading

    def fewest_for_equality(self, pairs: int) -> int:
        """Patients below which no pair of so many is called equally good on clean images."""
        return patients_for_equivalence(round(1 - self.confidence, 12), pairs)

    @property
    def matched_noise(self) -> bool:
        """Whether the strength of the noise is solved for each attack; else the study gives it."""
        return isinstance(self.study["noise"], Mapping)

    @property
    def units(self) -> str:
        """The unit, in the plural."""
        return f"{self.unit}s"


TRANSFERRED = "Tables 1 and 2"
COLUMNS = ("attack", "cells", "attacker_knows", "wants", "may_change", "norm")
SURROGATE = "task, classes and {data}; neither the weights nor the answers of the judged network"
OTHERS = "task, classes and the other networks of the study; nothing of the judged one"
WHITEBOX = "everything: architecture and weights of the judged network"
NORMS = {"inf": "L∞", "2": "L2"}
TRAINING = {"same": "the training data", "disjoint": "data like the training data, of other patients"}


def threat_table(study: Mapping[str, Any], perturbations: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """A row per attack and place where it was crafted.

    Args:
        study: As resolved.
        perturbations: What the record of the run says about each.
    """
    places = {
        TRANSFERRED: OTHERS
        if study["surrogates"].get("models") == "others"
        else SURROGATE.format(data=TRAINING[study["surrogates"]["data"]]),
        "white-box": WHITEBOX,
    }
    facts = {each["label"]: each for each in perturbations if each["role"] == "attack"}
    rows = [
        (each["label"], place, knows, *_aim(facts[each["label"]], each))
        for each in study["perturbations"]
        if each["label"] in facts
        for place, knows in places.items()
        if place in _places(facts[each["label"]], study)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _places(facts: Mapping[str, Any], study: Mapping[str, Any]) -> set[str]:
    if study["surrogates"].get("models") == "none":
        return {"white-box"}
    is_direct = facts["whitebox"] and study["crafting"]["whitebox"]
    return {TRANSFERRED, "white-box"} if is_direct else {TRANSFERRED}


def _aim(facts: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[str, str, str]:
    """What an attack wants, how much it may change, and in which norm that is measured."""
    wants = "chosen classes in chosen pixels" if facts["targeted"] else "any wrong answer"
    if facts["budget"] is None:
        steps = parameters.get("steps")
        end = f", at most {setting(steps)} steps" if steps is not None else ""
        aim = "as little as it can" if facts["minimal"] else "no bound: until it has what it wants"
        return wants, aim + end, "none"
    budget, norm = parameters[facts["budget"]], NORMS.get(facts["norm"], "none")
    if isinstance(budget, Mapping):
        return wants, f"{facts['budget']} solved for a mean SSIM of {setting(budget['ssim'])}", norm
    return wants, f"{facts['budget']} = {shown(float(budget), 'setting')}", norm


NETWORK = re.compile(r"(?P<network>.+)-(?P<role>target|surrogate)-s(?P<seed>\d+)(?:-f(?P<fold>\d+))?")
"""Name of a network's folder, see `core.NetworkId`."""
NAMED = ("name", "label", "on_misclassified", "on_failure")
CARD = {
    "parameters": "parameters",
    "train_patients": "train_patients",
    "train_cases": "train_cases",
    "best_epoch": "best_epoch",
    "score": "validation_score",
}
"""What is shown of a card, and its name here."""
FEWEST_POINTS = 5


def read_examples(folder: RunFolder, results: Results) -> Examples | None:
    """The example images; None where the run kept none."""
    if not folder.exists("results", "examples.json"):
        return None
    told = folder.read_json("results", "examples.json")
    stored = io.BytesIO(folder.read_bytes("results", "examples.npz"))
    with np.load(stored, allow_pickle=False) as arrays:
        return Examples(
            target=told["target"],
            source=told["source"],
            classes=results.classes,
            colours=structure_colours(results.classes, results.colours),
            columns=tuple(told["columns"]),
            case_ids=tuple(case["case_id"] for case in told["cases"]),
            images=arrays["images"],
            labels=arrays["labels"],
            predictions=arrays["predictions"],
            probabilities=arrays.get("probabilities"),
        )


class Embedded(NamedTuple):
    """What a report shows of features.

    Attributes:
        projection: The t-SNE of the first network whose features were kept; None without any.
        numbers: The numbers of all such networks, for the table `embedding`.
        missing: In sentences, of which networks there is none, and why, as far as the run does not say.
    """

    projection: Projection | None = None
    numbers: pl.DataFrame | None = None
    missing: tuple[str, ...] = ()


def embed(folder: RunFolder, results: Results) -> Embedded:
    """The t-SNE and its numbers, as far as features were kept."""
    kept = folder.exists("results", "embeddings.parquet")
    features = read_results(folder, EMBEDDINGS) if kept else pl.DataFrame(schema=EMBEDDINGS.schema)
    known = [name for name in results.models if name in features["target"]]
    told = [remark.sentence for remark in results.left_out if remark.about == "embedding"]
    unknown = [
        name
        for name in results.models
        if name not in known and not any(sentence.startswith(f"No t-SNE of {name} ") for sentence in told)
    ]
    missing = [f"No t-SNE of {name}, because its features are not known." for name in unknown]
    attack, noise = compared_pair(features) or ("", "")
    of = {name: of_target(features, name, attack, noise) for name in known}
    few = [name for name, rows in of.items() if rows.height < FEWEST_POINTS]
    missing += [
        f"No t-SNE of {name}: fewer than {FEWEST_POINTS} images have features when clean, when attacked and "
        "with the noise that is matched to the attack."
        for name in few
    ]
    of = {name: rows for name, rows in of.items() if name not in few}
    if not of:
        return Embedded(missing=tuple(missing))
    confidence = results.settings.confidence
    numbers = pl.concat(
        displacement_table(rows, attack=attack, noise=noise, confidence=confidence).select(
            pl.lit(target).alias("target"), pl.all()
        )
        for target, rows in of.items()
    )
    target, rows = next(iter(of.items()))
    shown = rows.filter(pl.col("label").is_in(frequent_classes(rows)))
    points = joint_tsne(shown, seed=results.settings.seed)
    return Embedded(Projection(points, target, attack, noise, results.classes), numbers, tuple(missing))


def read_networks(folder: RunFolder, names: Iterable[str]) -> pl.DataFrame:
    """A row per network: what the name of its folder and, where it was trained here, its card say."""
    rows = []
    for name in names:
        match = NETWORK.fullmatch(name)
        if match is None:
            raise RunError(f"record.json names a network '{name}', which is none. Run the study again.")
        trained = folder.exists("models", name, "card.json")
        card = folder.read_json("models", name, "card.json") if trained else {}
        rows.append(match.groupdict() | {shown: card.get(key) for key, shown in CARD.items()})
    return pl.DataFrame(rows, infer_schema_length=None)


def without_patients(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the number of patients in each part of a network's split instead of all their names."""
    networks = {
        name: {**network, "patients": dict(Counter(network["patients"].values()))}
        if "patients" in network
        else network
        for name, network in record["networks"].items()
    }
    return {**record, "networks": networks}


def read_parts(folder: RunFolder) -> pl.DataFrame:
    """The split as it stands in the run folder: `patient_id, part`, with folds also `fold`, all as text.

    Raises:
        RunError: It is missing, or no such table.
    """
    try:
        split = pl.read_csv(io.BytesIO(folder.read_bytes("split.csv")), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise RunError(f"{folder.path('split.csv')} is damaged ({error}). Run the study again.") from None
    if not {"patient_id", "part"} <= {*split.columns}:
        raise RunError(
            f"{folder.path('split.csv')} must have the columns patient_id,part; got"
            f" {','.join(split.columns)}. Run the study again."
        )
    return split


def read_split(folder: RunFolder) -> pl.DataFrame:
    """Number of patients in each part of the split (and fold)."""
    split = read_parts(folder)
    keys = [column for column in ("fold", "part") if column in split.columns]
    return split.group_by(keys, maintain_order=True).agg(pl.len().alias("n_patients")).sort(keys)


def attack_table(study: Mapping[str, Any]) -> pl.DataFrame:
    """A row per attack of a resolved study, all its parameters in one cell."""
    rows = []
    for entry in study["perturbations"]:
        parameters = flattened({key: value for key, value in entry.items() if key not in NAMED})
        line = ", ".join(f"{key} = {value}" for key, value in parameters)
        rows.append(
            {key: entry.get(key) for key in ("label", "name", "on_misclassified", "on_failure")}
            | {"parameters": line}
        )
    return pl.DataFrame(
        rows,
        schema=dict.fromkeys(("label", "name", "on_misclassified", "on_failure", "parameters"), pl.String),
    )


def flattened(content: Mapping[str, Any], parents: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Nested mappings as lines of a dotted name and a value."""
    lines: list[tuple[str, str]] = []
    for key, value in content.items():
        path = (*parents, str(key))
        if isinstance(value, Mapping):
            lines += flattened(value, path)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            lines += flattened({_item_name(item, place): item for place, item in enumerate(value)}, path)
        else:
            lines.append((".".join(path), setting(value)))
    return lines


def setting(value: Any) -> str:
    """A setting in words; unlike a result it is never rounded to three decimals."""
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ABSENT if value is None else str(value)


def _item_name(item: Any, place: int) -> str:
    """List items that have a label or name go by it, as in `--set`."""
    named = item.get("label") or item.get("name") if isinstance(item, Mapping) else None
    return str(named or place)


def capitalised(text: str) -> str:
    """The text with a capital letter at its beginning; the others stay, as in "Dice" or "SSIM"."""
    return text[:1].upper() + text[1:]
