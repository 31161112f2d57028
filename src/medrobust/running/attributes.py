"""What the data say of the scans that are judged, kept for the groups that scores are shown for."""

from medrobust.data.files import is_missing
from medrobust.running.setup import Setup
from medrobust.storage import frame_of, write_results
from medrobust.storage.schemas import ATTRIBUTES


def write_attributes(setup: Setup) -> None:
    """Write `results/attributes.parquet`: a row per scan and attribute that is known; numbers as text."""
    known = setup.dataset.attributes or {}
    owners = {case.scan_id: case.patient_id for case in setup.cases}
    rows = [
        {
            "scan_id": scan,
            "patient_id": patient,
            "attribute": name,
            "value": value if isinstance(value, str) else f"{value:g}",
        }
        for scan, patient in owners.items()
        for name, value in known.get(scan, {}).items()
        if not is_missing(str(value))
    ]
    frame = frame_of(ATTRIBUTES, rows).sort(ATTRIBUTES.keys)
    write_results(setup.folder, ATTRIBUTES, frame)
