"""For whoever must sign: which tables of a report are evidence for what documents ask for."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

GUIDELINES: Mapping[str, Mapping[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "templates" / "guidelines.yaml").read_text("utf-8")
)
"""What each document asks for, and the tables that are evidence for it."""


class Clause(NamedTuple):
    """What a clause asks for and where the evidence is.

    Attributes:
        name: Its number or heading in the document.
        asks: What it asks for, in our own words.
        evidence: Tables of this report, each with the section that it stands in.
        also: What else of the report is evidence; empty if nothing is.
        ask: What a study says to get the tables that are missing; empty if none is, or nothing gives them.
    """

    name: str
    asks: str
    evidence: tuple[tuple[str, str], ...]
    also: str
    ask: str

    @property
    def is_met(self) -> bool:
        """Whether there is any evidence."""
        return bool(self.evidence or self.also)


class Document(NamedTuple):
    """A document, its date, its clauses, and what it asks for that no study tests."""

    title: str
    dated: str
    clauses: tuple[Clause, ...]
    untested: tuple[str, ...]


def documents(
    asked: Iterable[str],
    tables: Collection[str],
    title_of: Callable[[str], str],
    section_of: Callable[[str], str],
) -> tuple[Document, ...]:
    """The documents that a study asks for, with the evidence that its report holds.

    Args:
        asked: Names of `GUIDELINES`.
        tables: Names of the tables of the report that have rows.
        title_of: Title of a table.
        section_of: Section that a table stands in.
    """
    made = []
    for name in asked:
        document, clauses = GUIDELINES[name], []
        for clause in document["clauses"]:
            wanted = clause.get("tables", ())
            there = tuple((title_of(each), section_of(each)) for each in wanted if each in tables)
            missing = clause.get("ask", "") if len(there) < len(wanted) else ""
            clauses.append(Clause(clause["clause"], clause["asks"], there, clause.get("also", ""), missing))
        made.append(
            Document(document["title"], document["dated"], tuple(clauses), tuple(document["untested"]))
        )
    return tuple(made)
