"""What data say of a patient or scan beside its label: age, sex, site. Scores are told apart by it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict

from medrobust.data.files.paths import inside
from medrobust.data.files.tables import Row, read_table
from medrobust.data.findings import quoted
from medrobust.data.listing import Listing, Photo
from medrobust.errors import DataError

MISSING = frozenset(("", "n/a", "na", "nan", "none", "null", "unknown", "?"))
"""Words for what is not known, in lower case."""

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
    """The attributes of a row, without those that are not known.

    Args:
        row: A row of somebody's table.
        names: Attributes by column; columns that the table does not have are passed over.
    """
    cells = {name: row.cells.get(column, "") for column, name in names.items()}
    return {name: text for name, text in cells.items() if text.lower() not in MISSING}


def with_attributes(listing: Listing, root: Path, *, attributes: AttributeTable | None = None) -> Listing:
    """A listing with attributes from a table put on top of those that its adapter knows.

    Args:
        listing: What there is.
        root: Folder of the data.
        attributes: A table of them, `{table: people.csv, key: patient, columns: [age, sex]}`; a row of a scan
            or image goes before that of its patient.

    Raises:
        DataError: There is no such table, it lacks a column, or it is about none of the patients and scans.
    """
    if attributes is None:
        return listing
    path = inside(root, attributes.table, "data.attributes.table")
    if not path.is_file():
        raise DataError(f"data.attributes.table: there is no file '{attributes.table}' in {root}.")
    names = {column: column for column in attributes.columns}
    rows = {row[attributes.key]: row for row in read_table(path, (attributes.key, *names))}
    owners = dict(_owners(listing))
    if not rows.keys() & {*owners, *owners.values()}:
        examples = quoted(sorted({*owners.values(), *owners}))
        raise DataError(
            f"{path}: column '{attributes.key}' holds no patient, scan or image of the data. It must "
            f"hold names such as {examples}; got {quoted(list(rows))}."
        )
    merged = {
        scan: {**listing.attributes.get(scan, {}), **_of(rows, patient, names), **_of(rows, scan, names)}
        for scan, patient in owners.items()
    }
    return replace(listing, attributes=merged)


def _of(rows: Mapping[str, Row], name: str, names: Mapping[str, str]) -> dict[str, str]:
    return known(rows[name], names) if name in rows else {}


def _owners(listing: Listing) -> Iterable[tuple[str, str]]:
    """Scans or photographs, each with its patient."""
    for item in getattr(listing, "items", ()):
        yield (item.case_id if isinstance(item, Photo) else item.scan_id), item.patient_id
