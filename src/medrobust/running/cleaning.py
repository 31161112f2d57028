"""What lies in a run folder and its study no longer refers to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from medrobust.errors import RunError
from medrobust.running.announcing import size
from medrobust.running.recorded import REFERENCES
from medrobust.storage import RunFolder
from medrobust.storage.lock import locked
from medrobust.text import text_table


@dataclass(frozen=True)
class LeftOver:
    """A folder that a former state of a study left.

    Attributes:
        parts: Its path in the run folder.
        what: What it holds, in words.
        bytes: Size of all that is in it.
    """

    parts: tuple[str, ...]
    what: str
    bytes: int


def left_overs(folder: RunFolder) -> list[LeftOver]:
    """Everything that can go without any loss to the study as it is now.

    Raises:
        RunError: It is no run folder.
    """
    if not folder.exists(REFERENCES):
        raise RunError(
            f"'{folder.url}' is no run folder, or was made by another version: it has no {REFERENCES}. Give "
            "the --out folder of `medrobust run`."
        )
    used = folder.read_json(REFERENCES)
    return [LeftOver(parts, what, folder.size(*parts)) for parts, what in _unused(folder, used)]


def clean(folder: RunFolder, found: Sequence[LeftOver]) -> None:
    """Remove what is left over.

    Raises:
        RunError: Another process works on the run folder.
    """
    with locked(folder):
        for each in found:
            folder.remove(*each.parts)


def left_over_table(found: Sequence[LeftOver]) -> Table:
    """What is left over, for people."""
    table = text_table("folder", "what", "size", show_footer=True)
    table.columns[0].footer, table.columns[2].footer = "all", size(sum(each.bytes for each in found))
    for each in found:
        table.add_row("/".join(each.parts), each.what, size(each.bytes))
    return table


def _unused(folder: RunFolder, used: Mapping[str, Sequence[str]]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in folder.names("models"):
        if name not in used["models"]:
            yield ("models", name), "a network as it was trained before"
    for name in folder.names("crafted"):
        if name not in used["sets"]:
            yield ("crafted", name), "perturbed images"
    for table in folder.names("results", "parts"):
        for target in folder.names("results", "parts", table):
            parts = ("results", "parts", table, target)
            if target not in used["targets"]:
                yield parts, "rows of a network as it was before"
                continue
            for name in folder.names(*parts):
                if "--" in name and name.partition("~")[0] not in used["sets"]:
                    yield (*parts, name), "rows of images that are no longer used"
