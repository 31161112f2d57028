"""JSON files of data are read whole and right, or refused with their name."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrobust import text
from medrobust.data.files import read_json
from medrobust.errors import DataError

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
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
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
    with pytest.raises(DataError, match=r"pipe\.json: .*it is no regular file"):
        read_json(tmp_path / "pipe.json")
    (tmp_path / "large.json").write_text(" " * 65)
    monkeypatch.setattr(text.read_text, "__defaults__", (64,))
    with pytest.raises(DataError, match=r"large\.json: .*it is larger than"):
        read_json(tmp_path / "large.json")
