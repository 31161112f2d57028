"""The run folder: files are whole or not there, and errors say what to do."""

import errno
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import zarr
from fsspec.registry import _registry

from medrobust.errors import RunError
from medrobust.storage import RunFolder
from medrobust.storage.disk import clear_disk_errors


@pytest.fixture(params=["path", "url", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    urls = {"path": tmp_path / "run", "url": f"file://{tmp_path}/run", "memory": f"memory://{uuid4().hex}"}
    return RunFolder(urls[request.param])


def test_json_comes_back(folder: RunFolder) -> None:
    value = {"b": [1, 2.5, None], "a": "Läsion"}
    assert not folder.exists("models", "unet", "card.json")
    folder.write_json(value, "models", "unet", "card.json")
    assert folder.exists("models", "unet", "card.json")
    assert folder.read_json("models", "unet", "card.json") == value
    folder.write_json([], "models", "unet", "card.json")
    assert folder.read_json("models", "unet", "card.json") == []


def test_names_are_sorted_and_without_what_a_killed_write_left(folder: RunFolder) -> None:
    assert folder.names("parts") == []
    for name in ("b", "a", ".a.0123"):
        folder.write_bytes(b"", "parts", name)
    assert folder.names("parts") == ["a", "b"]


def test_missing_file_is_named(folder: RunFolder) -> None:
    with pytest.raises(RunError, match=r"results/x.parquet is missing in the run folder"):
        folder.read_bytes("results", "x.parquet")


def test_broken_json_is_named(folder: RunFolder) -> None:
    folder.write_bytes(b"{", "record.json")
    with pytest.raises(RunError, match=r"record.json is not valid JSON .*Delete it"):
        folder.read_json("record.json")


def test_numbers_that_json_does_not_have_are_refused(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        folder.write_json({"ssim": float("nan")}, "card.json")
    assert not folder.exists("card.json")


def test_zarr_store(folder: RunFolder) -> None:
    array = zarr.create_array(folder.zarr_store("crafted", "x"), shape=(3,), dtype="float32")
    array[:] = [1, 2, 3]
    again = zarr.open_array(folder.zarr_store("crafted", "x"), mode="r")
    np.testing.assert_array_equal(again[:], [1, 2, 3])
    assert folder.exists("crafted", "x", "zarr.json")


def test_path_on_this_disk(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).local("cache") == tmp_path / "cache"
    behind_url = RunFolder("memory://x")
    assert behind_url.local("cache").parent.is_dir()  # a temporary folder, for what can be made again
    assert behind_url.local("cache") == behind_url.local("cache")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_bytes(b"old", "card.json")
    write = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(RunError, match=r"disk is full.*: card.json could not.*run the same command"):
        folder.write_bytes(b"new and longer", "card.json")
    monkeypatch.undo()
    assert folder.read_bytes("card.json") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


def test_other_errors_of_the_disk_say_which_file_and_that_nothing_is_lost() -> None:
    message = r"runs/a: a file cannot be read or written: .*not yours: 'card\.json'.*Finished work is kept"
    with pytest.raises(RunError, match=message), clear_disk_errors("runs/a"):
        raise PermissionError(errno.EACCES, "not yours", "card.json")


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, protocol: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(_registry, protocol, raising=False)
    with pytest.raises(
        RunError, match=f"a package for {protocol}:// is missing. Run `pip install {package}`"
    ):
        RunFolder(f"{protocol}://bucket/run")


def test_an_unknown_protocol() -> None:
    with pytest.raises(RunError, match=r"Unknown protocol 's4'. Did you mean 's3'"):
        RunFolder("s4://bucket/run")
