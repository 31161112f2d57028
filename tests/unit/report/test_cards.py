"""Fragments of model cards, read back by the library of those who define them."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from medrobust.core import Task
from medrobust.report.cards import card_files
from medrobust.report.context import ReportContext


def test_every_network_has_both_files(context: ReportContext) -> None:
    names = context.tables["table1"]["model"].to_list()
    assert set(card_files(context)) == {f"{name}.{kind}" for name in names for kind in ("yaml", "md")}


def test_the_index_is_read_by_the_hub(context: ReportContext) -> None:
    files = card_files(context)
    for row in context.tables["table1"].iter_rows(named=True):
        content = yaml.safe_load(files[f"{row['model']}.yaml"])
        name, results = model_index_to_eval_results(content["model-index"])
        assert name == row["model"]
        segmentation = context.task is Task.SEGMENTATION
        assert {result.task_type for result in results} == {f"image-{context.task}"}
        assert {result.metric_type for result in results} == {"dice" if segmentation else "accuracy"}
        found = {result.dataset_config: result for result in results}
        assert len(found) == len(results) == 3 + 9
        adversarial = found["mean over all attacks and sources"]
        assert adversarial.metric_value == pytest.approx(row["adversarial"], abs=5e-5)
        assert adversarial.metric_args == {
            "interval": [round(row["adversarial_low"], 4), round(row["adversarial_high"], 4)],
            "confidence": 0.95,
            "over": context.units,
        }
        for cell in context.tables["table2"].filter(target=name).iter_rows(named=True):
            result = found[f"{cell['perturbation']} crafted on {cell['source']}"]
            assert result.metric_value == pytest.approx(cell["score"], abs=5e-5)


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
