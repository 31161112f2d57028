"""Fragments of model cards, read back by the library of those who define them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from medrobust.core import Task
from medrobust.report.cards import card_files
from medrobust.report.reading import ReportContext

ENDS = ("", "_low", "_high")


def test_every_network_has_both_files(context: ReportContext) -> None:
    names = context.tables["table1"]["model"].to_list()
    assert set(card_files(context)) == {f"{name}.{kind}" for name in names for kind in ("yaml", "md")}


@pytest.fixture
def card(context: ReportContext, tmp_path: Path) -> Path:
    """The card of the first network: its YAML between two lines, its Markdown below."""
    files, name = card_files(context), context.tables["table1"]["model"][0]
    path = tmp_path / "README.md"
    path.write_bytes(b"---\n" + files[f"{name}.yaml"] + b"---\n\n" + files[f"{name}.md"])
    return path


def test_the_hub_reads_every_figure_with_its_interval(context: ReportContext, card: Path) -> None:
    read = ModelCard.load(card)
    row = context.tables["table1"].row(0, named=True)
    assert read.data.model_name == row["model"]
    assert read.text.strip().startswith("## Robustness")
    expected = {
        "clean images": [row[f"clean{end}"] for end in ENDS],
        "noise": [row[f"noise{end}"] for end in ENDS],
        "mean over all attacks and sources": [row[f"adversarial{end}"] for end in ENDS],
    }
    for cell in context.tables["table2"].filter(target=row["model"]).iter_rows(named=True):
        condition = f"{cell['perturbation']} crafted on {cell['source']}"
        expected[condition] = [cell["score"], cell["low"], cell["high"]]
    found = {result.dataset_config: result for result in read.data.eval_results}
    assert len(read.data.eval_results) == len(found) == 3 + 9
    for condition, figures in expected.items():
        value, low, high = (round(figure, 4) for figure in figures)
        result = found[condition]
        assert result.metric_value == value
        assert result.metric_args == {"interval": [low, high], "confidence": 0.95, "over": context.units}
        assert result.task_type == f"image-{context.task}"
        assert result.metric_type == ("dice" if context.task is Task.SEGMENTATION else "accuracy")
        assert result.dataset_name == context.data["data set"]
        assert result.dataset_split == "test"


def test_the_hub_would_write_the_same_index(card: Path) -> None:
    index = metadata_load(card)["model-index"]
    assert index == eval_results_to_model_index(*model_index_to_eval_results(index))
    assert ModelCard.load(card).data.to_dict()["model-index"] == index


def test_the_words_hold_the_same_figures_and_their_limits(context: ReportContext) -> None:
    text = card_files(context)[f"{context.tables['table1']['model'][0]}.md"].decode()
    row = context.tables["table1"].row(0, named=True)
    assert f"{row['clean']:.3f} [{row['clean_low']:.2f}, {row['clean_high']:.2f}]" in text
    assert "no safety claim" in text
    assert ("say nothing about the network" in text) == context.phantom
    assert text.count("\n| ") == 2 + 3 + 9


def test_what_is_undefined_is_left_out(make_context: Callable[[Task], ReportContext]) -> None:
    context = make_context(Task.SEGMENTATION)
    ends = {f"noise{end}": None for end in ("", "_low", "_high")} | {"clean_low": None, "clean_high": None}
    table = context.tables["table1"].with_columns(
        pl.lit(value, pl.Float64).alias(name) for name, value in ends.items()
    )
    files = card_files(replace(context, tables={**context.tables, "table1": table}))
    (entry,) = yaml.safe_load(files["unet.yaml"])["model-index"]
    conditions = {result["dataset"]["config"]: result["metrics"][0] for result in entry["results"]}
    assert "noise" not in conditions
    assert "args" not in conditions["clean images"]
    assert b"nan" not in files["unet.md"].lower()


def test_names_of_the_data_cannot_break_out(make_context: Callable[[Task], ReportContext]) -> None:
    context = make_context(Task.SEGMENTATION)
    odd = replace(context, data={**context.data, "data set": "a: [b]\n- <script>"})
    content = yaml.safe_load(card_files(odd)["unet.yaml"])
    assert content["model-index"][0]["results"][0]["dataset"]["name"] == "a: [b]\n- <script>"
