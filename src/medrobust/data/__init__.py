"""Data sets: the catalogue, how to open what a study asks for, and the user's own data."""

from medrobust.data.catalogue import DATASETS, DatasetEntry, list_dataset, open_dataset
from medrobust.data.checking import check_data
from medrobust.data.in_memory import as_dataset, in_memory

__all__ = [
    "DATASETS",
    "DatasetEntry",
    "as_dataset",
    "check_data",
    "in_memory",
    "list_dataset",
    "open_dataset",
]
