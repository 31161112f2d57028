"""All pairs of 64-bit hashes within a few bits of each other, without comparing every hash with every other.

Multi-index hashing: of two hashes that differ in at most 7 bits, at least one of the four quarters differs in
at most one bit. So each quarter is looked up in a sorted list, as it is and with each of its 16 bits changed,
and only what is found there is compared in full.

Source: Norouzi, Punjani and Fleet, "Fast exact search in Hamming space with multi-index hashing", IEEE TPAMI
36, 2014.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt64

RADIUS = 7
"""Most bits in which two hashes may differ: one less than twice the number of quarters."""

PROBES = np.array([0, *(1 << bit for bit in range(16))], np.uint16)
BLOCK = 1024
"""Queries that are looked up together; bounds the memory."""


def near_pairs(
    queries: UInt64[np.ndarray, "m"], hashes: UInt64[np.ndarray, "n"], radius: int = RADIUS
) -> Int64[np.ndarray, "pairs 2"]:
    """Places of a query and a hash that differ in at most `radius` bits, sorted.

    Args:
        queries: Hashes that are looked for.
        hashes: Hashes that are looked in.
        radius: At most 7.

    Raises:
        ValueError: A larger radius, for which the search is not exact.
    """
    if not 0 <= radius <= RADIUS:
        raise ValueError(f"radius must lie in [0, {RADIUS}], got {radius}.")
    found = [block for quarter in range(4) for block in _pairs_by_quarter(queries, hashes, quarter, radius)]
    return np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)


def _pairs_by_quarter(
    queries: UInt64[np.ndarray, "m"], hashes: UInt64[np.ndarray, "n"], quarter: int, radius: int
) -> Iterator[Int64[np.ndarray, "pairs 2"]]:
    """Pairs whose given quarters differ in at most one bit, block by block."""
    keys = hashes.view(np.uint16).reshape(-1, 4)[:, quarter]
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    wanted = queries.view(np.uint16).reshape(-1, 4)[:, quarter]
    for start in range(0, len(queries), BLOCK):
        for probe in PROBES:
            block = wanted[start : start + BLOCK] ^ probe
            first = np.searchsorted(sorted_keys, block, "left")
            counts = np.searchsorted(sorted_keys, block, "right") - first
            places = np.repeat(np.arange(len(block)), counts)
            within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
            others = order[np.repeat(first, counts) + within]
            near = np.bitwise_count(queries[start + places] ^ hashes[others]) <= radius
            yield np.stack([start + places[near], others[near]], axis=1)
