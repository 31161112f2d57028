"""Arrays are made once, appear whole, and come back as memory maps."""

import numpy as np
import pytest

from medrobust.data.cache import cached_array


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
