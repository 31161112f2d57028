"""Paths that stand in somebody's table or JSON file."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PureWindowsPath

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


class ListedFiles:
    """Finds the files that a table or list names, below the folder of the data and nowhere else.

    Lists are made on other machines. So a path may have backslashes, lack the file's ending, differ from it
    in the case of letters, or begin with the name of the root. A bare name may be that of the only such file
    in all folders; and an absolute path may begin with a folder that is not here: then its end must be the
    path of exactly one file below the root.

    Args:
        root: Folder of the data.
        endings: What names may lack, in lower case, e.g. ".png".
    """

    def __init__(self, root: Path, endings: Collection[str]) -> None:
        self._root, self._endings = root, endings
        self._folders: dict[Path, dict[str, list[str]]] = {}
        self._below: list[Path] | None = None

    def find(self, text: str, where: str) -> Path:
        """The file that a path means.

        Args:
            text: The path as it is written.
            where: File and row that it stands in, for the message.

        Raises:
            DataError: There is no such file, there are several, or the path leads out of the root.
        """
        parts = _parts(text)
        is_absolute = Path(text).is_absolute() or PureWindowsPath(text).is_absolute()
        if not is_absolute:
            inside(self._root, "/".join(parts) or text, where)
        found = list(dict.fromkeys(self._candidates(text, parts, is_absolute)))
        if len(found) > 1:
            names = " or ".join(f"'{path.relative_to(self._root).as_posix()}'" for path in found[:2])
            raise DataError(
                f"{where}: '{text}' may be {names} in {self._root}. Give the path relative to that folder."
            )
        if found:
            return inside(self._root, found[0].relative_to(self._root).as_posix(), where)
        if Path(text).is_absolute():
            inside(self._root, text, where)
        raise DataError(
            f"{where}: there is no file '{text[:200]}' in {self._root}.{self._near(parts)} Correct the path; "
            "it must be relative to that folder."
        )

    def _candidates(self, text: str, parts: Sequence[str], is_absolute: bool) -> Iterator[Path]:
        """The files that a path may mean: as it stands, or without folders at its beginning."""
        whole: Sequence[str] = parts
        with suppress(OSError, ValueError, RuntimeError):
            if is_absolute or ".." in parts:
                path = Path(text) if is_absolute else self._root.joinpath(*parts)
                whole = path.resolve().relative_to(self._root.resolve()).parts
        if as_it_stands := list(self._existing(whole)):
            yield from as_it_stands
            return
        for start in range(1, len(parts)) if ".." not in parts else ():
            if is_absolute or parts[start - 1] == self._root.resolve().name:
                yield from self._existing(parts[start:])
        if len(parts) == 1 and not is_absolute:
            for folder in self._all_folders():
                yield from self._existing((*folder.relative_to(self._root).parts, parts[0]))

    def _existing(self, parts: Sequence[str]) -> Iterator[Path]:
        """The file of this path, or those that differ in the case of letters or whose name has an ending."""
        folders = [self._root]
        for part in parts[:-1]:
            folders = [folder / one for folder in folders for one in self._same(folder, part)]
        for folder, name in ((folder, name) for folder in folders for name in parts[-1:]):
            for one in self._same(folder, name) or self._with_endings(folder, name):
                if (folder / one).is_file():
                    yield folder / one

    def _all_folders(self) -> list[Path]:
        if self._below is None:
            self._below = sorted(path for path in self._root.rglob("*") if path.is_dir())
        return self._below

    def _same(self, folder: Path, name: str) -> list[str]:
        """The name, where a folder has it, or else those that differ in the case of letters."""
        alike = self._named(folder, name)
        return [name] if name in alike else alike

    def _near(self, parts: Sequence[str]) -> str:
        """A question for a file of this name with another ending."""
        folder, name = self._root.joinpath(*parts[:-1]), "".join(parts[-1:]).casefold()
        bare = next((name.removesuffix(each) for each in self._endings if each and name.endswith(each)), name)
        near = self._with_endings(folder, bare)
        return f" Did you mean '{(folder / near[0]).relative_to(self._root).as_posix()}'?" if near else ""

    def _with_endings(self, folder: Path, name: str) -> list[str]:
        return [one for ending in self._endings for one in self._named(folder, name + ending)]

    def _named(self, folder: Path, name: str) -> list[str]:
        """The names in a folder that are alike but for the case of letters."""
        if folder not in self._folders:
            names: dict[str, list[str]] = {}
            with suppress(OSError, ValueError):
                for each in sorted(path.name for path in folder.iterdir()):
                    names.setdefault(each.casefold(), []).append(each)
            self._folders[folder] = names
        return self._folders[folder].get(name.casefold(), [])


def _parts(text: str) -> list[str]:
    """The folders and the name of a path of any system, without its drive."""
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
    return parts[1:] if parts and re.fullmatch("[A-Za-z]:|file:", parts[0]) else parts
