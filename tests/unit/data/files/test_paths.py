"""What a table or a JSON file of the data names is read only below their root."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrobust.data.files import ListedFiles, inside
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
    with pytest.raises(DataError, match="is not a usable path"):
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


@pytest.fixture
def listed(root: Path) -> ListedFiles:
    for name in (
        "b.png",
        "images/c.v2.png",
        "images/d.PNG",
        "images/deep/e.png",
        "other/e.png",
        "other/f.png",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    for name in ("images/twice.png", "images/twice.jpg", "other/Twice.png"):
        (root / name).touch()
    return ListedFiles(root, (".png", ".jpg"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("images/a.png", "images/a.png"),
        ("./images//a.png", "images/a.png"),
        ("other/../images/a.png", "images/a.png"),
        ("../data/images/a.png", "images/a.png"),
        ("images\\a.png", "images/a.png"),
        (".\\images\\deep\\e.png", "images/deep/e.png"),
        ("data/images/a.png", "images/a.png"),
        ("C:\\old\\images\\a.png", "images/a.png"),
        ("c:/old/images/a.png", "images/a.png"),
        ("\\\\server\\share\\images\\a.png", "images/a.png"),
        ("/home/x/images/a.png", "images/a.png"),
        ("/images/a.png", "images/a.png"),
        ("/elsewhere/b.png", "b.png"),
        ("images/a", "images/a.png"),
        ("images/c.v2", "images/c.v2.png"),
        ("images/A.PNG", "images/a.png"),
        ("images/d.png", "images/d.PNG"),
        ("Images/a", "images/a.png"),
        ("f.png", "other/f.png"),
        ("f", "other/f.png"),
        ("other/twice.png", "other/Twice.png"),
        ("images/twice.png", "images/twice.png"),
    ],
)
def test_paths_of_other_machines(root: Path, listed: ListedFiles, text: str, found: str) -> None:
    assert listed.find(text, "t.csv, row 3") == root / found


def test_an_absolute_path_below_the_root(root: Path, listed: ListedFiles) -> None:
    (root / "images" / "b.png").touch()
    assert (
        listed.find(str(root / "images" / "b.png"), "t.csv") == root / "images" / "b.png"
    )  # not root / "b.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images/twice", r"'images/twice' may be 'images/twice\.png' or 'images/twice\.jpg' in"),
        ("e.png", r"'e\.png' may be 'images/deep/e\.png' or 'other/e\.png' in"),
        ("images/g.png", r"there is no file 'images/g\.png' in .*/data\. Correct"),
        ("images/a.jpg", r"there is no file 'images/a\.jpg' .* Did you mean 'images/a\.png'\?"),
        ("images", "there is no file 'images'"),
        (".", "there is no file '.'"),
        ("D:\\x\\g.png", r"there is no file 'D:\\x\\g\.png'"),
        ("/home/x/g.png", "leads out of the data's folder"),
        ("/", "leads out"),
        ("../secret.png", "leads out"),
        ("..\\secret.png", "leads out"),
        ("/home/x/../secret.png", "leads out"),
        ("C:\\x\\..\\..\\secret.png", "there is no file"),
        ("", "is empty"),
        ("a\0b", "is not a usable path"),
        ("/a\0b", "leads out"),
        ("http://x.org/images/a.png", "there is no file"),
    ],
)
def test_paths_of_no_file_or_of_several(listed: ListedFiles, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"t\.csv, row 3: .*{message}"):
        listed.find(text, "t.csv, row 3")


def test_an_absolute_path_that_may_end_in_two_ways(root: Path, listed: ListedFiles) -> None:
    (root / "a.png").touch()
    with pytest.raises(DataError, match=r"may be 'images/a\.png' or 'a\.png'"):
        listed.find("/x/images/a.png", "t.csv")


def test_links_that_lead_out_are_not_found(root: Path, listed: ListedFiles) -> None:
    (root / "linked.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    for text in (
        "linked.png",
        "linked",
        "/x/linked.png",
        "folder/secret.png",
        "FOLDER/secret",
        "/x/folder/secret.png",
    ):
        with pytest.raises(DataError, match="leads out of the data's folder"):
            listed.find(text, "t.csv")
