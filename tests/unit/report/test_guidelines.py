"""For whoever must sign: evidence for the clauses of documents, and the report as PDF."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from medrobust.errors import Remark
from medrobust.report.guidelines import GUIDELINES, documents
from medrobust.report.page import CAPTIONS, QUESTIONS, STORY_TABLES, render
from medrobust.report.pdf import printed
from medrobust.report.reading import ReportContext
from medrobust.study.config import Guideline


def test_a_study_can_ask_for_every_document() -> None:
    assert set(get_args(Guideline)) == set(GUIDELINES)


def test_every_table_that_is_named_is_one_of_a_report() -> None:
    named = {
        table
        for document in GUIDELINES.values()
        for clause in document["clauses"]
        for table in clause.get("tables", ())
    }
    known = {*STORY_TABLES, *CAPTIONS, *(table for question in QUESTIONS for table in question.tables)}
    assert named <= known


def test_a_clause_has_the_tables_that_are_there_and_says_how_to_get_the_others() -> None:
    (law,) = documents(["eu-ai-act"], ["table2", "noise"], str.upper, lambda name: f"about {name}")
    of = {clause.name: clause for clause in law.clauses}
    assert not of["Article 15(1)"].is_met
    assert of["Article 15(4)"].evidence == (("NOISE", "about noise"),)
    assert "corruptions" in of["Article 15(4)"].ask
    assert of["Article 15(5)"].evidence == (("TABLE2", "about table2"),)
    full = [table for clause in GUIDELINES["fda"]["clauses"] for table in clause.get("tables", ())]
    (guidance,) = documents(["fda"], full, str, str)
    assert all(clause.is_met and not clause.ask for clause in guidance.clauses)


@pytest.mark.parametrize("asked", [(), ("claim", "fda")])
def test_a_report_maps_tables_to_clauses_if_its_study_asks_for_it(
    context: ReportContext, asked: tuple[str, ...]
) -> None:
    page = render(replace(context, study={**context.study, "report": {"for": list(asked)}}))
    assert ('id="guidelines"' in page) == ('id="signature"' in page) == bool(asked)
    assert ("Item 37" in page, "Artificial Intelligence Act" in page) == (bool(asked), False)  # of CLAIM only
    if asked:
        assert "not a claim that anybody complies" in page
        assert all(name in page for name in pl.Series(context.tables["table1"]["model"]))


def browser(folder: Path, script: str) -> str:
    file = folder / "browser"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


def test_a_browser_prints_the_page(tmp_path: Path) -> None:
    reads = "case $each in --print-to-pdf=*) out=${each#*=};; file:*) page=${each#file://};; esac"
    own = browser(tmp_path, f'for each; do {reads}; done; cp "$page" "$out"')
    assert printed(b"<p>page</p>", [own]) == b"<p>page</p>"


@pytest.mark.parametrize(
    ("browsers", "says"),
    [
        (lambda folder: ["no-such-browser"], "none of no-such-browser is installed"),
        (lambda folder: [browser(folder, "echo broken >&2; exit 3")], "failed \\(broken\\)"),
        (lambda folder: [browser(folder, "exit 0")], "failed \\(no reason given\\)"),
    ],
)
def test_without_a_browser_that_works_it_is_said(
    tmp_path: Path, browsers: Callable[[Path], list[str]], says: str
) -> None:
    made = printed(b"<p>page</p>", browsers(tmp_path))
    assert isinstance(made, Remark)
    assert re.search(says, made.sentence)
