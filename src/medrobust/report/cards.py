"""Fragments for the model card of each network: the figures with their intervals.

The YAML goes between the two lines `---` at the top of a card, the Markdown anywhere below.

Source: the `model-index` of the Hugging Face Hub's model cards, https://huggingface.co/docs/hub/model-cards.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl
import yaml

from medrobust.analysis.table import Table, shown
from medrobust.core import Task
from medrobust.report.reading import ReportContext, capitalised

TASKS = {Task.CLASSIFICATION: "image-classification", Task.SEGMENTATION: "image-segmentation"}
DIGITS = 4
SUMMARY = {
    "clean": "clean images",
    "noise": "noise",
    "adversarial": "mean over all attacks and sources",
}
"""Scores of Table 1, and what they are taken under."""


class Figure(NamedTuple):
    """A score of a network, with the ends of its interval where it has one."""

    condition: str
    score: float
    low: float | None
    high: float | None


def card_files(context: ReportContext) -> dict[str, bytes]:
    """The files of `cards/`: of every network, its figures as YAML and as Markdown."""
    files = {}
    for row in context.tables["table1"].iter_rows(named=True):
        figures = [*_summary(row), *_cells(context.tables["table2"], row["model"])]
        index = yaml.safe_dump(
            _model_index(row["model"], figures, context), sort_keys=False, allow_unicode=True
        )
        files[f"{row['model']}.yaml"] = index.encode()
        files[f"{row['model']}.md"] = _words(row["model"], figures, context).encode()
    return files


def _summary(row: Mapping[str, Any]) -> Iterable[Figure]:
    for name, condition in SUMMARY.items():
        if _known(row[name]):
            yield Figure(condition, row[name], *(_end(row[f"{name}_{end}"]) for end in ("low", "high")))


def _cells(table: pl.DataFrame, model: str) -> Iterable[Figure]:
    for row in table.filter(target=model).iter_rows(named=True):
        if _known(row["score"]):
            condition = f"{row['perturbation']} crafted on {row['source']}"
            yield Figure(condition, row["score"], _end(row["low"]), _end(row["high"]))


def _model_index(model: str, figures: list[Figure], context: ReportContext) -> dict[str, Any]:
    """What a network did under each condition; conditions are configurations of the data set."""
    data = str(context.data["data set"])
    results = [
        {
            "task": {"type": TASKS[context.task]},
            "dataset": {"type": data, "name": data, "config": figure.condition, "split": "test"},
            "metrics": [_metric(figure, context)],
        }
        for figure in figures
    ]
    return {"model-index": [{"name": model, "results": results}]}


def _metric(figure: Figure, context: ReportContext) -> dict[str, Any]:
    metric = {
        "type": context.judged_by.name,
        "name": f"{context.score}, {figure.condition}",
        "value": round(figure.score, DIGITS),
    }
    if figure.low is None or figure.high is None:
        return metric
    interval = [round(figure.low, DIGITS), round(figure.high, DIGITS)]
    return metric | {"args": {"interval": interval, "confidence": context.confidence, "over": context.units}}


def _words(model: str, figures: list[Figure], context: ReportContext) -> str:
    table = pl.DataFrame(
        {
            "condition": [figure.condition for figure in figures],
            "score": [figure.score for figure in figures],
            "low": [figure.low for figure in figures],
            "high": [figure.high for figure in figures],
        },
        schema_overrides={"low": pl.Float64, "high": pl.Float64},
    ).rename({"score": context.score, "low": f"{context.score}_low", "high": f"{context.score}_high"})
    patients = shown(context.tables["table2"]["n_patients"].max())
    told = [
        f"{capitalised(context.score)} of {model} on {patients} test {context.units} of "
        f"{context.data['data set']}, with {100 * context.confidence:g} % intervals over {context.units}.",
        "Attacks were crafted on other networks, trained apart from this one.",
        *(["These are generated images: they say nothing about the network."] if context.phantom else []),
    ]
    limits = [
        f"Measured by medrobust {context.record['versions']['medrobust']} after the protocol of Paschali et "
        "al. (MICCAI 2018).",
        "The figures hold for these transferred attacks and these trained weights; they are no safety claim.",
    ]
    return "\n\n".join(
        [
            "## Robustness",
            " ".join(told),
            Table.of("card", table).to_markdown().rstrip(),
            " ".join(limits),
            "",
        ]
    )


def _known(value: float | None) -> bool:
    return value is not None and value == value


def _end(value: float | None) -> float | None:
    return value if _known(value) else None
