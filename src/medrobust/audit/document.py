"""The audit as a document for programs."""

from importlib.metadata import version
from typing import Any

from medrobust.audit.audit import Audit
from medrobust.data.findings import Severity

SCHEMA = 1
"""Version of the document: raised when a key changes its meaning or goes; new keys may come any time."""


def as_document(audit: Audit) -> dict[str, Any]:
    """Everything that was found, as JSON-able data; docs/audit.md describes the keys."""
    return {
        "schema": SCHEMA,
        "medrobust": version("medrobust"),
        "data": audit.name,
        "looked_at": audit.looked_at,
        "counts": {str(severity): audit.count(severity) for severity in Severity},
        "findings": [
            {
                "severity": str(finding.severity),
                "kind": finding.kind,
                "says": finding.says,
                "advice": finding.advice,
                "files": [str(file) for file in finding.files],
            }
            for finding in audit.findings
        ],
    }
