"""Arrays are made once, appear whole, and come back as memory maps."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.data.cache import CachedRows, cached_array
from medrobust.errors import DataError


class Counted:
    def __init__(self, array):
        self.array = array
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.array


@pytest.fixture
def make():
    return Counted(np.random.default_rng(0).random((3, 4), np.float32))


def test_the_array_is_made_once_and_mapped_from_then_on(tmp_path, make):
    for _ in range(2):
        array = cached_array(tmp_path, "scans/1000_3", make)
        np.testing.assert_array_equal(array, make.array)
        assert array.dtype == np.float32
        assert isinstance(array, np.memmap)
    assert make.calls == 1
    assert [path.name for path in (tmp_path / "scans").iterdir()] == ["1000_3.npy"]


def test_without_a_folder_the_array_is_just_made(make):
    assert cached_array(None, "a", make) is make.array
    assert cached_array(None, "a", make) is make.array
    assert make.calls == 2


def test_keys_with_dots_do_not_collide(tmp_path):
    assert cached_array(tmp_path, "spacing-1.5", lambda: np.zeros(1))[0] == 0
    assert cached_array(tmp_path, "spacing-1.6", lambda: np.ones(1))[0] == 1


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fails():
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        cached_array(tmp_path, "a", fails)
    with pytest.raises(ValueError, match="allow_pickle"):
        cached_array(tmp_path, "a", lambda: np.array([object()]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 50, 130])
def test_a_file_that_was_cut_short_is_made_again(tmp_path, make, kept):
    cached_array(tmp_path, "a", make)
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:kept])
    np.testing.assert_array_equal(cached_array(tmp_path, "a", make), make.array)
    assert make.calls == 2


class TestRows:
    def rows(self, folder, count=6):
        return CachedRows(folder / "a" / "rows", count, (3, 4), "uint16")

    def test_a_row_is_made_once(self, tmp_path):
        rows, made = self.rows(tmp_path), []

        def make():
            made.append(1)
            return np.full((3, 4), 7, np.uint16)

        for _ in range(3):
            np.testing.assert_array_equal(rows.get(2, make), np.full((3, 4), 7))
        assert len(made) == 1
        assert rows.get(3, lambda: np.zeros((3, 4), np.uint16)).max() == 0

    @given(numbers=st.lists(st.integers(0, 19), min_size=1, max_size=60))
    @settings(deadline=None, max_examples=30)
    def test_rows_are_what_was_made_in_any_order(self, numbers):
        with tempfile.TemporaryDirectory() as folder:
            rows = self.rows(Path(folder), 20)
            for number in numbers:
                row = rows.get(number, lambda number=number: np.full((3, 4), number, np.uint16))
                assert (row == number).all()

    def test_many_threads_and_readers(self, tmp_path):
        def read(number):
            return int(
                self.rows(tmp_path).get(number % 6, lambda: np.full((3, 4), number % 6, np.uint16))[0, 0]
            )

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(200))) == [number % 6 for number in range(200)]

    @pytest.mark.parametrize("ending", [".rows", ".marks"])
    def test_a_flipped_bit_is_made_again(self, tmp_path, ending):
        rows = self.rows(tmp_path)
        rows.get(1, lambda: np.full((3, 4), 9, np.uint16))
        path = tmp_path / "a" / f"rows{ending}"
        content = bytearray(path.read_bytes())
        content[30 if ending == ".rows" else 8] ^= 1
        with path.open("r+b") as file:
            file.write(content)
        assert (rows.get(1, lambda: np.full((3, 4), 5, np.uint16)) == 5).all()

    def test_what_fails_leaves_nothing(self, tmp_path):
        rows = self.rows(tmp_path)

        def fails():
            raise DataError("damaged")

        for _ in range(2):
            with pytest.raises(DataError, match="damaged"):
                rows.get(0, fails)
        assert (rows.get(0, lambda: np.ones((3, 4), np.uint16)) == 1).all()

    def test_a_wrong_shape_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="reshape"):
            self.rows(tmp_path).get(0, lambda: np.ones((3, 5), np.uint16))
