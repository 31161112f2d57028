"""What comes with data is read whole and right, or refused by name: paths, JSON, tables."""

import csv
import inspect
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrobust import text as text_module
from medrobust.data.files import (
    SEPARATORS,
    ListedFiles,
    inside,
    is_missing,
    read_json,
    read_lines,
    read_table,
)
from medrobust.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\xa0", "-", "--", "?", "??", ".", "...", "\N{EN DASH}", "_"),
        *(
            "nan",
            "NaN",
            " NAN ",
            "-nan",
            "-NaN",
            "NA",
            "na",
            "<NA>",
            "(NA)",
            "#N/A",
            "#N/A N/A",
            "#NA",
            "N/A",
        ),
        *("n/a", "n.a.", "N. A.", "NaT", "None", "none", "null", "NULL", "#NULL!", "(null)", "nil"),
        *("1.#IND", "-1.#IND", "1.#QNAN", "unknown", "Unknown", "UNK", "[Unknown]", "missing", "Missing!"),
        *("not available", "Not_Available", "[Not Available]", "not-applicable", "Not Reported", "no data"),
        *("anonymous", "ANONYMIZED", "undefined"),
    ],
)
def test_nothing_is_known(text: str) -> None:
    assert is_missing(text)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-1", "+", "1.0", "nano", "Nancy", "NAB", "nans", "P-1", "A", "x?", "a-", "n", "N0"),
        *("no finding", "unknown primary", "none of these", "not cancer", "NA-1", "nan 2", "missing tooth"),
        *("\N{GREEK SMALL LETTER ALPHA}", "\N{CJK UNIFIED IDEOGRAPH-7121}none"),
    ],
)
def test_something_is(text: str) -> None:
    assert not is_missing(text)


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
        ("images/twice", r"'images/twice' could mean 'images/twice\.png' or 'images/twice\.jpg' in"),
        ("e.png", r"'e\.png' could mean 'images/deep/e\.png' or 'other/e\.png' in"),
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
    with pytest.raises(DataError, match=r"could mean 'images/a\.png' or 'a\.png'"):
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(JSON)
@in_one_folder
def test_what_json_says_is_what_is_read(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_json(path) == content


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0123eENnaIfty-', max_size=60).map(str.encode))
@in_one_folder
def test_anything_else_ends_in_a_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(content)
    message = str(path)
    try:
        read_json(path)
    except DataError as error:
        message = str(error)
    assert message.startswith(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice"),
        ('{"a": NaN}', "JSON has no NaN"),
        ('{"a": -Infinity}', "JSON has no -Infinity"),
        ("[" * 33 + "1" + "]" * 33, "deeper than 32 levels"),
        ("[" * 200_000, "deeper than 32 levels|cannot be read"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "deeper than 32 levels"),
        ("9" * 5000, "cannot be read as JSON"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"dataset\.json: .*({message})"):
        read_json(path)


def test_32_levels_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text("[" * 32 + "1" + "]" * 32, encoding="utf-8-sig")
    assert json.dumps(read_json(path)) == "[" * 32 + "1" + "]" * 32


def test_files_that_are_missing_too_large_or_never_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read"):
        read_json(tmp_path / "none.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json: .*it is not a regular file"):
        read_json(tmp_path / "pipe.json")
    (tmp_path / "large.json").write_text(" " * 65)
    monkeypatch.setattr(inspect.unwrap(text_module.read_text), "__defaults__", (64,))
    with pytest.raises(DataError, match=r"large\.json: .*it is larger than"):
        read_json(tmp_path / "large.json")


WANTED = ("path", "label")
ROWS = [("a/0.png", "ben"), ("a/1.png", "mal"), ("b/ä 2.png", "ben")]


def cells(path: Path, *optional: str) -> list[tuple[str, ...]]:
    return [tuple(row.cells.values()) for row in read_table(path, WANTED, optional)]


def text_of(separator: str = ",", end: str = "\n", header: tuple[str, ...] = WANTED) -> str:
    return end.join(separator.join(line) for line in (header, *ROWS)) + end


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.txt"])
def test_separators_and_line_ends(tmp_path: Path, separator: str, end: str, name: str) -> None:
    (tmp_path / name).write_bytes(text_of(separator, end).encode())
    assert cells(tmp_path / name) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text_of().encode(encoding))
    assert cells(path) == ROWS
    assert read_lines(path) == text_of().splitlines()


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("latin-1", r"table\.csv: .*\(line 4: .*0xe4.*Save it in UTF-8; spreadsheets call that"),
        ("utf-16-le", r"table\.csv: contains NUL characters, as UTF-16"),
    ],
)
def test_encodings_that_are_refused_say_what_to_do(tmp_path: Path, encoding: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes((text_of() if encoding == "latin-1" else "path,label\na,x\n").encode(encoding))
    with pytest.raises(DataError, match=message):
        read_table(path, WANTED)


@pytest.mark.parametrize(
    "text",
    [
        text_of(header=("Path", "LABEL")),
        text_of(header=(" path ", "label ")),
        text_of(header=("path", "label", "")),
        'path,label\n"a/0.png", "ben"\n a/1.png ,mal \n"b/ä 2.png","ben"\n',
        "\n\npath,label\na/0.png,ben\n\n,,\na/1.png,mal,,\nb/ä 2.png,ben\n",
        "sep=;\r\n" + text_of(";", "\r\n"),
        "SEP=|\n" + text_of("|"),
        'label,note,path\nben,"1,5 mm, flat",a/0.png\nmal,,a/1.png\nben,"two\nlines",b/ä 2.png\n',
        "label;size,mm;path\nben;1,5;a/0.png\nmal;2,5;a/1.png\nben;;b/ä 2.png\n",
    ],
)
def test_what_is_harmless(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    assert cells(path) == ROWS


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('sep=,\n\npath,label,note\na,x,"two\nlines"\n\nb,y,\n')
    assert [row.number for row in read_table(path, WANTED)] == [4, 6]
    assert read_table(path, WANTED)[1].where == f"{path}, row 6"


def test_columns_that_may_be_there(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("path,label,Age\na,x,5\nb,y\n")
    assert cells(path, "age", "sex") == [("a", "x", "5"), ("b", "y", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 'path', 'label' is missing; found none"),
        ("path;class\n1;2\n", "column 'label' is missing; found 'path', 'class'"),
        ("path,label,label\na,x,x\nb,x,y\n", "row 3: 2 columns are called 'label', and differ: 'x', 'y'"),
        ("path,Label,LABEL\na,x,y\n", "row 2: 2 columns are called 'label', and differ: 'x', 'y'"),
        ("path,label\na,x,y\n", "row 2: has 3 cells, but the header 2"),
        ('path,label\n"a,x\nb,y\n', "cannot be read as a table"),
        ('path,label\n"a"b,x\n', "cannot be read as a table"),
    ],
)
def test_what_contradicts_itself(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"table\.csv.*{message}"):
        read_table(path, WANTED)


@pytest.mark.parametrize("header", ["path,label,label", "path,Label,LABEL,label"])
def test_a_column_twice_with_the_same_cells_or_once_as_it_is_called(tmp_path: Path, header: str) -> None:
    path = tmp_path / "table.csv"
    row = "a,x,x" if header.count(",") == 2 else "a,y,z,x"
    path.write_text(f"{header}\n{row}\n")
    assert cells(path) == [("a", "x")]


# Python's writer leaves a carriage return unquoted where lines end otherwise.
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL).filter(any), max_size=6),
    separator=st.sampled_from(SEPARATORS),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_written_is_read(
    tmp_path: Path, rows: list, separator: str, end: str, encoding: str, quoting: int
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([("path", "label", "note"), *rows])
    path = tmp_path / "table.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    assert cells(path, "note") == rows
