"""How to find what a study names: a network, a perturbation, a data set or a score.

Each kind has a `Catalogue`. An entry comes with medrobust, is an entry point of an installed package, is
imported as `load: package.module:function`, or is a Python object; all four become the same entry.
No other file imports a module named by a study or by an installed package.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from medrobust.errors import MedrobustError, StudyError, reason, unknown

Entry = TypeVar("Entry")


class Catalogue(Mapping[str, Entry], Generic[Entry]):
    """The entries of one kind.

    As a mapping it holds what comes with medrobust, in the order given, and nothing else. `named` also knows
    what installed packages offer; `loaded` accepts the user's own.
    """

    def __init__(
        self, kind: str, group: str, entries: Mapping[str, Entry], entry_of: Callable[[object, str], Entry]
    ) -> None:
        """Make a catalogue.

        Args:
            kind: The word for an entry in messages, e.g. "perturbation".
            group: Entry point group of packages that offer their own, e.g. "medrobust.perturbations".
            entries: What comes with medrobust, by name.
            entry_of: Makes an entry of a user's object (a function, a class, or already an entry) and the
                name it was found under; raises `StudyError` with one sentence if that is impossible.
        """
        self.kind, self.group = kind, group
        self._entries = dict(entries)
        self._entry_of = entry_of

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        """All names that `named` knows: those of medrobust, then those of installed packages."""
        return [*self._entries, *sorted({point.name for point in self._points()} - self._entries.keys())]

    def named(self, name: object, where: str) -> Entry:
        """The entry of that name. A package's is imported only when it is asked for by name.

        Args:
            name: Its name, here or among the entry points of installed packages.
            where: Where a study names it, for messages, e.g. "perturbations.mine".

        Raises:
            StudyError: No entry has that name (suggests the nearest), two packages offer it, or the package
                that offers it fails.
        """
        if isinstance(name, str) and name in self._entries:
            return self._entries[name]
        points = [point for point in self._points() if point.name == name]
        if not points:
            raise StudyError(f"{where}: {unknown(self.kind, str(name), self.names())}")
        if len(points) > 1:
            raise StudyError(
                f"{where}: several installed packages offer a {self.kind} '{name}': "
                f"{', '.join(sorted(map(_package, points)))}. Uninstall all but one, or use `load`."
            )
        (point,) = points
        try:
            return self._entry_of(point.load(), point.name)
        except MedrobustError as error:
            raise StudyError(f"{where}: '{name}' of the package {_package(point)}: {error}") from error
        except Exception as error:  # of the package
            raise StudyError(
                f"{where}: the package {_package(point)} offers '{name}' as {point.value}, which cannot be "
                f"imported: {reason(error)}. Repair or uninstall the package."
            ) from error

    def loaded(self, load: object, where: str) -> Entry:
        """The entry that the user's own code makes.

        Args:
            load: `package.module:function`, or in Python the object itself.
            where: Where a study names it, for messages.

        Raises:
            StudyError: It cannot be imported, or cannot be an entry.
        """
        name = load if isinstance(load, str) else name_of(load)
        thing = imported(load, where)
        try:
            return self._entry_of(thing, name)
        except MedrobustError as error:
            raise StudyError(f"{where}.load: `{name}`: {error}") from error

    def _points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self.group))


def check_reference(load: object, where: str) -> str:
    """The value of a `load:` key, checked without importing the module itself (only the packages around it).

    Args:
        load: `package.module:function`.
        where: Where it stands, for the message, e.g. "models.mine".

    Raises:
        StudyError: It is written otherwise, there is no such module, or its package fails.
    """
    reference = str(load)
    module, colon, function = reference.partition(":")
    if not (module and colon and function):
        raise StudyError(f"{where}.load must be `package.module:function`, got {load!r}.")
    try:
        file = module_file(reference)
    except Exception as error:  # of the user's package
        raise StudyError(f"{where}.load: importing '{module}' failed: {reason(error)}.") from error
    if file is None:
        raise StudyError(
            f"{where}.load: there is no Python module '{module}'. "
            "Install it, or put it beside the study file."
        )
    return reference


def imported(load: object, where: str) -> Any:
    """What a `load:` key names; in Python it may be the object itself.

    Args:
        load: `package.module:function`, or an object.
        where: Where it stands, for the message, e.g. "models.mine".

    Raises:
        StudyError: It is text written otherwise, or cannot be imported.
    """
    if not isinstance(load, str):
        return load
    reference = check_reference(load, where)
    try:
        return load_function(reference)
    except Exception as error:  # of the user's module
        raise StudyError(f"{where}.load: `{reference}` cannot be imported: {reason(error)}.") from error


def load_function(reference: str) -> Any:
    """The object that `package.module:function` names; importing its module runs the code in it.

    Raises:
        Exception: Whatever the module raises; the caller says whose it is.
    """
    module, _, name = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def module_file(reference: str) -> Path | None:
    """File of the module in `package.module:function`, None if there is none."""
    try:
        found = importlib.util.find_spec(reference.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin else None


def name_of(thing: object) -> str:
    """The name of an object: `package.module:function` if that imports it, else the name it has."""
    return reference_of(thing) or str(getattr(thing, "__name__", type(thing).__name__))


def reference_of(thing: object) -> str | None:
    """The `package.module:function` that imports this object, decorated or not; None if it cannot be."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if _undecorated(found) is _undecorated(thing) else None


def _undecorated(thing: Any) -> Any:
    return inspect.unwrap(thing) if callable(thing) else thing


def code_digest(code: object) -> str | None:
    """SHA-256 of the user's code, which tells apart the results of its versions.

    Args:
        code: `package.module:function` or an object. What can be imported counts by the file of its module
            (not by what that imports); a function of a notebook by its own source.

    Returns:
        The digest; None without a source, or for a function that uses variables of the one it was defined in.
    """
    reference = code if isinstance(code, str) else reference_of(code)
    if reference is not None:
        file = module_file(reference)
        return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    function = _undecorated(code)
    if getattr(function, "__closure__", None):
        return None
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module
