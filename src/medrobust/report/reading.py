"""What a report reads from a run folder beside the tables: examples, features, cards, split, attacks."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
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
from medrobust.errors import RunError
from medrobust.report.display import flattened
from medrobust.report.figures.examples import Examples
from medrobust.report.figures.palette import structure_colours
from medrobust.report.pictures import Plane
from medrobust.storage.folder import RunFolder
from medrobust.storage.rows import read_results
from medrobust.storage.schemas import EMBEDDINGS

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
        plane: The t-SNE of the first network whose features were kept; None without any.
        numbers: The numbers of all such networks, for the table `embedding`.
        missing: In sentences, of which networks there is none, and why, as far as the run does not say.
    """

    plane: Plane | None = None
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
    return Embedded(Plane(points, target, attack, noise, results.classes), numbers, tuple(missing))


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
