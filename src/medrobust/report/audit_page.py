"""What an audit found as one HTML file that opens offline, with pictures of the files concerned."""

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from medrobust.data.findings import Finding, Severity
from medrobust.report.page import environment

LISTED = 200
"""Findings of a kind that are shown, and files of a finding that are named: the JSON document has all."""


class Thumbnail(NamedTuple):
    """A picture of a file, as a data URI."""

    name: str
    uri: str


class Kind(NamedTuple):
    """All findings of a kind."""

    name: str
    severity: Severity
    advice: str
    findings: list[Finding]


def audit_page(name: str, summary: str, findings: Sequence[Finding], thumbnails: Mapping[Path, bytes]) -> str:
    """The page.

    Args:
        name: Of the data set.
        summary: What was found, in a sentence.
        findings: Most severe first, those of a kind together.
        thumbnails: JPEG files by the file that they show.
    """
    pictures = {
        file: Thumbnail(file.name, f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}")
        for file, jpeg in thumbnails.items()
    }
    kinds = [
        Kind(kind, severity, found[0].advice, found)
        for (severity, kind), group in groupby(findings, lambda each: (each.severity, each.kind))
        for found in [list(group)]
    ]
    counts = {severity: sum(each.severity is severity for each in findings) for severity in Severity}
    return (
        environment()
        .get_template("audit.html.j2")
        .render(
            name=name,
            summary=summary,
            kinds=kinds,
            contents=[(f"kind-{place}", kind.name) for place, kind in enumerate(kinds, 1)],
            counts=[(f"{severity}{'' if n == 1 else 's'}", n) for severity, n in counts.items()],
            pictures=pictures,
            listed=LISTED,
            allowed="'none'",
        )
    )
