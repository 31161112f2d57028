"""What an audit of the data found, a row per kind of finding."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

import polars as pl

from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.data.findings import Severity

_SCHEMA = {
    "severity": pl.String,
    "kind": pl.String,
    "n_times": pl.Int64,
    "seen": pl.String,
    "what_to_do": pl.String,
}


def audit_table(results: Results) -> pl.DataFrame:
    """Findings of `audit.json`, most severe first; empty where there are none, or the data were not audited.

    Returns:
        `severity` (error, warning, note), `kind`, `n_times`; `seen`: the first of its kind, files without
        their folders; `what_to_do`.
    """
    findings = [] if results.audit is None else results.audit["findings"]
    kinds = groupby(findings, lambda finding: (finding["severity"], finding["kind"]))
    return frame((_line(*key, list(group)) for key, group in kinds), _SCHEMA)


def audit_fact(results: Results) -> str:
    """Whether the data were audited, and how much was found in how many files."""
    if results.audit is None:
        generated = results.record["data"]["phantom"]
        return "none: generated data have no files" if generated else "none: the files were not looked at"
    found = results.audit["counts"]
    counts = (f"{found[name]} {name}{'' if found[name] == 1 else 's'}" for name in map(str, Severity))
    return f"{', '.join(counts)} in {results.audit['looked_at']}"


def _line(severity: str, kind: str, group: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    first = group[0]
    seen = str(first["says"])
    for file in first["files"]:
        seen = seen.replace(file, PurePath(file).name)
    return dict(zip(_SCHEMA, (severity, kind, len(group), seen, first["advice"]), strict=True))
