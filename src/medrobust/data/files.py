"""Files that come with data, none of which is trusted: paths, tables, JSON, and errors that name the file."""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PureWindowsPath
from typing import Any

from medrobust.data.findings import quoted
from medrobust.errors import DataError
from medrobust.text import read_text

MOST_BYTES = 2**30
"""Size of the largest file that is read as a whole."""


@contextmanager
def naming(path: Path, what: str = "") -> Iterator[None]:
    """Turn any error while a file is read, as `what` (e.g. "an image"), into a DataError that names it.

    Everything is caught, because decoders may raise anything on bytes that nobody foresaw.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason, advice = error.strerror, "Check that it is there and that you may read it."
        else:
            advice = (
                "If another program opens it, save it anew there; if none does, download it again, or remove "
                "it from the data."
            )
        wanted = f" as {what}" if what else ""
        raise DataError(f"{path}: cannot be read{wanted} ({reason}). {advice}") from error


def read_content(path: Path) -> bytes:
    """A whole binary file; a DataError if it is too large or, like a pipe, not a regular file."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: cannot be read (it is not a regular file). Remove it from the data.")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise DataError(f"{path}: is larger than {MOST_BYTES / 2**30:g} GB. Remove it from the data.")
        return file.read(size)


def read_exactly(file: BufferedIOBase, size: int) -> bytes:
    """The next bytes of a file; a ValueError if there are fewer."""
    content = file.read(size)
    if len(content) < size:
        raise ValueError("the file ends early")
    return content


def file_digest(path: Path) -> str:
    """SHA-256 of a file; a DataError if it cannot be read."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


MISSING = frozenset(
    (
        *("na", "n a", "n a n a", "nan", "nat", "null", "nil", "none", "1 ind", "1 qnan"),
        *("unknown", "unk", "undefined", "missing", "no data", "not available", "not applicable"),
        *("not known", "not reported", "not recorded", "anonymous", "anonymized", "anonymised"),
    )
)
"""Words for "not known" in pandas, R, SQL, spreadsheets and registries, lower case, without punctuation."""

DASHES = re.compile("[\\s.?_\N{EN DASH}\N{EM DASH}-]*")


def is_missing(text: str) -> bool:
    """Whether a cell of a table says that nothing is known: it is empty, dashes, or one of `MISSING`.

    >>> [is_missing(text) for text in ("", " NaN ", "<NA>", "[Not Available]", "-", "??", "nano", "0")]
    [True, True, True, True, True, True, False, False]
    """
    if DASHES.fullmatch(text):
        return True
    return re.sub(r"[\W_]+", " ", text).strip().casefold() in MISSING


def inside(root: Path, text: str, where: str | None = None) -> Path:
    """The file or folder that a path in the data names, relative to their root; it need not exist.

    Data come from others: a path in them must not make the program read, and a report show, anything else on
    this machine. The root itself may be a link. `where` names, for messages, the file and line of the path.

    Raises:
        DataError: The path is empty, absolute or invalid, or leads out of the root by `..` or through a link.
    """
    place = "" if where is None else f"{where}: "
    if not text.strip():
        raise DataError(f"{place}a path in {root} is empty. Fill it in, or remove the entry.")
    path = Path(text)
    try:
        (root / path).exists()  # refuses what is too long for a name
        is_inside = not path.is_absolute() and (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, a loop of links
        raise DataError(f"{place}{text[:200]!r} is not a usable path ({error}). Correct it.") from None
    if not is_inside:
        raise DataError(
            f"{place}the path '{text}' leads out of the data's folder {root}, and only files below it are "
            "read. Put the file there, and give its path relative to the folder."
        )
    return root / path


def existing_file(root: Path, text: str, key: str) -> Path:
    """The file below the root that a key of the study names; a DataError if it is not there."""
    path = inside(root, text, key)
    if not path.is_file():
        raise DataError(f"{key}: there is no file '{text}' in {root}. Give its path relative to that folder.")
    return path


class ListedFiles:
    """Finds the files that a table or list names, below the folder of the data and nowhere else.

    Lists are made on other machines, so a path may have backslashes, lack the file's ending, differ from it
    in case, or begin with the name of the root. A bare name may be that of the only such file in any folder.
    An absolute path may begin with a folder that does not exist here: then its end must be the path of
    exactly one file below the root.

    Args:
        root: Folder of the data.
        endings: Endings that names may lack, in lower case, e.g. ".png".
    """

    def __init__(self, root: Path, endings: Collection[str]) -> None:
        self._root, self._endings = root, endings
        self._names: dict[Path, dict[str, list[str]]] = {}
        self._folders: list[Path] | None = None

    def find(self, text: str, where: str) -> Path:
        """The file that a path means; `where` names, for messages, the file and row of the path.

        Raises:
            DataError: There is no such file, there are several, or the path leads out of the root.
        """
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
        if parts and re.fullmatch("[A-Za-z]:|file:", parts[0]):
            parts = parts[1:]
        is_absolute = Path(text).is_absolute() or PureWindowsPath(text).is_absolute()
        if not is_absolute:
            inside(self._root, "/".join(parts) or text, where)
        found = list(dict.fromkeys(self._candidates(text, parts, is_absolute)))
        if len(found) > 1:
            names = " or ".join(f"'{path.relative_to(self._root).as_posix()}'" for path in found[:2])
            raise DataError(
                f"{where}: '{text}' could mean {names} in {self._root}. Give its path in that folder."
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
        whole = parts
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
            if self._folders is None:
                self._folders = sorted(path for path in self._root.rglob("*") if path.is_dir())
            for folder in self._folders:
                yield from self._existing((*folder.relative_to(self._root).parts, parts[0]))

    def _existing(self, parts: Sequence[str]) -> Iterator[Path]:
        """The file of this path, or those that differ in case or whose names also have an ending."""
        folders = [self._root]
        for part in parts[:-1]:
            folders = [folder / one for folder in folders for one in self._alike(folder, part)]
        for folder, name in ((folder, name) for folder in folders for name in parts[-1:]):
            names = self._alike(folder, name) or self._with_endings(folder, name)
            yield from (folder / one for one in names if (folder / one).is_file())

    def _alike(self, folder: Path, name: str) -> list[str]:
        """The name if a folder has it, else those that differ in case."""
        if folder not in self._names:
            names = self._names[folder] = {}
            with suppress(OSError, ValueError):
                for each in sorted(path.name for path in folder.iterdir()):
                    names.setdefault(each.casefold(), []).append(each)
        alike = self._names[folder].get(name.casefold(), [])
        return [name] if name in alike else alike

    def _with_endings(self, folder: Path, name: str) -> list[str]:
        return [one for ending in self._endings for one in self._alike(folder, name + ending)]

    def _near(self, parts: Sequence[str]) -> str:
        """The question whether a file of this name with another ending was meant."""
        folder, name = self._root.joinpath(*parts[:-1]), "".join(parts[-1:]).casefold()
        bare = next((name.removesuffix(each) for each in self._endings if each and name.endswith(each)), name)
        near = self._with_endings(folder, bare)
        return f" Did you mean '{(folder / near[0]).relative_to(self._root).as_posix()}'?" if near else ""


DEEPEST = 32
"""Most levels of nested lists and objects; no description of data comes near it."""


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: The file cannot be read, is larger than 64 MB, is not JSON, nests deeper than 32 levels,
            repeats a key, or holds NaN or infinity.
    """
    too_deep = f"{path}: nests lists and objects deeper than {DEEPEST} levels, as no data set does."
    try:
        content = json.loads(read_text(path), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise DataError(too_deep) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON in UTF-8 ({error}). Correct the file.") from None
    level = [content]
    for _ in range(DEEPEST + 1):
        nodes = (node for node in level if isinstance(node, dict | list))
        level = [child for node in nodes for child in (node.values() if isinstance(node, dict) else node)]
    if level:
        raise DataError(too_deep)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; JSON would silently keep the last of two values of one key."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' occurs twice in one object")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


SEPARATORS = ",;\t|"
"""What may stand between cells; the header tells which of them does."""

MOST_CELLS = 10**7
"""Cells of the largest table that is read: as Python strings they take 1 GB."""

LONGEST_LINE = 2**17
"""Characters of the longest line that is read."""

EXCEL = re.compile(r"sep=(?P<separator>.)\s*[\r\n]", re.IGNORECASE)
"""A first line in which spreadsheets state the separator."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    table: str  # its file
    number: int  # as in spreadsheets: the first is 1
    # Stripped text by column, for those wanted columns that the table has; "" if the row was cut short.
    cells: dict[str, str]

    @property
    def where(self) -> str:
        """File and row, for messages."""
        return f"{self.table}, row {self.number}"

    def __getitem__(self, column: str) -> str:
        """The cell of a column."""
        return self.cells[column]


def read_table(path: Path, columns: Sequence[str], optional: Iterable[str] = ()) -> list[Row]:
    """A table in UTF-8, or in UTF-16 with a byte order mark; its cells are separated by one of `SEPARATORS`.

    Args:
        path: The file.
        columns: Columns that it must have; if none has exactly this name, case is ignored.
        optional: Columns that are read if it has them.

    Returns:
        All rows that are not empty.

    Raises:
        DataError: The file cannot be read, is not a table, lacks a column, has two different columns of one
            name, or a row longer than the header.
    """
    text, where = _text(path, "a table"), str(path)
    if "\0" in text:
        raise DataError(
            f"{where}: contains NUL characters, as UTF-16 without a byte order mark does. Save it in UTF-8."
        )
    wanted = dict.fromkeys((*columns, *optional))
    told = EXCEL.match(text)
    separator = told["separator"] if told else _separator(text, wanted)
    lines = _short_lines(io.StringIO(text, newline=""))
    try:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        numbered = ((number, [cell.strip() for cell in cells]) for number, cells in enumerate(reader, 1))
        filled = ((number, cells) for number, cells in numbered if any(cells) and (number > 1 or not told))
        _, header = next(filled, (0, []))
        places = {column: _places(header, column) for column in wanted}
        missing = [column for column in columns if not places[column]]
        if missing:
            raise DataError(
                f"{where}: column {quoted(missing)} is missing; found {quoted(header, 20) or 'none'}. "
                f"Needed: {', '.join(columns)}."
            )
        rows: list[Row] = []
        for number, cells in filled:
            if len(rows) * len(header) > MOST_CELLS:
                raise DataError(f"{where}: has over {MOST_CELLS:,} cells. Is it a table of images?")
            if any(cells[len(header) :]):
                raise DataError(
                    f"{where}, row {number}: has {len(cells)} cells, but the header {len(header)}. Put cells "
                    f"that hold '{separator}' in quotation marks."
                )
            rows.append(Row(where, number, _cells(f"{where}, row {number}", cells, places)))
    except (csv.Error, TypeError) as error:  # TypeError: of a separator that cannot be one
        raise DataError(f"{where}: cannot be read as a table ({error}). Correct the file.") from None
    return rows


def _separator(text: str, wanted: Iterable[str]) -> str:
    """The one that splits the first line into most of the wanted columns, then into most columns."""
    line = text.lstrip().partition("\n")[0].casefold()
    headers = {one: {cell.strip(' \t\r"') for cell in line.split(one)} for one in SEPARATORS}
    names = {name.casefold() for name in wanted}
    return max(SEPARATORS, key=lambda one: (len(headers[one] & names), len(headers[one])))


def _places(header: Sequence[str], column: str) -> list[int]:
    """Where a column stands: under its exact name, or else under one that differs in case."""
    exact = [place for place, name in enumerate(header) if name == column]
    return exact or [place for place, name in enumerate(header) if name.casefold() == column.casefold()]


def _cells(where: str, cells: Sequence[str], places: dict[str, list[int]]) -> dict[str, str]:
    found = {}
    for column, own in places.items():
        texts = [cells[place] if place < len(cells) else "" for place in own]
        if len(set(texts)) > 1:
            raise DataError(
                f"{where}: {len(own)} columns are called '{column}', and differ: {quoted(texts)}. Keep one "
                "of them, or rename the others."
            )
        if texts:
            found[column] = texts[0]
    return found


def _short_lines(lines: Iterable[str]) -> Iterator[str]:
    """The same lines; one so long that it may hold millions of cells is an error."""
    for line in lines:
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line


def read_lines(path: Path) -> list[str]:
    """Lines of a text in UTF-8, or in UTF-16 with a byte order mark; a DataError if it is in neither."""
    return _text(path, "a text").splitlines()


def _text(path: Path, what: str) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: cannot be read as {what} in UTF-8 (line {line}: {error}). Save it in UTF-8; "
            'spreadsheets call that "CSV UTF-8".'
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read as {what}: {error.strerror}. Check the path.") from error
