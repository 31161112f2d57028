"""The audit on a terminal: a line per kind of finding, and one that sums up."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from medrobust.audit.audit import Audit
from medrobust.data.findings import Finding, Severity
from medrobust.text import text_table

STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}
FILES = 3
"""Files that a line names."""

EACH = 3
"""As many findings of a kind get a line of their own; more share one."""


def findings_table(audit: Audit) -> Table:
    """A line per finding, most severe first; where a kind was found often, one line for all of it."""
    table = text_table("", "what", "seen", "files", "what to do", show_lines=True)
    for (severity, kind), found in groupby(audit.findings, lambda each: (each.severity, each.kind)):
        group = list(found)
        for share in [group] if len(group) > EACH else [[finding] for finding in group]:
            table.add_row(
                f"[{STYLES[severity]}]{severity}[/]",
                escape(kind) + (f" ({len(share)} times)" if len(share) > 1 else ""),
                escape(_says(share)),
                escape(_files(share)),
                escape(share[0].advice),
            )
    return table


def summary(audit: Audit) -> str:
    """One line: what was found in how much."""
    counts = ", ".join(_counted(audit.count(severity), severity) for severity in Severity)
    return f"{counts} in {audit.looked_at} ({audit.seconds:.0f} s)."


def _counted(count: int, severity: Severity) -> str:
    return f"{count} {severity}{'' if count == 1 else 's'}"


def _says(group: Sequence[Finding]) -> str:
    """The first finding, without the folders of its files."""
    says = group[0].says
    for file in group[0].files:
        says = says.replace(str(file), file.name)
    return says if len(group) == 1 else f"{says} And {len(group) - 1} more like it."


def _files(group: Sequence[Finding]) -> str:
    files = list(dict.fromkeys(file for finding in group for file in finding.files))
    more = [f"and {len(files) - FILES} more"] if len(files) > FILES else []
    return "\n".join([*_names(files[:FILES]), *more])


def _names(files: Sequence[Path]) -> list[str]:
    """Names of files; with their folders where several have the same."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [f"{file.parent.name}/{file.name}" for file in files]
