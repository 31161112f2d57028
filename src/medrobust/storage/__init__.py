"""The run folder: files put in place whole, images in Zarr, rows in Parquet."""

from medrobust.storage.folder import Parts, RunFolder, digest
from medrobust.storage.images import ImageStore
from medrobust.storage.rows import compact, frame_of, read_results, read_rows, write_results, write_rows

__all__ = [
    "ImageStore",
    "Parts",
    "RunFolder",
    "compact",
    "digest",
    "frame_of",
    "read_results",
    "read_rows",
    "write_results",
    "write_rows",
]
