"""What a report shows, as plain data: rendering it is a pure function."""

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
from medrobust.models.form import read_weights
from medrobust.models.spec import is_of_imagenet, is_trained
from medrobust.report.examples import Examples, Row
from medrobust.report.plots import Projection
from medrobust.report.style import Picture, structure_colours
from medrobust.running.explorer import example_files
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
        task: Task of the networks.
        unit: What splits and intervals are taken over.
        phantom: Whether the data are generated.
        confidence: Confidence of all intervals, in (0, 1).
        outcome: The verdict in a word, e.g. "ranked" or "not distinguishable".
        verdict: The sentences of the verdict, the most important first.
        remarks: Warnings, each with the section that it belongs to.
        data: What must be stated about the data, e.g. name, spacing, intensity normalisation.
        split: A row per part of the split: `part`, `n_patients`, with folds also `fold`.
        networks: A row per network.
        attacks: A row per attack, from `attack_table`.
        tables: Tables by the name of their file, at least `table1` and `table2`.
        pictures: Plots by name.
        study: The study as resolved.
        record: Versions, seeds and hashes.
        threats: A row per attack and kind of cell, from `threat_table`.
        explorer: From `explorer.read_explorer`.
        examples: From `examples.example_rows`.
        subgroups: What the scores of groups of patients show, a sentence per attribute.
        beyond_paper: Labels of attacks that are not in the paper, and of points of curves.
        assumed: What was assumed to make networks run, a sentence each.
        pixels: What images consist of, see `Results.pixels`.
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
    assumed: tuple[str, ...] = ()
    pixels: str = "pixels"

    @property
    def direct(self) -> bool:
        """Whether nothing was transferred, so that each network faces only attacks crafted on itself."""
        return self.tables["table2"].is_empty()

    @property
    def cells(self) -> pl.DataFrame:
        """Table 2, or, where nothing was transferred, the scores under attacks crafted on each network."""
        noise_or_rounded = pl.col("perturbation").str.contains("[@~]")
        return self.tables["whitebox"].filter(~noise_or_rounded) if self.direct else self.tables["table2"]

    @property
    def judged_by(self) -> Score:
        """The score that networks are judged by."""
        return primary_score(self.study.get("analysis", {}).get("score"), self.task)

    @property
    def score(self) -> str:
        """Its name, as people read it."""
        return self.judged_by.heading

    def fewest_for_equality(self, pairs: int) -> int:
        """Number of patients below which none of `pairs` pairs is called equally good on clean images."""
        return patients_for_equivalence(round(1 - self.confidence, 12), pairs)

    @property
    def matched_noise(self) -> bool:
        """Whether noise was matched to the attacks."""
        return bool(self.study["noise"])

    @property
    def noise(self) -> str:
        """The noise of Table 1 in words; empty if the study has none."""
        if self.matched_noise:
            return "noise matched to the attacks"
        scores = self.tables["table1"]["noise"]
        return "noise of fixed strength" if scores.null_count() < len(scores) else ""

    @property
    def trained(self) -> tuple[bool, ...]:
        """Of each judged network, whether the run trained it."""
        return tuple(_is_trained(each) for each in self.study["models"])

    @property
    def trained_surrogates(self) -> tuple[bool, ...]:
        """Of each surrogate, whether the run trained it."""
        return trained_surrogates(self.study)

    @property
    def pretrained(self) -> tuple[str, ...]:
        """The judged networks that began with ImageNet's weights."""
        weights = {each["name"]: each.get("weights") for each in self.study["models"]}
        return tuple(
            name for name, given in weights.items() if is_of_imagenet(read_weights(given, name).file)
        )

    @property
    def units(self) -> str:
        """The unit in the plural."""
        return f"{self.unit}s"


def crafted_on(study: Mapping[str, Any], source: str, *, direct: bool) -> str:
    """What attacks of a source were crafted on, in words; `direct`: nothing was transferred."""
    if direct:
        return "the network itself"
    models = study["surrogates"].get("models")
    if isinstance(models, list):
        return f"{source}, a surrogate"
    return "other networks" if models == "others" else f"the surrogate of {source}"


def trained_surrogates(study: Mapping[str, Any]) -> tuple[bool, ...]:
    """Of each surrogate of a resolved study, whether it was trained in the run."""
    models = study["surrogates"].get("models")
    if isinstance(models, list):
        return tuple(_is_trained(each) for each in models)
    given = study["surrogates"].get("weights") or ()
    return tuple(each["name"] not in given for each in study["models"])


def _is_trained(entry: Mapping[str, Any]) -> bool:
    return "given" not in entry and is_trained(entry)


COLUMNS = ("attack", "cells", "attacker_knows", "wants", "may_change", "norm")
SURROGATE = "task, classes and {data}; neither the weights nor the answers of the judged network"
OTHERS = "task, classes and the other networks of the study; nothing of the judged one"
ENSEMBLE = "; all surrogates are attacked as one, whose logits are the mean of theirs"
WHITEBOX = "everything: architecture and weights of the judged network"
ASKED = "task, classes and {what} of the judged network; neither its architecture nor its weights"
ANSWERS = {"scores": ASKED.format(what="scores"), "decisions": ASKED.format(what="decisions")}
"""What is known where only answers are used, by what an attack needs."""
NORMS = {"inf": "L∞", "2": "L2"}
TRAINING = {"same": "the training data", "disjoint": "data like the training data, of other patients"}
GIVEN = "surrogates trained elsewhere, on data that are not known here"


def threat_table(
    study: Mapping[str, Any], perturbations: Iterable[Mapping[str, Any]], pixels: str = "pixels"
) -> pl.DataFrame:
    """What the attacker knows, wants and may change: a row per attack and kind of cell.

    Args:
        study: As resolved.
        perturbations: What the record of the run says about each.
        pixels: What images consist of, see `Results.pixels`.
    """
    sources, trained = study["surrogates"].get("models"), trained_surrogates(study)
    data = [TRAINING[study["surrogates"]["data"]]] * any(trained) + [GIVEN] * (not all(trained))
    knows = OTHERS if sources == "others" else SURROGATE.format(data=" and ".join(data))
    facts = {each["label"]: each for each in perturbations if each["role"] == "attack"}
    rows = []
    for each in study["perturbations"]:
        label = each["label"]
        if label not in facts:
            continue
        aim = _aim(facts[label], each, pixels)
        on = facts[label]["crafted_on"]
        if sources != "none" and on != "targets":
            rows.append((label, "Tables 1 and 2", f"{knows}{ENSEMBLE if on == 'ensemble' else ''}", *aim))
        if sources == "none" or on == "targets" or (on == "both" and study["crafting"]["whitebox"]):
            rows.append((label, "white-box", ANSWERS.get(facts[label]["needs"], WHITEBOX), *aim))
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _aim(facts: Mapping[str, Any], parameters: Mapping[str, Any], pixels: str) -> tuple[str, str, str]:
    """What an attack wants, what it may change, and the norm of its bound."""
    finding = parameters.get("finding")
    about = "any wrong answer" if finding is None else f"a wrong answer about {finding}"
    wants = f"chosen classes in chosen {pixels}" if facts["targeted"] else about
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
NAMED = ("label", "name", "on_misclassified", "on_failure")
"""Settings of an attack with a column of their own."""
CARD = {
    "parameters": "parameters",
    "train_patients": "train_patients",
    "train_cases": "train_cases",
    "best_epoch": "best_epoch",
    "score": "validation_score",
}
"""Entries of a network's card that are shown, and their names here."""
FEWEST_POINTS = 5
"""Points of the smallest t-SNE."""


def read_examples(folder: RunFolder, results: Results, name: str) -> Examples | None:
    """Example images by the name of their files; None if the run kept none."""
    where, arrays_at = example_files(name)
    if not folder.exists(*where):
        return None
    facts = folder.read_json(*where)
    stored = io.BytesIO(folder.read_bytes(*arrays_at))
    with np.load(stored, allow_pickle=False) as arrays:
        return Examples(
            target=facts["target"],
            source=facts["source"],
            classes=results.classes,
            colours=structure_colours(results.classes, results.colours),
            columns=tuple(facts["columns"]),
            case_ids=tuple(case["case_id"] for case in facts["cases"]),
            images=arrays["images"],
            labels=arrays["labels"],
            predictions=arrays["predictions"],
            probabilities=arrays.get("probabilities"),
            spacing=results.spacing,
        )


class Embedded(NamedTuple):
    """What a report shows of features.

    Attributes:
        projection: The t-SNE of the first network with features.
        numbers: The table `embedding` of all networks with features.
        missing: A sentence per network without a t-SNE, unless the run itself says why.
    """

    projection: Projection | None = None
    numbers: pl.DataFrame | None = None
    missing: tuple[str, ...] = ()


def embed(folder: RunFolder, results: Results) -> Embedded:
    """The t-SNE and its numbers, as far as the run kept features."""
    kept = folder.exists("results", "embeddings.parquet")
    features = read_results(folder, EMBEDDINGS) if kept else pl.DataFrame(schema=EMBEDDINGS.schema)
    attack, noise = compared_pair(features) or ("", "")
    explained = [remark.sentence for remark in results.left_out if remark.about == "embedding"]
    unknown, few, tables = [], [], []
    projection = None
    for name in results.models:
        if name not in features["target"]:
            if not any(sentence.startswith(f"No t-SNE of {name} ") for sentence in explained):
                unknown.append(f"No t-SNE of {name}, because its features are not known.")
            continue
        rows = of_target(features, name, attack, noise)
        if rows.height < FEWEST_POINTS:
            few.append(
                f"No t-SNE of {name}: fewer than {FEWEST_POINTS} images have features when clean, when "
                "attacked and with the noise that is matched to the attack."
            )
            continue
        table = displacement_table(rows, attack=attack, noise=noise, confidence=results.settings.confidence)
        tables.append(table.select(pl.lit(name).alias("target"), pl.all()))
        if projection is None:
            frequent = rows.filter(pl.col("label").is_in(frequent_classes(rows)))
            points = joint_tsne(frequent, seed=results.settings.seed)
            projection = Projection(points, name, attack, noise, results.classes)
    return Embedded(projection, pl.concat(tables) if tables else None, (*unknown, *few))


def read_networks(folder: RunFolder, names: Iterable[str]) -> pl.DataFrame:
    """A row per network, from the name of its folder and, if it was trained here, from its card."""
    rows = []
    for name in names:
        match = NETWORK.fullmatch(name)
        if match is None:
            raise RunError(
                f"record.json names a network '{name}', but no network has such a name. Run the study again."
            )
        trained = folder.exists("models", name, "card.json")
        card = folder.read_json("models", name, "card.json") if trained else {}
        rows.append(match.groupdict() | {shown: card.get(key) for key, shown in CARD.items()})
    return pl.DataFrame(rows, infer_schema_length=None)


def read_assumed(folder: RunFolder, record: Mapping[str, Any]) -> tuple[str, ...]:
    """What was assumed, or changed, to make the networks of a run folder run: each sentence once."""
    told: list[str] = []
    for name, network in record["networks"].items():
        trained = folder.exists("models", name, "card.json")
        card = folder.read_json("models", name, "card.json") if trained else {}
        sentences = card.get("assumed") or record.get("assumed", {}).get(name, ())
        told += [f"{network['name']}: {sentence}" for sentence in sentences]
    return tuple(dict.fromkeys(told))


def without_patients(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the number of patients in each part of a network's split, instead of their names."""
    networks = dict(record["networks"])
    for name, network in networks.items():
        if "patients" in network:
            networks[name] = {**network, "patients": dict(Counter(network["patients"].values()))}
    return {**record, "networks": networks}


def read_parts(folder: RunFolder) -> pl.DataFrame:
    """The split of a run folder: `patient_id, part`, with folds also `fold`, all as text.

    Raises:
        RunError: It is missing, or not such a table.
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
    """Number of patients in each part of the split, or of each fold."""
    split = read_parts(folder)
    keys = [column for column in ("fold", "part") if column in split.columns]
    return split.group_by(keys, maintain_order=True).agg(pl.len().alias("n_patients")).sort(keys)


def attack_table(study: Mapping[str, Any]) -> pl.DataFrame:
    """A row per attack of a resolved study, all its parameters in one cell."""
    rows = []
    for entry in study["perturbations"]:
        parameters = flattened({key: value for key, value in entry.items() if key not in NAMED})
        line = ", ".join(f"{key} = {value}" for key, value in parameters)
        rows.append({key: entry.get(key) for key in NAMED} | {"parameters": line})
    return pl.DataFrame(rows, schema=dict.fromkeys((*NAMED, "parameters"), pl.String))


def flattened(content: Mapping[str, Any], parents: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Nested mappings as pairs of a dotted name and a value."""
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
    """A setting in words; unlike results, it is not rounded to three decimals."""
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ABSENT if value is None else str(value)


def _item_name(item: Any, place: int) -> str:
    """The label or name of a list item, as in `--set`; else its place."""
    named = item.get("label") or item.get("name") if isinstance(item, Mapping) else None
    return str(named or place)


def capitalised(text: str) -> str:
    """The text with its first letter as a capital; the others stay, as in "SSIM"."""
    return text[:1].upper() + text[1:]
