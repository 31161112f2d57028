"""What there is: the catalogues."""

from rich.table import Table

from medrobust.data import DATASETS
from medrobust.models import MODELS
from medrobust.perturbations import PERTURBATIONS
from medrobust.text import text_table


def catalogue_table(catalogue: str) -> Table:
    """One of the catalogues (models, perturbations, datasets) as a table."""
    table = text_table("name", "task", "what it is", "source", title=catalogue)
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
