"""The findings of an audit as one HTML file that opens offline, with thumbnails of the files."""

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from medrobust.data.findings import Finding, Severity
from medrobust.report.page import filled_page

LISTED = 200
"""Findings of a kind, and files of a finding, that are shown: the JSON document lists all."""


def audit_page(name: str, summary: str, findings: Sequence[Finding], thumbnails: Mapping[Path, bytes]) -> str:
    """The page of an audit.

    Args:
        name: Name of the data set.
        summary: What was found, in a sentence.
        findings: Most severe first, those of a kind together.
        thumbnails: JPEG files by the file that they show.
    """
    kinds = [list(group) for _, group in groupby(findings, lambda each: (each.severity, each.kind))]
    counts = {severity: sum(each.severity is severity for each in findings) for severity in Severity}
    return filled_page(
        "audit.html.j2",
        name=name,
        summary=summary,
        kinds=kinds,
        contents=[(f"kind-{place}", kind[0].kind) for place, kind in enumerate(kinds, 1)],
        counts=[(f"{severity}{'' if n == 1 else 's'}", n) for severity, n in counts.items()],
        pictures={
            file: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            for file, jpeg in thumbnails.items()
        },
        listed=LISTED,
    )
