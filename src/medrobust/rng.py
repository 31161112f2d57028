"""Randomness is an argument: one independent generator per thing that needs random numbers."""

import hashlib
from collections.abc import Sequence

import numpy as np


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A generator that depends only on `seed` and `key`.

    Args:
        seed: Seed of the study.
        key: What the numbers are for, e.g. a perturbation and a case id. Different keys give independent
            streams.

    Returns:
        A NumPy generator (Philox, keyed by SHA-256), the same on every machine.
    """
    text = "\x1f".join(str(part) for part in (seed, *key))
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def generators_of(rngs: Sequence[np.random.Generator] | None, n: int) -> Sequence[np.random.Generator]:
    """One generator per image: those given, or `generator(0, "image", place)` for each place in a batch.

    Raises:
        ValueError: There are not as many generators as images.
    """
    if rngs is None:
        return [generator(0, "image", place) for place in range(n)]
    if len(rngs) != n:
        raise ValueError(
            f"rngs: must hold one generator per image, {n} in all, got {len(rngs)}; leave it out for those "
            "of seed 0."
        )
    return rngs


def integer_seed(seed: int, *key: str | int) -> int:
    """A 32-bit seed for libraries that accept nothing better; depends only on `seed` and `key`."""
    return int(generator(seed, *key).integers(2**32))
