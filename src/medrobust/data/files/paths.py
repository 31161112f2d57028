"""Paths that stand in somebody's table or JSON file."""

from pathlib import Path

from medrobust.errors import DataError


def inside(root: Path, text: str, where: str | None = None) -> Path:
    """The file or folder that data name by a path relative to their root. It need not exist.

    Data come from others: a path in them must not make the program read, and a report show, anything else
    on this machine. The root itself may be a link.

    Args:
        root: Folder of the data.
        text: The path as it is written in the data.
        where: File (and line) that it stands in, for the message.

    Raises:
        DataError: The path is empty or absolute, leads out of the root by `..` or through a link, or is no
            path at all.
    """
    place = "" if where is None else f"{where}: "
    if not text.strip():
        raise DataError(f"{place}a path in {root} is empty. Fill it in, or take the entry out.")
    path = Path(text)
    try:
        (root / path).exists()  # refuses what is too long for a name
        is_inside = not path.is_absolute() and (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, a loop of links
        raise DataError(f"{place}{text[:200]!r} is no path that can be used ({error}). Correct it.") from None
    if not is_inside:
        raise DataError(
            f"{place}the path '{text}' leads out of the data's folder {root}, and only files below it are "
            "read. Put the file there, and give its path relative to the folder."
        )
    return root / path
