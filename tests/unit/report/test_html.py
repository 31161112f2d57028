import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import yaml
from jinja2 import UndefinedError

from medrobust.core import Task
from medrobust.errors import Remark
from medrobust.report.page import (
    CAPTIONS,
    OPENING,
    SECTIONS,
    TEMPLATES,
    WORDS_ONLY,
    allowed,
    at_a_glance,
    blocks,
    render,
)
from medrobust.report.pictures import draw
from medrobust.report.reading import Picture, ReportContext, threat_table
from medrobust.report.tables import Cell

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
        if tag not in {"meta", "link", "img", "br", "input"}:
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
    assert "explorer" not in [section["id"] for section in without.all("section")]


def test_every_table_has_a_caption_and_heads_with_scope(page: Page) -> None:
    filled = [table for table in page.all("table") if "data-part" not in table]  # the explorer's is empty
    assert len(filled) == len(page.all("caption")) > 5
    assert all(head["scope"] in {"col", "row", "colgroup"} for head in page.all("th"))


def test_every_picture_says_what_it_shows(page: Page, context: ReportContext) -> None:
    images = page.all("img")
    assert [image["alt"] for image in images] == [context.pictures[name].alt for name in order(context)]
    assert all(len(image["alt"] or "") > 40 for image in images)


def order(context: ReportContext) -> list[str]:
    placed = [name for section in SECTIONS for name in section.pictures if name in context.pictures]
    return [OPENING, *placed]


def test_headings_and_contents_agree(page: Page) -> None:
    sections = [attributes["id"] for attributes in page.all("section")]
    links = [link["href"] for link in page.all("a")]
    assert links[: len(sections) + 1] == ["#main", *(f"#{name}" for name in sections)]
    assert set(links[len(sections) + 1 :]) <= {f"#{name}" for name in sections}
    assert len(page.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_scores_stand_with_their_intervals_and_the_unit_is_named(page: Page, context: ReportContext) -> None:
    words = re.sub(r"\s+", " ", page.words)
    for row in context.tables["table2"].iter_rows(named=True):
        assert f"{row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in words
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
    line = "shows that the tool works, says nothing about your networks"
    assert line not in render(context)
    assert render(replace(context, phantom=True)).count(line) == 2
    assert "Read the terms of the data" in render(context)


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
    assert Picture(b"\x00\x01", "image/png", "", "").uri == "data:image/png;base64,AAE="


def test_the_same_context_gives_the_same_bytes(context: ReportContext) -> None:
    assert render(context) == render(context)


def test_absent_and_empty_tables_have_no_section(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    few = {name: context.tables[name] for name in ("table1", "table2")}
    page = Page(
        render(
            replace(
                context,
                tables={**few, "whitebox": context.tables["whitebox"].clear()},
                pictures={},
                explorer=None,
            )
        )
    )
    assert [section["id"] for section in page.all("section")] == [
        "overall",
        "transfer",
        "data",
        "threats",
        "methods",
        "record",
        "cite",
    ]


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
    }
    words = Page(
        render(replace(context, tables=extra | {"patients": pl.DataFrame({"patient_id": ["secret"]})}))
    ).words
    assert {"Further tables", "My own.", "More cells."} <= {line.strip() for line in words.splitlines()}
    assert "secret" not in words


def test_a_missing_setting_is_an_error_and_no_gap(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    study = {key: value for key, value in context.study.items() if key != "support"}
    with pytest.raises(UndefinedError, match="has no attribute 'support'"):
        render(replace(context, study=study))


def test_fixed_noise_is_not_called_matched(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    study = {**context.study, "noise": [{"name": "gaussian", "strength": 0.05}]}
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


def test_warnings_stand_in_their_sections_and_are_announced_above(make_context: MakeContext) -> None:
    remarks = (Remark("noise", "3 of 50 have no match."), Remark("success", "fgsm is off."))
    page = Page(render(replace(make_context(Task.CLASSIFICATION), remarks=remarks)))
    words = re.sub(r"\s+", " ", page.words)
    assert "Read with care. 2 warnings, in Attack against noise, What the attacks did to the images." in words
    assert words.index("Noise is the control") < words.index("3 of 50 have no match.")
    assert words.index("3 of 50 have no match.") < words.index("fgsm is off.") < words.index("Budgets solved")
    links = [link["href"] for link in page.all("a")]
    assert links[1:3] == ["#noise", "#success"]


def test_what_nobody_knows_of_a_source_is_said(context: ReportContext) -> None:
    (block,) = blocks("transfer_conditions", context)
    shown = [[cell.text for cell in row[2:]] for row in block.table.rows]
    assert shown == [["yes", "unknown", "100\u00a0%"], ["no", "no", "unknown"], ["no", "yes", "25\u00a0%"]]


def test_budgets_keep_their_digits(context: ReportContext) -> None:
    (block,) = blocks("budgets", context)
    place = [column.name for column in block.table.columns].index("value")
    assert [row[place].text for row in block.table.rows] == ["0.008624", "0.0079", "0.01"]


def test_success_and_changes_of_the_images_are_two_tables(context: ReportContext) -> None:
    success, changes = blocks("success", context)
    assert "SSIM" not in [column.name for column in success.table.columns]
    assert [column.name for column in changes.table.columns][3:] == [
        *("SSIM", "SSIM, whole image", "PSNR", "MSE", "L0", "L2, mean", "L∞", "steps")
    ]
    assert [row[-1].text for row in changes.table.rows][2:5] == ["1", "3", "3.5"]


def test_balanced_accuracy_is_laid_out_like_table_2(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    scores = {f"balanced_accuracy{end}": [0.5, 0.4, 0.6] for end in ("", "_low", "_high")}
    names = {"perturbation": ["clean", "gaussian@fgsm", "fgsm"], "source": ["", "a", "a"]}
    frame = pl.DataFrame({"target": ["a"] * 3} | names | scores)
    (block,) = blocks("balanced", replace(context, tables={**context.tables, "balanced": frame}))
    assert block.table.groups == (("clean", ("",)), ("fgsm", ("a",)))


def test_attacks_beyond_the_paper_are_marked_and_the_mark_is_told(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    (plain,) = blocks("table2", context)
    (marked,) = blocks("table2", replace(context, beyond_paper=("deepfool",)))
    assert [name for name, _ in plain.table.groups] == ["fgsm", "deepfool", "saliency_map"]
    assert [name for name, _ in marked.table.groups] == ["fgsm", "deepfool †", "saliency_map"]
    assert [row for _, row in plain.table.rows] == [row for _, row in marked.table.rows]
    assert ("†" in plain.caption, "† beyond the paper" in marked.caption) == (False, True)
    assert (
        "where the study has attacks of the paper: deepfool."
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
    place = [column.name for column in block.table.columns].index("budget")
    assert [row[place].text for row in block.table.rows] == ["0", "0.5/255", "0.01"]
    assert block.caption.startswith("Accuracy at each budget")
    page = Page(render(context))
    assert "curve" in [section["id"] for section in page.all("section")]
    assert dict(at_a_glance(context))["attacks"] == "2"
    empty = replace(context, tables={**context.tables, "curve": curve.clear()})
    assert "curve" not in [section["id"] for section in Page(render(empty)).all("section")]


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
    words = {"score": "accuracy", "percent": "95 %", "units": "patients", "examples": None, "plane": None}
    drawn = draw(tables, **words)
    titles = [axes.get_title() for axes in drawn["heatmap"]().figure.axes]
    assert [title for title in titles if title] == ["fgsm", "saliency_map"]
    assert "Dashed: noise" in drawn["curve"]().caption
    without = draw({**tables, "curve": tables["curve"].clear()}, **words)
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


def test_false_positives_stand_right_below_table_1(make_context: MakeContext) -> None:
    context = make_context(Task.SEGMENTATION)
    assert dict(at_a_glance(context))["without any label"] == "38"
    (section,) = (section for section in SECTIONS if section.name == "overall")
    assert section.tables[:2] == ("table1", "false_positives")
    (block,) = blocks("false_positives", context)
    assert [name for name, _ in block.table.groups] == ["empty cases, share painted", "empty cases, volume"]
    assert [cell.text for cell in block.table.rows[0][1]] == [
        "0.000",
        "0.105",
        "1.000",
        "0.000",
        "4.336",
        "41.300",
    ]
    assert "evaluated cases without any label (38 of 240)" in block.caption
    assert "the volume (ml per scan)" in block.caption
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


def test_sources_of_neither_architecture_have_no_column_where_there_are_none(context: ReportContext) -> None:
    name = "sources of neither"
    pairs = context.tables["pairs"]
    none = pairs.with_columns(n_neutral_sources=pl.lit(0))
    for frame, there in ((pairs, True), (none, False)):
        _, beside = blocks("pairs", replace(context, tables={**context.tables, "pairs": frame}))
        assert (name in [column.name for column in beside.table.columns]) == there


def test_ranks_are_one_column_without_a_score(context: ReportContext) -> None:
    (block,) = blocks("ranking", context)
    assert [column.name for column in block.table.columns] == ["network", "rank", "above majority"]
    assert [row[1].text for row in block.table.rows] == ["1", "2 to 3", "2 to 3"]


def test_structures_have_a_table_per_network_without_rounded_images(make_context: MakeContext) -> None:
    pieces = blocks("structures", make_context(Task.SEGMENTATION))
    assert ["unet" in piece.caption for piece in pieces] == [False, True, False]
    heads = [column.name for column in pieces[0].table.columns]
    assert heads == ["structure", "clean", "rician@dag_a", "dag_a", "dag_b", "dag_c"]


def test_every_named_table_has_a_caption_and_every_wordy_section_its_words() -> None:
    named = {name for section in SECTIONS for name in section.tables}
    assert named | {"pairs_beside", "changes"} == set(CAPTIONS)
    written = {path.name.removesuffix(".html.j2") for path in (TEMPLATES / "sections").iterdir()}
    assert written <= {section.name for section in SECTIONS}
    assert set(WORDS_ONLY) <= written


def test_the_best_are_marked_as_far_as_tests_tell(make_context: MakeContext) -> None:
    context = make_context(Task.CLASSIFICATION)
    ranking = context.tables["ranking"]

    def marks(rank_low: list[int | None]) -> list[str]:
        order = ranking.with_columns(pl.Series("rank_low", rank_low, pl.Int64))
        (block,) = blocks("table1", replace(context, tables={**context.tables, "ranking": order}))
        named = {row[0].text: row[0].mark for row in block.table.rows}
        return [named[name] for name in ranking["model"]]

    assert marks([1, 2, 2]) == ["best", "", ""]
    assert marks([1, 1, 3]) == ["highest score", "not distinguishable from the highest", ""]
    assert marks([None, None, None]) == ["", "", ""]
    tables = {name: frame for name, frame in context.tables.items() if name != "ranking"}
    (block,) = blocks("table1", replace(context, tables=tables))
    assert {row[0].mark for row in block.table.rows} == {""}
    assert "marks" not in block.caption
    assert "The marks go by the tests" in blocks("table1", context)[0].caption


def test_what_the_attacker_may_do_is_told_for_each_cell() -> None:
    table = threat_table(
        {
            "surrogates": {"data": "disjoint"},
            "crafting": {"whitebox": True},
            "perturbations": [
                {"name": "fgsm", "label": "weak", "eps": 2 / 255},
                {"name": "pgd", "label": "pgd", "eps": {"ssim": 0.98}, "norm": "2"},
                {"name": "dag_a", "label": "dag_a", "steps": 25},
                {"name": "deepfool", "label": "deepfool", "steps": 50},
            ],
        }
    )
    told = table.select("attack", "cells", "wants", "may_change", "norm").rows()
    assert told == [
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


def test_the_paper_and_the_software_are_cited_as_the_repository_asks() -> None:
    asked = yaml.safe_load((Path(__file__).parents[3] / "CITATION.cff").read_text(encoding="utf-8"))
    words = re.sub(r"\s+", " ", (TEMPLATES / "sections" / "cite.html.j2").read_text(encoding="utf-8"))
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
    assert "unet, clean and under dag_a" in block.caption
    assert "NSD within 1.5\u00a0mm, HD95 in mm" in block.caption
    assert block.table.first == "structure"
    assert block.table.groups == tuple(
        (name, ("clean", "dag_a")) for name in ("Dice", "NSD", "HD95", "volume error")
    )
    ((structure, cells),) = block.table.rows
    assert structure == "<b>"
    assert cells[:2] == (Cell("0.900", "[0.800, 0.950]"), Cell("0.100", "[0.000, 0.200]"))
    assert cells[4:] == (Cell("4.6", "[3.0, 6.0]"), Cell("\u2013"), Cell("\u22120.250"), Cell("\u22120.250"))
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
    (block,) = blocks("surfaces", context)
    assert "lie within 1.5\u00a0mm of each other" in block.caption
    assert "in mm." in block.caption
    shown = dict(zip([column.name for column in block.table.columns], block.table.rows[0], strict=True))
    assert shown["NSD"] == Cell("0.812", "[0.700, 0.900]")
    assert shown["HD95"] == Cell("4.6", "[3.0, 6.0]")
    assert shown["HD95 undefined"] == Cell("0.125")
    assert not {"unit", "tolerance"} & shown.keys()
    (of_structures,) = blocks("structure_surfaces", context)
    assert of_structures.table.rows == ((Cell("<b>"), Cell("0.812", "[0.700, 0.900]")),)
    assert "in the plane of a slice" in render(context)
