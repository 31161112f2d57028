"""What there is: catalogues, and studies to start from."""

from pathlib import Path

from rich.table import Table

from medrobust.core import Task
from medrobust.data import DATASETS
from medrobust.errors import StudyError
from medrobust.models import MODELS
from medrobust.perturbations import PERTURBATIONS
from medrobust.study.templates import template


def write_template(file: Path, task: Task, data: str | None) -> None:
    """Write a commented study to start from.

    Raises:
        StudyError: The file exists, its folder does not, or the data set is unknown.
    """
    text = template(task, data)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise StudyError(f"'{file}' exists and is not overwritten. Choose another name.") from None
    except OSError as error:
        raise StudyError(f"'{file}' cannot be written: {error.strerror}.") from None


def catalogue_table(catalogue: str) -> Table:
    """One of the catalogues (models, perturbations, datasets) as a table."""
    table = Table("name", "task", "what it is", "source", title=catalogue)
    if catalogue == "models":
        for name, model in MODELS.items():
            table.add_row(name, str(model.task), model.summary, model.source)
        table.add_row("...", "classification", "any other network of timm, by its name there", "timm")
    elif catalogue == "perturbations":
        for name, entry in PERTURBATIONS.items():
            beyond = " Beyond the paper." if entry.beyond_paper else ""
            table.add_row(name, ", ".join(entry.tasks), entry.summary + beyond, entry.source)
    else:
        for name, data in DATASETS.items():
            table.add_row(name, str(data.task), data.summary, data.source)
    return table
