"""The search for near copies: it loses nothing, and knows all eight ways to lay an image."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medrobust.audit.looking import squeezed
from medrobust.audit.photos import ALIKE, near_copies
from medrobust.audit.similarity import (
    ORIENTATIONS,
    RADIUS,
    detail,
    near_pairs,
    structure_hash,
    turned,
    turned_hashes,
)

hashes = st.lists(st.integers(0, 2**64 - 1), max_size=30)
flips = st.lists(st.tuples(st.integers(0, 29), st.sets(st.integers(0, 63), max_size=10)), max_size=30)


def brute_force(queries: np.ndarray, known: np.ndarray) -> list[list[int]]:
    return [
        [first, second]
        for first, one in enumerate(queries.tolist())
        for second, other in enumerate(known.tolist())
        if (one ^ other).bit_count() <= RADIUS
    ]


@given(hashes=hashes, flips=flips)
def test_search_equals_brute_force(hashes: list[int], flips: list[tuple[int, set[int]]]) -> None:
    """Also for hashes that differ in just so many bits, wherever these are."""
    near = [hashes[place % len(hashes)] ^ sum(1 << bit for bit in bits) for place, bits in flips if hashes]
    queries, known = np.array(near, np.uint64), np.array([*hashes, *near], np.uint64)
    assert near_pairs(queries, known).tolist() == brute_force(queries, known)


@pytest.mark.parametrize("quarter", range(4))
def test_the_hardest_pairs_are_found(quarter: int) -> None:
    """Seven bits that leave only one quarter near: any one of its bits, and two in each of the others."""
    others = sum(0b11 << 16 * each for each in range(4) if each != quarter)
    known = np.array([others | 1 << 16 * quarter + bit for bit in range(16)], np.uint64)
    found = near_pairs(np.zeros(1, np.uint64), known)
    assert found.tolist() == [[0, bit] for bit in range(16)]


def test_search_of_many_hashes_that_share_a_quarter() -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(0, 2**12, 300).astype(np.uint64) << np.uint64(20)
    assert near_pairs(known, known).tolist() == brute_force(known, known)


def picture(seed: int, side: int = 200) -> Image.Image:
    """A smooth random image with a few edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    image = np.array(coarse.resize((side, side), Image.Resampling.BICUBIC))
    top, left = rng.integers(0, side // 2, 2)
    image[top : top + side // 4, left : left + side // 3] //= 2
    return Image.fromarray(image)


def small(image: Image.Image) -> np.ndarray:
    return squeezed(np.moveaxis(np.asarray(image), 2, 0))


@pytest.mark.parametrize("way", ORIENTATIONS)
def test_the_hash_of_a_turned_image_follows_from_its_hash(way: tuple[bool, bool, bool]) -> None:
    image = small(picture(1))
    turned_image = np.ascontiguousarray(turned(image, ORIENTATIONS[ORIENTATIONS.index(way)]))
    expected = turned_hashes(
        np.array([structure_hash(image)], np.uint64), ORIENTATIONS[ORIENTATIONS.index(way)]
    )
    assert structure_hash(turned_image) == expected[0]


def test_the_eight_ways_are_different() -> None:
    image = small(picture(2))
    assert len({turned(image, way).tobytes() for way in ORIENTATIONS}) == 8


def compressed(image: Image.Image, quality: int) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.mark.parametrize("way", [None, *Image.Transpose], ids=str)
@pytest.mark.parametrize("change", ["quality 40", "half the size", "another shape"])
def test_copies_are_found_however_they_were_made(way: Image.Transpose | None, change: str) -> None:
    originals = [picture(seed) for seed in range(12)]
    copy = originals[5] if way is None else originals[5].transpose(way)
    copy = {
        "quality 40": lambda: compressed(copy, 40),
        "half the size": lambda: copy.resize((100, 100), Image.Resampling.BICUBIC),
        "another shape": lambda: copy.resize((180, 130), Image.Resampling.BILINEAR),
    }[change]()
    smalls = np.stack([small(image) for image in (*originals, copy)])
    found = near_copies(np.array([structure_hash(each) for each in smalls], np.uint64), smalls)
    assert [(link.first, link.second) for link in found] == [(5, 12)]
    assert found[0].turned is (way is not None)


def test_detail_of_different_images_does_not_correlate() -> None:
    fine = detail(np.stack([small(picture(seed)) for seed in range(20)]))
    likeness = fine @ fine.T
    np.testing.assert_allclose(np.diag(likeness), 1, atol=1e-5)
    assert np.abs(likeness[np.triu_indices(20, 1)]).max() < ALIKE - 0.1
