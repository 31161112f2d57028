"""Tables as spreadsheets, pandas and R write them are read right, or refused with file, row and reason."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrobust.data.files import SEPARATORS, read_lines, read_table
from medrobust.errors import DataError

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
        ("utf-16-le", r"table\.csv: holds NUL characters, as UTF-16"),
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
