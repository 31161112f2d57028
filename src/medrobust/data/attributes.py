"""What data say of a patient or scan beside its label: age, sex, site. Scores are shown by these groups."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict

from medrobust.data.files import Row, existing_file, is_missing, read_table
from medrobust.data.findings import Finding, Severity, quoted
from medrobust.data.listing import Listing
from medrobust.errors import DataError

Name = Annotated[str, MinLen(1)]


class AttributeTable(BaseModel):
    """A table of attributes in the folder of the data.

    Attributes:
        table: Path of a CSV or TSV file below the root.
        key: Its column of patients, scans or images, named as the data name them.
        columns: Its columns that become attributes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Name
    key: Name
    columns: Annotated[tuple[Name, ...], MinLen(1)]


def known(row: Row, names: Mapping[str, str]) -> dict[str, str]:
    """The attributes that a row gives, named by column; columns that the table lacks are ignored."""
    cells = {column: row.cells.get(column, "") for column in names}
    return {names[column]: text for column, text in cells.items() if not is_missing(text)}


def told(
    rows: Iterable[Row],
    key: str,
    names: Mapping[str, str],
    findings: list[Finding],
    severity: Severity = Severity.WARNING,
) -> dict[str, dict[str, str]]:
    """The attributes of each patient, scan or image, by the name of it in the column `key`.

    Several rows of one table may be about one owner; rows without a name are ignored. `names` are the
    attributes by column. An attribute on which rows contradict each other counts as unknown, and becomes a
    finding of the given severity.
    """
    said: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        if not is_missing(row[key]):
            own = said.setdefault(row[key], {})
            for name, text in known(row, names).items():
                own.setdefault(name, {}).setdefault(text, row)
    conflicts = [
        f"'{owner}' has the {name} "
        + " and ".join(f"'{text}' (row {row.number})" for text, row in texts.items())
        for owner, own in said.items()
        for name, texts in own.items()
        if len(texts) > 1
    ]
    if conflicts:
        table = next(row.table for own in said.values() for texts in own.values() for row in texts.values())
        more = f", and {len(conflicts) - 3} more" if len(conflicts) > 3 else ""
        says = f"{table}: rows contradict each other: {', '.join(conflicts[:3])}{more}."
        advice = "Values that differ count as unknown. Correct the table, or keep one row of each."
        findings.append(Finding("contradiction", severity, says, advice, (Path(table),)))
    return {
        owner: {name: next(iter(texts)) for name, texts in own.items() if len(texts) == 1}
        for owner, own in said.items()
    }


def with_attributes(listing: Listing, root: Path, *, attributes: AttributeTable | None = None) -> Listing:
    """A listing with attributes from a table in addition to, or in place of, those that its adapter knows.

    Args:
        listing: The listing.
        root: Folder of the data.
        attributes: A table of them, `{table: people.csv, key: patient, columns: [age, sex]}`; a row for a
            scan or image takes precedence over one for its patient.

    Raises:
        DataError: There is no such table, it lacks a column, or it names none of the patients and scans.
    """
    if attributes is None:
        return listing
    path = existing_file(root, attributes.table, "data.attributes.table")
    names, findings = {column: column for column in attributes.columns}, list[Finding]()
    rows = told(read_table(path, (attributes.key, *names)), attributes.key, names, findings)
    owners = {item.case.scan_id: item.patient_id for item in listing.items}
    if owners and not rows.keys() & {*owners, *owners.values()}:
        examples = quoted(sorted({*owners.values(), *owners}))
        raise DataError(
            f"{path}: column '{attributes.key}' holds no patient, scan or image of the data. It must "
            f"hold names such as {examples}; got {quoted(list(rows))}."
        )
    merged = {
        scan: {**listing.attributes.get(scan, {}), **rows.get(patient, {}), **rows.get(scan, {})}
        for scan, patient in owners.items()
    }
    return replace(listing, attributes=merged, findings=(*listing.findings, *findings))
