"""Parts of the results: the rows of a chunk of work, and the time it took.

Times are kept apart from everything that is compared byte for byte.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from medrobust.core import Case
from medrobust.running.plan import ImageSet, part_name
from medrobust.running.predict import Columns
from medrobust.storage import Parts, RunFolder, frame_of, write_rows
from medrobust.storage.schemas import CRAFTED, TIMING


@contextmanager
def timed(
    folder: RunFolder,
    goal: Parts,
    step: Literal["craft", "noise", "evaluate", "certify"],
    columns: Mapping[str, Any],
    chunk: int,
    n_cases: int,
) -> Iterator[None]:
    """Write the wall-clock time of the block to a part in the folder `goal`; a block that fails leaves none.

    Columns that the table of times does not have are left out.
    """
    start = time.perf_counter()
    yield
    row = dict.fromkeys(TIMING.schema) | {name: columns[name] for name in TIMING.schema if name in columns}
    row |= {"step": step, "chunk": chunk, "n_cases": n_cases, "seconds": time.perf_counter() - start}
    write_rows(folder, frame_of(TIMING, [row]), *goal, part_name(chunk))


def rows_of(cases: Sequence[Case], shared: Mapping[str, Any], columns: Columns) -> list[dict[str, Any]]:
    """One row per case: columns with the same value in all rows, and columns with one value per case."""
    return [
        {
            **shared,
            "case_id": case.case_id,
            "scan_id": case.scan_id,
            "patient_id": case.patient_id,
            **{name: values[place] for name, values in columns.items()},
        }
        for place, case in enumerate(cases)
    ]


def write_crafted_rows(folder: RunFolder, images: ImageSet, chunk: int, columns: Columns) -> None:
    """Write the `crafted` rows of a chunk."""
    rows = rows_of(images.chunks[chunk], images.origin, columns)
    write_rows(folder, frame_of(CRAFTED, rows), *images.rows_part(chunk))
