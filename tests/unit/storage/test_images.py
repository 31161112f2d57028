"""The image store: lossless, chunk by chunk, and damage is found."""

import json
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.errors import RunError
from medrobust.rng import generator
from medrobust.storage import ImageStore, RunFolder

CHUNKS = (("a", "b", "c"), ("d", "e"))


def new(
    url: str | Path, chunks: tuple[tuple[str, ...], ...] = CHUNKS, shape: tuple[int, ...] = (1, 6, 5)
) -> ImageStore:
    return ImageStore.create(RunFolder(url), "crafted", "x", chunks=chunks, shape=shape, card={"eps": 0.1})


def images(n: int, shape: tuple[int, ...] = (1, 6, 5), seed: int = 0) -> np.ndarray:
    return generator(seed, "images").random((n, *shape), dtype=np.float32)


def finish(store: ImageStore, number: int, content: np.ndarray) -> None:
    store.mark_done(number, store.write(number, content), [f"{number}-{n}" for n in range(len(content))])


def fill(store: ImageStore) -> None:
    for number, cases in enumerate(CHUNKS):
        finish(store, number, images(len(cases), seed=number))


def chunk_file(root: Path, number: int) -> Path:
    return root.joinpath("crafted", "x", "images", "c", str(number), "0", "0", "0")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from([(1, 4, 3), (3, 2, 2), (1, 2, 3, 2)])
)
def test_round_trip(sizes: list[int], shape: tuple[int, ...]) -> None:
    chunks = tuple(tuple(f"{chunk}-{place}" for place in range(n)) for chunk, n in enumerate(sizes))
    store = new(f"memory://{uuid4().hex}", chunks, shape)
    written = [images(n, shape, seed) for seed, n in enumerate(sizes)]
    for number in reversed(range(len(sizes))):
        finish(store, number, written[number])
    for number, expected in enumerate(written):
        np.testing.assert_array_equal(store.read(number, verify=True), expected)


def test_opened_again(tmp_path: Path) -> None:
    fill(new(tmp_path))
    again = ImageStore(RunFolder(tmp_path), "crafted", "x")
    assert again.card == {"eps": 0.1}
    np.testing.assert_array_equal(again.read(1), images(2, seed=1))
    np.testing.assert_array_equal(new(tmp_path).read(1), images(2, seed=1))


def test_anybody_can_read_it_with_zarr(tmp_path: Path) -> None:
    fill(new(tmp_path))
    group = zarr.open_group(tmp_path / "crafted" / "x", mode="r")
    assert list(group["case_id"][:]) == ["a", "b", "c", "d", "e", ""]
    assert group["images"].dtype == np.float32
    np.testing.assert_array_equal(group["images"][:3], images(3))
    metadata = json.loads((tmp_path / "crafted/x/images/zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "zstd", "crc32c"]


def test_black_images_count_as_written(tmp_path: Path) -> None:
    store = new(tmp_path)
    finish(store, 0, np.zeros((3, 1, 6, 5), np.float32))
    assert chunk_file(tmp_path, 0).exists()
    assert (store.read(0) == 0).all()


def test_a_chunk_counts_only_when_it_is_marked(tmp_path: Path) -> None:
    store = new(tmp_path)
    store.write(0, images(3))
    assert not store.is_done(0)
    with pytest.raises(RunError, match=r"crafted/x/chunk 0 is not finished"):
        store.read(0)


def test_metadata_without_a_card_are_made_again(tmp_path: Path) -> None:
    fill(new(tmp_path))
    (tmp_path / "crafted/x/card.json").unlink()
    with pytest.raises(RunError, match=r"card.json is missing"):
        ImageStore(RunFolder(tmp_path), "crafted", "x")
    store = new(tmp_path)
    assert not store.is_done(0)


def test_a_missing_chunk_is_found(tmp_path: Path) -> None:
    store = new(tmp_path)
    fill(store)
    chunk_file(tmp_path, 1).unlink()
    with pytest.raises(
        RunError, match=r"chunk 1 is marked as finished, but its images are missing. Run the study"
    ):
        store.read(1)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
def test_a_flipped_bit_is_found_without_asking(tmp_path: Path, place: float) -> None:
    store = new(tmp_path)
    fill(store)
    content = bytearray(chunk_file(tmp_path, 0).read_bytes())
    content[int(place * len(content))] ^= 4
    chunk_file(tmp_path, 0).write_bytes(content)
    with pytest.raises(RunError, match=r"chunk 0 is damaged .*only this chunk is crafted again"):
        store.read(0)
    store.read(1)


def test_exchanged_images_are_found_when_asked(tmp_path: Path) -> None:
    store = new(tmp_path)
    fill(store)
    store.write(0, images(3, seed=7))
    store.read(0)
    with pytest.raises(RunError, match=r"chunk 0 does not match the SHA-256 of its marker"):
        store.read(0, verify=True)


@pytest.mark.parametrize(
    "wrong", [images(4), images(3).astype(np.float64), images(3, (1, 5, 6))], ids=["number", "dtype", "shape"]
)
def test_images_that_do_not_fit_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"chunk 0 holds at most 3 float32 images of shape \(1, 6, 5\); got"):
        new(tmp_path).write(0, wrong)
