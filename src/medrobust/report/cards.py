"""Fragments for the model card of each network: its scores with their intervals.

The YAML goes between the two lines `---` at the top of a card, the Markdown anywhere below.

Source: the `model-index` of the Hugging Face Hub's model cards, https://huggingface.co/docs/hub/model-cards.
"""

from typing import Any, NamedTuple

import polars as pl
import yaml

from medrobust.analysis.table import Table, shown
from medrobust.core import Task
from medrobust.report.reading import ReportContext, capitalised

TASKS = {
    Task.CLASSIFICATION: "image-classification",
    Task.MULTILABEL: "image-classification",
    Task.SEGMENTATION: "image-segmentation",
}
DIGITS = 4
SUMMARY = {
    "clean": "clean images",
    "noise": "noise",
    "adversarial": "mean over all attacks and sources",
}
"""Scores of Table 1 and their conditions."""


class Figure(NamedTuple):
    """A score of a network under a condition, and its interval if it has one."""

    condition: str
    score: float
    low: float | None
    high: float | None


def card_files(context: ReportContext) -> dict[str, bytes]:
    """The files of `cards/`: the scores of every network as YAML and as Markdown."""
    table1, cells = (table.fill_nan(None) for table in (context.tables["table1"], context.cells))
    files = {}
    for row in table1.iter_rows(named=True):
        model = row["model"]
        figures = [
            Figure(condition, row[name], row[f"{name}_low"], row[f"{name}_high"])
            for name, condition in SUMMARY.items()
            if row[name] is not None
        ]
        figures += [
            Figure(
                f"{cell['perturbation']} crafted on {cell['source']}",
                cell["score"],
                cell["low"],
                cell["high"],
            )
            for cell in cells.filter(target=model).iter_rows(named=True)
            if cell["score"] is not None
        ]
        index = _model_index(model, figures, context)
        files[f"{model}.yaml"] = yaml.safe_dump(index, sort_keys=False, allow_unicode=True).encode()
        files[f"{model}.md"] = _markdown(model, figures, context).encode()
    return files


def _model_index(model: str, figures: list[Figure], context: ReportContext) -> dict[str, Any]:
    """The scores as results of the Hub; conditions are configurations of the data set."""
    data = str(context.data["data set"])
    results = []
    for figure in figures:
        metric: dict[str, Any] = {
            "type": context.judged_by.name,
            "name": f"{context.score}, {figure.condition}",
            "value": round(figure.score, DIGITS),
        }
        if figure.low is not None and figure.high is not None:
            interval = [round(figure.low, DIGITS), round(figure.high, DIGITS)]
            facts = {"interval": interval, "confidence": context.confidence, "over": context.units}
            metric["args"] = facts
        results.append(
            {
                "task": {"type": TASKS[context.task]},
                "dataset": {"type": data, "name": data, "config": figure.condition, "split": "test"},
                "metrics": [metric],
            }
        )
    return {"model-index": [{"name": model, "results": results}]}


def _markdown(model: str, figures: list[Figure], context: ReportContext) -> str:
    score = context.score
    schema = {"condition": pl.String, **dict.fromkeys((score, f"{score}_low", f"{score}_high"), pl.Float64)}
    patients = shown(context.cells["n_patients"].max())
    about = (
        f"{capitalised(score)} of {model} on {patients} test {context.units} of {context.data['data set']}, "
        f"with {100 * context.confidence:g} % intervals over {context.units}."
    )
    if not context.direct:
        about += " Attacks were crafted on other networks, trained apart from this one."
    if context.phantom:
        about += " These are generated images: they say nothing about the network."
    transferred = "" if context.direct else "transferred "
    limits = (
        f"Measured by medrobust {context.record['versions']['medrobust']} after the protocol of Paschali et "
        f"al. (MICCAI 2018). The figures hold for these {transferred}attacks and these trained weights; they "
        "are no safety claim."
    )
    table = Table.of("card", pl.DataFrame(figures, schema, orient="row")).to_markdown().rstrip()
    return "\n\n".join(["## Robustness", about, table, limits, ""])
