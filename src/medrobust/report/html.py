"""The report as one HTML file that opens offline: styles and images are in it, nothing is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medrobust.report.blocks import Block, blocks
from medrobust.report.context import ReportContext
from medrobust.report.display import flattened, number, setting

TEMPLATES = Path(__file__).with_name("templates")


class Section(NamedTuple):
    """A part of the report: words (`templates/sections`), then pictures, then tables, where there are any.

    Attributes:
        name: Its template, and its anchor.
        title: Its heading.
        pictures: Names of its pictures.
        tables: Names of its tables.
    """

    name: str
    title: str
    pictures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


WORDS_ONLY = ("done", "methods", "record")
"""Sections that are always there."""

SECTIONS = (
    Section("done", "What was done"),
    Section(
        "overall",
        "Clean, noise, attack",
        ("dotplot",),
        ("table1", "whole_test", "off_diagonal", "balanced", "seeds"),
    ),
    Section("differences", "Which differences are real", (), ("ranking", "pairs", "architectures")),
    Section(
        "transfer",
        "Every attack, source and target",
        ("heatmap",),
        ("transfer_conditions", "table2", "other_sources", "conditional", "transfer_rate"),
    ),
    Section("curve", "Score against budget", ("curve",), ("curve",)),
    Section("noise", "Noise", (), ("noise", "noise_control", "matching")),
    Section("whitebox", "White-box attacks", (), ("whitebox",)),
    Section("structures", "Each structure", (), ("structures",)),
    Section("success", "What the attacks did to the images", (), ("success", "budgets")),
    Section("selftests", "Attack self-tests", (), ("selftests",)),
    Section("rounded", "After saving with few bits", (), ("rounded",)),
    Section("examples", "Examples", ("examples",)),
    Section("embedding", "In feature space", ("tsne",), ("embedding",)),
    Section("methods", "Methods and limits"),
    Section("record", "Record"),
)
ONLY_AS_FILES = ("patients",)
"""Tables with a row per patient and network, too long to be read here."""


def render(context: ReportContext) -> str:
    """The report.

    Raises:
        jinja2.UndefinedError: A template asks for something that the context does not have.
    """
    sections = [section for section in _sections(context.tables) if _has_content(section, context)]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=context,
            sections=sections,
            blocks={section.name: _blocks(section, context) for section in sections},
            glance=at_a_glance(context),
        )
    )


def at_a_glance(context: ReportContext) -> list[tuple[str, str]]:
    """The size of the study: what was judged, how often, on how much."""
    cells = context.tables["table2"]
    points = context.tables.get("curve", pl.DataFrame(schema=["perturbation", "curve"]))
    curve = dict(points.select("perturbation", "curve").iter_rows())
    return [
        ("networks judged", str(context.tables["table1"].height)),
        ("attacks", str(len({curve.get(label, label) for label in cells["perturbation"]}))),
        ("sources of attacks", str(cells["source"].n_unique())),
        (f"test {context.units}", number(cells["n_patients"].max())),
        ("test cases", number(cells["n_cases"].max())),
    ]


def _sections(tables: Mapping[str, pl.DataFrame]) -> list[Section]:
    """All sections; tables that none of them names stand in one before the methods."""
    named = {name for section in SECTIONS for name in section.tables}
    further = tuple(name for name in tables if name not in {*named, *ONLY_AS_FILES})
    place = [section.name for section in SECTIONS].index("methods")
    return [*SECTIONS[:place], Section("further", "Further tables", (), further), *SECTIONS[place:]]


def _has_content(section: Section, context: ReportContext) -> bool:
    pictured = any(name in context.pictures for name in section.pictures)
    return section.name in WORDS_ONLY or pictured or bool(_blocks(section, context))


def _blocks(section: Section, context: ReportContext) -> list[Block]:
    filled = (name for name in section.tables if name in context.tables and context.tables[name].height)
    return [block for name in filled for block in blocks(name, context)]


def environment() -> Environment:
    """Templates of pages: every name must be known, and everything is escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({"flattened": flattened, "setting": setting})
    made.globals.update({"plain_block": Block.plain})
    return made
