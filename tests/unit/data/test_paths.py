"""What a table or a JSON file of the data names is read only below their root."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrobust.data.paths import inside
from medrobust.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").touch()
    (tmp_path / "secret.png").touch()
    return folder


@pytest.mark.parametrize("text", ["images/a.png", "./images/a.png", "images/../images/a.png", "new.png"])
def test_paths_below_the_root(root: Path, text: str) -> None:
    assert inside(root, text) == root / text


@pytest.mark.parametrize(
    "text", ["../secret.png", "images/../../secret.png", "/etc/passwd", "..", "images/../../data2/x"]
)
def test_paths_that_lead_out(root: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"table.csv, row 3: the path '.*' leads out of the data's folder"):
        inside(root, text, "table.csv, row 3")


def test_absolute_paths_even_below_the_root(root: Path) -> None:
    with pytest.raises(DataError, match="give its path relative to the folder"):
        inside(root, str(root / "images" / "a.png"))


def test_links_that_lead_out(root: Path) -> None:
    (root / "linked.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    for text in ("linked.png", "folder/secret.png", "folder/data/../secret.png"):
        with pytest.raises(DataError, match="leads out of the data's folder"):
            inside(root, text)


def test_links_that_stay_and_a_root_that_is_one(root: Path) -> None:
    (root / "b.png").symlink_to("images/a.png")
    (root.parent / "link").symlink_to(root)
    linked = root.parent / "link"
    assert inside(linked, "b.png") == linked / "b.png"
    with pytest.raises(DataError, match="leads out"):
        inside(linked, "../secret.png")


@pytest.mark.parametrize("text", ["a\0b", "a" * 5000])
def test_what_is_no_path(root: Path, text: str) -> None:
    with pytest.raises(DataError, match="is no path that can be used"):
        inside(root, text)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_path(root: Path, text: str) -> None:
    with pytest.raises(DataError, match="is empty"):
        inside(root, text)


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "/"]), min_size=1, max_size=8).map("/".join))
def test_whatever_is_let_through_is_below_the_root(text: str) -> None:
    root = Path("/nowhere/data")
    try:
        path = inside(root, text)
    except DataError:
        return
    assert os.path.commonpath([root, os.path.normpath(path)]) == str(root)
