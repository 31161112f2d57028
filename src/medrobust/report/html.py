"""The report as one HTML file that opens offline: styles, scripts and images are in it, nothing is loaded."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medrobust.report.blocks import Block, blocks
from medrobust.report.context import ReportContext
from medrobust.report.display import flattened, number, setting

TEMPLATES = Path(__file__).with_name("templates")
EXPLORER = ("pictures.js", "explorer.js")
"""Scripts of the explorer, in their order."""


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


WORDS_ONLY = ("data", "threats", "methods", "record", "cite")
"""Sections that are always there."""

OPENING = "dotplot"
"""The picture that stands with the verdict."""

SECTIONS = (
    Section(
        "overall",
        "Clean, noise, attack",
        (),
        (
            "table1",
            "false_positives",
            "whole_test",
            "off_diagonal",
            "balanced",
            "quality",
            "seeds",
            "variance",
        ),
    ),
    Section(
        "transfer",
        "Every attack, source and target",
        ("heatmap",),
        ("table2", "transfer_conditions", "other_sources", "conditional", "transfer_rate"),
    ),
    Section("differences", "Which differences are real", (), ("ranking", "pairs", "architectures")),
    Section("noise", "Attack against noise", (), ("noise_control", "noise", "matching")),
    Section("curve", "Score against budget", ("curve",), ("curve",)),
    Section(
        "structures",
        "Each structure",
        (),
        ("structure_overview", "structures", "worst_structures", "surfaces", "structure_surfaces"),
    ),
    Section("classes", "Each class", (), ("classes",)),
    Section("subgroups", "Groups of patients", (), ("subgroups",)),
    Section("plane", "Generalizability against robustness", ("plane",), ("plane",)),
    Section("embedding", "In feature space", ("tsne",), ("embedding",)),
    Section("examples", "Examples", ("examples",)),
    Section("explorer", "Image by image"),
    Section("whitebox", "White-box attacks", (), ("whitebox",)),
    Section("rounded", "After saving with few bits", (), ("rounded",)),
    Section("success", "What the attacks did to the images", (), ("success", "budgets")),
    Section("selftests", "Attack self-tests", (), ("selftests",)),
    Section("data", "Data and networks", (), ("audit",)),
    Section("threats", "Threat models"),
    Section("methods", "Methods and limits"),
    Section("record", "Versions and settings"),
    Section("cite", "How to cite"),
)
ONLY_AS_FILES = ("patients",)
"""Tables with a row per patient and network, too long to be read here."""


def render(context: ReportContext) -> str:
    """The report.

    Raises:
        jinja2.UndefinedError: A template asks for something that the context does not have.
    """
    sections = [section for section in _sections(context.tables) if _has_content(section, context)]
    scripts = script_texts("tables.js", *(EXPLORER if context.explorer is not None else ()))
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=context,
            opening=context.pictures.get(OPENING),
            sections=sections,
            blocks={section.name: _blocks(section, context) for section in sections},
            glance=at_a_glance(context),
            scripts=scripts,
            allowed=allowed(scripts),
        )
    )


def script_texts(*names: str) -> list[str]:
    """Scripts as they stand in a page."""
    return [(TEMPLATES / name).read_text(encoding="utf-8") for name in names]


def allowed(scripts: Iterable[str]) -> str:
    """Source expressions of a content security policy that allows these scripts and no others."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{each}'" for each in hashes)


def at_a_glance(context: ReportContext) -> list[tuple[str, str]]:
    """The size of the study: what was judged, how often, on how much."""
    cells = context.tables["table2"]
    points = context.tables.get("curve", pl.DataFrame(schema=["perturbation", "curve"]))
    curve = dict(points.select("perturbation", "curve").iter_rows())
    empty = context.tables.get("false_positives", pl.DataFrame(schema=["n_empty"]))["n_empty"].max()
    return [
        ("networks judged", str(context.tables["table1"].height)),
        ("attacks", str(len({curve.get(label, label) for label in cells["perturbation"]}))),
        ("sources of attacks", str(cells["source"].n_unique())),
        (f"test {context.units}", number(cells["n_patients"].max())),
        ("test cases", number(cells["n_cases"].max())),
        *([] if empty is None else [("without any label", number(empty))]),
    ]


def _sections(tables: Mapping[str, pl.DataFrame]) -> list[Section]:
    """All sections; tables that none of them names stand in one before the data."""
    named = {name for section in SECTIONS for name in section.tables}
    further = tuple(name for name in tables if name not in {*named, *ONLY_AS_FILES})
    place = [section.name for section in SECTIONS].index("data")
    return [*SECTIONS[:place], Section("further", "Further tables", (), further), *SECTIONS[place:]]


def _has_content(section: Section, context: ReportContext) -> bool:
    pictured = any(name in context.pictures for name in section.pictures)
    explored = section.name == "explorer" and context.explorer is not None
    missed = any(remark.about == section.name for remark in context.remarks)
    return section.name in WORDS_ONLY or pictured or explored or missed or bool(_blocks(section, context))


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
