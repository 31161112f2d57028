"""One way to find what a study names: by name, in installed packages, by `load:`, or as an object."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medrobust.catalogue import Catalogue, code_digest, name_of, reference_of
from medrobust.errors import StudyError

WHERE = "fruits.mine"


def entry_of(thing: object, name: str) -> str:
    if not callable(thing):
        raise StudyError(f"must be a function, got {thing!r}.")
    return f"{name} made of {thing.__name__}"


FRUITS = Catalogue("fruit", "medrobust.fruits", {"apple": "an apple", "pear": "a pear"}, entry_of)


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a module of one's own, and two packages that offer fruit."""
    (tmp_path / "my_fruits.py").write_text("def fig(): ...\nclass Garden:\n    def plum(): ...\nseven = 7\n")
    (tmp_path / "broken_fruits.py").write_text("import nowhere_to_be_found\n")
    offer(tmp_path, "orchard", fig="my_fruits:fig", kiwi="my_fruits:seven", lime="broken_fruits:lime")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module in ("my_fruits", "broken_fruits"):
        sys.modules.pop(module, None)


def offer(folder: Path, package: str, **fruits: str) -> None:
    (folder / f"{package}-1.2.dist-info").mkdir()
    (folder / f"{package}-1.2.dist-info" / "METADATA").write_text(f"Name: {package}\nVersion: 1.2\n")
    lines = "".join(f"{name} = {value}\n" for name, value in fruits.items())
    (folder / f"{package}-1.2.dist-info" / "entry_points.txt").write_text(f"[medrobust.fruits]\n{lines}")


def test_a_catalogue_is_a_mapping_of_what_comes_with_medrobust() -> None:
    assert dict(FRUITS) == {"apple": "an apple", "pear": "a pear"}
    assert FRUITS.names() == ["apple", "pear", "fig", "kiwi", "lime"]


def test_all_four_ways_lead_to_an_entry() -> None:
    import my_fruits  # type: ignore[import-not-found]

    assert FRUITS.named("apple", WHERE) == "an apple"
    assert FRUITS.named("fig", WHERE) == "fig made of fig"
    assert FRUITS.loaded("my_fruits:fig", WHERE) == "my_fruits:fig made of fig"
    assert FRUITS.loaded("my_fruits:Garden.plum", WHERE) == "my_fruits:Garden.plum made of plum"
    assert FRUITS.loaded(my_fruits.fig, WHERE) == "my_fruits:fig made of fig"
    assert FRUITS.loaded(lambda: None, WHERE) == "<lambda> made of <lambda>"


def test_packages_are_imported_only_when_asked_for() -> None:
    FRUITS.named("pear", WHERE)
    assert FRUITS.names()
    assert "my_fruits" not in sys.modules


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda: FRUITS.named("aple", WHERE), r"^fruits.mine: Unknown fruit 'aple'. Did you mean 'apple'\?"),
        (lambda: FRUITS.named("figs", WHERE), r"Did you mean 'fig'\? Known: apple, fig, kiwi, lime, pear"),
        (lambda: FRUITS.named(3, WHERE), "Unknown fruit '3'"),
        (
            lambda: FRUITS.named("kiwi", WHERE),
            "^fruits.mine: 'kiwi' of the package orchard 1.2: must be a fu",
        ),
        (
            lambda: FRUITS.named("lime", WHERE),
            r"package orchard 1.2 offers 'lime' as broken_fruits:lime, whic",
        ),
        (
            lambda: FRUITS.loaded("my_fruits:seven", WHERE),
            "^fruits.mine.load: `my_fruits:seven`: must be a f",
        ),
        (lambda: FRUITS.loaded(7, WHERE), "^fruits.mine.load: `int`: must be a function, got 7"),
        (
            lambda: FRUITS.loaded("my_fruits", WHERE),
            "load must be `package.module:function`, got 'my_fruits'",
        ),
        (lambda: FRUITS.loaded("nowhere:fig", WHERE), "there is no Python module 'nowhere'. Install it, or"),
        (
            lambda: FRUITS.loaded("broken_fruits:lime", WHERE),
            "cannot be imported: ModuleNotFoundError: No mo",
        ),
        (
            lambda: FRUITS.loaded("my_fruits:grape", WHERE),
            "cannot be imported: AttributeError: module 'my_fr",
        ),
    ],
)
def test_what_cannot_be_found_is_one_sentence(find: Callable[[], Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        find()


def test_two_packages_must_not_offer_the_same_name(packages: Path) -> None:
    offer(packages, "market", fig="my_fruits:fig")
    with pytest.raises(
        StudyError, match=r"several installed packages offer a fruit 'fig': market 1.2, orchard"
    ):
        FRUITS.named("fig", WHERE)


def test_code_counts_by_its_file_or_its_source(packages: Path) -> None:
    import my_fruits

    assert reference_of(my_fruits.Garden.plum) == "my_fruits:Garden.plum"
    before = code_digest("my_fruits:fig")
    assert code_digest(my_fruits.fig) == before is not None
    (packages / "my_fruits.py").write_text("def fig(): return 1\n")
    assert code_digest(my_fruits.fig) != before

    def local() -> None: ...

    def other() -> None:
        """Differs."""

    def depends() -> None:
        local()

    assert reference_of(local) is None
    assert name_of(local) == "local"
    assert None is not code_digest(local) != code_digest(other) is not None
    assert code_digest(depends) is None
    assert code_digest(7) is None
