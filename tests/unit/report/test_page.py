import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from jinja2 import UndefinedError

from made_studies import told
from medrobust.analysis.table import Cell, CrossTable, Table
from medrobust.core import Task
from medrobust.errors import Remark
from medrobust.report.cards import card_files
from medrobust.report.examples import Examples, examples_figure
from medrobust.report.page import (
    CAPTIONS,
    QUESTIONS,
    STORY,
    STORY_PICTURES,
    STORY_TABLES,
    TEMPLATES,
    Block,
    allowed,
    at_a_glance,
    blocks,
    render,
)
from medrobust.report.plots import Words, draw
from medrobust.report.reading import GIVEN, ReportContext, crafted_on, flattened, setting, threat_table
from medrobust.report.style import Picture

MakeContext = Callable[[Task], ReportContext]


class Page(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "br", "input", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(context: ReportContext) -> Page:
    return Page(render(context))


def test_nothing_is_fetched(page: Page, context: ReportContext) -> None:
    text = render(context)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert "url(" not in text
    assert "@import" not in text
    policy = page.all("meta")[2]["content"] or ""
    assert policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )


def test_only_the_scripts_of_the_report_may_run(page: Page, context: ReportContext) -> None:
    text = render(context)
    policy = page.all("meta")[2]["content"] or ""
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert allowed(scripts).split() == re.findall(r"'sha256-[^']+'", policy)
    assert len(scripts) == 3
    assert len(page.all("script")) == 4
    assert page.all("script")[0] == {"type": "application/json", "id": "explorer-data"}
    without = Page(render(replace(context, explorer=None)))
    assert len(without.all("script")) == 1
    assert "explorer" not in [question["id"] for question in without.all("details") if "id" in question]


def test_every_table_has_a_caption_and_heads_with_scope(page: Page) -> None:
    filled = [table for table in page.all("table") if "data-part" not in table]  # the explorer's is empty
    assert len(filled) == len(page.all("caption")) > 5
    assert all(head["scope"] in {"col", "row", "colgroup"} for head in page.all("th"))


def test_every_picture_says_what_it_shows(page: Page, context: ReportContext) -> None:
    texts = [image["alt"] or "" for image in page.all("img")]
    shown = set(context.pictures) - {"heatmap"}  # Table 2 is a map in the page itself
    assert {context.pictures[name].alt for name in shown} <= set(texts)
    assert all(len(text) > 12 for text in texts)
    assert len(page.all("img")) == len(shown) + sum(
        (shot.change is not None) + (shot.answer is not None) + 1 + (row.truth is not None and not place)
        for row in context.examples
        for place, shot in enumerate(row.shots)
    )


def test_the_story_comes_in_order_then_the_questions(page: Page, context: ReportContext) -> None:
    sections = [attributes["id"] for attributes in page.all("section")]
    # These studies have no corruptions, and no ladder.
    assert sections == [*(name for name, _ in STORY if name not in ("corrupted", "ladder")), "appendix"]
    questions = [attributes["id"] for attributes in page.all("details") if "id" in attributes]
    assert questions == [each.name for each in QUESTIONS if each.name in questions]
    assert {"differences", "success", "data", "run", "methods", "cite"} <= set(questions)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {link["href"] for link in page.all("a")}
    assert links <= {f"#{name}" for name in ids}


def test_headings_never_skip_a_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_table_of_the_run_is_in_the_report(page: Page, context: ReportContext) -> None:
    shown = {attributes["data-table"] for _, attributes in page.elements if "data-table" in attributes}
    filled = {name for name, frame in context.tables.items() if frame.height}
    assert filled - {"patients", "risk_coverage", "seeds", "off_diagonal"} <= shown


def test_what_stands_in_the_story_is_not_said_twice(page: Page) -> None:
    names = [attributes["data-table"] for _, attributes in page.elements if "data-table" in attributes]
    assert [names.count(name) for name in STORY_TABLES] == [1, 1, 0, 0, 0]
    assert names.count("pairs") == 1


def test_scores_stand_with_their_intervals_and_the_unit_is_named(page: Page, context: ReportContext) -> None:
    words = re.sub(r"\s+", " ", page.words)
    for row in context.tables["table2"].iter_rows(named=True):
        assert f"{row['score']:.3f} [{row['low']:.2f}, {row['high']:.2f}]" in words
    assert f"95 % intervals over {context.units}" in words
    assert f"test {context.units}" in words
    assert ("intervals may be too narrow" in words) == (context.unit != "patient")


def test_the_verdict_comes_first(page: Page, context: ReportContext) -> None:
    places = [page.words.index(sentence) for sentence in context.verdict]
    assert places == sorted(places)
    assert places[-1] < page.words.index("Table 1 as a picture") < page.words.index("Table 1. ")
    assert f"Verdict: {context.outcome}" in page.words


def test_phantoms_say_that_they_are_phantoms(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    line = "shows that the tool works. It says nothing about your networks"
    assert line not in render(context)
    assert render(replace(context, phantom=True)).count(line) == 1
    assert "read the terms of the data" in render(context)


def test_text_is_escaped(make_context: MakeContext) -> None:
    evil = "</script><script>alert(1)</script>"
    context = make_context(Task.SEGMENTATION)
    names = {"classes": ["background", evil], "targets": [evil, "b", "c"]}
    explorer = {**context.explorer, "index": {**context.explorer["index"], **names}}
    context = replace(context, title=evil, verdict=("a < b & c",), explorer=explorer)
    text = render(context)
    assert "alert(1)<" not in text
    assert len(Page(text).all("script")) == 4
    assert "a &lt; b &amp; c" in text
    held = re.search(r'id="explorer-data">(.*?)</script>', text, re.DOTALL)
    assert held is not None
    assert json.loads(held[1])["index"]["classes"][1] == evil


def test_a_picture_is_embedded_as_it_is() -> None:
    assert Picture(b"\x00\x01", "", "").uri == "data:image/svg+xml;base64,AAE="


def test_the_same_context_gives_the_same_bytes(context: ReportContext) -> None:
    assert render(context) == render(context)


def questions_of(context: ReportContext) -> list[str | None]:
    return [each["id"] for each in Page(render(context)).all("details") if "id" in each]


def test_absent_and_empty_tables_have_no_question(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    few = {name: context.tables[name] for name in ("table1", "table2")}
    tables = {**few, "subgroups": pl.DataFrame(schema=["attribute"])}
    bare = replace(context, tables=tables, pictures={}, explorer=None)
    assert questions_of(bare) == ["data", "run", "methods", "cite"]


def test_unknown_tables_are_shown_by_their_name_but_long_ones_only_as_files(
    make_context: MakeContext,
) -> None:
    context = make_context(Task.CLASSIFICATION)
    cells = context.tables["table2"]
    extra = {
        "table1": context.tables["table1"],
        "table2": cells,
        "my_own": pl.DataFrame({"a": [1]}),
        "more_cells": cells,
        "patients": pl.DataFrame({"patient_id": ["secret"]}),
    }
    page = Page(render(replace(context, tables=extra)))
    assert {"What else was counted?", "My own.", "More cells."} <= {
        line.strip() for line in page.words.splitlines()
    }
    assert "secret" not in page.words


def test_a_missing_setting_is_an_error_and_no_gap(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    study = {key: value for key, value in context.study.items() if key != "support"}
    with pytest.raises(UndefinedError, match="has no attribute 'support'"):
        render(replace(context, study=study))


def test_fixed_noise_is_not_called_matched(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    study = {**context.study, "noise": {}}
    fixed = Page(render(replace(context, study=study))).words
    matched = Page(render(context)).words
    assert "noise of fixed strength" in fixed
    assert "noise of fixed strength" not in matched
    assert ("Matched noise has" in fixed, "Matched noise has" in matched) == (False, True)


def test_what_the_study_did_not_do_is_not_told(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    plain = {"crafting": {"quantise": False, "whitebox": False}, "cases": {"per_patient": None, "total": 50}}
    words = Page(render(replace(context, study={**context.study, **plain}))).words
    assert "Rounding to the bits" not in words
    assert "White-box cells stand" not in words
    assert "at most 50, stratified" in words
    assert "of a patient" not in words


def test_seeds_are_shown_where_there_are_several(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    seeds = pl.DataFrame({"model": ["a", "a"], "target_seed": [0, 1], "clean": [0.8, 0.7]})
    of = {"seeds": seeds, **context.tables}
    assert len(blocks("seeds", replace(context, tables=of))) == 1
    assert blocks("seeds", replace(context, tables={**of, "seeds": seeds[:1]})) == []


def test_warnings_stand_where_they_belong_and_are_announced_above(make_context: MakeContext) -> None:
    remarks = (Remark("noise", "3 of 50 have no match."), Remark("selftests", "fgsm is off."))
    page = Page(render(replace(make_context(Task.CLASSIFICATION), remarks=remarks)))
    words = re.sub(r"\s+", " ", page.words)
    assert "Read with care. 2 warnings: Attack against noise · Is the attack weak?" in words
    assert words.index("Noise is the control") < words.index("3 of 50 have no match.")
    assert words.index("3 of 50 have no match.") < words.index("fgsm is off.") < words.index("Budgets solved")
    assert [link["href"] for link in page.all("a")][1:3] == ["#noise", "#success"]
    opened = [each["id"] for each in page.all("details") if "open" in each]
    assert opened == ["success"]


def text(block: Block) -> list[list[str]]:
    assert isinstance(block.table, Table)
    return [[cell.text for cell in row] for row in block.table.cells]


def heads(block: Block) -> list[str]:
    assert isinstance(block.table, Table)
    return block.table.heads


def test_what_nobody_knows_of_a_source_is_said(context: ReportContext) -> None:
    (block,) = blocks("transfer_conditions", context)
    assert [row[2:] for row in text(block)] == [
        ["yes", "unknown", "100\u00a0%"],
        ["no", "no", "unknown"],
        ["no", "yes", "25\u00a0%"],
    ]


def test_budgets_keep_their_digits(context: ReportContext) -> None:
    (block,) = blocks("budgets", context)
    place = heads(block).index("value")
    assert [row[place] for row in text(block)] == ["0.008624", "0.0079", "0.01"]


def test_success_and_changes_of_the_images_are_two_tables(context: ReportContext) -> None:
    fooled, success, changes = blocks("success", context)
    assert fooled.mapped
    assert "SSIM" not in heads(success)
    assert set(heads(changes)[3:]) == {
        *("SSIM", "SSIM, whole image", "PSNR (dB)", "MSE", "L0", "L2, mean", "L∞", "steps")
    }


def test_balanced_accuracy_is_laid_out_like_table_2(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    scores = {f"balanced_accuracy{end}": [0.5, 0.4, 0.6] for end in ("", "_low", "_high")}
    names = {"perturbation": ["clean", "gaussian@fgsm", "fgsm"], "source": ["", "a", "a"]}
    frame = pl.DataFrame({"target": ["a"] * 3} | names | scores)
    (block,) = blocks("balanced", replace(context, tables={**context.tables, "balanced": frame}))
    assert [(panel.title, panel.columns) for panel in block.table] == [("clean", ("—",)), ("fgsm", ("a",))]


def test_attacks_beyond_the_paper_are_marked_and_the_mark_is_told(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    (plain,) = blocks("table2", context)
    (marked,) = blocks("table2", replace(context, beyond_paper=("deepfool",)))
    assert [panel.title for panel in plain.table] == ["fgsm", "deepfool", "saliency_map"]
    assert [panel.title for panel in marked.table] == ["fgsm", "deepfool †", "saliency_map"]
    assert [panel.rows for panel in plain.table] == [panel.rows for panel in marked.table]
    assert ("†" in plain.caption, "† beyond the paper" in marked.caption) == (False, True)
    assert (
        "if the study has attacks of the paper: deepfool."
        in Page(render(replace(context, beyond_paper=("deepfool",)))).words
    )


def test_a_curve_has_a_section_and_counts_as_one_attack(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    points = [("clean", 0.0), ("deepfool", 0.5 / 255), ("saliency_map", 0.01)]
    curve = pl.DataFrame(
        {"curve": "a", "target": "net", "perturbation": name, "budget": budget}
        | {"score": 0.7, "low": 0.6, "high": 0.8, "noise": 0.75}
        for name, budget in points
    )
    context = replace(context, tables={**context.tables, "curve": curve})
    (block,) = blocks("curve", context)
    place = heads(block).index("budget")
    assert [row[place] for row in text(block)] == ["0", "0.5/255", "0.01"]
    assert block.table.caption.startswith("Accuracy at each budget")
    assert dict(at_a_glance(context))["attacks"] == "2"


def test_points_of_curves_have_their_own_picture(make_context: MakeContext) -> None:
    tables = dict(make_context(Task.CLASSIFICATION).tables)
    tables["curve"] = pl.DataFrame(
        {
            "curve": ["a"] * 2,
            "target": ["net"] * 2,
            "perturbation": ["clean", "deepfool"],
            "budget": [0.0, 0.1],
        }
        | dict.fromkeys(("score", "low", "high", "noise"), 0.5)
    )
    words = Words("accuracy", "95 %", "patients")
    drawn = draw(tables, words, None)
    titles = [axes.get_title() for axes in drawn["heatmap"]().figure.axes]
    assert [title for title in titles if title] == ["fgsm", "saliency_map"]
    assert "Dashed: noise" in drawn["curve"]().caption
    without = draw({**tables, "curve": tables["curve"].clear()}, words, None)
    assert "curve" not in without
    told = [each["heatmap"]().caption.endswith("picture of their own.") for each in (drawn, without)]
    assert told == [True, False]


def test_sources_of_other_architectures_are_shown_where_there_are_some(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    frame = pl.DataFrame({"model": ["unet"], "sources": [""], "note": [""], "adversarial": [None]})
    none = frame.with_columns(
        pl.col("adversarial").cast(pl.Float64), adversarial_low=None, adversarial_high=None
    )
    assert blocks("off_diagonal", replace(context, tables={**context.tables, "off_diagonal": none})) == []
    some = none.with_columns(sources=pl.lit("segnet"), adversarial=0.5)
    assert len(blocks("off_diagonal", replace(context, tables={**context.tables, "off_diagonal": some}))) == 1


def test_false_positives_are_counted_where_there_can_be_some(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    assert dict(at_a_glance(context))["without any label"] == "38"
    (block,) = blocks("false_positives", context)
    assert isinstance(block.table, CrossTable)
    assert [name for name, _ in block.table.groups] == [
        "empty cases, fraction painted",
        "empty cases, volume",
    ]
    shown = [cell.text for cell in block.table.cells["segnet"]]
    assert shown == ["0.000", "0.105", "1.000", "0.000", "4.336", "41.300"]
    assert "evaluated cases without any label (38 of 240)" in block.table.caption
    assert "volume (ml per scan)" in block.table.caption
    frame = context.tables["false_positives"].with_columns(empty_painted=None, empty_volume=None)
    nowhere = replace(context, tables={**context.tables, "false_positives": frame})
    assert blocks("false_positives", nowhere) == []
    assert "without any label" not in dict(at_a_glance(make_context(Task.CLASSIFICATION)))


def test_a_transfer_rate_that_no_case_defines_is_not_shown(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    frame = pl.DataFrame({"target": ["a", "b"], "rate": [None, 0.5], "n_cases": [0, 3]})
    of = {**context.tables, "transfer_rate": frame}
    assert len(blocks("transfer_rate", replace(context, tables=of))) == 1
    assert blocks("transfer_rate", replace(context, tables={**of, "transfer_rate": frame[:1]})) == []


def test_ranks_are_one_column_without_a_score(context: ReportContext) -> None:
    (block,) = blocks("ranking", context)
    assert heads(block) == ["network", "rank", "above majority"]
    assert [row[1] for row in text(block)] == ["1", "2 to 3", "2 to 3"]


def test_structures_are_a_map_of_what_breaks_with_a_table_per_network_behind(
    make_context: MakeContext,
) -> None:
    context = make_context(Task.SEGMENTATION)
    frame = context.tables["structures"].with_columns(
        score=pl.when(pl.col("structure") == "brain stem", pl.col("perturbation") == "dag_a")
        .then(0.1)
        .otherwise(pl.col("score"))
    )
    map_, *tables = blocks("structures", replace(context, tables={**context.tables, "structures": frame}))
    assert map_.mapped
    assert [panel.title for panel in map_.table] == ["segnet", "unet", "fc_densenet"]
    for panel in map_.table:
        assert panel.columns == ("clean", "dag_a", "dag_b", "dag_c")
        assert panel.rows[0][0] == "brain stem", "the structure that loses most comes first"
        assert [shade.text for shade in panel.rows[0][1]] == ["0.80", "0.10", "0.80", "0.80"]
    assert [block.title for block in tables] == [
        f"Structures of {name}" for name in ("segnet", "unet", "fc_densenet")
    ]
    names = [name for _, name in tables[0].table.heads]
    assert names == ["clean", "rician@dag_a", "dag_a", "dag_b", "dag_c"], "no rounded images"


def test_a_map_is_the_darker_the_lower_and_its_words_stand_out(context: ReportContext) -> None:
    (block,) = blocks("table2", context)
    cells = [shade for panel in block.table for _, shades in panel.rows for shade in shades]
    light = {
        float(shade.text): sum(int(shade.style[12 + 2 * place : 14 + 2 * place], 16) for place in range(3))
        for shade in cells
    }
    order = sorted(light)
    assert [light[score] for score in order] == sorted(light.values())
    assert {shade.style[-7:] for shade in cells} == {"#ffffff", "#000000"}
    framed = [shade.framed for panel in block.table for _, shades in panel.rows for shade in shades]
    assert framed == [True, False, False, False, True, False, False, False, True] * 3


def test_every_named_table_has_a_caption_and_all_words_belong_to_a_question() -> None:
    named = {*STORY_TABLES, *(name for question in QUESTIONS for name in question.tables)}
    assert named | {"changes"} == set(CAPTIONS)
    assert all("caption" in told for told in CAPTIONS.values())
    written = {path.name.removesuffix(".html.j2") for path in (TEMPLATES / "words").iterdir()}
    assert written <= {question.name for question in QUESTIONS}
    assert {name for name, _ in STORY} >= set(STORY_PICTURES.values())


def test_the_best_are_marked_as_far_as_tests_tell(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    ranking = context.tables["ranking"]

    def marks(rank_low: list[int | None]) -> list[str]:
        order = ranking.with_columns(pl.Series("rank_low", rank_low, pl.Int64))
        (block,) = blocks("table1", replace(context, tables={**context.tables, "ranking": order}))
        return [block.marks.get(name, "") for name in ranking["model"]]

    assert marks([1, 2, 2]) == ["best", "", ""]
    assert marks([1, 1, 3]) == ["highest score", "not distinguishable from the highest", ""]
    assert marks([None, None, None]) == ["", "", ""]
    tables = {name: frame for name, frame in context.tables.items() if name != "ranking"}
    (block,) = blocks("table1", replace(context, tables=tables))
    assert not block.marks
    assert "marks" not in block.table.caption
    assert "The marks go by the tests" in blocks("table1", context)[0].table.caption
    assert '<span class="mark">best</span>' in render(context)


def test_what_the_attacker_may_do_is_told_for_each_cell() -> None:
    study = {
        "models": [{"name": "net"}],
        "surrogates": {"data": "disjoint"},
        "crafting": {"whitebox": True},
        "perturbations": [
            {"name": "fgsm", "label": "weak", "eps": 2 / 255},
            {"name": "pgd", "label": "pgd", "eps": {"ssim": 0.98}, "norm": "2"},
            {"name": "dag_a", "label": "dag_a", "steps": 25},
            {"name": "deepfool", "label": "deepfool", "steps": 50},
        ],
    }
    table = threat_table(study, told(study["perturbations"]))
    seen = table.select("attack", "cells", "wants", "may_change", "norm").rows()
    assert seen == [
        ("weak", "Tables 1 and 2", "any wrong answer", "eps = 2/255", "L∞"),
        ("weak", "white-box", "any wrong answer", "eps = 2/255", "L∞"),
        ("pgd", "Tables 1 and 2", "any wrong answer", "eps solved for a mean SSIM of 0.98", "L2"),
        (
            *("dag_a", "Tables 1 and 2", "chosen classes in chosen pixels"),
            *("no bound: until it has what it wants, at most 25 steps", "none"),
        ),
        (
            *("dag_a", "white-box", "chosen classes in chosen pixels"),
            *("no bound: until it has what it wants, at most 25 steps", "none"),
        ),
        ("deepfool", "Tables 1 and 2", "any wrong answer", "as little as it can, at most 50 steps", "none"),
    ]
    knows = dict(table.select("cells", "attacker_knows").rows())
    assert "of other patients" in knows["Tables 1 and 2"]
    assert knows["white-box"].startswith("everything")


@pytest.mark.parametrize(
    ("surrogates", "data"),
    [
        ({}, "the training data"),
        ({"data": "disjoint"}, "data like the training data, of other patients"),
        ({"weights": {"a": {}, "b": {}}}, GIVEN),
        ({"weights": {"a": {}}}, f"the training data and {GIVEN}"),
        ({"models": [{"name": "c", "given": "a module"}, {"name": "d", "load": "x:y"}]}, GIVEN),
        ({"models": [{"name": "c"}]}, "the training data"),
        ({"models": [{"name": "c"}, {"name": "d", "load": "d.onnx"}]}, f"the training data and {GIVEN}"),
    ],
)
def test_of_given_surrogates_nobody_knows_what_they_were_trained_on(
    surrogates: dict[str, Any], data: str
) -> None:
    study = {
        "models": [{"name": "a"}, {"name": "b"}],
        "surrogates": {"data": "same", **surrogates},
        "crafting": {"whitebox": False},
        "perturbations": [{"name": "fgsm", "label": "fgsm", "eps": 0.01}],
    }
    (row,) = threat_table(study, told(study["perturbations"])).rows(named=True)
    assert row["attacker_knows"].startswith(f"task, classes and {data}; neither")


def test_methods_say_which_networks_came_trained(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    assert "3 targets were trained here" in (words := Page(render(context)).words)
    assert "3 surrogates were trained here" in words
    assert "came trained" not in words
    first, *rest = context.study["models"]
    study = {
        **context.study,
        "models": [{**first, "weights": "mine.pt"}, *rest],
        "surrogates": {**context.study["surrogates"], "weights": {first["name"]: {"file": "other.pt"}}},
    }
    words = " ".join(Page(render(replace(context, study=study))).words.split())
    assert "2 targets were trained here" in words
    assert "1 target came trained. 1 surrogate came trained." in words
    assert "What the given surrogates were trained on is not known here." in words


def test_methods_name_the_networks_that_began_with_weights_of_imagenet(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    assert context.pretrained == ("inception_v3", "inception_v4")
    weights = (
        "imagenet",
        "package:nets",
        {"file": "package:nets", "prefix": "net."},
        "mine.pt",
        "none",
        None,
    )
    models = [{"name": f"net{n}", "weights": given} for n, given in enumerate(weights)]
    study = {**context.study, "models": [*models, {"name": "bare"}, {"name": "own", "given": "own 3fa2"}]}
    words = Page(render(replace(context, study=study))).words
    assert "Pre-trained on ImageNet: net0, net1, net2. Attacks" in words
    assert "ImageNet" not in Page(render(make_context(Task.SEGMENTATION))).words


@pytest.mark.parametrize(
    ("models", "where"),
    [(None, "the surrogate of unet"), ("others", "other networks"), ("none", "the network itself")],
)
def test_figure_page_and_card_say_where_attacks_were_crafted(
    make_context: MakeContext, examples: Examples, models: str | None, where: str
) -> None:
    context = make_context(Task.SEGMENTATION)
    surrogates = {**context.study["surrogates"], "models": models}
    context = replace(context, study={**context.study, "surrogates": surrogates})
    if models == "none":
        nothing = context.tables["table2"].clear()
        context = replace(context, tables={**context.tables, "table2": nothing})
    shown = crafted_on(context.study, "unet", direct=context.direct)
    assert shown == where
    page = crafted_on(context.study, context.examples[0].source, direct=context.direct)
    assert f"Attacks were crafted on {page}." in Page(render(context)).words
    title = examples_figure(examples, shown).get_suptitle()
    assert title == f"As {examples.target} sees them; attacks crafted on {where}"
    card = card_files(context)["unet.md"].decode()
    assert ("crafted on other networks, trained apart" in card) == (models != "none")
    assert ("these transferred attacks" in card) == (models != "none")
    assert "on — test" not in card


def test_the_paper_and_the_software_are_cited_as_the_repository_asks() -> None:
    asked = yaml.safe_load((Path(__file__).parents[3] / "CITATION.cff").read_text(encoding="utf-8"))
    words = re.sub(r"\s+", " ", (TEMPLATES / "words" / "cite.html.j2").read_text(encoding="utf-8"))
    paper = asked["preferred-citation"]
    for fact in (paper["title"], paper["doi"], str(paper["year"]), asked["title"], asked["license"]):
        assert fact in words, fact
    assert all(author["family-names"] in words for author in paper["authors"])


def test_structures_stand_by_all_measures_clean_and_attacked(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    row = {"target": "unet", "perturbation": "clean", "structure": "<b>", "dice": 0.9, "dice_low": 0.8}
    row |= {"dice_high": 0.95, "nsd": 0.81234, "nsd_low": 0.7, "nsd_high": 0.9, "hd95": 4.567}
    row |= {"hd95_low": 3.0, "hd95_high": 6.0, "volume_error": -0.25, "n_patients": 15}
    row |= {"tolerance": 1.5, "unit": "mm"}
    attacked = row | {"perturbation": "dag_a", "dice": 0.1, "dice_low": 0.0, "dice_high": 0.2, "hd95": None}
    frame = pl.DataFrame([row, attacked | {"hd95_low": None, "hd95_high": None}])
    context = replace(context, tables={**context.tables, "structure_overview": frame})
    (block,) = blocks("structure_overview", context)
    assert isinstance(block.table, CrossTable)
    assert "unet, clean and under dag_a" in block.table.caption
    assert "NSD within 1.5\u00a0mm, HD95 in mm" in block.table.caption
    assert block.table.groups == [(name, 2) for name in ("Dice", "NSD", "HD95", "volume error")]
    ((structure, cells),) = block.table.cells.items()
    assert structure == "<b>"
    assert [*cells[:2]] == [Cell("0.900", "[0.80, 0.95]"), Cell("0.100", "[0.00, 0.20]")]
    assert [cell.text for cell in cells[4:]] == ["4.6", "—", "-0.250", "-0.250"]
    page = render(context)
    assert '<th scope="col" rowspan="2">structure</th>' in page
    assert '<th scope="row">&lt;b&gt;</th>' in page
    empty = replace(context, tables={**context.tables, "structure_overview": frame.clear()})
    assert "HD95 in mm" not in render(empty)


def test_boundaries_say_their_unit_once_and_hd95_has_one_decimal(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    row = {"target": "unet", "perturbation": "clean", "nsd": 0.81234, "nsd_low": 0.7, "nsd_high": 0.9}
    row |= {"hd95": 4.567, "hd95_low": 3.0, "hd95_high": 6.0, "n_patients": 15, "hd95_undefined": 0.125}
    row |= {"missed": 0.25, "added": 0.0, "tolerance": 1.5, "unit": "mm"}
    tables = {
        "surfaces": pl.DataFrame([row]),
        "structure_surfaces": pl.DataFrame([row | {"structure": "<b>"}]),
    }
    context = replace(context, tables={**context.tables, **tables})
    map_, block = blocks("surfaces", context)
    assert map_.mapped
    assert "within 1.5\u00a0mm of each other" in block.table.caption
    assert "in mm;" in block.table.caption
    shown = dict(zip(heads(block), block.table.cells[0], strict=True))
    assert shown["NSD"] == Cell("0.812", "[0.70, 0.90]")
    assert shown["HD95"] == Cell("4.6", "[3.0, 6.0]")
    assert shown["HD95 undefined"] == Cell("0.125")
    assert not {"unit", "tolerance"} & shown.keys()
    (of_structures,) = blocks("structure_surfaces", context)
    assert of_structures.table.cells == {"<b>": [Cell("0.812", "[0.70, 0.90]")]}
    assert "in the plane of a slice" in render(context)


def test_settings_keep_their_digits_and_items_go_by_their_name() -> None:
    study = {
        "seed": 0,
        "models": [{"name": "unet", "width": 16}, {"width": 8}],
        "eps": 4 / 255,
        "sizes": [1, 2],
        "x": None,
    }
    assert flattened(study) == [
        ("seed", "0"),
        ("models.unet.name", "unet"),
        ("models.unet.width", "16"),
        ("models.1.width", "8"),
        ("eps", "0.0156863"),
        ("sizes", "1, 2"),
        ("x", "—"),
    ]
    assert setting([]) == "none"
